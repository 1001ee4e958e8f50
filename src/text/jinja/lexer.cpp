#include "text/jinja/lexer.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "base/printable.h"
#include "text/jinja/strings.h"
#include "text/jinja/value.h"
#include "text/utf8.h"
#include "tte/error.h"

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

bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& name)
      : source_(with_plain_newlines(source)), name_(name) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      const std::size_t tag = next_tag();
      data(tag);
      if (tag == std::string::npos) break;
      const char kind = source_[tag + 1];
      at_ = tag + 2;
      if (at(at_) == '-' || at(at_) == '+') ++at_;
      if (kind == '#') {
        comment();
      } else {
        expression(kind == '%');
      }
    }
    push(Kind::kEnd, "the end of the template");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) {
    throw ModelError(fmt::format("{}, line {}: {}.", base::printable(name_, 200), line(), what));
  }
  // The line at at_, which only grows: finding lines is linear altogether.
  int line() {
    for (; line_at_ < std::min(at_, source_.size()); ++line_at_) line_ += source_[line_at_] == '\n' ? 1 : 0;
    return line_;
  }
  void push(Kind kind, std::string text) { tokens_.push_back({kind, std::move(text), line()}); }
  // The character there; NUL at the end.
  [[nodiscard]] char at(std::size_t i) const { return i < source_.size() ? source_[i] : '\0'; }
  [[nodiscard]] bool looking_at(std::string_view what, std::size_t after = 0) const {
    return std::string_view(source_).substr(std::min(at_ + after, source_.size())).starts_with(what);
  }

  [[nodiscard]] std::size_t next_tag() const {
    std::size_t i = source_.find('{', at_);
    while (i != std::string::npos && std::string_view("{%#").find(at(i + 1)) == std::string_view::npos) {
      i = source_.find('{', i + 1);
    }
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
      if (begins_line && strip(text.substr(start), nullptr, true, false).empty())
        text = text.substr(0, start);
    }
    if (!text.empty()) push(Kind::kData, std::string(text));
    at_ = end;
  }

  void skip_space() {
    for (std::size_t next = at_; at_ < source_.size(); at_ = next) {
      if (!is_space(next_code_point(source_, next))) return;
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
    if (end == std::string::npos) fail("the comment has no end (#})");
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
    if (is_name_start(c)) {
      const std::size_t begin = at_;
      while (is_name_start(at(at_)) || is_digit(at(at_))) ++at_;
      push(Kind::kName, source_.substr(begin, at_ - begin));
    } else if (is_digit(c)) {
      number();
    } else if (c == '"' || c == '\'') {
      string(c);
    } else {
      mark(braces);
    }
  }

  void number() {
    const std::size_t begin = at_;
    while (is_digit(at(at_)) || is_name_start(at(at_)) || (at(at_) == '.' && is_digit(at(at_ + 1)))) ++at_;
    const std::string text = source_.substr(begin, at_ - begin);
    const bool whole = std::all_of(text.begin(), text.end(), is_digit);
    if (!whole || (text.size() > 1 && text[0] == '0')) {
      fail(unsupported(fmt::format("the number {}", base::printable(text, 40))));
    }
    push(Kind::kInteger, text);
  }

  void mark(int& braces) {
    static constexpr std::array<std::string_view, 25> kMarks = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ","};
    for (const std::string_view known : kMarks) {
      if (!looking_at(known)) continue;
      if (known == "{" || known == "[" || known == "(") ++braces;
      if ((known == "}" || known == "]" || known == ")") && --braces < 0)
        fail(fmt::format("unexpected \"{}\"", known));
      at_ += known.size();
      push(Kind::kMark, std::string(known));
      return;
    }
    if (static_cast<unsigned char>(source_[at_]) >= 0x80)
      fail(unsupported("a name in other than ASCII letters"));
    fail(fmt::format("unexpected character {}", base::printable(source_.substr(at_, 4))));
  }

  // A string literal with Python's escapes.
  void string(char quote) {
    std::string out;
    const int begin_line = line();
    for (++at_;; ++at_) {
      if (at_ >= source_.size()) fail("a string has no end");
      const char c = source_[at_];
      if (c == quote) break;
      if (c != '\\') {
        out += c;
        continue;
      }
      if (++at_ >= source_.size()) fail("a string has no end");
      escape(source_[at_], out);
    }
    ++at_;
    tokens_.push_back({Kind::kString, std::move(out), begin_line});
  }

  // What "\\" and `letter` mean.
  void escape(char letter, std::string& out) {
    static constexpr std::string_view kLetters = "abfnrtv\\'\"";
    static constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
    if (const std::size_t i = kLetters.find(letter); i != std::string_view::npos) {
      out += kMeanings[i];
    } else if (std::string_view("01234567xuUN").find(letter) != std::string_view::npos) {
      fail(unsupported(fmt::format("the escape \\{} in a string", letter)));
    } else if (letter != '\n') {  // Python keeps the backslash of an escape that it does not know.
      out.append(1, '\\').append(1, letter);
    }
  }

  std::string source_;
  const std::string& name_;
  std::size_t at_ = 0;
  bool line_starts_ = true;
  int line_ = 1;
  std::size_t line_at_ = 0;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, const std::string& name) {
  if (const std::size_t at = find_invalid(source); at != std::string_view::npos) {
    throw ModelError(fmt::format("{} is not UTF-8 at byte {}.", base::printable(name, 200), at));
  }
  return Lexer(source, name).run();
}

}  // namespace tte::text::jinja
