#include "remote/request.h"

#include <fmt/core.h>

#include <array>
#include <cstdint>
#include <limits>
#include <string_view>
#include <utility>
#include <variant>

#include "base/printable.h"
#include "tte/error.h"

namespace tte::remote {
namespace {

using base::Json;

constexpr std::array kOwn = {"model", "messages", "stream", "stream_options", "n"};

// OpenAI's name of a number, or vLLM's where OpenAI has none.
std::string field_of(std::string_view number) {
  if (number == "max_new_tokens") return "max_tokens";
  if (number == "min_new_tokens") return "min_tokens";
  if (number == "max_think_tokens") return "thinking_token_budget";
  return std::string(number);
}

// Servers keep seeds in 64 bits with a sign: of a larger one they would make another.
std::uint64_t sendable(std::uint64_t seed) {
  constexpr auto kMost = std::uint64_t{std::numeric_limits<std::int64_t>::max()};
  if (seed <= kMost) return seed;
  throw InputError(fmt::format(
      "seed is {}, which a server cannot be sent: give one of at most {} (2^63 - 1).", seed, kMost));
}

}  // namespace

Json parse_extra(const std::string& extra) {
  if (extra.empty()) return Json::object();
  Json fields;
  try {
    fields = base::parse_json(extra, "extra");
  } catch (const ModelError& error) {
    throw InputError(error.what());
  }
  if (!fields.is_object()) {
    throw InputError(
        fmt::format("extra is {}: it must be a JSON object with the fields that each request gets.",
                    base::shown(fields, 60)));
  }
  for (const char* own : kOwn) {
    if (fields.contains(own)) {
      throw InputError(fmt::format("extra has the field \"{}\", which is tte's own: leave it out.", own));
    }
  }
  return fields;
}

Json request_fields(const RemoteOptions& options, const GenerateOptions& decoding,
                    const TemplateOptions& template_options) {
  Json out = Json::object();
  out["model"] = options.model;
  GenerateOptions::numbers([&](const auto& number) {
    if (const auto& value = decoding.*number.member) out[field_of(number.name)] = *value;
  });
  if (!decoding.max_new_tokens) out["max_tokens"] = GenerateOptions::kUsualNewTokens;
  if (!decoding.temperature && !decoding.checkpoint_sampling) out["temperature"] = 0;
  if (decoding.seed) out["seed"] = sendable(*decoding.seed);
  if (!decoding.stop.empty()) out["stop"] = decoding.stop;
  if (!decoding.stop_token_ids.empty()) out["stop_token_ids"] = decoding.stop_token_ids;
  if (decoding.ignore_eos) out["ignore_eos"] = true;
  for (const auto& [name, value] : template_options) {
    std::visit([&, &key = name](const auto& plain) { out["chat_template_kwargs"][key] = plain; }, value);
  }
  out["stream"] = options.stream;
  if (options.stream) out["stream_options"] = {{"include_usage", true}};
  const Json extra = parse_extra(options.extra);
  for (const auto& [name, value] : extra.items()) {
    out.erase(name);
    if (!value.is_null()) out[name] = value;
  }
  return out;
}

std::string request_body(Json fields, const Chat& chat) {
  if (chat.continues) {
    fields["add_generation_prompt"] = false;
    fields["continue_final_message"] = true;
  } else if (!chat.generation_prompt) {
    fields["add_generation_prompt"] = false;
  }
  std::string body = fields.dump();
  body.pop_back();
  body.reserve(body.size() + chat.messages.size() + 16);
  body += ",\"messages\":";
  body += chat.messages;
  body += '}';
  return body;
}

}  // namespace tte::remote
