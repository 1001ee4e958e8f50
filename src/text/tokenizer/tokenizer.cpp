#include "text/tokenizer/tokenizer.h"
#include "base/utf8.h"

#include <algorithm>

namespace tte::text {

bool Tokenizer::is_byte(std::int64_t) const {
  return false;
}

const std::vector<std::pair<std::string, std::string>>& Tokenizer::named_tokens() const {
  static const std::vector<std::pair<std::string, std::string>> none;
  return none;
}

bool Tokenizer::is_special(std::int64_t id) const {
  const auto& tokens = added_tokens();
  return std::any_of(tokens.begin(), tokens.end(),
                     [&](const AddedToken& t) { return t.id == id && t.special; });
}

std::string Tokenizer::decode(const std::vector<std::int64_t>& ids, bool skip_special) const {
  // The decoder shares ownership; here it only borrows.
  StreamDecoder decoder(std::shared_ptr<const Tokenizer>(std::shared_ptr<void>(), this), skip_special);
  std::string text;
  for (const std::int64_t id : ids) text += decoder.push(id);
  return text + decoder.finish();
}

StreamDecoder::StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special)
    : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}

void StreamDecoder::end_run() {
  if (run_.empty()) return;
  std::string text;
  if (base::find_invalid(run_) == std::string::npos) {
    text = run_;
  } else {
    for (std::size_t i = 0; i < run_.size(); ++i) text.append(base::kReplacement);
  }
  const std::string_view prefix = tokenizer_->dropped_prefix();
  pending_.append(first_ && text.starts_with(prefix) ? std::string_view(text).substr(prefix.size()) : text);
  first_ = false;
  run_.clear();
}

std::string StreamDecoder::take_complete() {
  std::size_t end = 0;
  bool incomplete = false;
  while (end < pending_.size() && !incomplete) {
    const std::size_t n = base::sequence_length(pending_, end);
    const std::size_t length = n != 0 ? n : base::broken_length(pending_, end, incomplete);
    if (!incomplete) end += length;
  }
  std::string text;
  base::append_replaced(text, std::string_view(pending_).substr(0, end));
  pending_.erase(0, end);
  return text;
}

std::string StreamDecoder::push(std::int64_t id) {
  if (skip_special_ && tokenizer_->is_special(id)) return {};
  if (tokenizer_->is_byte(id)) {
    run_ += tokenizer_->token_bytes(id, false);
    return {};
  }
  const std::string bytes = tokenizer_->token_bytes(id, false);
  if (bytes.empty()) return {};
  end_run();
  pending_ += first_ ? tokenizer_->token_bytes(id, true) : bytes;
  first_ = false;
  return take_complete();
}

std::string StreamDecoder::finish() {
  end_run();
  std::string text;
  base::append_replaced(text, pending_);
  pending_.clear();
  first_ = true;
  return text;
}

}  // namespace tte::text
