#include "text/chat_template.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

#include "base/file.h"
#include "base/json.h"
#include "base/printable.h"
#include "text/characters.h"
#include "text/check_text.h"
#include "text/jinja/template.h"
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

constexpr std::uintmax_t kMaxFile = std::uintmax_t{4} << 20;

// The template in a JSON value: a string, or several with names, of which "default" counts.
std::string default_template(const base::Json& json, const std::string& where) {
  if (json.is_string()) return json.get<std::string>();
  if (!json.is_array() && !json.is_object()) {
    throw ModelError(
        fmt::format("{}: \"chat_template\" is neither a string nor a list of templates.", where));
  }
  std::optional<std::string> found;
  std::string names;
  for (const auto& [key, entry] : json.items()) {
    const auto name =
        json.is_object() ? key : base::require<std::string>(base::JsonObject(entry, where), "name");
    names += (names.empty() ? "" : ", ") + name;
    if (name != "default") continue;
    found = base::require<std::string>(base::JsonObject(json.is_object() ? json : entry, where),
                                       json.is_object() ? name : "template");
  }
  if (!found) {
    throw ModelError(fmt::format("{}: none of the chat templates ({}) is called \"default\".", where,
                                 base::printable(names)));
  }
  return *found;
}

bool is_file(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}

std::optional<Source> from_jinja(const std::filesystem::path& file) {
  if (!is_file(file)) return std::nullopt;
  Source source{base::read_file(file, kMaxFile), base::printable(file.string(), 200)};
  if (source.text.empty()) return std::nullopt;  // transformers takes an empty one for none, too.
  return source;
}

std::optional<Source> from_json(const std::filesystem::path& file) {
  if (!is_file(file)) return std::nullopt;
  const base::JsonObject json = base::read_json_object(file);
  const base::Json* found = json.find("chat_template");
  if (found == nullptr) return std::nullopt;
  const std::string where = base::printable(file.string(), 200);
  return Source{default_template(*found, where), fmt::format("{} (chat_template)", where)};
}

std::optional<Source> find_template(const std::filesystem::path& folder, TemplateOf rule) {
  const std::filesystem::path jinja = folder / "chat_template.jinja";
  const std::filesystem::path tokenizer = folder / "tokenizer_config.json";
  const std::filesystem::path legacy = folder / "chat_template.json";
  const std::filesystem::path processor = folder / "processor_config.json";
  const auto order = rule == TemplateOf::kProcessor ? std::array{processor, legacy, jinja, tokenizer}
                                                    : std::array{jinja, tokenizer, processor, legacy};
  for (const auto& file : order) {
    if (auto source = file == jinja ? from_jinja(file) : from_json(file)) return source;
  }
  return std::nullopt;
}

Value make_dict(const std::vector<std::pair<std::string, Value>>& items) {
  Dict dict;
  for (const auto& [key, value] : items) dict.set(key, value);
  return dict;
}

class LoadedTemplate final : public ChatTemplate {
 public:
  LoadedTemplate(const Source& source, const Tokenizer& tokenizer,
                 const std::optional<std::vector<std::string>>& declared)
      : template_(source.text, source.where),
        control_(ControlTokens::of_template(tokenizer, template_.literals(), declared)),
        source_(source.text),
        names_content_(source.text.find("content") != std::string::npos) {
    for (const auto& [name, content] : tokenizer.named_tokens()) variables_.emplace_back(name, content);
  }

  [[nodiscard]] std::string render(const std::vector<ChatMessage>& messages,
                                   const RenderOptions& options) const override;
  [[nodiscard]] const ControlTokens& control() const override { return control_; }
  [[nodiscard]] bool names_role(std::string_view role) const override {
    return source_.find(fmt::format("'{}'", role)) != std::string::npos ||
           source_.find(fmt::format("\"{}\"", role)) != std::string::npos;
  }
  [[nodiscard]] bool names_variable(std::string_view name) const override {
    const auto in_name = [&](std::size_t at) {
      return at < source_.size() &&
             (std::isalnum(static_cast<unsigned char>(source_[at])) != 0 || source_[at] == '_');
    };
    for (std::size_t at = source_.find(name); at != std::string::npos; at = source_.find(name, at + 1)) {
      if (!(at > 0 && in_name(at - 1)) && !in_name(at + name.size())) return true;
    }
    return false;
  }

 private:
  // The text of messages that are guarded already, joints and all.
  [[nodiscard]] std::string render_as_is(const std::vector<ChatMessage>& messages,
                                         const RenderOptions& options) const;

  jinja::Template template_;
  ControlTokens control_;
  std::string source_;
  bool names_content_;
  std::vector<std::pair<std::string, Value>> variables_;
};

