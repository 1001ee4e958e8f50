#include "prompt/slots.h"

#include <fmt/core.h>
#include <unicode/uchar.h>

#include "base/utf8.h"
#include "prompt/media_reader.h"
#include "prompt/pieces.h"
#include "text/characters.h"
#include "text/check_text.h"
#include "tte/error.h"

namespace tte::prompt {
namespace {

using text::ChatPart;

void append_text(std::vector<ChatPart>& parts, std::string_view text) {
  if (text.empty()) return;
  if (parts.empty() || parts.back().kind != base::Modality::kText)
    parts.push_back({base::Modality::kText, ""});
  parts.back().text += text;
}

void append(std::vector<ChatPart>& parts, const std::vector<ChatPart>& more) {
  for (const ChatPart& part : more) {
    if (part.kind == base::Modality::kText) {
      append_text(parts, part.text);
    } else {
      parts.push_back(part);
    }
  }
}

void add_missing_text(std::vector<ChatPart>& content, const PromptTemplate& prompt) {
  bool video = false;
  for (const ChatPart& part : content) {
    if (part.kind == base::Modality::kText && !part.text.empty()) return;
    video = video || part.kind == base::Modality::kVideo;
  }
  append_text(content, video ? prompt.no_text_video : prompt.no_text_image);
}

// Without white space at its ends. Throws InputError for text that is not UTF-8.
std::string_view stripped(std::string_view text) {
  text::require_utf8(text);
  return text::strip(text);
}

// Unicode's punctuation, the P categories.
bool ends_with_punctuation(std::string_view text) {
  std::size_t at = text.size() - 1;
  while (at > 0 && base::continues_character(text, at)) --at;
  return u_ispunct(static_cast<UChar32>(base::next_code_point(text, at))) != 0;
}

// A caller's instruction as the recipe wants it.
std::string instruction_text(const std::string& text, const PromptTemplate& prompt, const UserText& write) {
  if (prompt.instruction_end.empty()) return write(text);
  const std::string_view bare = stripped(text);
  if (bare.empty()) return {};
  return write(std::string(bare) + (ends_with_punctuation(bare) ? "" : prompt.instruction_end));
}

}  // namespace

std::vector<ChatPart> chat_parts(const std::vector<Part>& parts, const UserText& write) {
  std::vector<ChatPart> out;
  for (const Part& part : parts) {
    if (const auto* text = std::get_if<std::string>(&part)) {
      out.push_back({base::Modality::kText, write(*text)});
    } else {
      out.push_back(
          {std::holds_alternative<Image>(part) ? base::Modality::kImage : base::Modality::kVideo, ""});
    }
  }
  return out;
}

Slots slots_of(const Input& input, const PromptRequest& request, const Recipe& recipe,
               const UserText& write) {
  Slots slots;
  if (!input.messages.empty()) {
    for (const Message& message : input.messages)
      if (message.role.empty()) throw InputError("it has a message without a role.");
    if (input.parts.empty() && !input.instruction && !request.instruction) return slots;
    throw InputError(
        fmt::format("it has chat messages and {}: messages are written as they are, so put it into them.",
                    input.parts.empty() ? "an instruction" : "parts"));
  }
  if (input.parts.empty()) {
    throw InputError("it is empty: it needs a text, an image, a video or chat messages.");
  }
  const std::string& preset = recipe.preset(request.task).of(request.stage);
  slots.instruction = input.instruction     ? instruction_text(*input.instruction, recipe.prompt, write)
                      : request.instruction ? instruction_text(*request.instruction, recipe.prompt, write)
                                            : preset;
  // Where the recipe ends instructions, an empty one is none, and its own holds.
  if (slots.instruction.empty() && !recipe.prompt.instruction_end.empty()) slots.instruction = preset;
  slots.request = recipe.prompt.request;
  slots.content = chat_parts(input.parts, [&](const std::string& text) {
    return recipe.prompt.strip_text ? write(std::string(stripped(text))) : write(text);
  });
  if (slots.instruction.empty()) add_missing_text(slots.content, recipe.prompt);
  if (recipe.prompt.blank_image > 0 && !has_media(input)) {
    slots.content.insert(slots.content.begin(), {base::Modality::kImage, ""});
  }
  return slots;
}

std::vector<ChatPart> fill(const Pieces& pieces, const Slots& slots) {
  // Images and videos of one item keep their order.
  std::vector<ChatPart> media, images, videos;
  std::string text;
  for (const ChatPart& part : slots.content) {
    if (part.kind != base::Modality::kText) {
      media.push_back(part);
      (part.kind == base::Modality::kImage ? images : videos).push_back(part);
    } else if (!part.text.empty()) {
      text += (text.empty() ? "" : "\n") + part.text;
    }
  }
  const auto value = [&](std::string_view name) -> std::vector<ChatPart> {
    if (name == "content") return slots.content;
    if (name == "media") return media;
    if (name == "images") return images.empty() ? images : media;
    if (name == "videos") return images.empty() ? videos : std::vector<ChatPart>();
    if (name == "trace") return slots.trace;
    std::vector<ChatPart> out;
    append_text(out, name == "text" ? text : name == "instruction" ? slots.instruction : slots.request);
    return out;
  };
  std::vector<ChatPart> out;
  for (const std::string& piece : pieces) {
    std::vector<ChatPart> filled;
    bool has_placeholder = false;
    bool has_value = false;
    visit_piece(
        piece, [&](std::string_view literal) { append_text(filled, literal); },
        [&](std::string_view name) {
          const auto parts = value(name);
          has_placeholder = true;
          has_value = has_value || !parts.empty();
          append(filled, parts);
        });
    if (has_value || !has_placeholder) append(out, filled);
  }
  return out;
}

}  // namespace tte::prompt
