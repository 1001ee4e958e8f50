#include "text/chat_template.h"

#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <optional>

#include "base/printable.h"
#include "text/jinja/strings.h"
#include "text/jinja/template.h"
#include "text/utf8.h"
#include "tte/error.h"

namespace tte::text {
namespace {

using jinja::Dict;
using jinja::List;
using jinja::None;
using jinja::Value;

// Marks the end of the last message, to find it again in the rendered text.
constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";

struct Source {
  std::string text;
  std::string where;
};

// The template in a JSON value: a string, or several with names, of which "default" counts.
std::string default_template(const base::Json& json, const std::string& where) {
  if (json.is_string()) return json.get<std::string>();
  std::string names;
  const auto note = [&](const std::string& name) { names += (names.empty() ? "" : ", ") + name; };
  if (json.is_array()) {
    for (const base::Json& entry : json) {
      const auto name = base::require<std::string>(entry, "name", where);
      if (name == "default") return base::require<std::string>(entry, "template", where);
      note(name);
    }
  } else if (json.is_object()) {
    for (const auto& [name, value] : json.items()) {
      if (name == "default") return base::require<std::string>(json, name, where);
      note(name);
    }
  } else {
    throw ModelError(
        fmt::format("{}: \"chat_template\" is neither a string nor a list of templates.", where));
  }
  throw ModelError(fmt::format("{}: none of the chat templates ({}) is called \"default\".", where,
                               base::printable(names)));
}

std::optional<Source> find_template(const std::filesystem::path& folder) {
  const std::filesystem::path jinja_file = folder / "chat_template.jinja";
  if (std::filesystem::is_regular_file(jinja_file)) {
    std::ifstream stream(jinja_file, std::ios::binary);
    Source source{{std::istreambuf_iterator<char>(stream), {}}, jinja_file.string()};
    if (stream.bad()) throw ModelError(fmt::format("{} cannot be read.", source.where));
    return source;
  }
  for (const char* name : {"chat_template.json", "processor_config.json", "tokenizer_config.json"}) {
    const std::filesystem::path file = folder / name;
    if (!std::filesystem::is_regular_file(file)) continue;
    const base::Json json = base::read_json(file);
    const auto it = json.is_object() ? json.find("chat_template") : json.end();
    if (it == json.end() || it->is_null()) continue;
    return Source{default_template(*it, file.string()), fmt::format("{} (chat_template)", file.string())};
  }
  return std::nullopt;
}

// Strings that user text must not turn into control tokens, as transformers' sanitize_control_tokens chooses
// them.
std::vector<std::string> control_tokens(const Tokenizer& tokenizer, const std::string& literals,
                                        const std::optional<std::vector<std::string>>& declared) {
  std::vector<std::string> out;
  for (const AddedToken& token : tokenizer.added_tokens()) {
    const bool space = jinja::strip(token.content, nullptr, true, false).empty();
    const bool used = declared
                          ? std::find(declared->begin(), declared->end(), token.content) != declared->end()
                          : !space && literals.find(token.content) != std::string::npos;
    if (token.special || used) out.push_back(token.content);
  }
  return out;
}

Value make_dict(std::vector<std::pair<std::string, Value>> items) {
  Dict dict;
  dict.items = std::move(items);
  return dict;
}

class LoadedTemplate final : public ChatTemplate {
 public:
  LoadedTemplate(const Source& source, const Tokenizer& tokenizer,
                 const std::optional<std::vector<std::string>>& declared)
      : template_(source.text, source.where),
        control_(control_tokens(tokenizer, template_.literals(), declared)),
        names_content_(source.text.find("content") != std::string::npos) {
    for (const auto& [name, content] : tokenizer.named_tokens()) variables_.emplace_back(name, content);
  }

  [[nodiscard]] std::string render(const std::vector<ChatMessage>& messages,
                                   const RenderOptions& options) const override;
  [[nodiscard]] std::string guard(std::string_view text) const override {
    return guard_control(text, control_);
  }

 private:
  [[nodiscard]] Value message_value(const ChatMessage& message, bool guarding, bool last,
                                    std::string& final_text) const;

