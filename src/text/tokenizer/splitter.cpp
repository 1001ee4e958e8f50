#include "text/tokenizer/splitter.h"

#include <fmt/core.h>
// Else it defines ICU's UChar as something else.
#define ONIG_ESCAPE_UCHAR_COLLISION
#include <oniguruma.h>
#include <unicode/uchar.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <ctime>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include "base/printable.h"
#include "base/utf8.h"
#include "text/tokenizer/string_matcher.h"
#include "tte/error.h"

namespace tte::text {
namespace {

enum Class : std::uint8_t { kLetter = 1, kNumber = 2, kSpace = 4, kMark = 8 };

std::uint8_t classify(char32_t c) {
  const auto code_point = static_cast<UChar32>(c);
  const std::uint32_t category = U_GET_GC_MASK(code_point);
  if ((category & U_GC_L_MASK) != 0) return kLetter;
  if ((category & U_GC_N_MASK) != 0) return kNumber;
  if ((category & U_GC_M_MASK) != 0) return kMark;
  return u_isUWhiteSpace(code_point) != 0 ? kSpace : 0;
}

// Classes of all code points: looked up once per character of every prompt.
const std::vector<std::uint8_t>& class_table() {
  static const std::vector<std::uint8_t> table = [] {
    std::vector<std::uint8_t> classes(0x110000);
    for (char32_t c = 0; c < classes.size(); ++c) classes[c] = classify(c);
    return classes;
  }();
  return table;
}

// The GPT-4 style pattern that Qwen and Llama 3 share up to two details. Its alternatives, tried in this
// order:
//   contraction | [^\r\n\p{L}\p{N}]?WORD+ | \p{N}{1,max_digits} | ?OTHER+[\r\n]* | \s*[\r\n]+ | \s+(?!\S) |
//   \s+
// where WORD is \p{L}, or \p{L} and \p{M}, and OTHER is all but \s, \p{N} and WORD. Every character is
// matched.
class WordScanner final : public Splitter {
 public:
  WordScanner(int max_digits, bool marks_in_words)
      : max_digits_(max_digits),
        word_(static_cast<std::uint8_t>(kLetter | (marks_in_words ? kMark : 0))),
        not_other_(static_cast<std::uint8_t>(word_ | kNumber | kSpace)) {}

  void find(std::string_view text, std::vector<Range>& matches) const override {
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = match(text, begin);
      matches.push_back({begin, end});
      begin = end;
    }
  }

 private:
  [[nodiscard]] static std::uint8_t class_at(std::string_view text, std::size_t at, std::size_t& next) {
    next = at;
    return classes()[base::next_code_point(text, next)];
  }
  static const std::uint8_t* classes() {
    static const std::uint8_t* const data = class_table().data();
    return data;
  }

  // End of the run of characters with (or, negated, without) one of the classes.
  [[nodiscard]] static std::size_t run(std::string_view text, std::size_t at, std::uint8_t mask, bool with) {
    std::size_t next = 0;
    while (at < text.size() && ((class_at(text, at, next) & mask) != 0) == with) at = next;
    return at;
  }

  [[nodiscard]] static std::size_t newlines(std::string_view text, std::size_t at) {
    while (at < text.size() && (text[at] == '\n' || text[at] == '\r')) ++at;
    return at;
  }

