#include "text/tokenizer/splitter.h"

#include <fmt/core.h>
#include <unicode/regex.h>
#include <unicode/uchar.h>
#include <unicode/utext.h>

#include <array>
#include <cstdint>

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

// In ICU \s is neither U+000B nor U+0085; in Oniguruma, as in Unicode, it is.
std::string with_unicode_spaces(std::string_view pattern) {
  std::string out;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '\\' || i + 1 == pattern.size()) {
      out.push_back(pattern[i]);
      continue;
    }
    ++i;
    if (pattern[i] == 's') {
      out.append("\\p{White_Space}");
    } else if (pattern[i] == 'S') {
      out.append("\\P{White_Space}");
    } else {
      out.push_back('\\');
      out.push_back(pattern[i]);
    }
  }
  return out;
}

class RegexSplitter final : public Splitter {
 public:
  RegexSplitter(const std::string& pattern, const std::string& where) {
    if (pattern.size() > kMostPattern) {
      throw ModelError(fmt::format("{}: a split pattern of {} bytes is too long: at most {} are taken.",
                                   where, pattern.size(), kMostPattern));
    }
    UErrorCode status = U_ZERO_ERROR;
    UParseError position;
    const auto text = icu::UnicodeString::fromUTF8(with_unicode_spaces(pattern));
    pattern_.reset(icu::RegexPattern::compile(text, 0, position, status));
    if (U_FAILURE(status)) {
      throw ModelError(
          fmt::format("{}: the split pattern {} is not a regular expression that tte reads ({}).", where,
                      base::printable(pattern), u_errorName(status)));
    }
  }

  void find(std::string_view text, std::vector<Range>& matches) const override {
    UErrorCode status = U_ZERO_ERROR;
    UText* source = utext_openUTF8(nullptr, text.data(), static_cast<std::int64_t>(text.size()), &status);
    const std::unique_ptr<UText, UText* (*)(UText*)> close(source, utext_close);
    const std::unique_ptr<icu::RegexMatcher> matcher(pattern_->matcher(status));
    if (U_SUCCESS(status)) {
      matcher->reset(source);
      std::int64_t ticks = 0;  // All matches of this text together.
      matcher->setMatchCallback(
          [](const void* context, std::int32_t) -> UBool {
            auto& spent = *const_cast<std::int64_t*>(static_cast<const std::int64_t*>(context));
            return ++spent <= kTickLimit;
          },
          &ticks, status);
      while (U_SUCCESS(status) && matcher->find(status) != 0 && U_SUCCESS(status)) {
        const auto begin = static_cast<std::size_t>(matcher->start64(status));
        const auto end = static_cast<std::size_t>(matcher->end64(status));
        if (end > begin) matches.push_back({begin, end});
      }
    }
    if (U_FAILURE(status)) {
      throw InputError(fmt::format(
          "The tokenizer's split pattern fails on this text of {} bytes ({}); cut the text into parts.",
          text.size(), u_errorName(status)));
    }
  }

 private:
  // ICU counts ticks of 10,000 steps: so many take seconds.
  static constexpr std::int64_t kTickLimit = 4000;
  static constexpr std::size_t kMostPattern = 65'536;
  std::unique_ptr<icu::RegexPattern> pattern_;
};

}  // namespace

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
    if (begin == end) return;
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
    put(at, m.begin, false);
    put(m.begin, m.end, true);
    at = m.end;
  }
  put(at, text.size(), false);
  return pieces;
}

}  // namespace tte::text
