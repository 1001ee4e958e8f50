// The checkpoint's own chat template, rendered as transformers' apply_chat_template renders it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/checkpoint.h"
#include "base/modality.h"
#include "text/control_tokens.h"
#include "text/tokenizer/tokenizer.h"
#include "tte/options.h"

namespace tte::text {

struct ChatPart {
  base::Modality kind = base::Modality::kText;
  std::string text;  // kText only.
};
struct ChatMessage {
  std::string role;
  std::vector<ChatPart> parts;
  // True: content is one string where all parts are text, as {"content": "..."} is; false: a list of parts.
  bool plain = false;
};

struct RenderOptions {
  bool add_generation_prompt = true;
  // Leaves the last (assistant) turn open, as transformers' continue_final_message. Excludes add_generation_prompt.
  bool continue_final_message = false;
  // Guards control-token strings inside the text of every message (transformers' sanitize_control_tokens), so
  // that they stay text. False restores transformers' default.
  bool guard_control_tokens = true;
  TemplateOptions variables = {};
};

// The class of transformers whose rule chooses among several templates.
enum class TemplateOf {
  // AutoProcessor's: processor_config.json, chat_template.json, chat_template.jinja, then the tokenizer's.
  kProcessor,
  // AutoTokenizer's: chat_template.jinja, tokenizer_config.json; where there is none, the processor's.
  kTokenizer,
};

class ChatTemplate {
 public:
  // Null when there is none. Of several with names "default" counts. Throws ModelError naming file and line for
  // a template that cannot be parsed, is longer than 4 MB, or has no default.
  static std::shared_ptr<const ChatTemplate> load(const base::Checkpoint& checkpoint,
                                                  const Tokenizer& tokenizer,
                                                  TemplateOf rule = TemplateOf::kProcessor);
  virtual ~ChatTemplate() = default;

  // The prompt text. Images and videos are one placeholder token each, in order.
  [[nodiscard]] virtual std::string render(const std::vector<ChatMessage>& messages,
                                           const RenderOptions& options) const = 0;

  // Whether the template itself speaks of a role: as a string, in quotes.
  [[nodiscard]] virtual bool names_role(std::string_view role) const = 0;

  // Whether the template reads, or at least mentions, a variable.
  [[nodiscard]] virtual bool names_variable(std::string_view name) const = 0;

  // What render() guards message text against. Callers that mix text of users with control tokens of their own
  // (a recipe's) call its guard_ends() themselves, and then render without guarding; render() settles the joints that
  // the text of messages then has.
  [[nodiscard]] virtual const ControlTokens& control() const = 0;
};

}  // namespace tte::text