  // (?i:'s|'t|'re|'ve|'m|'ll|'d); U+017F folds to s.
  [[nodiscard]] static std::size_t contraction(std::string_view text, std::size_t at) {
    const auto lower = [&](std::size_t i) {
      return i < text.size() ? static_cast<char>(text[i] | 0x20) : '\0';
    };
    const char a = lower(at + 1);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
    const char b = lower(at + 2);
    if (((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l')) return at + 3;
    return text.substr(at + 1, 2) == "\xC5\xBF" ? at + 3 : at;
  }

  [[nodiscard]] std::size_t match(std::string_view text, std::size_t at) const {
    const char first = text[at];
    if (first == '\'') {
      if (const std::size_t end = contraction(text, at); end != at) return end;
    }
    std::size_t next = 0;
    const std::uint8_t c = class_at(text, at, next);
    if ((c & word_) != 0) return run(text, next, word_, true);
    std::size_t after = 0;
    const std::uint8_t following = next < text.size() ? class_at(text, next, after) : std::uint8_t{kSpace};
    if ((c & kNumber) == 0 && first != '\r' && first != '\n' && (following & word_) != 0) {
      return run(text, after, word_, true);
    }
    if ((c & kNumber) != 0) {
      std::size_t end = next;
      for (int i = 1; i < max_digits_ && end < text.size() && (class_at(text, end, after) & kNumber) != 0;
           ++i) {
        end = after;
      }
      return end;
    }
    const bool other = (c & not_other_) == 0;
    if (other || (first == ' ' && next < text.size() && (following & not_other_) == 0)) {
      return newlines(text, run(text, next, not_other_, false));
    }
    return spaces(text, at, next);
  }

  [[nodiscard]] static std::size_t spaces(std::string_view text, std::size_t at, std::size_t next) {
    const std::size_t end = run(text, next, kSpace, true);
    const std::size_t newline = text.substr(at, end - at).find_last_of("\r\n");
    if (newline != std::string_view::npos) return at + newline + 1;
    if (end == text.size() || end == next) return end;
    std::size_t last = end - 1;  // All but the last: it goes with the word that follows.
    while (base::continues_character(text, last)) --last;
    return last;
  }

  int max_digits_;
  std::uint8_t word_;
  std::uint8_t not_other_;
};

class StringSplitter final : public Splitter {
 public:
  explicit StringSplitter(std::string text) : text_(std::move(text)) {}
  void find(std::string_view text, std::vector<Range>& matches) const override {
    for (std::size_t at = text.find(text_); at != std::string_view::npos; at = text.find(text_, at)) {
      matches.push_back({at, at + text_.size()});
      at += text_.size();
    }
  }

 private:
  std::string text_;
};

class StringsSplitter final : public Splitter {
 public:
  explicit StringsSplitter(const std::vector<std::string>& texts) : matcher_(texts) {}
  void find(std::string_view text, std::vector<Range>& matches) const override {
    matcher_.find(text, [&](const StringMatcher::Match& match) {
      matches.push_back({match.begin, match.end});
    });
  }

 private:
  StringMatcher matcher_;
};

const OnigUChar* bytes(std::string_view text) {
  return reinterpret_cast<const OnigUChar*>(text.data());
}

std::string reason(int code, OnigErrorInfo* info = nullptr) {
  std::array<OnigUChar, ONIG_MAX_ERROR_MESSAGE_LEN> text{};
  const int size = info != nullptr ? onig_error_code_to_str(text.data(), code, info)
                                   : onig_error_code_to_str(text.data(), code);
  return base::printable(
      std::string_view(reinterpret_cast<const char*>(text.data()), static_cast<std::size_t>(size)));
}

// Whether \\p{...} or \\P{...} at `at` is a word's characters, which are others in ever newer versions of Oniguruma.
bool is_word_property(std::string_view pattern, std::size_t at) {
  std::string name;
  const std::size_t end = std::min(pattern.find('}', at), pattern.size());
  for (std::size_t i = at + 1; i < end; ++i) {
    const auto c = static_cast<unsigned char>(pattern[i]);
    if (std::isalnum(c) != 0) name.push_back(static_cast<char>(std::tolower(c)));
  }
  return (pattern[at] == 'p' || pattern[at] == 'P') && pattern.substr(at + 1).starts_with('{') &&
         name == "word";
}

// With the punctuation of the tokenizers library: earlier versions of Oniguruma take no symbol for one.
std::string with_all_punctuation(std::string pattern) {
  for (const auto& [name, characters] :
       {std::pair<std::string_view, std::string_view>{"[:punct:]", R"([\p{P}\p{S}])"},
        {"[:^punct:]", R"([^\p{P}\p{S}])"}}) {
    for (std::size_t at = 0; (at = pattern.find(name, at)) != std::string::npos; at += characters.size())
      pattern.replace(at, name.size(), characters);
  }
  return pattern;
}

// What is refused of a pattern before Oniguruma reads it; nothing: empty.
std::string_view excess_of(std::string_view pattern) {
  constexpr std::size_t kMostDepth = 200;  // Reading takes stack for each.
  std::size_t depth = 0;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\\') {
      if (++i == pattern.size()) break;
      if (pattern[i] == 'G') return "\\G";
      if (is_word_property(pattern, i)) return "\\p{Word}: use \\w";
    } else if (pattern[i] == '(' || pattern[i] == '[') {
      if (++depth > kMostDepth) return "groups within more than 200 others";
    } else if ((pattern[i] == ')' || pattern[i] == ']') && depth > 0) {
      --depth;
    }
  }
  return "";
}

// Searches as the tokenizers library does, which uses Oniguruma, too, in its default syntax.
class RegexSplitter final : public Splitter {
 public:
  RegexSplitter(const std::string& given, const std::string& where) {
    if (given.size() > kMostPattern) {
      throw ModelError(fmt::format("{}: a split pattern of {} bytes is too long: at most {} are taken.",
                                   where, given.size(), kMostPattern));
    }
    const std::string pattern = with_all_punctuation(given);
    std::string why(excess_of(pattern));
    if (why.empty()) {
      static const int started = [] {
        OnigEncoding utf8 = ONIG_ENCODING_UTF8;
        return onig_initialize(&utf8, 1);
      }();
      OnigErrorInfo info{};
      OnigRegex regex = nullptr;
      const int code = started != ONIG_NORMAL
                           ? started
                           : onig_new(&regex, bytes(pattern), bytes(pattern) + pattern.size(),
                                      ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_DEFAULT, &info);
      regex_.reset(regex);
      if (code != ONIG_NORMAL) why = reason(code, &info);
    }
    if (!why.empty()) {
      throw ModelError(
          fmt::format("{}: the split pattern {} is not a regular expression that tte reads ({}).", where,
                      base::printable(given), why));
    }
  }

