/// @file
/// Reasoner and Embedder joined: an item is embedded as soon as its own trace ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tte/embedder.h"
#include "tte/export.h"
#include "tte/input.h"
#include "tte/options.h"
#include "tte/reasoner.h"
#include "tte/trace.h"

namespace tte {

/// Whether an item is reasoned about before it is embedded.
enum class ThinkMode {
  kAlways,
  kNever,
  kQueries,  ///< Items whose task is on the query side.
  kRecipe,   ///< As the reasoner's recipe says for the item's task and side (always, unless it says no).
  kAuto,     ///< The item is embedded without a trace first; AutoThink then decides.
};

/// How ThinkMode::kAuto decides. Exactly one of the two must be set.
struct AutoThink {
  /// Called on the calling thread with the item and its vector without a trace; true: think.
  std::function<bool(std::size_t item, std::span<const float> plain)> decide;
  /// Vectors of the targets (made without thinking, with the same dim): an item is reasoned about when the
  /// cosine of its best target is less than `margin` above that of the second best, that is, when the plain
  /// vector is unsure.
  std::shared_ptr<const Embeddings> targets;
  double margin = 0.05;
};

struct ThinkThenEmbedOptions : CallOptions, EmbedOptions {
  std::optional<std::string> instruction;  ///< Instead of the recipes'; an item's own comes first.
  /// A family that only one of the two recipes has is that one's; the other takes its default instruction.
  Task task;
  std::vector<Task> tasks;  ///< One per item instead of `task`; empty: `task` for all.

  ThinkMode think = ThinkMode::kAlways;
  std::vector<ThinkMode> think_each;  ///< One per item instead of `think`; empty: `think` for all.
  AutoThink auto_think;
  /// Traces made earlier, one entry per item: an item that has one is not reasoned about. Empty: none.
  std::vector<std::optional<Trace>> traces;

  /// The vectors of all prompts without their traces too (ThinkThenEmbedResult::without_trace). They are made first,
  /// and the trace goes on from the state that they leave: with one set of weights, nothing is read twice.
  bool without_trace = false;

  std::optional<TokenOptions> tokens;  ///< Vectors of each item's tokens too (ThinkThenEmbedResult::tokens).

  GenerateOptions generate;
  /// One per item instead of `generate`; empty: `generate` for all.
  std::vector<GenerateOptions> generate_each;
  std::vector<std::uint64_t> seeds;  ///< As ThinkOptions::seeds.
  TokenCallback on_token;
  /// Called on the calling thread with each trace as soon as it ends, and with each vector (float32 [dim]).
  std::function<void(std::size_t item, const Trace& trace)> on_trace;
  std::function<void(std::size_t item, std::span<const float> vector)> on_vector;
};

/// What a call took in all.
struct CallStats {
  double seconds = 0;        ///< From call to return.
  std::int64_t thought = 0;  ///< Items for which a trace was generated.
  std::int64_t generated_tokens = 0;
  std::int64_t prompt_tokens = 0;  ///< In both models' prompts, traces included.
  std::int64_t reused_tokens = 0;  ///< Tokens of those whose state was there already.
};

struct ThinkThenEmbedResult {
  Embeddings embeddings;                    ///< With `errors` when items were skipped.
  std::optional<Embeddings> without_trace;  ///< As Embedder::embed without traces, with the same `errors`.
  std::optional<TokenEmbeddings> tokens;  ///< As Embedder::embed_tokens, its `pooled` moved to `embeddings`.
  std::vector<std::optional<Trace>> traces;  ///< One per item; none where it was not reasoned about.
  std::vector<Timings> timings;              ///< One per item.
  CallStats stats;
};

/// const and thread-safe. Copies share the models.
class TTE_API ThinkThenEmbed {
 public:
  /// Both must be loaded on the same backend, unless the reasoner is behind a server: that is what lets them share
  /// weights, vision features and states. Throws InputError otherwise.
  ThinkThenEmbed(Reasoner reasoner, Embedder embedder);

  /// Traces and vectors are those of Reasoner::think and Embedder::embed called one after the other; shared
  /// work makes them come sooner. A checkpoint that thinks in latent steps while it embeds (a recipe with "latent") is
  /// given as both, whatever `think` says, and leaves no traces; another reasoner's are an InputError. Throws
  /// InputError naming the item (see OnError), CancelledError when stopped.
  [[nodiscard]] ThinkThenEmbedResult run(const std::vector<Input>& inputs,
                                         const ThinkThenEmbedOptions& options = {}) const;

  [[nodiscard]] const Reasoner& reasoner() const { return reasoner_; }
  [[nodiscard]] const Embedder& embedder() const { return embedder_; }

 private:
  Reasoner reasoner_;
  Embedder embedder_;
};

}  // namespace tte
