#include "remote/http_client.h"

#include <curl/curl.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <exception>
#include <new>
#include <utility>

#include "base/printable.h"
#include "remote/endpoint.h"
#include "remote/failure.h"
#include "remote/status.h"
#include "tte/error.h"

namespace tte::remote {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kMostHeaderBytes = 256 << 10;
constexpr std::size_t kErrorBytes = 64 << 10;  // How much of an error's body is kept.
constexpr milliseconds kDrain{100};            // For the end of an answer of which no more is wanted.

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == '\r' || text.back() == '\n' || text.back() == ' '))
    text.remove_suffix(1);
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  return text;
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return out;
}

void start_curl() {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (started != CURLE_OK)
    throw Error(fmt::format("libcurl cannot be started: {}.", curl_easy_strerror(started)));
}

long whole_milliseconds(double seconds) {
  return std::max(1L, static_cast<long>(std::min(seconds, 1e6) * 1000));
}

}  // namespace

// One handle with its kept connection, and the request that it is making.
class HttpClient::Connection {
 public:
  Connection() : easy_(curl_easy_init(), curl_easy_cleanup), multi_(curl_multi_init(), curl_multi_cleanup) {
    if (!easy_ || !multi_) throw std::bad_alloc();
  }

  HttpReply post(const HttpOptions& options, const std::string& body, const OnPiece& on_piece,
                 Clock::time_point until, const CancelToken& stop) {
    reply_ = {};
    header_bytes_ = received_ = 0;
    enough_ = false;
    error_ = nullptr;
    on_piece_ = &on_piece;
    options_ = &options;
    const Headers headers = headers_of(options);
    set_up(options, body, headers.get());
    try {
      const CURLcode code = transfer(until, stop);
      if (error_) std::rethrow_exception(error_);
      if (code != CURLE_OK && !enough_) throw lost(code);
    } catch (Failure& failure) {
      if (!has_asked()) failure.fault = Fault::kServer;
      throw;
    }
    return std::move(reply_);
  }

 private:
  using Headers = std::unique_ptr<curl_slist, void (*)(curl_slist*)>;

  static Headers headers_of(const HttpOptions& options) {
    Headers list(nullptr, curl_slist_free_all);
    const auto add = [&](const std::string& line) {
      curl_slist* longer = curl_slist_append(list.get(), line.c_str());
      if (longer == nullptr) throw std::bad_alloc();
      static_cast<void>(list.release());
      list.reset(longer);
    };
    add("Content-Type: application/json");
    add("Accept: " + options.accept);
    add("Expect:");  // Servers that know no 100 Continue would cost a second.
    if (!options.key.empty()) add("Authorization: Bearer " + options.key);
    return list;
  }