// `last`: its last text is to be continued; it is marked and copied to `final_text`.
Value message_value(ChatMessage message, bool last, std::string& final_text) {
  const auto is_text = [](const ChatPart& part) { return part.kind == base::Modality::kText; };
  auto& parts = message.parts;
  const bool plain = message.plain && std::all_of(parts.begin(), parts.end(), is_text);
  if (plain) {
    std::string joined;
    for (const ChatPart& part : parts) joined += part.text;
    parts = {{base::Modality::kText, std::move(joined)}};
  }
  if (last) {
    const auto marked = std::find_if(parts.rbegin(), parts.rend(), is_text);
    if (marked == parts.rend()) {
      throw InputError(
          "The last message has no text to continue; add a text part or ask for a generation prompt.");
    }
    final_text = marked->text;
    marked->text += kContinueTag;
  }
  if (plain) return make_dict({{"role", message.role}, {"content", parts.front().text}});
  List content;
  for (const ChatPart& part : parts) {
    if (is_text(part)) {
      content.emplace_back(make_dict({{"type", "text"}, {"text", part.text}}));
    } else {
      content.emplace_back(make_dict({{"type", part.kind == base::Modality::kImage ? "image" : "video"}}));
    }
  }
  return make_dict({{"role", message.role}, {"content", std::move(content)}});
}

// Without what follows the marked text; space that the template trimmed from it goes too.
std::string cut_after(std::string rendered, const std::string& final_text) {
  const std::string_view tag = kContinueTag.substr(0, kContinueTag.size() - 1);
  const std::size_t at = rendered.rfind(tag);
  if (at == std::string::npos || rendered.find(strip(final_text)) == std::string::npos) {
    throw InputError(
        fmt::format("The chat template changes or drops the last message (\"{}\"), so that it cannot be "
                    "continued; ask for a generation prompt instead.",
                    base::printable(final_text)));
  }
  const bool spacing_kept = std::string_view(rendered).substr(at).starts_with(kContinueTag);
  rendered.resize(at);
  return spacing_kept ? rendered : std::string(strip(rendered, nullptr, false, true));
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
  std::vector<ChatMessage> guarded = messages;
  bool has_marks = false;
  const auto prepare = [&](std::string& text, bool inside) {
    require_utf8(text);
    if (options.guard_control_tokens) text = control_.guard_ends(text, inside);
    has_marks = has_marks || ControlTokens::has_marks(text);
  };
  for (ChatMessage& message : guarded) {
    prepare(message.role, false);  // Templates write control tokens around roles.
    for (ChatPart& part : message.parts) prepare(part.text, true);
  }
  std::string rendered = render_as_is(guarded, options);
  if (!has_marks) return rendered;
  const auto render_with = [&](const auto& change) {
    std::vector<ChatMessage> changed = guarded;
    for (ChatMessage& message : changed) {
      message.role = change(message.role);
      for (ChatPart& part : message.parts) part.text = change(part.text);
    }
    return render_as_is(changed, options);
  };
  // Marks are for us alone: where a template does not see them, they say which characters are a text's.
  std::string plain = render_with(ControlTokens::without_marks);
  if (ControlTokens::without_marks(rendered) == plain) return control_.settle(rendered);
  // It looks into texts, or takes them apart. That is well where no control token in what it writes is a text's.
  const std::string harmless =
      render_with([&](const std::string& text) { return control_.without_starts(text); });
  if (control_.find_all(plain) == control_.find_all(harmless)) return plain;
  throw InputError(
      "A text spells a control token, or an end of one, and the chat template takes it apart or decides by "
      "it: "
      "give the text without it.");
}

std::string LoadedTemplate::render_as_is(const std::vector<ChatMessage>& messages,
                                         const RenderOptions& options) const {
  std::string final_text;
  List values;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const bool last = options.continue_final_message && i + 1 == messages.size();
    values.push_back(message_value(messages[i], last, final_text));
  }
  auto variables = variables_;
  for (const auto& [name, value] : options.variables) {
    variables.emplace_back(name, std::visit([](const auto& given) { return Value(given); }, value));
  }
  variables.emplace_back("messages", Value(std::move(values)));
  variables.emplace_back("tools", None{});
  variables.emplace_back("documents", None{});
  variables.emplace_back("add_generation_prompt", options.add_generation_prompt);
  std::string rendered = template_.render(variables);
  return options.continue_final_message ? cut_after(std::move(rendered), final_text) : rendered;
}

}  // namespace

std::shared_ptr<const ChatTemplate> ChatTemplate::load(const base::Checkpoint& checkpoint,
                                                       const Tokenizer& tokenizer, TemplateOf rule) {
  std::optional<Source> source;
  std::filesystem::path config;
  for (const std::filesystem::path& folder : checkpoint.folders()) {
    source = find_template(folder, rule);
    config = folder / "tokenizer_config.json";
    if (source) break;
  }
  if (!source) return nullptr;
  std::optional<std::vector<std::string>> declared;
  if (std::filesystem::is_regular_file(config)) {
    const base::JsonObject json = base::read_json_object(config);
    if (json.has("chat_control_tokens")) declared = json.texts("chat_control_tokens");
  }
  return std::make_shared<LoadedTemplate>(*source, tokenizer, declared);
}

}  // namespace tte::text
