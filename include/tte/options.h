/// @file
/// Every knob of tte, as plain structs with defaults.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tte/export.h"

namespace tte {

/// Where and how models run.
struct BackendOptions {
  /// "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1".
  std::string device = "auto";
  /// Threads inside an operation; 0: as many as the machine has cores.
  int threads = 0;
  /// Threads that decode and patchify media beside the model; 0: a quarter of the cores, at least one.
  int media_threads = 0;
  /// Bytes that sequence states (KV caches) of one model may take; 0: a quarter of the device's memory.
  std::int64_t state_bytes = 0;
  /// Tokens in one step: prefill chunks and decode tokens share this budget.
  int max_step_tokens = 2048;
  /// Sequences running at the same time in one engine.
  int max_running = 256;
  /// Bytes of vision features kept for reuse, per backend.
  std::int64_t vision_cache_bytes = std::int64_t{256} << 20;

  /// Throws InputError naming the first option out of range.
  TTE_API void validate() const;
};

/// How a checkpoint is loaded.
struct LoadOptions {
  /// "auto" (the checkpoint's own), "float32", "bfloat16", "float16".
  std::string dtype = "auto";
  /// A recipe file, or the name of a bundled recipe; empty: recipe.json of the checkpoint, else none.
  std::string recipe;
};

/// A cancellation flag shared between the caller and a running call. Copies share the flag.
class CancelToken {
 public:
  void cancel() const noexcept { flag_->store(true, std::memory_order_relaxed); }
  [[nodiscard]] bool cancelled() const noexcept { return flag_->load(std::memory_order_relaxed); }

 private:
  std::shared_ptr<std::atomic<bool>> flag_ = std::make_shared<std::atomic<bool>>(false);
};

/// Decoding settings of one sequence. Unset optionals take the checkpoint's generation_config.json, then the
/// value in the comment. The recipe's own defaults come before those of generation_config.json.
struct GenerateOptions {
  std::optional<int> max_new_tokens;         ///< Unset: the recipe's, else 512.
  int min_new_tokens = 0;
  std::optional<double> temperature;         ///< 0: greedy (the default).
  std::optional<int> top_k;                  ///< 0: off.
  std::optional<double> top_p;               ///< 1: off.
  std::optional<double> min_p;               ///< 0: off.
  std::optional<double> repetition_penalty;  ///< 1: off. As transformers: over prompt and generated tokens.
  std::optional<std::uint64_t> seed;         ///< Unset: drawn at random when sampling.
  std::vector<std::string> stop;             ///< Strings that end the text; they are cut off.
  std::vector<std::int64_t> stop_token_ids;  ///< In addition to the checkpoint's end tokens.
  bool ignore_eos = false;                   ///< Go on past the checkpoint's end tokens.
  std::optional<int> max_think_tokens;       ///< When spent inside <think>, the close tag is forced.

  /// Throws InputError naming the first option out of range.
  TTE_API void validate() const;
};

/// What to do with the pooled hidden state.
struct EmbedOptions {
  bool normalize = true;
  /// Keep the first dimensions only (Matryoshka), before normalising; unset: all.
  std::optional<int> truncate_dim;
};

/// Which prompt preset of the recipe to use.
enum class Side { kQuery, kTarget };

/// A task family's name ("image_qa", "visdoc", ...) and the side of the pair; empty: the recipe's default prompt.
struct Task {
  std::string family;
  Side side = Side::kQuery;
};

}  // namespace tte