  void find(std::string_view text, std::vector<Range>& matches) const override {
    if (text.empty()) return;
    Search search(text, regex_.get());
    std::size_t from = 0;
    std::optional<std::size_t> last;  // Where the last match ends.
    while (from <= text.size()) {
      const auto match = search.next(from);
      if (!match) return;
      if (match->begin == match->end &&
          match->end == last) {  // An empty one does not follow a match at once.
        if (from == text.size()) return;
        static_cast<void>(base::next_code_point(text, from));
        continue;
      }
      matches.push_back(*match);
      from = match->end;
      last = from;
    }
  }

 private:
  struct Free {
    void operator()(OnigRegex regex) const { onig_free(regex); }
    void operator()(OnigRegion* region) const { onig_region_free(region, 1); }
    void operator()(OnigMatchParam* limits) const { onig_free_match_param(limits); }
  };

  // One after the other in one text.
  class Search {
   public:
    Search(std::string_view text, OnigRegex regex)
        : text_(text),
          regex_(regex),
          region_(onig_region_new()),
          limits_(onig_new_match_param()),
          own_(text.size()) {
      if (region_ == nullptr || limits_ == nullptr) throw std::bad_alloc();
      onig_initialize_match_param(limits_.get());
      onig_set_retry_limit_in_match_of_match_param(
          limits_.get(), std::clamp(kMostSteps / text.size(), kLeastRetries, kMostRetries));
      onig_set_match_stack_limit_size_of_match_param(limits_.get(), kMostStack);
    }

    // The first match that begins at `from` or behind.
    std::optional<Range> next(std::size_t from) {
      check_time();
      const int at = text_.size() <= kShort ? search(from) : match_one_by_one(from);
      if (at == ONIG_MISMATCH) return std::nullopt;
      if (at < 0) fail(reason(at));
      const Range match{static_cast<std::size_t>(region_->beg[0]), static_cast<std::size_t>(region_->end[0])};
      if (match.begin < from || match.end < match.begin) fail("\\K within what it looks at");
      return match;
    }

   private:
    int search(std::size_t from) {
      const OnigUChar *const data = bytes(text_), *const end = data + text_.size();
      return onig_search_with_param(regex_, data, end, data + from, end, region_.get(), ONIG_OPTION_NONE,
                                    limits_.get());
    }

    // The same, but a search that steps back a little from every place of a long text has an end: Oniguruma bounds the
    // tries of a match, not how far each of them goes.
    int match_one_by_one(std::size_t from) {
      const OnigUChar *const data = bytes(text_), *const end = data + text_.size();
      for (std::size_t at = from;; static_cast<void>(base::next_code_point(text_, at))) {
        const int size = onig_match_with_param(regex_, data, end, data + at, region_.get(), ONIG_OPTION_NONE,
                                               limits_.get());
        if (size != ONIG_MISMATCH || at == text_.size()) return size;
        check_time();
      }
    }

