#include "remote/reply_reader.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/printable.h"
#include "remote/failure.h"
#include "remote/status.h"
#include "tte/error.h"

namespace tte::remote {
namespace {

using base::Json;

constexpr std::size_t kShownBytes = 160;

const Json* member(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

// A text, or a list of parts that have one. Throws Failure for what is neither.
std::string text_of(const Json* value) {
  if (value == nullptr) return {};
  if (value->is_string()) return value->get<std::string>();
  if (!value->is_array() ||
      !std::all_of(value->begin(), value->end(), [](const Json& part) { return part.is_object(); })) {
    throw failure(fmt::format("answers {} in place of a text", base::shown(*value, 80)), true,
                  "look at what answers there");
  }
  std::string out;
  for (const Json& part : *value) {
    if (const Json* text = member(part, "text"); text != nullptr && text->is_string())
      out += text->get<std::string>();
  }
  return out;
}

std::int64_t count_of(const Json& usage, const char* name) {
  const Json* value = member(usage, name);
  return value == nullptr ? 0 : base::whole_number(*value, 0).value_or(0);
}

// The message of an error as OpenAI, vLLM, llama.cpp and FastAPI write it.
std::string message_of(const Json& json) {
  if (json.is_string()) return json.get<std::string>();
  for (const char* name : {"error", "message", "detail"}) {
    if (const Json* inner = member(json, name)) {
      std::string text = inner->is_array() ? base::shown(*inner, kShownBytes) : message_of(*inner);
      if (!text.empty()) return text;
    }
  }
  return {};
}

// An error that came in place of a text, or after half of it.
[[noreturn]] void throw_error(const Json& json) {
  const Json* error = member(json, "error");
  std::optional<std::int64_t> code;
  for (const Json* place : {error, &json}) {
    const Json* value = place == nullptr ? nullptr : member(*place, "code");
    if (value != nullptr && !code) code = base::whole_number(*value, 400, 599);
  }
  throw answered(static_cast<int>(code.value_or(500)), base::printable(message_of(json), kShownBytes));
}

Failure without_text(const std::string& why, const char* remedy = "leave the item out") {
  Failure out = failure(why, false, remedy);
  out.fault = Fault::kItem;
  return out;
}

}  // namespace

Json parse_answer(std::string_view text) {
  const std::string begin = base::printable(text, 80);
  try {
    return base::parse_json(text, "the answer");
  } catch (const ModelError&) {
    throw failure(fmt::format("answers what is no JSON (\"{}\")", begin), true, "look at what answers there");
  }
}

std::string error_message(std::string_view body) {
  std::string text;
  try {
    text = message_of(base::parse_json(body, "the answer"));
  } catch (const ModelError&) {  // A page of a proxy.
  }
  return base::printable(text.empty() ? body : text, kShownBytes);
}

void ReplyReader::usage(const Json& object) {
  const Json* found = member(object, "usage");
  if (found == nullptr) return;
  reply_.prompt_tokens = count_of(*found, "prompt_tokens");
  reply_.generated_tokens = count_of(*found, "completion_tokens");
  if (const Json* details = member(*found, "prompt_tokens_details")) {
    reply_.reused_tokens = count_of(*details, "cached_tokens");
  }
}

void ReplyReader::end() {
  if (reason_ == "content_filter") throw without_text("stopped the text by its content filter");
  if (reason_ == "tool_calls" || reason_ == "function_call") {
    throw without_text("called a tool where a text was asked for");
  }
  if (reason_ == "abort" || reason_ == "error") {
    throw failure(fmt::format("broke the text off (finish_reason \"{}\")", reason_), true);
  }
  reply_.finish = reason_ == "length" ? FinishReason::kLength : FinishReason::kStop;
}

void ReplyReader::choice(const Json& choice, const char* message) {
  if (const Json* index = member(choice, "index"); index != nullptr && *index != 0) return;
  const Json* written = member(choice, message);
  if (written != nullptr && written->is_object()) {
    has_choice_ = true;
    const Json* own = member(*written, "reasoning_content");
    const std::string thinking = text_of(own != nullptr ? own : member(*written, "reasoning"));
    const std::string text = text_of(member(*written, "content"));
    const Json* refusal = member(*written, "refusal");
    if (refusal != nullptr && refusal->is_string()) refusal_ += refusal->get<std::string>();
    if (!thinking.empty()) {
      if (!thinking_) reply_.text += open_;
      thinking_ = true;
      reply_.text += thinking;
    }
    if (!text.empty()) {
      if (std::exchange(thinking_, false)) reply_.text += close_;
      reply_.text += text;
    }
  }
  if (const Json* reason = member(choice, "finish_reason"); reason != nullptr && reason->is_string()) {
    has_choice_ = true;
    reason_ = reason->get<std::string>();
    if (!reason_.empty()) end();  // Some have "" where the text goes on.
  }
}

void ReplyReader::chunk(std::string_view data) {
  if (done_ || data.empty()) return;
  if (data == "[DONE]") {
    done_ = true;
    return;
  }
  const Json json = parse_answer(data);
  if (member(json, "error") != nullptr) throw_error(json);
  const Json* choices = member(json, "choices");
  if (choices != nullptr && choices->is_array()) {
    for (const Json& each : *choices) choice(each, "delta");
  } else if (member(json, "usage") == nullptr) {
    throw failure(fmt::format("sends an event without choices ({})", base::shown(json, 80)), true,
                  "look at what answers there");
  }
  usage(json);
}

void ReplyReader::whole(std::string_view body) {
  const Json json = parse_answer(body);
  if (member(json, "error") != nullptr) throw_error(json);
  if (const Json* choices = member(json, "choices"); choices != nullptr && choices->is_array()) {
    for (const Json& each : *choices) choice(each, "message");
  }
  usage(json);
  if (!has_choice_) {
    throw failure(fmt::format("answers without choices ({})", base::shown(json, 80)), true,
                  "look at what answers there");
  }
  finish();
}

void ReplyReader::finish() {
  if (!done_ && !reply_.finish)
    throw failure("ended its answer before the text was whole (no finish_reason)", true);
  if (!has_choice_) throw failure("answers without a single choice", true, "look at what answers there");
  if (!reply_.finish) reply_.finish = FinishReason::kStop;
  if (!refusal_.empty() && reply_.text.empty()) {
    throw without_text(fmt::format("refuses (\"{}\")", base::printable(refusal_, kShownBytes)));
  }
  if (reply_.text.empty()) {  // It may have gone elsewhere: a model's own thinking, which some servers keep.
    throw without_text(fmt::format("wrote no text (finish_reason \"{}\")", base::printable(reason_, 40)),
                       reason_ == "length" ? "raise max_new_tokens" : "leave the item out");
  }
  if (thinking_ && *reply_.finish == FinishReason::kStop) {
    thinking_ = false;
    reply_.text += close_;
  }
}

}  // namespace tte::remote
