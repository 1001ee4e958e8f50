#include "tte/trace.h"

#include <utility>

#include "prompt/trace_text.h"

namespace tte {

Trace Trace::from_text(std::string text, std::string_view think_open, std::string_view think_close) {
  Trace trace;
  trace.text = std::move(text);
  prompt::split_trace(trace, think_open, think_close);
  return trace;
}

}  // namespace tte