    void check_time() const {
      if (SearchBudget::is_spent()) fail("too many steps");
    }
    [[noreturn]] void fail(const std::string& why) const {
      throw InputError(fmt::format(
          "The tokenizer's split pattern fails on this text of {} bytes ({}); cut the text into parts.",
          text_.size(), why));
    }

    std::string_view text_;
    OnigRegex regex_;
    std::unique_ptr<OnigRegion, Free> region_;
    std::unique_ptr<OnigMatchParam, Free> limits_;
    SearchBudget own_;  // Counts where the caller has none.
  };

  static constexpr std::size_t kMostPattern = 65'536;
  static constexpr std::size_t kShort =
      2048;  // Bytes of a text in which a search is quick, whatever it does.
  // Tries of a match: Oniguruma's own default, and fewer where each of them may go far.
  static constexpr unsigned long kMostRetries = 10'000'000, kLeastRetries = 100'000,
                                 kMostSteps = 100'000'000'000;
  static constexpr unsigned int kMostStack = 8'000'000;  // Places to go back to, some 50 bytes each.
  std::unique_ptr<std::remove_pointer_t<OnigRegex>, Free> regex_;
};

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace

thread_local SearchBudget* SearchBudget::current = nullptr;

SearchBudget::SearchBudget(std::size_t bytes) : is_first_(current == nullptr) {
  if (!is_first_) return;
  end_ = thread_seconds() + kSeconds + 1e-6 * static_cast<double>(bytes);
  current = this;
}

SearchBudget::~SearchBudget() {
  if (is_first_) current = nullptr;
}

bool SearchBudget::is_spent() {
  // Asking for the time of a thread is a system call: a clock says when.
  const auto now = std::chrono::steady_clock::now();
  if (now < current->next_) return false;
  current->next_ = now + std::chrono::milliseconds(50);
  return thread_seconds() > current->end_;
}

std::shared_ptr<const Splitter> Splitter::from_regex(const std::string& pattern, const std::string& where) {
  if (pattern == kQwen2Pattern) return std::make_shared<WordScanner>(1, false);
  if (pattern == kQwen35Pattern) return std::make_shared<WordScanner>(1, true);
  if (pattern == kLlama3Pattern) return std::make_shared<WordScanner>(3, false);
  return std::make_shared<RegexSplitter>(pattern, where);
}

std::shared_ptr<const Splitter> Splitter::from_string(std::string text) {
  return std::make_shared<StringSplitter>(std::move(text));
}

std::shared_ptr<const Splitter> Splitter::from_strings(const std::vector<std::string>& texts) {
  return std::make_shared<StringsSplitter>(texts);
}

std::vector<Range> split(const Splitter& splitter, std::string_view text, Splitter::Behavior behavior,
                         bool invert) {
  using Behavior = Splitter::Behavior;
  std::vector<Range> matches;
  splitter.find(text, matches);
  std::vector<Range> pieces;
  pieces.reserve(matches.size() + 1);
  bool previous_matched = false;
  bool carry = false;  // kMergedWithNext: the last piece waits for what comes next.
  const auto put = [&](std::size_t begin, std::size_t end, bool matched) {
    if (invert) matched = !matched;
    const bool joins =
        !pieces.empty() && ((behavior == Behavior::kMergedWithPrevious && matched && !previous_matched) ||
                            (behavior == Behavior::kContiguous && matched == previous_matched) ||
                            (behavior == Behavior::kMergedWithNext && carry && !matched));
    if (joins) {
      pieces.back().end = end;
    } else if (!(matched && behavior == Behavior::kRemoved)) {
      pieces.push_back({begin, end});
    }
    carry = matched;
    previous_matched = matched;
  };
  std::size_t at = 0;
  for (const Range& m : matches) {
    if (m.begin != at) put(at, m.begin, false);
    put(m.begin, m.end, true);
    at = m.end;
  }
  if (at != text.size()) put(at, text.size(), false);
  std::erase_if(pieces, [](const Range& piece) { return piece.begin == piece.end; });
  return pieces;
}

}  // namespace tte::text
