// Keeps text of users from becoming control tokens, also where it meets other text.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace tte::text {

class Tokenizer;

// Immutable and safe to use from many threads.
class ControlTokens {
 public:
  explicit ControlTokens(const std::vector<std::string>& tokens);
  // Those of a checkpoint whose prompts are written without a chat template: every added token but white space.
  static ControlTokens of_tokenizer(const Tokenizer& tokenizer);
  // Those of a chat template, as transformers' sanitize_control_tokens chooses them: the special tokens, and of the
  // other added ones those that the checkpoint declares or, where it declares none, the template has in `literals`.
  static ControlTokens of_template(const Tokenizer& tokenizer, const std::string& literals,
                                   const std::optional<std::vector<std::string>>& declared);

  // A text of a user with marks, which are noncharacters: every control token (longest first) is enclosed in guards
  // (tokenizer.h), and joints stand around every other character that a control token begins with, and at an end of
  // the text that a control token could go on from; with `inside` the text may also be the middle of one. Marks that
  // are in it already are removed, so that nobody can forge them.
  [[nodiscard]] std::string guard_ends(std::string_view text, bool inside = true) const;

  // What guard_ends() texts and others were joined to, without its joints, and with every control token
  // guarded that goes across one.
  [[nodiscard]] std::string settle(std::string_view joined) const;

  [[nodiscard]] static bool has_marks(std::string_view text);
  [[nodiscard]] static std::string without_marks(std::string_view text);
  // A text with marks, but without the characters from which it could make a control token.
  [[nodiscard]] std::string without_starts(std::string_view guarded) const;
  // Every control token, longest first, one after the other.
  [[nodiscard]] std::vector<std::string_view> find_all(std::string_view text) const;

 private:
  [[nodiscard]] std::string guard(std::string_view text) const;  // guard_ends() but for the ends.
  // The length of the longest token that begins at `at`, 0 if none does.
  [[nodiscard]] std::size_t longest_at(std::string_view text, std::size_t at) const;

  std::unordered_set<std::string_view> tokens_;  // Into all_.
  std::vector<std::size_t> lengths_;             // The tokens' lengths, longest first.
  std::array<bool, 256> starts_{};
  std::string all_;  // Every token between zero bytes.
};

}  // namespace tte::text
