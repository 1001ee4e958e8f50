#include "text/jinja/lexer.h"

#include <algorithm>
#include <array>

#include "base/printable.h"
#include "base/utf8.h"
#include "text/characters.h"
#include "text/jinja/value.h"

namespace tte::text::jinja {
namespace {

using Kind = Token::Kind;

// Every line end as "\n", and none at the end of the template.
std::string with_plain_newlines(std::string_view source) {
  std::string out;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\n' && i > 0 && source[i - 1] == '\r') continue;
    out += source[i] == '\r' ? '\n' : source[i];
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

bool is_one_of(char c, std::string_view all) {
  return all.find(c) != std::string_view::npos;
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_in_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

class Lexer {
 public:
  Lexer(std::string_view source, int& line) : source_(with_plain_newlines(source)), line_(line) {}

  std::vector<Token> run() {
    for (; at_ < source_.size(); count_lines()) {
      const std::size_t tag = next_tag();
      data(tag);
      if (tag == std::string::npos) break;
      const char kind = source_[tag + 1];
      count_lines();
      at_ = tag + 2;
      if (at(at_) == '-' || at(at_) == '+') ++at_;
      kind == '#' ? comment() : expression(kind == '%');
    }
    push(Kind::kEnd, "the end of the template");
    return std::move(tokens_);
  }

 private:
  // Counts the lines up to at_, which only grows.
  void count_lines() {
    for (; counted_ < at_; ++counted_) line_ += source_[counted_] == '\n' ? 1 : 0;
  }
  void push(Kind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }
  // The character there; NUL at the end.
  [[nodiscard]] char at(std::size_t i) const { return i < source_.size() ? source_[i] : '\0'; }
  [[nodiscard]] bool looking_at(std::string_view what, std::size_t after = 0) const {
    return std::string_view(source_).substr(std::min(at_ + after, source_.size())).starts_with(what);
  }

  [[nodiscard]] std::size_t next_tag() const {
    std::size_t i = source_.find('{', at_);
    while (i != std::string::npos && !is_one_of(at(i + 1), "{%#")) i = source_.find('{', i + 1);
    return i;
  }

  // The text up to `tag`, without the space that the tag takes away: with "-" all of it, and what stands before it on
  // its line if that is nothing else.
  void data(std::size_t tag) {
    const std::size_t end = std::min(tag, source_.size());
    std::string_view text = std::string_view(source_).substr(at_, end - at_);
    const char sign = at(end + 2);
    if (tag != std::string::npos && sign == '-') {
      text = strip(text, nullptr, false, true);
    } else if (tag != std::string::npos && sign != '+' && source_[tag + 1] != '{') {
      const std::size_t start = text.rfind('\n') + 1;  // 0 if there is no line end.
      const bool begins_line = start > 0 || line_starts_;
      if (begins_line && strip(text.substr(start)).empty()) text = text.substr(0, start);
    }
    if (!text.empty()) push(Kind::kData, std::string(text));
    at_ = end;
  }

  void skip_space() {
    for (std::size_t next = at_; at_ < source_.size(); at_ = next) {
      if (!is_space(base::next_code_point(source_, next))) return;
    }
  }

  // Ends a tag whose closing mark (with its sign) starts at at_ and has `size` characters.
  void close(std::size_t size, bool strip, bool trim) {
    at_ += size;
    if (strip) {
      skip_space();
    } else if (trim && at(at_) == '\n') {
      ++at_;
    }
    line_starts_ = at_ > 0 && source_[at_ - 1] == '\n';
  }

  void comment() {
    const std::size_t end = source_.find("#}", at_);
    if (end == std::string::npos) fail("the comment has no end (#}})");
    const char sign = end > at_ ? source_[end - 1] : '\0';
    at_ = end;
    close(2, sign == '-', sign != '+');
  }

  // The tokens of a tag, and its end.
  void expression(bool block) {
    push(Kind::kMark, block ? "{%" : "{{");
    const std::string_view end = block ? "%}" : "}}";
    int braces = 0;
    while (true) {
      skip_space();
      count_lines();
      if (at_ >= source_.size()) fail("a tag has no end");
      const char sign = at(at_);
      const std::size_t is_signed = sign == '-' || (sign == '+' && block) ? 1 : 0;
      if (braces == 0 && looking_at(end, is_signed)) {
        push(Kind::kMark, std::string(end));
        return close(2 + is_signed, sign == '-', block && is_signed == 0);
      }
      token(braces);
    }
  }

  void token(int& braces) {
    const char c = source_[at_];
    if (is_in_name(c)) {
      const std::size_t begin = at_;
      const auto is_point = [&] { return is_digit(c) && at(at_) == '.' && is_digit(at(at_ + 1)); };
      while (is_in_name(at(at_)) || is_point()) ++at_;
      if (at_ - begin > 1000) refuse("a name of {} letters", at_ - begin);
      push(is_digit(c) ? Kind::kNumber : Kind::kName, source_.substr(begin, at_ - begin));
    } else if (c == '"' || c == '\'') {
      string(c);
    } else {
      mark(braces);
    }
  }

  void mark(int& braces) {
    static constexpr std::array<std::string_view, 25> kMarks = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ","};
    for (const std::string_view known : kMarks) {
      if (!looking_at(known)) continue;
      if (is_one_of(known[0], "{[(")) ++braces;
      if (is_one_of(known[0], "}])") && --braces < 0) fail("unexpected \"{}\"", known);
      at_ += known.size();
      push(Kind::kMark, std::string(known));
      return;
    }
    if (static_cast<unsigned char>(source_[at_]) >= 0x80) refuse("a name in other than ASCII letters");
    fail("unexpected character {}", base::printable(source_.substr(at_, 4)));
  }

  // A string literal with Python's escapes.
  void string(char quote) {
    std::string out;
    for (++at_; at(at_) != quote; ++at_) {
      if (at_ >= source_.size()) fail("a string has no end");
      out += source_[at_] == '\\' ? escape(at(++at_)) : std::string(1, source_[at_]);
    }
    ++at_;
    push(Kind::kString, std::move(out));
  }

  // What "\\" and `letter` mean.
  static std::string escape(char letter) {
    static constexpr std::string_view kLetters = "abfnrtv\\'\"";
    static constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
    const std::size_t known = kLetters.find(letter);
    if (known != std::string_view::npos) return std::string(1, kMeanings[known]);
    if (is_one_of(letter, "01234567xuUN")) refuse("the escape \\{} in a string", letter);
    return letter == '\n' ? ""
                          : fmt::format("\\{}", letter);  // Python keeps the backslash of an unknown escape.
  }

  std::string source_;
  std::size_t at_ = 0;
  bool line_starts_ = true;
  int& line_;
  std::size_t counted_ = 0;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, int& line) {
  const std::size_t broken = base::find_invalid(source);
  if (broken != std::string_view::npos) fail("it is not UTF-8 at byte {}", broken);
  return Lexer(source, line).run();
}

}  // namespace tte::text::jinja
