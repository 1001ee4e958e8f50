#include "engine/think_budget.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"

namespace tte::engine {
ThinkBudget::ThinkBudget(std::optional<int> limit, std::string open, std::string close,
                         std::shared_ptr<const text::Tokenizer> tokenizer,
                         std::span<const std::int64_t> prompt)
    : limit_(limit), open_(std::move(open)), close_(std::move(close)), tokenizer_(std::move(tokenizer)) {
  if (!limit_) return;
  std::size_t begin = prompt.size();
  while (begin > 0 && !is_control(prompt[begin - 1])) --begin;
  for (const std::int64_t id : prompt.subspan(begin)) read(id, false);
  force_if_spent();
}

std::optional<std::int64_t> ThinkBudget::forced() const {
  return forced_.empty() ? std::nullopt : std::optional(forced_.front());
}

void ThinkBudget::accept(std::int64_t id) {
  if (!limit_ || state_ == State::kAnswering) return;
  if (thinking()) ++spent_;
  const bool forcing = !forced_.empty();
  if (forcing) forced_.pop_front();
  read(id, true);
  if (!thinking()) forced_.clear();
  if (!forcing) return force_if_spent();
  // This vocabulary cannot spell the tag: there is nothing more to be done.
  if (thinking() && forced_.empty()) state_ = State::kAnswering;
}

// Added tokens that are no tags: users cannot write them, so they end what users wrote.
bool ThinkBudget::is_control(std::int64_t id) const {
  const auto& added = tokenizer_->added_tokens();
  return std::any_of(added.begin(), added.end(), [&](const text::AddedToken& token) {
    return token.id == id && token.content != open_ && token.content != close_;
  });
}

void ThinkBudget::read(std::int64_t id, bool generated) {
  const std::string bytes = tokenizer_->token_bytes(id, false);
  // Special tokens are not part of the text, unless they are the tags.
  if (tokenizer_->is_special(id) && bytes != open_ && bytes != close_) return;
  for (const char byte : bytes) {
    tail_.push_back(byte);
    if (tail_.ends_with(close_)) {
      // A prompt may show closed thoughts before the one that it opens.
      state_ = generated ? State::kAnswering : State::kBefore;
      tail_.clear();
    } else if (state_ == State::kBefore && tail_.ends_with(open_)) {
      state_ = State::kThinking;
      tail_.clear();
    }
    if (state_ == State::kAnswering) return;
  }
  const std::size_t kept = std::max(open_.size(), close_.size());
  if (tail_.size() > kept) tail_.erase(0, tail_.size() - kept);
}

void ThinkBudget::force_if_spent() {
  if (thinking() && spent_ >= *limit_) forced_ = ids_of_rest();
}

std::deque<std::int64_t> ThinkBudget::ids_of_rest() const {
  for (std::size_t size = std::min(tail_.size(), close_.size() - 1); size > 0; --size) {
    if (!tail_.ends_with(close_.substr(0, size)) || base::continues_character(close_, size)) continue;
    if (auto ids = spell(close_.substr(size))) return *std::move(ids);
  }
  if (auto ids = spell(close_)) return *std::move(ids);
  const auto ids = tokenizer_->encode(close_);  // With a space before it, as sentencepiece begins texts.
  return {ids.begin(), ids.end()};
}

// Ids that spell exactly `rest`, wherever they stand. A tokenizer may put a space before a text, so `rest` is
// also tried as the end of a longer one.
std::optional<std::deque<std::int64_t>> ThinkBudget::spell(const std::string& rest) const {
  for (const std::string before : {"", "\n", "a", ">"}) {
    const auto prefix = before.empty() ? std::vector<std::int64_t>{} : tokenizer_->encode(before);
    const auto ids = tokenizer_->encode(before + rest);
    if (ids.size() <= prefix.size() || !std::equal(prefix.begin(), prefix.end(), ids.begin())) continue;
    std::deque<std::int64_t> result(ids.begin() + static_cast<std::ptrdiff_t>(prefix.size()), ids.end());
    std::string spelled;
    for (const std::int64_t id : result) spelled += tokenizer_->token_bytes(id, false);
    if (spelled == rest) return result;
  }
  return std::nullopt;
}

}  // namespace tte::engine
