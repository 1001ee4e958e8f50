// Runs a model as an engine would, so that tests can say what is fed in which steps.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/model.h"
#include "weights/state_dict.h"

namespace tte::testing {

inline const std::filesystem::path kQwen2VlFolder =
    std::filesystem::path(TTE_SOURCE_DIR) / "tests/data/models/qwen2_vl";

// Token ids with one placeholder per visual.
struct Item {
  std::vector<std::int64_t> ids;
  std::vector<std::shared_ptr<const models::Visual>> visuals;
};

// <item>.ids, <item>.visual<i>.patches, <item>.visual<i>.grid = [video?, t, h, w], as qwen2_vl_reference.py
// writes: float32, whole numbers too.
std::map<std::string, Item> load_items(const std::filesystem::path& file);

std::shared_ptr<const models::Model> open_model(const std::filesystem::path& checkpoint,
                                                std::optional<at::ScalarType> dtype,
                                                std::int64_t state_bytes = std::int64_t{16} << 20);

// A prompt on its way through a model: what of it is still to be fed.
class Sequence {
 public:
  // Encodes the prompt's visuals and starts an empty state.
  Sequence(std::shared_ptr<const models::Model> model, models::Prompt prompt);
  // The same prompt, continuing from a state that already holds its first tokens.
  Sequence(const Sequence& other, std::unique_ptr<models::SequenceState> state);

  [[nodiscard]] const models::Prompt& prompt() const { return prompt_; }
  [[nodiscard]] std::int64_t left() const { return prompt_.size() - state_->length(); }
  [[nodiscard]] models::SequenceState& state() { return *state_; }
  // Appends a generated token to what is to be fed: text, at the next position.
  void push(std::int64_t id);

 private:
  friend class Batch;
  std::shared_ptr<const models::Model> model_;
  models::Prompt prompt_;
  at::Tensor features_;                     // Of all visuals, [visual tokens, hidden].
  std::vector<std::int64_t> feature_rows_;  // Of each token: its row in features_, or -1.
  std::unique_ptr<models::SequenceState> state_;
};

// Collects the next tokens of several runs into one step.
class Batch {
 public:
  void add(Sequence& run, std::int64_t tokens);
  // Hidden states of `output_rows` (of all rows when `every_row`).
  at::Tensor forward(const models::Model& model, bool every_row = true,
                     const std::vector<std::int64_t>& output_rows = {});

 private:
  models::RaggedBatch batch_;
  std::vector<std::int64_t> ids_, positions_, visual_rows_;
  std::vector<at::Tensor> features_;
};

// Hidden states of a whole prompt, float32 [tokens, hidden], fed in steps of the given sizes (the last one
// repeats).
at::Tensor hidden_states(const models::Model& model, Sequence& run, const std::vector<std::int64_t>& steps);

// Feeds what is left, then `count` greedy tokens one by one.
std::vector<std::int64_t> greedy(const models::Model& model, Sequence& run, std::int64_t count);

}  // namespace tte::testing
