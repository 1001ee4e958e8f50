// Cuts text into the words a tokenizer merges within (the pre-tokenizer's split pattern).
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tte::text {

struct Range {
  std::size_t begin = 0;
  std::size_t end = 0;
};

// While the first of a thread lives, all searches for regular expressions on that thread share one limit: kSeconds of
// computing and one for each million bytes. So a text has it for all of its pieces.
class SearchBudget {
 public:
  static constexpr double kSeconds = 5;
  explicit SearchBudget(std::size_t bytes);
  ~SearchBudget();
  SearchBudget(const SearchBudget&) = delete;
  SearchBudget& operator=(const SearchBudget&) = delete;
  [[nodiscard]] static bool is_spent();  // There must be one.

 private:
  static thread_local SearchBudget* current;
  bool is_first_;
  double end_ = 0;
  std::chrono::steady_clock::time_point next_;
};

// Immutable and safe to use from many threads.
class Splitter {
 public:
  // What becomes of the matches of the pattern; the names are those of tokenizer.json.
  enum class Behavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

  virtual ~Splitter() = default;
  // Matches of the pattern in `text` (UTF-8), in order, without overlap; of a regular expression they may be empty.
  // Throws InputError if the text is too much for the pattern (a regular expression without bound).
  virtual void find(std::string_view text, std::vector<Range>& matches) const = 0;

  // A splitter for a regular expression in the syntax of tokenizer.json (Oniguruma). The patterns of Qwen2,
  // Qwen3.5 and Llama 3 are recognised and scanned by hand. Throws ModelError naming `where` when the pattern
  // is not a regular expression that Oniguruma reads.
  static std::shared_ptr<const Splitter> from_regex(const std::string& pattern, const std::string& where);
  // A splitter for a fixed, non-empty string.
  static std::shared_ptr<const Splitter> from_string(std::string text);
  // A splitter for many strings, of which the longest counts; empty ones match nowhere.
  static std::shared_ptr<const Splitter> from_strings(const std::vector<std::string>& texts);
};

// The pieces of `text` that `behavior` makes of the matches of a pattern; all of the text unless matches are
// removed. With `invert`, what is between the matches counts as matched.
std::vector<Range> split(const Splitter& splitter, std::string_view text, Splitter::Behavior behavior,
                         bool invert);

inline constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwen35Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace tte::text
