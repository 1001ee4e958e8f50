#include "engine/draft.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "engine/sequence.h"
#include "kernels/tensors.h"

namespace tte::engine {
namespace {

constexpr std::int64_t kManyTokens = 1024;  // The target's bytes are counted for so many.
constexpr std::int64_t kStateAhead = 64;    // So that room is looked for now and then only.

}  // namespace

Draft::Draft(std::shared_ptr<const models::Model> model, std::shared_ptr<const models::Model> target,
             std::int64_t most)
    : model_(std::move(model)), target_(std::move(target)), most_(most) {}

bool Draft::hold(std::int64_t bytes) {
  if (!ballast_) ballast_ = target_->start(0);
  const std::int64_t all = (held_ + bytes) * kManyTokens / target_->state_bytes(kManyTokens) + 1;
  if (!ballast_ || !ballast_->reserve(all)) return false;
  held_ += bytes;
  return true;
}

void Draft::release(std::int64_t bytes) {
  if (bytes == 0) return;
  held_ -= bytes;
  ballast_->trim();
  if (held_ > 0) static_cast<void>(hold(0));  // It was there a moment ago.
}

void Draft::guess(std::vector<Wish>& wishes, std::int64_t tokens) {
  const std::int64_t positions = model_->info().max_positions;
  std::vector<Wish*> going;
  std::vector<std::int64_t> counts;
  try {
    for (Wish& wish : wishes) {
      const std::int64_t length = wish.reader->count(wish.sequence->length());
      wish.most = std::min(wish.most, wish.reader->most());
      if (positions > 0) wish.most = std::min(wish.most, positions - length);
      if (wish.most <= 0 || tokens <= 0 || !wish.reader->reserve(length + wish.most)) continue;
      const std::int64_t count = std::min(tokens, length - wish.reader->state_->length());
      if (!knows(wish, count)) {
        wish.reader->stop();
        continue;
      }
      tokens -= count;
      going.push_back(&wish);
      counts.push_back(count);
    }
    while (!going.empty()) {
      read(going, std::move(counts));
      // Those that have guessed as far as they may, and those that have not read all yet.
      std::erase_if(going, [](const Wish* wish) {
        return wish->guesses.empty() || std::ssize(wish->guesses) >= wish->most;
      });
      counts.assign(going.size(), 1);
    }
  } catch (...) {
    // Some states may have grown and others not. The target goes on as it does without guesses.
    for (Wish& wish : wishes) {
      wish.guesses.clear();
      wish.reader->stop();
    }
  }
}

bool Draft::knows(const Wish& wish, std::int64_t count) const {
  for (std::int64_t index = wish.reader->state_->length(); count > 0; ++index, --count) {
    if (wish.sequence->id(wish.reader->source(index)) >= model_->info().vocab_size) return false;
  }
  return true;
}

void Draft::read(std::span<Wish* const> wishes, std::vector<std::int64_t> counts) {
  std::int64_t total = 0;
  for (const std::int64_t count : counts) total += count;
  models::RaggedBatch batch;
  batch.ids = kernels::host_tensor({total}, model_->info().device);
  batch.positions = kernels::host_tensor({3, total}, model_->info().device);
  auto* ids = batch.ids.mutable_data_ptr<std::int64_t>();
  auto* positions = batch.positions.mutable_data_ptr<std::int64_t>();
  std::vector<Wish*> writers;
  std::int64_t row = 0;
  for (std::size_t i = 0; i < wishes.size(); ++i) {
    Wish& wish = *wishes[i];
    const std::int64_t known = wish.reader->count(wish.sequence->length());
    std::int64_t index = wish.reader->state_->length();
    batch.segments.push_back({wish.reader->state_.get(), counts[i]});
    for (const std::int64_t end = index + counts[i]; index < end; ++index, ++row) {
      ids[row] = index < known ? wish.sequence->id(wish.reader->source(index))
                               : wish.guesses[static_cast<std::size_t>(index - known)];
      for (std::int64_t axis = 0; axis < 3; ++axis) positions[axis * total + row] = index;
    }
    if (index < known) continue;
    batch.output_rows.push_back(row - 1);
    writers.push_back(&wish);
  }
  const at::Tensor hidden = model_->forward(batch);
  if (writers.empty()) return;
  // Tokens behind those of the target are of padding.
  const std::int64_t vocabulary = std::min(model_->info().vocab_size, target_->info().vocab_size);
  const at::Tensor next = model_->logits(hidden).narrow(1, 0, vocabulary).argmax(1).to(at::kCPU);
  for (std::size_t i = 0; i < writers.size(); ++i)
    writers[i]->guesses.push_back(next.const_data_ptr<std::int64_t>()[i]);
}

DraftReader::DraftReader(std::shared_ptr<Draft> draft, const models::Prompt& prompt)
    : draft_(std::move(draft)), prompt_tokens_(prompt.size()) {
  if (prompt.visuals.empty()) return;
  for (std::size_t i = 0; i < prompt.kinds.size(); ++i) {
    if (prompt.kinds[i] == base::Modality::kText) text_.push_back(static_cast<std::int64_t>(i));
  }
}

std::int64_t DraftReader::most() const {
  return stopped_ ? 0 : std::min(length_.next(), draft_->most_);
}

std::int64_t DraftReader::source(std::int64_t index) const {
  if (text_.empty()) return index;
  const auto texts = std::ssize(text_);
  return index < texts ? text_[static_cast<std::size_t>(index)] : index - texts + prompt_tokens_;
}

std::int64_t DraftReader::count(std::int64_t length) const {
  if (text_.empty()) return length;
  if (length >= prompt_tokens_) return std::ssize(text_) + length - prompt_tokens_;
  return std::lower_bound(text_.begin(), text_.end(), length) - text_.begin();
}

void DraftReader::keep(std::int64_t length) {
  if (state_ && state_->length() > count(length)) state_->cut(count(length));
}

bool DraftReader::reserve(std::int64_t tokens) {
  const std::int64_t bytes = draft_->model_->state_bytes(tokens);
  if (bytes > bytes_) {
    const std::int64_t wanted = draft_->model_->state_bytes(tokens + kStateAhead);
    if (!draft_->hold(wanted - bytes_)) return false;
    bytes_ = wanted;
  }
  if (!state_) state_ = draft_->model_->start(0);
  return state_ && state_->reserve(tokens);
}

void DraftReader::forget() {
  state_.reset();
  draft_->release(std::exchange(bytes_, 0));
}

bool DraftReader::stop() {
  const bool had = bytes_ > 0;
  forget();
  stopped_ = true;
  return had;
}

}  // namespace tte::engine
