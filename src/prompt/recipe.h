// What differs between systems on one family, as data: models/recipes/README.md is the schema.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "models/model.h"
#include "models/preprocessor.h"
#include "models/projection.h"
#include "models/sparse_heads.h"
#include "prompt/evidence.h"
#include "tte/options.h"

namespace tte::prompt {

// No model reads more, and files say 1e30 where they mean that there is no limit.
inline constexpr std::int64_t kMostTokens = std::int64_t{1} << 24;

enum class Pooling {
  kLast,
  kToken,
  kMean,
  kNone,
  kHead,  // An embedding head makes the vector of all of them.
};

// Which hidden states make the vector.
struct PoolingRule {
  Pooling pooling = Pooling::kLast;
  std::string token;        // kToken: its last occurrence is pooled.
  bool else_last = false;   // kToken: a prompt without it gives its last token, and is no error.
  std::int64_t offset = 0;  // kLast: how many tokens of the suffix stand behind the pooled one.
};

// An instruction for each of the two models; empty: none.
struct Instruction {
  std::string reason;
  std::string embed;
  bool think = true;  // Whether ThinkMode::kRecipe reasons about such items.
  [[nodiscard]] const std::string& of(Stage stage) const { return stage == Stage::kReason ? reason : embed; }
};

// Text with placeholders, in pieces: a piece that has placeholders, all of which are empty, is left out.
using Pieces = std::vector<std::string>;

// Where the tokens of a prompt stand.
enum class Positions : std::uint8_t {
  kFamily,       // As the family says.
  kPastAllAxes,  // Text goes on past the highest position of all axes, as with transformers 4: also past the
                 // temporal patches of a video that has more of them than rows and columns.
  kSequential,   // 0, 1, 2, ... on all axes.
};

// How an item becomes the text of a prompt.
struct PromptTemplate {
  bool chat = true;  // The checkpoint's own template around `user`; else `raw` is the whole prompt.
  Pieces system;     // Chat: the system turn ({instruction}); none: the template's own, if it has one.
  // Chat: the user turn. {content} {media} {text} {instruction} {request} {trace}
  Pieces user = {"{content}"};
  Pieces raw;                     // The same placeholders.
  std::string image = "{token}";  // Raw: what stands for a visual; {token} is the family's placeholder token.
  std::string video = "{token}";
  bool generation_prompt = true;     // Chat: open the assistant turn.
  TemplateOptions template_options;  // Chat: what the checkpoint's template reads beside the messages.
  std::string no_text_image, no_text_video;  // {text} of an item with neither text nor instruction.
  int blank_image = 0;  // Side of the white image put before an item without any; 0: none is put.
  Positions positions = Positions::kFamily;
  std::string request;          // {request}
  std::string instruction_end;  // Put after an instruction that does not end with punctuation, as ".".
  bool strip_text = false;      // Texts lose the white space at their ends.

  [[nodiscard]] const Pieces& body() const { return chat ? user : raw; }
  [[nodiscard]] bool trace_in_body() const;  // A piece has {trace}.
};

struct TraceFormat {
  std::string open = "<think>";
  std::string close = "</think>";
  bool conclusion_only = false;  // Hand only what follows the closing tag to the embedder.
  std::string suffix;            // Ends the embedder's prompt, with or without trace. {eos}: the end token.
  bool suffix_when_cut = true;   // Also after a trace that its limit of tokens ended.
  EvidenceRule evidence;         // What of the item a trace points at, as further images.
  std::vector<std::string> stop_tokens;  // End a trace, beside the checkpoint's own.
};

// Thinking without words: steps that the model makes of its own states (models::LatentRows), between what the prompt
// says and its suffix.
struct LatentThinking {
  enum class Context : std::uint8_t { kNone, kLast, kToken };

  int steps = 0;
  std::string open;   // Text before them.
  std::string token;  // Stands for each of them where tokens are shown.
  // What every step sees beside the state before it: the state of the last token before the steps, or of the last
  // `context_token` before them (of the last token, where there is none).
  Context context = Context::kLast;
  std::string context_token;
  models::LatentOptions transition;
};

// The checkpoints that a recipe is for, where nobody names one. Everything that is said must hold.
struct AppliesTo {
  std::vector<std::string> model_types;
  std::vector<std::string> names;  // The checkpoint's name begins with one of them.
  std::vector<std::string> tokens,
      without_tokens;  // Its tokenizer has all of the first, and none of the others.
};

struct Recipe {
  std::string name;
  std::string description;
  PromptTemplate prompt;
  Instruction instruction;                                            // Where no preset is asked for.
  std::map<std::string, std::map<std::string, Instruction>> presets;  // Family -> "query" | "target".
  TraceFormat trace;
  PoolingRule pooling;
  std::optional<PoolingRule> without_trace;  // Instead of it for prompts without a trace; kLast or kToken.
  std::vector<models::ProjectionOptions> projections;  // Applied to the pooled state, one behind the other.
  models::SparseHeadsOptions sparse;  // For the tokens behind the pooled one, as many as its offset.
  models::Bidirectional bidirectional;
  std::optional<LatentThinking> latent;
  bool normalize = true;
  // Matryoshka sizes that were trained, beside that of the whole vector; unset: nobody says.
  std::optional<std::vector<int>> dims;
  std::optional<int> least_dim;  // All sizes from this one were trained.
  int max_length = 0;  // Tokens of a prompt and its suffix; texts of items are cut to fit. 0: no limit.
  std::optional<AppliesTo> applies_to;
  GenerateOptions decoding;  // What holds where the caller says nothing.
  models::VisualOptions visuals;
  base::Json source;   // What it was read from.
  std::string reason;  // Why it is in force, for people.

  // The preset, or the default instruction for an empty family and for a side without preset. Throws
  // InputError listing the presets for a family that the recipe does not have.
  [[nodiscard]] const Instruction& preset(const Task& task) const;

  // Throw InputError for a recipe whose model thinks in latent steps: it reads no traces, and writes none.
  void check_reads_traces() const;
  void check_writes_traces() const;
};

// Throws ModelError naming `where` (a file) and the key for anything unknown, of the wrong type or out of range.
Recipe parse_recipe(const base::Json& json, const std::string& where);

// What a recipe asks of the model that is loaded for it.
models::ModelOptions model_options(const Recipe& recipe);

// The JSON of the recipes that are compiled in (models/recipes/*.json), by name, in alphabetical order.
const std::map<std::string, std::string_view>& bundled_recipes();
// One of them.
Recipe bundled_recipe(const std::string& name);

}  // namespace tte::prompt
