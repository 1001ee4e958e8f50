#include "remote/chat.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "base/printable.h"
#include "base/utf8.h"
#include "media/budget.h"
#include "remote/attachments.h"
#include "text/check_text.h"
#include "tte/error.h"

namespace tte::remote {
namespace {

using base::Json;
using text::ChatPart;

std::string checked(const std::string& text) {
  text::require_size(text);
  if (const std::size_t at = base::find_invalid(text); at != std::string::npos) {
    throw InputError(fmt::format("it has a text that is not UTF-8 at byte {}: decode it first.", at));
  }
  return text;
}

Json text_part(const std::string& text) {
  return {{"type", "text"}, {"text", text}};
}

// A user's turn of one text is that text, which every server takes.
Json content_of(const std::vector<ChatPart>& parts, const std::vector<Json>& visuals, std::size_t& next) {
  if (parts.empty()) return "";
  if (parts.size() == 1 && parts.front().kind == base::Modality::kText) return parts.front().text;
  Json list = Json::array();
  for (const ChatPart& part : parts) {
    if (part.kind == base::Modality::kText) {
      list.push_back(text_part(part.text));
    } else {
      for (const Json& image : visuals.at(next)) list.push_back(image);
      ++next;
    }
  }
  return list;
}

Json message(const std::string& role, Json content) {
  return {{"role", role}, {"content", std::move(content)}};
}

Json turns_of(const Input& input, Attachments& attachments) {
  Json out = Json::array();
  for (const Message& turn : input.messages) {
    const bool plain = turn.plain && std::all_of(turn.parts.begin(), turn.parts.end(), [](const Part& part) {
                         return std::holds_alternative<std::string>(part);
                       });
    std::string text;
    Json list = Json::array();
    for (const Part& part : turn.parts) {
      if (const auto* words = std::get_if<std::string>(&part)) {
        text += checked(*words);
        list.push_back(text_part(*words));
      } else {
        for (const Json& image : attachments.read(part)) list.push_back(image);
      }
    }
    out.push_back(message(checked(turn.role), plain ? Json(text) : list));
  }
  return out;
}

}  // namespace

ChatBuilder::ChatBuilder(prompt::Recipe recipe, const MediaLimits& limits)
    : recipe_(std::move(recipe)), limits_(limits) {
  if (!recipe_.prompt.chat) {
    throw ModelError(
        fmt::format("The recipe \"{}\" is of style \"raw\", and a server writes its prompts with its own "
                    "chat template: give "
                    "one of style \"chat\".",
                    base::printable(recipe_.name, 80)));
  }
}

std::shared_ptr<const Chat> ChatBuilder::build(const Input& input, const prompt::PromptRequest& request,
                                               const CancelToken& stop) const {
  const prompt::Slots slots = prompt::slots_of(input, request, recipe_, checked);
  media::Budget budget(limits_, stop);
  Attachments attachments(recipe_, budget);
  auto chat = std::make_shared<Chat>();
  chat->generation_prompt = recipe_.prompt.generation_prompt;
  Json messages = Json::array();
  if (!input.messages.empty()) {
    messages = turns_of(input, attachments);
    chat->continues = input.messages.back().role == "assistant";
  } else {
    const std::vector<Json> visuals = attachments.read_all(input);
    std::size_t next = 0;
    if (const auto system = prompt::fill(recipe_.prompt.system, slots); !system.empty()) {
      messages.push_back(message("system", content_of(system, visuals, next)));
    }
    messages.push_back(message("user", content_of(prompt::fill(recipe_.prompt.user, slots), visuals, next)));
  }
  chat->messages = messages.dump();
  return chat;
}

}  // namespace tte::remote