  void set_up(const HttpOptions& options, const std::string& body, curl_slist* headers) {
    CURL* easy = easy_.get();
    curl_easy_reset(easy);  // Keeps the connection.
    message_[0] = '\0';
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, message_.data());
    curl_easy_setopt(easy, CURLOPT_URL, options.url.c_str());
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "tte");
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, whole_milliseconds(options.connect_seconds));
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, this);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, this);
  }

  // Runs the request; what ends it early but for the server is thrown.
  CURLcode transfer(Clock::time_point until, const CancelToken& stop) {
    if (const CURLMcode added = curl_multi_add_handle(multi_.get(), easy_.get()); added != CURLM_OK) {
      throw failure(fmt::format("cannot be asked ({})", curl_multi_strerror(added)), false);
    }
    struct Remove {
      Connection& self;
      ~Remove() { curl_multi_remove_handle(self.multi_.get(), self.easy_.get()); }
    } const remove{*this};
    Clock::time_point last_byte = Clock::now();
    curl_off_t moved = 0;
    while (true) {
      int running = 0;
      curl_multi_perform(multi_.get(), &running);
      int left = 0;
      while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
        if (message->msg == CURLMSG_DONE) return message->data.result;
      }
      if (stop.cancelled()) throw CancelledError("The call was cancelled.");
      const auto now = Clock::now();
      if (enough_ && now > drained_) return CURLE_OK;
      if (const curl_off_t more = bytes_moved(); more != moved) {
        moved = more;
        last_byte = now;
      }
      check_time(now, last_byte, until);
      curl_multi_poll(multi_.get(), nullptr, 0, static_cast<int>(kLookEvery.count()), nullptr);
    }
  }

  void check_time(Clock::time_point now, Clock::time_point last_byte, Clock::time_point until) const {
    const double idle = std::chrono::duration<double>(now - last_byte).count();
    if (idle > options_->idle_seconds) {
      throw failure(fmt::format("was silent for {} seconds", options_->idle_seconds), true,
                    "look at its log, or raise idle_timeout");
    }
    if (now > until)
      throw failure("took longer than total_timeout", false, "look at its log, or raise total_timeout");
  }

  // Whether some of the request has left: a connection stood.
  [[nodiscard]] bool has_asked() const {
    long sent = 0;
    curl_easy_getinfo(easy_.get(), CURLINFO_REQUEST_SIZE, &sent);
    return sent > 0;
  }

  [[nodiscard]] curl_off_t bytes_moved() const {
    curl_off_t down = 0, up = 0;
    curl_easy_getinfo(easy_.get(), CURLINFO_SIZE_DOWNLOAD_T, &down);
    curl_easy_getinfo(easy_.get(), CURLINFO_SIZE_UPLOAD_T, &up);
    return down + up + static_cast<curl_off_t>(header_bytes_);
  }

  [[nodiscard]] Failure lost(CURLcode code) const {
    const std::string why =
        base::printable(message_[0] != '\0' ? message_.data() : curl_easy_strerror(code), 120);
    const bool certificate = code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE;
    if (certificate)
      return failure(fmt::format("has no certificate that can be trusted ({})", why), false,
                     "check base_url and the system's certificates");
    if (reply_.status != 0) return failure(fmt::format("cut its answer off ({})", why), true);
    if (code == CURLE_GOT_NOTHING || code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR)
      return failure(fmt::format("ended the connection without an answer ({})", why), true);
    Failure out =
        failure(fmt::format("cannot be reached ({})", why), true, "check that it runs, and base_url");
    out.fault = Fault::kServer;
    return out;
  }

  static std::size_t on_header(char* data, std::size_t /*one*/, std::size_t size, void* self) {
    return static_cast<Connection*>(self)->run(size, [&](Connection& c) { return c.header({data, size}); });
  }
  static std::size_t on_body(char* data, std::size_t /*one*/, std::size_t size, void* self) {
    return static_cast<Connection*>(self)->run(size, [&](Connection& c) { return c.piece({data, size}); });
  }

  // Between C and C++: nothing may be thrown through libcurl. Another number than `size` ends the transfer. What is
  // enough is mostly whole: a connection whose answer has been read to its end can be used again.
  template <typename F>
  std::size_t run(std::size_t size, const F& step) noexcept {
    try {
      if (enough_ || step(*this)) return size;
      enough_ = true;
      drained_ = Clock::now() + kDrain;
      return size;
    } catch (...) {
      error_ = std::current_exception();
    }
    return size == 0 ? 1 : 0;
  }

  bool header(std::string_view line) {
    header_bytes_ += line.size();
    if (header_bytes_ > kMostHeaderBytes) {
      throw failure(fmt::format("sends more than {} bytes of headers", kMostHeaderBytes), false,
                    "look at what answers there");
    }
    if (line.starts_with("HTTP/")) {  // Another may have come before, such as 100.
      reply_ = {};
      long status = 0;
      curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &status);
      reply_.status = static_cast<int>(status);
      return true;
    }
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return true;
    const std::string name = lower(line.substr(0, colon));
    const std::string_view value = trimmed(line.substr(colon + 1));
    if (name == "content-type") reply_.content_type = lower(trimmed(value.substr(0, value.find(';'))));
    if (name == "retry-after") reply_.retry_after = value;
    if (name == "location") reply_.location = value;
    return true;
  }

  bool piece(std::string_view bytes) {
    received_ += static_cast<std::int64_t>(bytes.size());
    if (reply_.status / 100 != 2) {
      reply_.body += bytes.substr(0, kErrorBytes - std::min(kErrorBytes, reply_.body.size()));
      return reply_.body.size() < kErrorBytes;
    }
    if (received_ > options_->most_bytes) {
      throw failure(fmt::format("answers with more than {} bytes", options_->most_bytes), false,
                    "look at what answers there, or raise max_response_bytes");
    }
    return (*on_piece_)(reply_, bytes);
  }

  std::unique_ptr<CURL, void (*)(CURL*)> easy_;
  std::unique_ptr<CURLM, CURLMcode (*)(CURLM*)> multi_;
  std::array<char, CURL_ERROR_SIZE> message_ = {};
  const HttpOptions* options_ = nullptr;
  const OnPiece* on_piece_ = nullptr;
  HttpReply reply_;
  std::size_t header_bytes_ = 0;
  std::int64_t received_ = 0;
  bool enough_ = false;
  Clock::time_point drained_;
  std::exception_ptr error_;
};

HttpClient::HttpClient(HttpOptions options) : options_(std::move(options)) {
  start_curl();
}

HttpClient::~HttpClient() {
  // A forked process shares the sockets: ending them there would end them here.
  if (!process_.elsewhere()) return;
  for (auto& connection : idle_) static_cast<void>(connection.release());
}

std::unique_ptr<HttpClient::Connection> HttpClient::connection() {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) return std::make_unique<Connection>();
  auto last = std::move(idle_.back());
  idle_.pop_back();
  return last;
}

HttpReply HttpClient::post(const std::string& body, const OnPiece& on_piece, Clock::time_point until,
                           const CancelToken& stop) {
  auto one = connection();
  HttpReply reply = one->post(options_, body, on_piece, until, stop);
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(one));
  return reply;
}

}  // namespace tte::remote
