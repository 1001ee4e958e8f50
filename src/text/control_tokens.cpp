#include "text/control_tokens.h"

#include <algorithm>
#include <functional>

#include "base/utf8.h"
#include "text/characters.h"
#include "text/tokenizer/tokenizer.h"

namespace tte::text {
namespace {

constexpr std::string_view kJoint = "\xEF\xB7\x92";  // U+FDD2

bool is_mark(std::string_view rest) {
  return rest.starts_with(kGuardBegin) || rest.starts_with(kGuardEnd) || rest.starts_with(kJoint);
}

std::size_t end_of_character(std::string_view text, std::size_t at) {
  if (at < text.size()) ++at;
  while (at < text.size() && base::continues_character(text, at)) ++at;
  return at;
}

// Without the joints alone.
std::string without_joints(std::string_view text) {
  std::string out;
  for (std::size_t at = text.find(kJoint); at != std::string_view::npos; at = text.find(kJoint)) {
    out += text.substr(0, at);
    text.remove_prefix(at + kJoint.size());
  }
  return out.append(text);
}

template <typename IsControl>
ControlTokens chosen(const Tokenizer& tokenizer, IsControl is_control) {
  std::vector<std::string> out;
  for (const AddedToken& token : tokenizer.added_tokens()) {
    const bool blank = strip(token.content, nullptr, true, false).empty();
    if (is_control(token, blank)) out.push_back(token.content);
  }
  return ControlTokens(out);
}

}  // namespace

ControlTokens::ControlTokens(const std::vector<std::string>& tokens) : all_(1, '\0') {
  for (const std::string& token : tokens) all_.append(token).push_back('\0');
  std::size_t at = 1;
  for (const std::string& token : tokens) {
    if (!token.empty()) {
      tokens_.insert(std::string_view(all_).substr(at, token.size()));
      lengths_.push_back(token.size());
      starts_[static_cast<unsigned char>(token.front())] = true;
    }
    at += token.size() + 1;
  }
  std::sort(lengths_.begin(), lengths_.end(), std::greater<>());
  lengths_.erase(std::unique(lengths_.begin(), lengths_.end()), lengths_.end());
}

ControlTokens ControlTokens::of_tokenizer(const Tokenizer& tokenizer) {
  return chosen(tokenizer, [](const AddedToken&, bool blank) { return !blank; });
}

ControlTokens ControlTokens::of_template(const Tokenizer& tokenizer, const std::string& literals,
                                         const std::optional<std::vector<std::string>>& declared) {
  return chosen(tokenizer, [&](const AddedToken& token, bool blank) {
    if (token.special) return true;
    if (declared) return std::find(declared->begin(), declared->end(), token.content) != declared->end();
    return !blank && literals.find(token.content) != std::string::npos;
  });
}

std::size_t ControlTokens::longest_at(std::string_view text, std::size_t at) const {
  if (!starts_[static_cast<unsigned char>(text[at])]) return 0;
  for (const std::size_t length : lengths_) {
    if (length <= text.size() - at && tokens_.count(text.substr(at, length)) != 0) return length;
  }
  return 0;
}

std::string ControlTokens::guard(std::string_view text) const {
  const std::string plain = without_marks(text);
  std::string out;
  for (std::size_t at = 0; at < plain.size();) {
    const std::size_t length = longest_at(plain, at);
    if (length != 0) {
      out.append(kGuardBegin).append(plain, at, length).append(kGuardEnd);
      at += length;
    } else if (starts_[static_cast<unsigned char>(plain[at])]) {
      const std::size_t next = end_of_character(plain, at);
      out.append(kJoint).append(plain, at, next - at).append(kJoint);
      at = next;
    } else {
      out.push_back(plain[at++]);
    }
  }
  return out;
}

std::string ControlTokens::guard_ends(std::string_view text, bool inside) const {
  std::string out = guard(text);
  if (lengths_.empty() || out.empty()) return out;
  const std::string_view all = all_;
  const std::string bare = without_joints(out);
  const std::size_t limit = std::min(lengths_.front() - 1, bare.size());
  bool begins = inside && bare.size() <= limit && all.find(bare) != std::string_view::npos;
  bool ends = begins;
  for (std::size_t n = 1; n <= limit && !(begins && ends); ++n) {
    // The start of the text ends a token, the end of the text begins one.
    begins = begins || all.find(bare.substr(0, n) + '\0') != std::string_view::npos;
    ends = ends || all.find('\0' + bare.substr(bare.size() - n)) != std::string_view::npos;
  }
  if (begins) out.insert(0, kJoint);
  if (ends) out += kJoint;
  return out;
}

bool ControlTokens::has_marks(std::string_view text) {
  for (std::size_t at = text.find(kJoint[0]); at != std::string_view::npos;
       at = text.find(kJoint[0], at + 1)) {
    if (is_mark(text.substr(at))) return true;
  }
  return false;
}

std::string ControlTokens::without_marks(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    if (is_mark(text.substr(at))) {
      at += kJoint.size();
    } else {
      out.push_back(text[at++]);
    }
  }
  return out;
}

std::string ControlTokens::without_starts(std::string_view guarded) const {
  std::string out;
  for (std::size_t at = 0; at < guarded.size();) {
    const std::string_view rest = guarded.substr(at);
    if (rest.starts_with(kGuardBegin)) {
      out.append(kGuardBegin);
      at = end_of_character(guarded, at + kGuardBegin.size());
      continue;
    }
    const std::size_t next = end_of_character(guarded, at);
    const bool is_start =
        starts_[static_cast<unsigned char>(guarded[at])] && guarded.substr(next).starts_with(kJoint);
    if (!is_start) out.append(guarded, at, next - at);
    at = next;
  }
  return out;
}

std::vector<std::string_view> ControlTokens::find_all(std::string_view text) const {
  std::vector<std::string_view> out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = longest_at(text, at);
    if (length != 0) out.push_back(text.substr(at, length));
    at += std::max<std::size_t>(length, 1);
  }
  return out;
}

std::string ControlTokens::settle(std::string_view joined) const {
  if (joined.find(kJoint) == std::string_view::npos) return std::string(joined);
  const std::string plain = without_joints(joined);
  std::vector<std::size_t> joints;  // In `plain`.
  for (std::size_t at = joined.find(kJoint); at != std::string_view::npos; at = joined.find(kJoint, at + 1)) {
    joints.push_back(at - joints.size() * kJoint.size());
  }
  std::string out;
  auto joint = joints.begin();
  for (std::size_t at = 0; at < plain.size();) {
    std::size_t length = 1;
    bool across = false;
    if (std::string_view(plain).substr(at).starts_with(kGuardBegin)) {
      length = std::min(plain.find(kGuardEnd, at), plain.size()) - at;  // Guarded already.
    } else if (const std::size_t token = longest_at(plain, at); token != 0) {
      length = token;
      while (joint != joints.end() && *joint <= at) ++joint;
      across = joint != joints.end() && *joint < at + length;
    }
    out.append(across ? kGuardBegin : "").append(plain, at, length).append(across ? kGuardEnd : "");
    at += length;
  }
  return out;
}

}  // namespace tte::text
