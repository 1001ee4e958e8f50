// POST requests over connections that are kept.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/process_mark.h"
#include "tte/options.h"

namespace tte::remote {

struct HttpOptions {
  std::string url;
  std::string key;     // A bearer token; empty: none.
  std::string accept;  // A media type.
  double connect_seconds = 10, idle_seconds = 300;
  std::int64_t most_bytes = 64 << 20;  // The largest body that is taken.
};

struct HttpReply {
  int status = 0;
  std::string content_type;  // In lower case, without parameters.
  std::string retry_after, location;
  std::string body;  // The beginning of an answer that is not 2xx.
};

// Thread-safe: each thread that posts has a connection for itself. Redirects are not followed: nothing that is sent,
// the key least of all, reaches another address.
class HttpClient {
 public:
  // Called with each piece of the body of a 2xx answer; false: no more is wanted.
  using OnPiece = std::function<bool(const HttpReply& reply, std::string_view piece)>;
  using Clock = std::chrono::steady_clock;

  explicit HttpClient(HttpOptions options);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Throws Failure for an answer that does not come or is too large, CancelledError soon after `stop`, and what
  // on_piece() throws.
  HttpReply post(const std::string& body, const OnPiece& on_piece, Clock::time_point until,
                 const CancelToken& stop);

 private:
  class Connection;
  std::unique_ptr<Connection> connection();

  const HttpOptions options_;
  const base::ProcessMark process_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Connection>> idle_;
};

}  // namespace tte::remote
