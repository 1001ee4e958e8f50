#include "remote/client.h"

#include <fmt/core.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <exception>
#include <optional>
#include <random>
#include <string_view>
#include <thread>
#include <utility>

#include "base/printable.h"
#include "remote/endpoint.h"
#include "remote/failure.h"
#include "remote/request.h"
#include "remote/sse_reader.h"
#include "remote/status.h"
#include "tte/error.h"
#include "tte/remote.h"

namespace tte::remote {
namespace {

using Clock = HttpClient::Clock;

constexpr int kEventsOfAnAnswer = 16;
constexpr int kMostWithoutText = 16;  // Items in a row, of all calls: then it is the server, not the items.

double seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

HttpOptions http_options(const RemoteOptions& options, const std::string& key) {
  HttpOptions out;
  out.url = parse_endpoint(options.base_url).chat_url();
  out.key = key;
  out.accept = options.stream ? "text/event-stream, application/json" : "application/json";
  out.connect_seconds = options.connect_timeout;
  out.idle_seconds = options.idle_timeout;
  out.most_bytes = options.max_response_bytes;
  return out;
}

bool looks_like_events(std::string_view body) {
  return body.starts_with("data:") || body.starts_with("event:") || body.starts_with("id:") ||
         body.starts_with(':');
}

// Writing to a connection that the server has closed ends no process.
void block_broken_pipes() {
  sigset_t broken;
  sigemptyset(&broken);
  sigaddset(&broken, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &broken, nullptr);
}

void wait(double time, Clock::time_point until, const CancelToken& cancel) {
  const auto end = std::min(
      until, Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(time)));
  while (true) {
    if (cancel.cancelled()) throw CancelledError("The call was cancelled.");
    const auto left = end - Clock::now();
    if (left <= Clock::duration::zero()) return;
    std::this_thread::sleep_for(std::min<Clock::duration>(left, kLookEvery));
  }
}

}  // namespace

// What has come of one answer.
struct Client::Progress {
  Clock::time_point until;
  std::optional<Clock::time_point> first, last;
  std::string text;               // Handed out.
  std::vector<std::size_t> ends;  // Where its pieces end.
  Reply reply;                    // What the current try brings.
  bool stopped = false;           // Nobody wants more.

  // Hands out what is new in `all`. A try after one that was cut has to begin with the same text, which is handed out
  // already.
  void hand_out(const std::string& all, const ChatRequest& request) {
    const std::size_t both = std::min(all.size(), text.size());
    if (request.watched && all.compare(0, both, text, 0, both) != 0) {
      throw failure("cut its answer off, and wrote another one the second time", false,
                    "set temperature 0 or a seed, or leave on_token out");
    }
    if (all.size() <= text.size()) return;
    const std::string piece = all.substr(text.size());
    text += piece;
    ends.push_back(text.size());
    last = Clock::now();
    if (!first) first = last;
    stopped = request.on_token && request.on_token(-1, piece) == OnToken::kStop;
  }
};

Client::Client(const RemoteOptions& options)
    : options_(options),
      base_url_(parse_endpoint(options.base_url).base_url),
      key_(find_key(options)),
      retries_{options.retry_delay, options.max_retry_delay,
               options.retry_seed ? *options.retry_seed : std::random_device()()},
      http_(http_options(options, key_)),
      pool_(options.max_concurrent) {}

std::future<ChatResult> Client::submit(ChatRequest request) {
  auto promise = std::make_shared<std::promise<ChatResult>>();
  std::future<ChatResult> future = promise->get_future();
  auto job = std::make_shared<const ChatRequest>(std::move(request));
  pool_.post([this, promise, job, asked = Clock::now()] {
    block_broken_pipes();
    try {
      promise->set_value(answer(*job, asked));
    } catch (...) {
      promise->set_exception(std::current_exception());
    }
    if (job->on_done) job->on_done();
  });
  return future;
}

