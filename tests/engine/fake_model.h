// A model without weights for the engine's tests. What it says at a token is a hash of everything it has read
// up to there (ids, positions, image features), so any mistake in what the engine feeds it changes every
// later output.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "engine/executor.h"
#include "models/model.h"
#include "text/tokenizer/tokenizer.h"

namespace tte::engine::testing {

inline constexpr std::int64_t kEos = 256, kThink = 257, kThinkEnd = 258, kTokenizerVocab = 260;
inline constexpr std::int64_t kImagePad = 300, kModelVocab = 320, kHidden = 8;

// Ids 0 .. 255 are bytes, then <eos> (special), <think> and </think>; nothing from 260 on. Texts are encoded
// as bytes, but for those that are an added token as a whole.
class FakeTokenizer : public text::Tokenizer {
 public:
  FakeTokenizer();
  std::vector<std::int64_t> encode(std::string_view text, bool parse_control) const override;
  std::string token_bytes(std::int64_t id, bool first) const override;
  std::optional<std::int64_t> id_of(std::string_view token) const override;
  std::int64_t vocab_size() const override { return kTokenizerVocab; }
  const std::vector<text::AddedToken>& added_tokens() const override { return added_; }

 private:
  std::vector<text::AddedToken> added_;
};

class FakeModel : public models::Model {
 public:
  struct Options {
    std::int64_t capacity = std::int64_t{1} << 40;  // Bytes; a token takes one.
    // Bytes of a recurrent slot that every state has beside its tokens: such a state can be forked at its end
    // only.
    std::int64_t slot = 0;
    std::int64_t max_positions = std::int64_t{1} << 40;
    std::int64_t vocab = kModelVocab;  // Ids that it takes; it may say any below kModelVocab.
    bool whole =
        false;  // What it says at a token is a hash of the whole prompt (models::ModelInfo::whole_prompts).
    bool latent = false;  // It thinks in latent steps (models::ModelInfo::latent).
    // The next id after `ids`; unset: by hash.
    std::function<std::int64_t(const std::vector<std::int64_t>& ids)> next;
  };
  explicit FakeModel(Options options);
  FakeModel();
  ~FakeModel() override;

  const models::ModelInfo& info() const override { return info_; }
  std::int64_t state_capacity() const override;
  std::int64_t state_bytes(std::int64_t tokens) const override { return options_.slot + tokens; }
  std::unique_ptr<models::SequenceState> start(std::int64_t reserve) const override;
  std::vector<at::Tensor> encode_vision(
      std::span<const std::shared_ptr<const models::Visual>> visuals) const override;
  at::Tensor forward(const models::RaggedBatch& batch) const override;
  void check_generates() const override;
  at::Tensor logits(const at::Tensor& hidden) const override;
  void keep_hidden(std::int64_t /*layer*/) const override {}
  at::Tensor pool(const at::Tensor& hidden) const override { return hidden.sum(0); }
  at::Tensor next_latent(const at::Tensor& states, const at::Tensor& contexts,
                         const std::vector<std::int64_t>& steps) const override;

  // All hidden states of a prompt [tokens, hidden], computed outside any engine.
  at::Tensor reference(const models::Prompt& prompt) const;

  struct Step {
    std::vector<std::int64_t> tokens;   // How many each segment has.
    std::vector<std::int64_t> lengths;  // How long each segment's state was before the step.
    std::int64_t visual_rows = 0, given_rows = 0;
    std::int64_t total() const;
  };
  std::vector<Step> steps() const;
  std::vector<std::vector<std::int64_t>> vision_calls() const;  // Patches of each visual of each call.
  std::int64_t used() const;                                    // Bytes that states hold now.
  std::int64_t peak_used() const;

  // Called at the beginning of forward() / encode_vision(); may throw or wait. Set before the engine runs.
  std::function<void(const models::RaggedBatch&)> on_forward;
  std::function<void(std::span<const std::shared_ptr<const models::Visual>>)> on_vision;
  std::function<void(at::Tensor&)> on_logits;
  std::function<void(std::int64_t rows)> on_latent;  // At the end of next_latent().

  struct Pool;

 private:
  Options options_;
  models::ModelInfo info_;
  std::shared_ptr<Pool> pool_;
};

// Text bytes, then images: "a", visual, "b".
using PromptPart = std::variant<std::string, std::shared_ptr<const models::Visual>>;
std::shared_ptr<const models::Prompt> make_prompt(const std::vector<PromptPart>& parts);
std::shared_ptr<const models::Prompt> text_prompt(std::int64_t tokens, std::uint64_t seed);
// `prompt`, then latent steps with the context of a token (-1: none), then a text.
std::shared_ptr<const models::Prompt> with_latent(const models::Prompt& prompt, std::int64_t steps,
                                                  std::int64_t context, const std::string& behind);
// h x w patches (even); equal seeds and sizes are equal images.
std::shared_ptr<const models::Visual> make_visual(std::uint64_t seed, std::int64_t h, std::int64_t w);

// Stops an executor until let go, so that everything submitted meanwhile is seen in one step.
class Hold : public Stepper {
 public:
  static std::shared_ptr<Hold> on(Executor& executor);  // Returns once the executor stands still.
  void let_go() { released_.set_value(); }
  bool step() override;

 private:
  bool done_ = false;
  std::promise<void> standing_, released_;
};

// An engine with all that it needs.
struct Bench {
  explicit Bench(FakeModel::Options model_options = FakeModel::Options(),
                 EngineOptions options = EngineOptions());
  std::shared_ptr<FakeModel> model;
  std::shared_ptr<FakeTokenizer> tokenizer;
  std::shared_ptr<Executor> executor;
  std::unique_ptr<Engine> engine;

  std::future<GenerateResult> generate(std::shared_ptr<const models::Prompt> prompt, int max_new_tokens);
  std::future<EncodeResult> encode(std::shared_ptr<const models::Prompt> prompt,
                                   Output output = Output::kRow);
};
GenerateRequest generate_request(std::shared_ptr<const models::Prompt> prompt, int max_new_tokens);
// A trace of exactly `tokens`.
GenerateRequest trace_request(std::int64_t prompt, int tokens, std::uint64_t seed);
EncodeRequest encode_request(std::shared_ptr<const models::Prompt> prompt, Output output = Output::kRow);

EngineOptions limits(int max_step_tokens, int max_running, int prompt_lookup_tokens = 0);

// What twelve requests get that end in each way there is, in one string; some are about an image, if asked for.
std::string outcomes(const std::function<std::future<GenerateResult>(GenerateRequest)>& submit,
                     bool with_images = false);

// Ids that a sequence of a FakeModel writes: `script` one by one after the prompt, then kEos.
FakeModel::Options scripted(std::int64_t prompt_tokens, std::vector<std::int64_t> script);
std::vector<std::int64_t> bytes_of(std::string_view text);

// what() of the exception that `call` throws; fails the test when it throws none or another type.
template <typename E, typename F>
std::string error_of(F&& call);

}  // namespace tte::engine::testing

#include <gtest/gtest.h>

template <typename E, typename F>
std::string tte::engine::testing::error_of(F&& call) {
  try {
    std::forward<F>(call)();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another exception: " << error.what();
    return "";
  }
  ADD_FAILURE() << "no exception";
  return "";
}
