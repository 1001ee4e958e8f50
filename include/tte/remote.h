/// @file
/// A reasoner behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, a provider's API).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tte/error.h"
#include "tte/export.h"
#include "tte/options.h"

namespace tte {

/// A server did not give a trace: it cannot be reached, refuses, or answers something else. Says what the server
/// said.
class TTE_API RemoteError : public Error {
 public:
  explicit RemoteError(const std::string& message, int status = 0, bool of_item = false)
      : Error(message), status_(status), of_item_(of_item) {}
  ~RemoteError() override;
  [[nodiscard]] int status() const { return status_; }  ///< HTTP status of the answer; 0: there was none.
  /// The server answered, and had no text for this item: with OnError::kSkip it is the error of the item. False where
  /// any item would fare the same: no answer, one about who asks (a redirect, 401, 404, 405) or how much at a time
  /// (429, 503), and none with a text for 16 items in a row, those that it refuses (400, 413, 414, 415, 422, a content
  /// filter, an answer without a text) not counted.
  [[nodiscard]] bool of_item() const { return of_item_; }

 private:
  int status_;
  bool of_item_;
};

/// Where a server is, which of its models thinks, and how patiently it is asked. Each item is one request to
/// `<base_url>/chat/completions`.
struct RemoteOptions {
  /// "http://localhost:8000/v1": http or https, without user name, password, query or fragment. Redirects are
  /// not followed.
  std::string base_url;
  /// The model's name on the server.
  std::string model;
  /// Sent as a bearer token to `base_url` and nowhere else; in no message, description or digest. Empty: the
  /// value of the environment variable `api_key_env`, and no key where that is empty or not set.
  std::string api_key;
  std::string api_key_env = "OPENAI_API_KEY";
  /// A recipe file, or the name of a bundled recipe, of style "chat": its system and user pieces become the
  /// messages, the server's template does the rest. Empty: the item is the user's message as it is.
  std::string recipe;
  /// What the server's chat template reads beside the messages, on top of the recipe's: "chat_template_kwargs" of the
  /// request, as vLLM and SGLang have it.
  TemplateOptions template_options;
  /// A JSON object whose fields each request gets besides those of tte, such as {"service_tier": "flex"}; they win over
  /// those of tte, and null takes one out. Empty: none.
  std::string extra;
  /// Ask for the text piece by piece (server-sent events). False: for the whole answer, which then is one piece.
  bool stream = true;

  /// Requests under way at the same time, of all calls together; from 1 to 256. Also its threads.
  int max_concurrent = 8;
  /// Threads that read media and encode them; 0: a quarter of the cores, at least one.
  int media_threads = 0;
  /// What the media of one item may cost; also the most that a request may be.
  MediaLimits media_limits;

  /// How often a request is made again after a lost connection, a cut or senseless answer, or one of the
  /// statuses 408, 409, 425, 429 and 500 to 599; from 0 to 100.
  int max_retries = 5;
  /// Seconds before the first retry, doubled for each further one; a random part of up to a half is taken off.
  double retry_delay = 0.5;
  /// Seconds that any wait may take, also one that the server asks for (Retry-After).
  double max_retry_delay = 60;
  /// Makes the random parts repeatable.
  std::optional<std::uint64_t> retry_seed;

  /// Seconds until a connection stands.
  double connect_timeout = 10;
  /// Seconds without a single byte in either direction. A server that thinks before it answers, or answers at
  /// once (`stream` = false), needs this long.
  double idle_timeout = 300;
  /// Seconds that an item may take, all its tries together.
  double total_timeout = 3600;
  /// Bytes of one answer, and of one event of it a sixteenth.
  std::int64_t max_response_bytes = std::int64_t{64} << 20;

  /// Throws InputError naming the first option out of range, or why `base_url`, `model`, `api_key` or `extra`
  /// cannot be used; it never shows a key or a password.
  TTE_API void validate() const;
};

}  // namespace tte
