// Which part of a trace is thinking, and which is its conclusion.
#pragma once

#include <string>
#include <string_view>

#include "tte/trace.h"

namespace tte::prompt {

// Sets trace.thinking and trace.conclusion from trace.text. The thinking ends at the first `close` after `open`; a text
// without `open` before its first `close` is all thinking up to there (templates may have opened the tag in the prompt:
// `is_open` says so of a text that has no `close` either). A text that was cut before `close` has no conclusion. White
// space around both parts is removed.
void split_trace(Trace& trace, std::string_view open, std::string_view close, bool is_open = false);

}  // namespace tte::prompt
