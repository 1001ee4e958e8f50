// An item, its instruction and its trace become the prompt a model reads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/preprocessor.h"
#include "prompt/checkpoint_files.h"
#include "prompt/media_reader.h"
#include "prompt/recipe.h"
#include "prompt/slots.h"
#include "text/chat_template.h"
#include "text/tokenizer/tokenizer.h"
#include "tte/input.h"
#include "tte/options.h"
#include "tte/trace.h"

namespace tte::prompt {

struct EmbedPrompt {
  std::shared_ptr<const models::Prompt> prompt;
  std::int64_t pooled_row = -1;                 // kLast and kToken: which.
  std::int64_t trace_begin = 0, trace_end = 0;  // The tokens of the trace, where it is appended.
};

// Immutable and thread-safe.
//
// The embedder's prompt is the begun prompt, then the trace, then the recipe's suffix. The trace is never
// tokenised together with what stands before it: merges across the boundary would change the last tokens of
// the prompt, and then neither the reasoner's state nor the embedder's own prefix could be reused. So the
// tokens of begin() are a prefix of those of with_trace(), unless the recipe puts {trace} into the user's turn.
class PromptBuilder {
 public:
  // Throws ModelError for a recipe that does not fit the checkpoint: no chat template, no end token, a
  // pooling token outside the vocabulary.
  PromptBuilder(std::shared_ptr<const CheckpointFiles> files, Recipe recipe, bool parse_control_tokens,
                const MediaLimits& media_limits = {});

  [[nodiscard]] const Recipe& recipe() const { return recipe_; }
  [[nodiscard]] const MediaReader& media() const { return media_; }
  [[nodiscard]] const std::string& vocabulary() const { return files_->vocabulary; }

  // The prompt up to where the trace begins: what the reasoner continues. `trace` matters only to a recipe that
  // puts it into the user's turn; images that it points at are then read, and stand behind `visuals`. Where the
  // recipe has a max_length, the ends of the item's texts are cut to it. Throws InputError for an item that is empty,
  // contradicts itself, asks for what template or recipe do not have, or is longer than max_length without its texts.
  [[nodiscard]] std::shared_ptr<const models::Prompt> begin(const Input& input, const PromptRequest& request,
                                                            const models::Visuals& visuals,
                                                            const Trace* trace = nullptr,
                                                            const CancelToken& stop = {}) const;

  // The embedder's prompt. `trace` may be null. Throws InputError when the pooling token is missing.
  [[nodiscard]] EmbedPrompt with_trace(const std::shared_ptr<const models::Prompt>& begun,
                                       const Trace* trace) const;

  // A prompt and what follows it, as text.
  [[nodiscard]] static std::shared_ptr<const models::Prompt> continued(
      const std::shared_ptr<const models::Prompt>& begun, const std::vector<std::int64_t>& ids);

  // Whether a prompt ends with the tag that opens the thinking, as templates of some models write it: what they
  // generate is thinking from the first token on.
  [[nodiscard]] bool opens_thinking(const models::Prompt& prompt) const;

  [[nodiscard]] bool is_special(std::int64_t id) const { return files_->tokenizer->is_special(id); }

  // True if with_trace() only appends to begin(), whatever the trace.
  [[nodiscard]] bool appends_trace() const { return !trace_in_body_; }
  // Throws InputError for chat messages, whose turns are the caller's, where a trace goes into a turn of the
  // recipe's, and where the model thinks in latent steps.
  void check_takes_trace(const Input& input) const;

  // Token ids of a trace: its own if they belong to this vocabulary and spell its text (without the end
  // token), else those of its text. Control-token strings in the text stay text, but for the recipe's tags.
  [[nodiscard]] std::vector<std::int64_t> trace_ids(const Trace& trace) const;

 private:
  // What a trace is in a turn; the images that it points at are read, and stand behind the item's own in `visuals`.
  [[nodiscard]] std::vector<text::ChatPart> place(const Trace& trace, const Input& input,
                                                  models::Visuals& visuals, const CancelToken& stop) const;
  // The tokens of an item before those of its visuals are put in.
  [[nodiscard]] std::vector<std::int64_t> ids_of(const Input& input, const Slots& slots,
                                                 const models::Visuals& visuals) const;
  // `uncut` becomes how many tokens it had before max_length.
  [[nodiscard]] models::Prompt expand(const Input& input, const Slots& slots, const models::Visuals& visuals,
                                      std::int64_t& uncut) const;
  // Where the tokens of each of the item's texts are among `ids`, the last text first.
  [[nodiscard]] std::vector<std::pair<std::size_t, std::size_t>> text_ranges(
      const std::vector<std::int64_t>& ids, const Input& input, const Slots& slots,
      const models::Visuals& visuals) const;
  // `ids` without the last `excess` tokens of the item's texts.
  [[nodiscard]] std::vector<std::int64_t> cut(const std::vector<std::int64_t>& ids, std::int64_t excess,
                                              const Input& input, const Slots& slots,
                                              const models::Visuals& visuals) const;
  // `prompt` with the recipe's latent steps and its suffix behind them.
  [[nodiscard]] std::shared_ptr<const models::Prompt> with_latent_steps(
      const std::shared_ptr<const models::Prompt>& prompt) const;
  [[nodiscard]] std::int64_t token_id(const std::string& token, const char* what) const;
  [[nodiscard]] std::string render(const Input& input, const Slots& slots) const;
  // Ids of a rendered prompt, with what the tokenizer begins a text with, once.
  [[nodiscard]] std::vector<std::int64_t> encode(const std::string& text) const;
  [[nodiscard]] std::string render_messages(std::vector<text::ChatMessage> messages) const;
  [[nodiscard]] std::string render_raw(const std::vector<text::ChatPart>& parts) const;
  // `text` guarded, also where it will meet other text, unless the caller's control tokens are to be read.
  [[nodiscard]] std::string user_text(const std::string& text, bool inside = true) const;
  [[nodiscard]] const text::ControlTokens& control() const;
  [[nodiscard]] std::string trace_text(const Trace& trace) const;
  // A part of a trace, guarded but for the recipe's tags.
  [[nodiscard]] std::string guarded_trace(std::string_view text) const;

  std::shared_ptr<const CheckpointFiles> files_;
  Recipe recipe_;
  MediaReader media_;
  bool parse_control_tokens_;
  bool trace_in_body_;
  bool takes_lists_ = true;              // The template, of a user's turn.
  bool takes_system_lists_ = true;       // The same for a system turn.
  std::string image_text_, video_text_;  // Raw: what stands for an image and a video.
  text::ControlTokens control_{{}};      // What is guarded where there is no template.
  std::string bos_;                      // Empty where the tokenizer has none.
  std::vector<std::int64_t> suffix_ids_;
  std::vector<std::int64_t> latent_open_ids_;  // For recipe_.latent.
  std::int64_t latent_id_ = -1, latent_context_id_ = -1;
  std::int64_t pooling_id_ = -1;                // For recipe_.pooling,
  std::int64_t without_trace_pooling_id_ = -1;  // and for recipe_.without_trace.
};

}  // namespace tte::prompt
