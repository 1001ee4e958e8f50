// What is done to text before it is cut into words: Unicode normal forms and replacements.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/tokenizer/splitter.h"

namespace tte::text {

// Immutable and safe to use from many threads.
class Normalizer {
 public:
  enum class Form { kNfc, kNfd, kNfkc, kNfkd };
  struct Replace {
    std::shared_ptr<const Splitter> pattern;
    std::string content;
  };
  struct Prepend {  // Nothing is put before an empty text.
    std::string content;
  };
  using Step = std::variant<Form, Replace, Prepend>;

  void add(Step step);
  [[nodiscard]] bool empty() const { return steps_.empty(); }

  // The normalised text: `text` itself where nothing changes, otherwise kept in `storage`. `text` is UTF-8.
  [[nodiscard]] std::string_view apply(std::string_view text, std::string& storage) const;

 private:
  std::vector<Step> steps_;
};

}  // namespace tte::text
