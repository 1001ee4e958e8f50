/// @file
/// The model that thinks: inputs in, reasoning traces out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tte/backend.h"
#include "tte/export.h"
#include "tte/input.h"
#include "tte/options.h"
#include "tte/tokenizer.h"
#include "tte/trace.h"

namespace tte {

struct RemoteOptions;

/// Called with the item's index, the text that the token completed (whole characters; may be empty), and the token (-1
/// where a server writes, which sends pieces of text and no ids). Runs on the calling thread, in the order of each
/// item's tokens, while the model writes on: it may take its time, and may itself call models. Once it answers kStop it
/// is not called for that item again, and the trace ends with exactly that token; the model stops with the next one
/// that it writes. What it throws stops the call and comes out of it.
using TokenCallback = std::function<OnToken(std::size_t item, std::string_view text, std::int64_t id)>;

struct ThinkOptions : CallOptions {
  std::optional<std::string> instruction;  ///< Instead of the recipe's; an item's own comes first.
  Task task;
  std::vector<Task> tasks;  ///< One per item instead of `task`; empty: `task` for all.
  GenerateOptions generate;
  /// One per item instead of `generate`; empty: `generate` for all.
  std::vector<GenerateOptions> generate_each;
  /// One per item instead of the seed of the options above; empty: theirs. Items that share a seed are
  /// sampled independently of each other and of their place in the list.
  std::vector<std::uint64_t> seeds;
  TokenCallback on_token;
  /// Called on the calling thread with each trace as soon as it ends: whatever the call comes to, these are kept.
  std::function<void(std::size_t item, const Trace& trace)> on_result;
};

struct ScoreOptions : CallOptions {
  std::optional<std::string> instruction;  ///< Instead of the recipe's; an item's own comes first.
  Task task;
  std::vector<Task> tasks;  ///< One per item instead of `task`; empty: `task` for all.
};

/// How likely each label is as what the model would write next.
struct LabelScores {
  /// [rows, labels] row-major: natural logarithms of probabilities; NaN where skipped.
  std::vector<float> data;
  std::int64_t rows = 0;
  std::vector<ItemError> errors;  ///< In the order of the items.
};

/// What is known of a loaded checkpoint, or of a model behind a server, where sizes are 0 and dtype and device empty.
struct ModelDescription {
  /// Folder of the checkpoint; of its adapter where it has one. Behind a server: the model's name there.
  std::filesystem::path path;
  std::filesystem::path base;  ///< Folder of the model that the adapter changes; empty without an adapter.
  std::string server;          ///< RemoteOptions::base_url; empty for a loaded checkpoint.
  std::string family;          ///< config.json's model_type; "remote" behind a server.
  std::string dtype;           ///< "float32", "bfloat16", "float16".
  std::string quantization = "none";  ///< LoadOptions::quantization.
  bool parse_control_tokens = false;  ///< LoadOptions::parse_control_tokens.
  std::string device;
  std::int64_t hidden_size = 0;
  std::int64_t num_layers = 0;
  std::int64_t vocab_size = 0;
  /// Digest of config and weights: what results may be cached by. Behind a server, of its address, the model's name and
  /// RemoteOptions::extra.
  std::string fingerprint;
  std::string vision_fingerprint;  ///< The same of the vision tower alone.
  std::string recipe;              ///< The recipe in force, as JSON.
  std::string recipe_reason;       ///< Why it is: given by name, found from the checkpoint, ...
};

/// A multimodal language model that writes reasoning traces, loaded here or behind a server. const and thread-safe:
/// concurrent calls join the same batches. Copies share the model.
class TTE_API Reasoner {
 public:
  /// Loads a checkpoint folder as written by save_pretrained, or that of a PEFT adapter (LoRA, DoRA), which is merged
  /// into its base (see LoadOptions::adapter), or one whose weights are FP8 or compressed-tensors, which become numbers
  /// of the dtype. Throws ModelError naming file, key or tensor for a checkpoint that does not fit, and DeviceError for
  /// a dtype that the device cannot run.
  ///
  /// Weights are mapped, not copied, where device and dtype are those of the file; but matrices of linear layers are
  /// copied where they are rounded (LoadOptions::quantization), or bfloat16 on a processor that multiplies pairs of
  /// them (AVX512_BF16 without AMX). A file that is written to or cut while a model uses it ends the calls of that
  /// model with a ModelError, as soon as it is noticed (before every step); pages that a cut takes away under a
  /// running step end the process, which nobody can prevent. Replace weights by renaming a new file over the old one.
  static Reasoner load(const std::filesystem::path& checkpoint, const LoadOptions& options = {},
                       const Backend& backend = Backend::shared());

  /// A model behind an OpenAI-compatible server; nothing is asked of it yet. Throws InputError for options that
  /// cannot be used, and ModelError for a recipe that cannot be read or whose style is not "chat".
  ///
  /// Traces have texts and counts, but no token ids. Where the server splits thinking off, it is put back in front,
  /// between the recipe's tags. GenerateOptions become fields of the request: max_tokens and temperature always, the
  /// others where they are set (those that OpenAI does not have under vLLM's names; max_think_tokens as
  /// thinking_token_budget); with checkpoint_sampling what is not set is left to the server. Images are sent as they
  /// are where they are upright PNG or JPEG and nothing resizes them, else as PNG; videos as their frames, as many as
  /// the item or the recipe says, else 8. think() throws RemoteError: see there.
  static Reasoner remote(const RemoteOptions& options);

  /// One trace per input, in their order. Greedy traces do not depend on the other inputs of the call.
  /// Throws InputError naming the item (see OnError), CancelledError when stopped, and RemoteError, once its retries
  /// are spent, for a server that gives no trace.
  [[nodiscard]] std::vector<Trace> think(const std::vector<Input>& inputs,
                                         const ThinkOptions& options = {}) const;
  [[nodiscard]] Trace think(const Input& input, const ThinkOptions& options = {}) const;

  /// Log-probabilities of `labels` as the next text after each prompt, or after its trace where there is one; nothing
  /// is written. Each label is tokenised by itself, its control tokens as such; a label of several tokens is scored as
  /// a sequence, by the sum over its tokens. A prompt is read once, whatever the number of labels. `traces` is empty or
  /// has one entry per input. Throws InputError where there are no labels, and for one that is empty, given twice or
  /// longer than 1024 tokens; otherwise as think().
  [[nodiscard]] LabelScores score(const std::vector<Input>& inputs, const std::vector<std::string>& labels,
                                  const std::vector<std::optional<Trace>>& traces = {},
                                  const ScoreOptions& options = {}) const;

  /// Whether ThinkMode::kRecipe reasons about items of a task; a family that the recipe does not have counts as none.
  [[nodiscard]] bool thinks(const Task& task) const;

  [[nodiscard]] const ModelDescription& model() const;
  /// Both throw an Error for a model behind a server, which has neither here.
  [[nodiscard]] Backend backend() const;
  [[nodiscard]] Tokenizer tokenizer() const;

  class Impl;
  explicit Reasoner(std::shared_ptr<const Impl> impl);
  [[nodiscard]] const std::shared_ptr<const Impl>& impl() const { return impl_; }

 private:
  std::shared_ptr<const Impl> impl_;
};

}  // namespace tte
