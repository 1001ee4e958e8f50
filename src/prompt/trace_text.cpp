#include "prompt/trace_text.h"

namespace tte::prompt {
namespace {

std::string trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return std::string(text.substr(begin, text.find_last_not_of(kSpace) - begin + 1));
}

}  // namespace

void split_trace(Trace& trace, std::string_view open, std::string_view close, bool is_open) {
  const std::string_view text = trace.text;
  std::size_t opened = open.empty() ? std::string_view::npos : text.find(open);
  // A tag that closes before any opens was opened in the prompt; the answer may quote an opening one.
  if (!close.empty() && opened != std::string_view::npos && text.find(close) < opened) {
    opened = std::string_view::npos;
  }
  const std::size_t begin = opened == std::string_view::npos ? 0 : opened + open.size();
  const std::size_t closed = close.empty() ? std::string_view::npos : text.find(close, begin);
  if (closed != std::string_view::npos) {
    trace.thinking = trimmed(text.substr(begin, closed - begin));
    trace.conclusion = trimmed(text.substr(closed + close.size()));
  } else if (opened != std::string_view::npos || is_open) {
    trace.thinking = trimmed(text.substr(begin));
    trace.conclusion.clear();
  } else {
    trace.thinking.clear();
    trace.conclusion = trimmed(text);
  }
}

}  // namespace tte::prompt
