// Fuzzes what a server answers: a stream of events in pieces, or a whole body. The first byte of an input is the size
// of the pieces, 0 for a whole body. Anything but a Failure is a finding.
#include <cstdint>
#include <string_view>

#include "base/utf8.h"
#include "remote/failure.h"
#include "remote/reply_reader.h"
#include "remote/sse_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  tte::remote::ReplyReader reader("<think>", "</think>");
  const std::string message = tte::remote::error_message(rest);
  if (message.size() > 200 || tte::base::find_invalid(message) != std::string::npos) __builtin_trap();
  try {
    if (data[0] == 0) {
      reader.whole(rest);
    } else {
      tte::remote::SseReader events(1 << 12);
      const auto take = [&](std::string_view event) { reader.chunk(event); };
      for (; !rest.empty(); rest.remove_prefix(std::min<std::size_t>(rest.size(), data[0])))
        events.push(rest.substr(0, data[0]), take);
      events.finish(take);
      reader.finish();
    }
    if (tte::base::find_invalid(reader.reply().text) != std::string::npos) __builtin_trap();
  } catch (const tte::remote::Failure&) {
  }
  return 0;
}
