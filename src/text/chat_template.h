// The checkpoint's own chat template, rendered as transformers' apply_chat_template renders it.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/tokenizer.h"

namespace tte::text {

struct ChatPart {
  enum class Kind { kText, kImage, kVideo } kind = Kind::kText;
  std::string text;  // kText only.
};
struct ChatMessage {
  std::string role;
  std::vector<ChatPart> parts;
  // True: content is rendered as one plain string where all parts are text, as {"content": "..."} is.
  bool plain = false;
};

struct RenderOptions {
  bool add_generation_prompt = true;
  // Leaves the last (assistant) turn open, as transformers' continue_final_message. Excludes
  // add_generation_prompt.
  bool continue_final_message = false;
  // Guards control-token strings inside the text of every message (transformers' sanitize_control_tokens), so
  // that they stay text. False restores transformers' default.
  bool guard_control_tokens = true;
};

class ChatTemplate {
 public:
  // chat_template.jinja, chat_template.json, or tokenizer_config.json's chat_template. Null when there is
  // none. Throws ModelError naming file and line for a template that cannot be parsed.
  static std::shared_ptr<const ChatTemplate> load(const std::filesystem::path& folder,
                                                  const Tokenizer& tokenizer);
  virtual ~ChatTemplate() = default;

  // The prompt text. Images and videos are one placeholder token each, in order.
  [[nodiscard]] virtual std::string render(const std::vector<ChatMessage>& messages,
                                           const RenderOptions& options) const = 0;

  // `text` with its control-token strings guarded, exactly as render() does to message text. For callers that
  // mix text of users with control tokens of their own (a recipe's), and then render without guarding.
  [[nodiscard]] virtual std::string guard(std::string_view text) const = 0;
};

}  // namespace tte::text