std::string Client::without_key(std::string text) const {
  for (std::size_t at = 0; !key_.empty() && (at = text.find(key_, at)) != std::string::npos;) {
    text.replace(at, key_.size(), "***");
  }
  return text;
}

RemoteError Client::error_of(const Failure& failure, int tries) {
  const bool gone = failure.fault == Fault::kEither && ++without_text_ >= kMostWithoutText;
  if (gone) without_text_ = 0;  // Later calls begin anew: it may have been started again.
  return RemoteError(
      fmt::format("the server {} {}{}{}: {}.", base::printable(base_url_, 100), without_key(failure.what()),
                  tries > 1 ? fmt::format(", asked {} times", tries) : "",
                  gone ? fmt::format(", and had no text for {} items in a row", kMostWithoutText) : "",
                  failure.remedy),
      failure.status, failure.fault != Fault::kServer && !gone);
}

ChatResult Client::answer(const ChatRequest& request, Clock::time_point asked) {
  if (request.cancel.cancelled()) throw CancelledError("The call was cancelled.");
  const std::uint64_t number = asked_++;
  const auto begin = Clock::now();
  const std::string body =
      request_body(request_fields(options_, request.options, request.template_options), *request.chat);
  Progress progress;
  progress.until = begin + std::chrono::duration_cast<Clock::duration>(
                               std::chrono::duration<double>(options_.total_timeout));
  for (int tries = 1;; ++tries) {
    try {
      attempt(request, body, progress);
      break;
    } catch (const Failure& failure) {
      if (!failure.again || tries > options_.max_retries || Clock::now() > progress.until) {
        throw error_of(failure, tries);
      }
      wait(retries_.delay(tries, number, failure.wait), progress.until, request.cancel);
    }
  }
  without_text_ = 0;
  ChatResult out;
  out.reply = std::move(progress.reply);
  out.ends = std::move(progress.ends);
  out.queue_seconds = seconds(begin - asked);
  const auto end = Clock::now();
  out.first_seconds = seconds(progress.first.value_or(end) - begin);
  out.rest_seconds = progress.first ? seconds(*progress.last - *progress.first) : 0;
  return out;
}

void Client::attempt(const ChatRequest& request, const std::string& body, Progress& progress) {
  ReplyReader reader(request.open, request.close);
  SseReader events(static_cast<std::size_t>(options_.max_response_bytes / kEventsOfAnAnswer));
  const auto on_data = [&](std::string_view data) {
    if (progress.stopped) return;
    reader.chunk(data);
    progress.hand_out(reader.reply().text, request);  // Event by event, however many come at once.
  };
  std::string whole;
  std::optional<bool> streams;  // Some servers call one thing and send the other.
  const auto take = [&](const HttpReply& reply, std::string_view piece) {
    if (!streams) streams = reply.content_type == "text/event-stream" && !piece.starts_with('{');
    if (!*streams) {
      whole += piece;
      return true;
    }
    events.push(piece, on_data);
    return !progress.stopped && !reader.done();
  };
  const HttpReply reply = http_.post(body, take, progress.until, request.cancel);
  if (reply.status / 100 != 2) {
    const std::string said = reply.status / 100 == 3
                                 ? "a redirect to " + shown_origin(reply.location) + ", which is not followed"
                                 : error_message(reply.body);
    Failure refused = answered(reply.status, said);
    refused.wait = parse_retry_after(reply.retry_after, std::time(nullptr));
    throw refused;
  }
  if (!progress.stopped) {
    if (looks_like_events(whole)) {
      events.push(whole, on_data);
      streams = true;
    }
    if (streams.value_or(false)) {
      events.finish(on_data);
      reader.finish();
    } else {
      reader.whole(whole);
    }
    progress.hand_out(reader.reply().text, request);
  }
  progress.reply = reader.reply();
  if (progress.stopped) progress.reply.finish = FinishReason::kCallback;
}

}  // namespace tte::remote
