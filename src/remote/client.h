// Asks a server for texts: many at a time, and again where another try may help.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "remote/chat.h"
#include "remote/failure.h"
#include "remote/http_client.h"
#include "remote/reply_reader.h"
#include "remote/retry_policy.h"
#include "tte/options.h"
#include "tte/remote.h"
#include "tte/trace.h"

namespace tte::remote {

// The form is that of engine::GenerateRequest.
struct ChatRequest {
  std::shared_ptr<const Chat> chat;
  GenerateOptions options;           // The caller's over the recipe's.
  TemplateOptions template_options;  // The recipe's, with the caller's.
  std::string open, close;           // The tags that thinking is put between.
  bool watched = false;              // Somebody reads the pieces: what was handed out cannot be taken back.
  const void* caller = nullptr;
  // Called on a thread of the client with each piece of text; the id is -1.
  std::function<OnToken(std::int64_t id, const std::string& text)> on_token;
  std::function<void()> on_done;  // Called once, right after the future has become ready.
  CancelToken cancel;
};

struct ChatResult {
  Reply reply;                    // With `finish` set.
  std::vector<std::size_t> ends;  // Where each piece ends in the text.
  double queue_seconds = 0;       // Waiting for a place among the requests.
  double first_seconds = 0;       // From there to the first piece, retries included.
  double rest_seconds = 0;        // From the first to the last piece.
};

// Thread-safe. The destructor ends what is under way, whose calls have been left by then.
class Client {
 public:
  // `options` are valid.
  explicit Client(const RemoteOptions& options);

  // The future holds a RemoteError where no try brought a text, and CancelledError soon after `cancel`.
  std::future<ChatResult> submit(ChatRequest request);

 private:
  struct Progress;
  ChatResult answer(const ChatRequest& request, HttpClient::Clock::time_point asked);
  void attempt(const ChatRequest& request, const std::string& body, Progress& progress);
  RemoteError error_of(const Failure& failure, int tries);
  [[nodiscard]] std::string without_key(std::string text) const;

  const RemoteOptions options_;
  const std::string base_url_, key_;
  RetryPolicy retries_;
  std::atomic<std::uint64_t> asked_ = 0;
  std::atomic<int> without_text_ = 0;  // Items in a row whose failure may be theirs or the server's.
  HttpClient http_;
  base::ThreadPool pool_;  // Last: its threads use the others.
};

}  // namespace tte::remote
