#include "prompt/slots.h"

#include <fmt/core.h>

#include "prompt/media_reader.h"
#include "prompt/pieces.h"
#include "tte/error.h"

namespace tte::prompt {
namespace {

using text::ChatPart;

void append_text(std::vector<ChatPart>& parts, std::string_view text) {
  if (text.empty()) return;
  if (parts.empty() || parts.back().kind != ChatPart::Kind::kText)
    parts.push_back({ChatPart::Kind::kText, ""});
  parts.back().text += text;
}

void append(std::vector<ChatPart>& parts, const std::vector<ChatPart>& more) {
  for (const ChatPart& part : more) {
    if (part.kind == ChatPart::Kind::kText) {
      append_text(parts, part.text);
    } else {
      parts.push_back(part);
    }
  }
}

void add_missing_text(std::vector<ChatPart>& content, const PromptTemplate& prompt) {
  bool video = false;
  for (const ChatPart& part : content) {
    if (part.kind == ChatPart::Kind::kText && !part.text.empty()) return;
    video = video || part.kind == ChatPart::Kind::kVideo;
  }
  append_text(content, video ? prompt.no_text_video : prompt.no_text_image);
}

}  // namespace

std::vector<ChatPart> chat_parts(const std::vector<Part>& parts, const UserText& write) {
  std::vector<ChatPart> out;
  for (const Part& part : parts) {
    if (const auto* text = std::get_if<std::string>(&part)) {
      out.push_back({ChatPart::Kind::kText, write(*text)});
    } else {
      out.push_back(
          {std::holds_alternative<Image>(part) ? ChatPart::Kind::kImage : ChatPart::Kind::kVideo, ""});
    }
  }
  return out;
}

Slots slots_of(const Input& input, const PromptRequest& request, const Recipe& recipe,
               const UserText& write) {
  Slots slots;
  if (!input.messages.empty()) {
    if (input.parts.empty() && !input.instruction && !request.instruction) return slots;
    throw InputError(
        fmt::format("it has chat messages and {}: messages are written as they are, so put it into them.",
                    input.parts.empty() ? "an instruction" : "parts"));
  }
  if (input.parts.empty()) {
    throw InputError("it is empty: it needs a text, an image, a video or chat messages.");
  }
  const std::string& preset = recipe.preset(request.task).of(request.stage);
  slots.instruction = input.instruction     ? write(*input.instruction)
                      : request.instruction ? write(*request.instruction)
                                            : preset;
  slots.content = chat_parts(input.parts, write);
  if (slots.instruction.empty()) add_missing_text(slots.content, recipe.prompt);
  if (recipe.prompt.blank_image > 0 && !has_media(input)) {
    slots.content.insert(slots.content.begin(), {ChatPart::Kind::kImage, ""});
  }
  return slots;
}

std::vector<ChatPart> fill(const Pieces& pieces, const Slots& slots) {
  std::vector<ChatPart> media;
  std::string text;
  for (const ChatPart& part : slots.content) {
    if (part.kind != ChatPart::Kind::kText) {
      media.push_back(part);
    } else if (!part.text.empty()) {
      text += (text.empty() ? "" : "\n") + part.text;
    }
  }
  const auto value = [&](std::string_view name) -> std::vector<ChatPart> {
    if (name == "content") return slots.content;
    if (name == "media") return media;
    std::vector<ChatPart> out;
    append_text(out, name == "text" ? text : name == "instruction" ? slots.instruction : slots.trace);
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
