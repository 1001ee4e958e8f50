#include "remote/endpoint.h"

#include <curl/curl.h>
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "base/printable.h"
#include "tte/error.h"

namespace tte::remote {
namespace {

constexpr std::size_t kMostUrlBytes = 2048;
constexpr std::size_t kMostKeyBytes = 8192;

class Url {
 public:
  Url() : handle_(curl_url(), curl_url_cleanup) {}

  CURLUcode set(const std::string& url) {
    return curl_url_set(handle_.get(), CURLUPART_URL, url.c_str(), CURLU_NON_SUPPORT_SCHEME);
  }
  [[nodiscard]] std::string get(CURLUPart part) const {
    char* text = nullptr;
    if (curl_url_get(handle_.get(), part, &text, 0) != CURLUE_OK) return {};
    const std::unique_ptr<char, void (*)(void*)> owner(text, curl_free);
    return text;
  }

 private:
  std::unique_ptr<CURLU, void (*)(CURLU*)> handle_;
};

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return text;
}

// Printable ASCII without spaces: nothing that could end a line of a header.
bool is_plain(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

// A URL without what may be secret, also where it is none.
std::string without_secrets(std::string_view url) {
  url = url.substr(0, url.find_first_of("?#"));
  const std::size_t at = url.rfind('@');
  if (at == std::string_view::npos) return base::printable(url, 100);
  const std::size_t slashes = url.find("//");
  return base::printable(
      fmt::format("{}...{}", slashes < at ? url.substr(0, slashes + 2) : "", url.substr(at)), 100);
}

[[noreturn]] void refuse(const std::string& url, const char* why) {
  throw InputError(
      fmt::format("base_url is \"{}\", which {}: give the server's address as http://host:port/v1.",
                  without_secrets(url), why));
}

void cut_end(std::string& text, std::string_view end) {
  if (text.ends_with(end)) text.resize(text.size() - end.size());
}

}  // namespace

Endpoint parse_endpoint(const std::string& base_url) {
  if (base_url.empty()) refuse(base_url, "is empty");
  if (base_url.size() > kMostUrlBytes) refuse(base_url, "is longer than an address");
  if (!is_plain(base_url)) refuse(base_url, "has a space or a letter outside ASCII");
  Url url;
  if (base_url.find("://") == std::string::npos || url.set(base_url) != CURLUE_OK)
    refuse(base_url, "is no URL");
  const std::string scheme = lower(url.get(CURLUPART_SCHEME));
  if (scheme != "http" && scheme != "https") refuse(base_url, "is neither http nor https");
  if (base_url.find('@') != std::string::npos) {
    refuse(base_url, "has a user name or password in it, where only api_key may stand for one");
  }
  if (base_url.find('?') != std::string::npos || base_url.find('#') != std::string::npos) {
    refuse(base_url, "has a query or a fragment");
  }
  Endpoint out{base_url, lower(url.get(CURLUPART_HOST))};
  // libcurl takes the first name after any number of slashes.
  if (out.place.empty() || base_url.find(":///") != std::string::npos) refuse(base_url, "names no host");
  out.place += fmt::format(":{}{}", url.get(CURLUPART_PORT), url.get(CURLUPART_PATH));
  for (std::string* text : {&out.base_url, &out.place}) {
    while (text->ends_with('/')) text->pop_back();
    cut_end(*text, "/chat/completions");
  }
  return out;
}

std::string find_key(const RemoteOptions& options) {
  std::string key = options.api_key;
  std::string name = "api_key";
  if (key.empty() && !options.api_key_env.empty()) {
    const char* value = std::getenv(options.api_key_env.c_str());
    if (value != nullptr) key = value;
    name = fmt::format("the environment variable {}", base::printable(options.api_key_env, 80));
  }
  if (!is_plain(key) || key.size() > kMostKeyBytes) {
    throw InputError(fmt::format(
        "{} has what no key has (a space, a line's end, a letter outside ASCII, or more than {} bytes): "
        "copy it again.",
        name, kMostKeyBytes));
  }
  return key;
}

std::string shown_origin(const std::string& url) {
  Url parsed;
  if (url.empty() || parsed.set(url) != CURLUE_OK) return "another address";
  const std::string port = parsed.get(CURLUPART_PORT);
  return base::printable(fmt::format("{}://{}{}{}", parsed.get(CURLUPART_SCHEME), parsed.get(CURLUPART_HOST),
                                     port.empty() ? "" : ":", port),
                         100);
}

}  // namespace tte::remote