  jinja::Template template_;
  std::vector<std::string> control_;
  bool names_content_;
  std::vector<std::pair<std::string, Value>> variables_;
};

// `last`: its last text is to be continued; it is marked and copied to `final_text`.
Value LoadedTemplate::message_value(const ChatMessage& message, bool guarding, bool last,
                                    std::string& final_text) const {
  const auto guarded = [&](const std::string& text) {
    require_utf8(text);
    return guarding ? guard(text) : text;
  };
  const auto is_text = [](const ChatPart& part) { return part.kind == ChatPart::Kind::kText; };
  std::ptrdiff_t marked = -1;
  std::vector<std::string> texts;
  for (const ChatPart& part : message.parts) {
    texts.push_back(is_text(part) ? guarded(part.text) : std::string());
    if (is_text(part)) marked = static_cast<std::ptrdiff_t>(texts.size()) - 1;
  }
  const bool plain = message.plain && std::all_of(message.parts.begin(), message.parts.end(), is_text);
  Value content;
  if (plain) {
    std::string joined;
    for (const std::string& text : texts) joined += text;
    if (last) {
      final_text = joined;
      joined += kContinueTag;
    }
    content = Value(std::move(joined));
  } else {
    if (last) {
      if (marked < 0) {
        throw InputError(
            "The last message has no text to continue; add a text part or ask for a generation prompt.");
      }
      final_text = texts[static_cast<std::size_t>(marked)];
      texts[static_cast<std::size_t>(marked)] += kContinueTag;
    }
    List parts;
    for (std::size_t i = 0; i < message.parts.size(); ++i) {
      switch (message.parts[i].kind) {
        case ChatPart::Kind::kText:
          parts.emplace_back(make_dict({{"type", "text"}, {"text", texts[i]}}));
          break;
        case ChatPart::Kind::kImage:
          parts.emplace_back(make_dict({{"type", "image"}}));
          break;
        case ChatPart::Kind::kVideo:
          parts.emplace_back(make_dict({{"type", "video"}}));
          break;
      }
    }
    content = Value(std::move(parts));
  }
  return make_dict({{"role", guarded(message.role)}, {"content", std::move(content)}});
}

// Without what follows the marked text; space that the template trimmed from it goes too.
std::string cut_after(std::string rendered, const std::string& final_text) {
  const std::string_view tag = kContinueTag.substr(0, kContinueTag.size() - 1);
  const std::size_t at = rendered.rfind(tag);
  if (at == std::string::npos ||
      rendered.find(jinja::strip(final_text, nullptr, true, true)) == std::string::npos) {
    throw InputError(
        fmt::format("The chat template changes or drops the last message (\"{}\"), so that it cannot be "
                    "continued; ask for a generation prompt instead.",
                    base::printable(final_text)));
  }
  const bool spacing_kept = std::string_view(rendered).substr(at).starts_with(kContinueTag);
  rendered.resize(at);
  return spacing_kept ? rendered : std::string(jinja::strip(rendered, nullptr, false, true));
}

std::string LoadedTemplate::render(const std::vector<ChatMessage>& messages,
                                   const RenderOptions& options) const {
  if (options.add_generation_prompt && options.continue_final_message) {
    throw InputError(
        "add_generation_prompt and continue_final_message exclude each other; set one of them to false.");
  }
  if (options.continue_final_message && (messages.empty() || !names_content_)) {
    throw InputError("There is no message to continue; pass one, or set continue_final_message to false.");
  }
  std::string final_text;
  List values;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const bool last = options.continue_final_message && i + 1 == messages.size();
    values.push_back(message_value(messages[i], options.guard_control_tokens, last, final_text));
  }
  auto variables = variables_;
  variables.emplace_back("messages", Value(std::move(values)));
  variables.emplace_back("tools", None{});
  variables.emplace_back("documents", None{});
  variables.emplace_back("add_generation_prompt", options.add_generation_prompt);
  std::string rendered = template_.render(variables);
  return options.continue_final_message ? cut_after(std::move(rendered), final_text) : rendered;
}

}  // namespace

std::shared_ptr<const ChatTemplate> ChatTemplate::load(const std::filesystem::path& folder,
                                                       const Tokenizer& tokenizer) {
  const auto source = find_template(folder);
  if (!source) return nullptr;
  std::optional<std::vector<std::string>> declared;
  const std::filesystem::path config = folder / "tokenizer_config.json";
  if (std::filesystem::is_regular_file(config)) {
    const base::Json json = base::read_json(config);
    if (json.is_object() && json.contains("chat_control_tokens") && !json["chat_control_tokens"].is_null()) {
      declared = base::require<std::vector<std::string>>(json, "chat_control_tokens", config.string());
    }
  }
  return std::make_shared<LoadedTemplate>(*source, tokenizer, declared);
}

}  // namespace tte::text
