#include "remote/status.h"

#include <fmt/core.h>

namespace tte::remote {
namespace {

bool may_pass(int status) {
  return status == 408 || status == 409 || status == 425 || status == 429 || status >= 500;
}

// Bad request, payload too large, URI too long, media type, unprocessable: said of what was asked, not of who asks.
bool is_of_item(int status) {
  return status == 400 || status == 413 || status == 414 || status == 415 || status == 422;
}

// A redirect, a key that is refused, no such address or model, too many requests.
bool is_of_server(int status) {
  return status / 100 == 3 || status == 401 || status == 404 || status == 405 || status == 429 ||
         status == 503;
}

const char* remedy(int status) {
  if (status == 401) return "check the API key";
  if (status == 403) return "check the API key, or leave the item out";
  if (status == 404 || status == 405) return "check the model's name, and base_url, which mostly ends in /v1";
  if (status == 429) return "lower max_concurrent, or raise max_retries";
  if (is_of_item(status)) return "change the item or the decoding options, or leave it out";
  return status < 400 ? "give the address of the server itself" : "look at its log";
}

}  // namespace

Failure answered(int status, const std::string& message) {
  Failure out(message.empty() ? fmt::format("answers {}", status)
                              : fmt::format("answers {} ({})", status, message));
  out.status = status;
  out.again = may_pass(status);
  if (is_of_item(status)) out.fault = Fault::kItem;
  if (is_of_server(status)) out.fault = Fault::kServer;
  out.remedy = remedy(status);
  return out;
}

}  // namespace tte::remote
