// The text of a chat completion, whole or in pieces.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "tte/trace.h"

namespace tte::remote {

// What a server answers for one item.
struct Reply {
  std::string text;  // Thinking that the server split off stands in front, between the tags.
  std::optional<FinishReason> finish;
  std::int64_t prompt_tokens = 0, generated_tokens = 0, reused_tokens = 0;
};

class ReplyReader {
 public:
  // The tags of the recipe's traces.
  ReplyReader(std::string open, std::string close) : open_(std::move(open)), close_(std::move(close)) {}

  // A chat.completion.chunk, or "[DONE]". Throws Failure for what is neither, and for an error that the server tells.
  void chunk(std::string_view data);
  // A chat.completion.
  void whole(std::string_view body);
  // The answer has ended. Throws Failure if it ended before the text did, or has no text.
  void finish();

  [[nodiscard]] const Reply& reply() const { return reply_; }
  [[nodiscard]] bool done() const { return done_; }  // "[DONE]" has come.

 private:
  void choice(const base::Json& choice, const char* message);
  void usage(const base::Json& object);
  void end();

  std::string open_, close_, reason_, refusal_;
  Reply reply_;
  bool thinking_ = false;
  bool done_ = false;
  bool has_choice_ = false;
};

// What a server says is wrong, of a body that may be JSON, in at most 200 bytes on one line.
std::string error_message(std::string_view body);

// JSON of a server. Throws Failure.
base::Json parse_answer(std::string_view text);

}  // namespace tte::remote
