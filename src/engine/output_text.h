// The text of generated tokens, up to a stop string.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace tte::engine {

// Detokenises as tokens come and watches for stop strings, which may be split over tokens. Text that could
// turn out to be the beginning of a stop string is held back until it is known not to be.
class OutputText {
 public:
  OutputText(std::shared_ptr<const text::Tokenizer> tokenizer, std::vector<std::string> stop);

  // The text that `id` completes; nothing after a stop string.
  std::string push(std::int64_t id);
  // What was held back: no more tokens will come.
  std::string finish();
  [[nodiscard]] bool stopped() const { return stopped_; }
  [[nodiscard]] const std::string& text() const { return text_; }  // Everything returned so far.

 private:
  std::string release(const std::string& piece, bool last);

  text::StreamDecoder decoder_;
  std::vector<std::string> stop_;
  std::string held_;
  std::string text_;
  bool stopped_ = false;
};

}  // namespace tte::engine
