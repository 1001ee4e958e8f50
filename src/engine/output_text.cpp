#include "engine/output_text.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace tte::engine {
namespace {

// Bytes at the end of `text` that begin `stop` without being all of it.
std::size_t partial_match(std::string_view text, std::string_view stop) {
  for (std::size_t size = std::min(text.size(), stop.size() - 1); size > 0; --size) {
    if (text.ends_with(stop.substr(0, size))) return size;
  }
  return 0;
}

}  // namespace

OutputText::OutputText(std::shared_ptr<const text::Tokenizer> tokenizer, std::vector<std::string> stop)
    : decoder_(std::move(tokenizer)), stop_(std::move(stop)) {}

std::string OutputText::push(std::int64_t id) {
  return stopped_ ? "" : release(decoder_.push(id), false);
}

std::string OutputText::finish() {
  return stopped_ ? "" : release(decoder_.finish(), true);
}

std::string OutputText::release(const std::string& piece, bool last) {
  held_ += piece;
  std::size_t end = std::string::npos;
  for (const std::string& stop : stop_) end = std::min(end, held_.find(stop));
  if (end != std::string::npos) {
    stopped_ = true;
  } else {
    std::size_t open = 0;
    if (!last) {
      for (const std::string& stop : stop_) open = std::max(open, partial_match(held_, stop));
    }
    end = held_.size() - open;
  }
  std::string result = held_.substr(0, end);
  held_.erase(0, stopped_ ? held_.size() : end);
  text_ += result;
  return result;
}

}  // namespace tte::engine
