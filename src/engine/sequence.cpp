#include "engine/sequence.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/core.h>

#include <algorithm>

#include "base/logging.h"
#include "base/not_finite.h"
#include "tte/error.h"

namespace tte::engine {
namespace {

// Room that a sequence finds for tokens to come when it is admitted, so that it does not stop at once. More
// would keep others out for tokens that may never be written.
constexpr std::int64_t kRoomAhead = 64;

double seconds(Sequence::Clock::time_point from, Sequence::Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

std::vector<std::int64_t> all_end_ids(const GenerateRequest& request) {
  std::vector<std::int64_t> ids = request.options.stop_token_ids;
  if (!request.options.ignore_eos) ids.insert(ids.end(), request.end_ids.begin(), request.end_ids.end());
  return ids;
}

// Results leave the executor's inference mode: callers may change them in place.
at::Tensor result_tensor(at::IntArrayRef sizes) {
  const c10::InferenceMode off(false);
  return at::zeros(sizes, at::kFloat);
}

}  // namespace

template <typename Request>
Sequence::Sequence(Request& request, Output output, bool from_hidden)
    : features(request.prompt->visuals.size()),
      prompt_(request.prompt),
      output_(output),
      kept_layer_(request.kept_layer),
      cancel_(request.cancel),
      pin_state_(request.pin_state),
      caller_(request.caller),
      continues_(std::move(request.continues)),
      on_done_(std::move(request.on_done)),
      visual_rows_(*prompt_),
      chain_(chain_of(*prompt_, from_hidden)) {}

void Sequence::admit(std::unique_ptr<models::SequenceState> new_state, std::int64_t reused_tokens) {
  state = std::move(new_state);
  done = reused_tokens;
  if (admitted_) return;
  reused = reused_tokens;
  admitted_ = Clock::now();
  continues_.reset();
}

void Sequence::advance(std::int64_t tokens) {
  done += tokens;
  for (std::size_t i = 0; i < features.size(); ++i) {
    if (features[i].defined() && visual_rows_.last_row(i) < done) features[i].reset();
  }
}

std::int64_t Sequence::piece() const {
  const std::vector<std::int64_t>& boundaries = prompt_->boundaries;
  const auto snapshot = std::upper_bound(boundaries.begin(), boundaries.end(), done);
  const models::LatentRows& latent = prompt_->latent;
  const std::int64_t next_latent = std::max(latent.begin, done + 1);
  std::int64_t end = length();
  if (snapshot != boundaries.end() && !state->cuttable()) end = std::min(end, *snapshot);
  if (latent.has(next_latent)) end = std::min(end, next_latent);
  return end - done;
}

bool Sequence::at_snapshot() const {
  return !state->cuttable() &&
         std::binary_search(prompt_->boundaries.begin(), prompt_->boundaries.end(), done);
}

bool Sequence::feeds_latent(std::int64_t index) const {
  const models::LatentRows& rows = prompt_->latent;
  if (rows.count == 0 || rows.begin >= length()) return false;
  return index == rows.context || rows.has(index + 1);
}

std::pair<TokenChain, std::unique_ptr<models::SequenceState>> Sequence::take_state() {
  for (std::int64_t i = chain_.size(); i < length(); ++i) chain_.push_text(id(i), position(i));
  TokenChain read = chain_;
  read.truncate(done);
  return {std::move(read), std::move(state)};
}

void Sequence::notify() const {
  if (!on_done_) return;
  try {
    on_done_();
  } catch (const std::exception& error) {
    base::log().error("on_done threw \"{}\"; it is ignored.", error.what());
  } catch (...) {
    base::log().error("on_done threw; it is ignored.");
  }
}

GenerateSequence::GenerateSequence(GenerateRequest request, std::shared_ptr<const text::Tokenizer> tokenizer)
    : Sequence(request, Output::kTokens),
      max_new_tokens_(*request.options.max_new_tokens),
      end_ids_(all_end_ids(request)),
      on_token_(std::move(request.on_token)),
      sampler_(request.options, end_ids_, request.prompt->ids),
      budget_(request.options.max_think_tokens, std::move(request.think_open), std::move(request.think_close),
              tokenizer, request.prompt->ids),
      text_(std::move(tokenizer), std::move(request.options.stop)),
      lookup_(request.prompt->ids),
      draft_(request.draft ? std::make_unique<DraftReader>(std::move(request.draft), *request.prompt)
                           : nullptr) {}

std::int64_t GenerateSequence::length() const {
  return prompt().size() + static_cast<std::int64_t>(ids_.size());
}

std::int64_t GenerateSequence::room() const {
  return std::min(length() + kRoomAhead, prompt().size() + max_new_tokens_);
}

std::int64_t GenerateSequence::id(std::int64_t index) const {
  if (index < prompt().size()) return prompt().ids[static_cast<std::size_t>(index)];
  return index < length() ? ids_[static_cast<std::size_t>(index - prompt().size())]
                          : guesses_[static_cast<std::size_t>(index - length())];
}

std::array<std::int64_t, 3> GenerateSequence::position(std::int64_t index) const {
  if (index < prompt().size()) return prompt().positions[static_cast<std::size_t>(index)];
  const std::int64_t next = prompt().next_position + index - prompt().size();
  return {next, next, next};
}

void GenerateSequence::add_token(std::int64_t id, bool forced) {
  if (!first_token_) first_token_ = Clock::now();
  ids_.push_back(id);
  if (!guesses_.empty() && guesses_.front() == id) {
    guesses_.erase(guesses_.begin());
    ++right_;
  } else {
    guesses_.clear();
  }
  lookup_.accept(id);
  sampler_.accept(id);
  budget_.accept(id);
  std::string piece = text_.push(id);
  const bool end = !forced && std::find(end_ids_.begin(), end_ids_.end(), id) != end_ids_.end();
  if (text_.stopped() || end) {
    finish_ = FinishReason::kStop;
  } else if (static_cast<std::int64_t>(ids_.size()) >= max_new_tokens_) {
    finish_ = FinishReason::kLength;
  }
  if (finish_) {
    piece += text_.finish();
    if (text_.stopped()) finish_ = FinishReason::kStop;  // The last bytes completed a stop string.
  }
  if (on_token_ && on_token_(id, piece) == OnToken::kStop && !finish_) finish_ = FinishReason::kCallback;
}

std::int64_t GenerateSequence::guessable(std::int64_t most) const {
  return std::min(most, max_new_tokens_ - static_cast<std::int64_t>(ids_.size()) - 1);
}

std::int64_t GenerateSequence::look_up(std::int64_t most) {
  guesses_ = lookup_.guess(guessable(most));
  drafted_ = false;
  guessed_ = std::ssize(guesses_);
  return guessed_;
}

std::int64_t GenerateSequence::take_drafted(std::vector<std::int64_t>&& guesses) {
  guesses_ = std::move(guesses);
  guesses_.resize(static_cast<std::size_t>(std::max<std::int64_t>(guessable(std::ssize(guesses_)), 0)));
  drafted_ = true;
  guessed_ = std::ssize(guesses_);
  return guessed_;
}

Sequence::RightGuesses GenerateSequence::settle() {
  guesses_.clear();
  const std::int64_t guessed = std::exchange(guessed_, 0);
  if (drafted_) {
    draft_->judge(guessed, right_);
  } else {
    lookup_.judge(guessed, right_);
  }
  if (done >= length()) {
    done = length() - 1;
    state->cut(done);
  }
  if (draft_) draft_->keep(length() - 1);
  return {std::exchange(right_, 0), std::exchange(drafted_, false)};
}

void GenerateSequence::deliver(std::shared_ptr<PrefixPin> pin) {
  text_.finish();
  const auto now = Clock::now();
  GenerateResult result;
  result.text = text_.text();
  result.finish = *finish_;
  result.reused_tokens = reused;
  result.queue_seconds = seconds(submitted_, admitted_.value_or(now));
  if (admitted_) result.prefill_seconds = seconds(*admitted_, first_token_.value_or(now));
  if (first_token_) result.decode_seconds = seconds(*first_token_, now);
  result.pin = std::move(pin);
  if (!resolve_once()) return;  // Past all that may throw: fail() can still speak.
  result.ids = std::move(ids_);
  promise_.set_value(std::move(result));
  notify();
}

void GenerateSequence::cancelled() {
  finish_ = FinishReason::kCancelled;
  deliver(nullptr);
}

void GenerateSequence::fail(std::exception_ptr error) {
  if (!resolve_once()) return;
  promise_.set_exception(std::move(error));
  notify();
}

EncodeSequence::EncodeSequence(EncodeRequest request, bool whole)
    : Sequence(request, request.output, request.hidden.defined()),
      whole_(whole),
      wanted_(request.output == Output::kNothing && !whole ? std::move(request.wanted) : nullptr),
      hidden_(std::move(request.hidden)),
      row_(request.row.value_or(request.prompt->size() - 1)),
      rows_(request.output == Output::kRow ? request.rows : 1),
      candidates_(std::move(request.candidates)) {}

std::int64_t EncodeSequence::id(std::int64_t index) const {
  return prompt().ids[static_cast<std::size_t>(index)];
}

std::array<std::int64_t, 3> EncodeSequence::position(std::int64_t index) const {
  return prompt().positions[static_cast<std::size_t>(index)];
}

std::int64_t EncodeSequence::reuse_limit() const {
  if (whole_) return 0;
  std::int64_t limit = one_row() ? row_ : 0;  // All rows have to be run when all are wanted.
  if (output() == Output::kNothing || output() == Output::kKept) limit = length();
  const models::LatentRows& latent = prompt().latent;
  if (!feeds_latent(latent.begin - 1)) return limit;
  // A state does not tell what the model said at its tokens.
  return std::min(limit, latent.context < 0 ? latent.begin - 1 : latent.context);
}

bool EncodeSequence::wants(std::int64_t index) const {
  return one_row() ? index >= row_ && index < row_ + rows_
                   : output() != Output::kNothing && output() != Output::kKept;
}

void EncodeSequence::add_rows(const at::Tensor& rows) {
  const std::int64_t count = rows.size(0);
  const std::int64_t hidden = rows.size(1);
  if (output() == Output::kRow) {
    if (!result_.defined()) result_ = result_tensor({rows_, hidden});
    result_.narrow(0, taken_, count).copy_(rows);
  } else if (output() == Output::kLogProbs) {
    const auto count = static_cast<std::int64_t>(candidates_.size());
    const at::Tensor wanted = at::tensor(candidates_, at::kLong).to(rows.device());
    result_ = result_tensor({count});
    result_.copy_(at::log_softmax(rows.select(0, 0), 0).index_select(0, wanted));
  } else if (output() == Output::kPooled) {
    if (!result_.defined()) result_ = at::empty({prompt().size(), hidden}, rows.options());
    result_.narrow(0, taken_, count).copy_(rows);
  } else if (output() == Output::kAllRows) {
    if (!result_.defined()) result_ = result_tensor({prompt().size(), hidden});
    result_.narrow(0, taken_, count).copy_(rows);
  } else {
    const at::Tensor sum = rows.to(at::kFloat).sum(0);
    result_ = result_.defined() ? result_ + sum : sum;  // On the model's device until the end.
  }
  taken_ += count;
  if (one_row() ? taken_ == rows_ : finished()) check_finite();
}

void EncodeSequence::complete(const models::Model& model) {
  if (output() == Output::kKept) {
    result_ = state->kept_hidden(*kept_layer());
    check_finite();
  }
  if (output() != Output::kPooled) return;
  const at::Tensor vector = model.pool(result_);
  result_ = result_tensor(vector.sizes());
  result_.copy_(vector);
  check_finite();
}

void EncodeSequence::check_finite() const {
  if (at::isfinite(result_).all().item<bool>()) return;
  throw base::NotFiniteError(
      "the model's hidden states are not finite, so they are no vector; try another dtype (float32 has the "
      "widest range) or check the checkpoint.");
}

void EncodeSequence::deliver(std::shared_ptr<PrefixPin> pin) {
  const auto now = Clock::now();
  EncodeResult result;
  if (output() == Output::kMean) {
    result.hidden = result_tensor(result_.sizes());
    result.hidden.copy_(result_ / static_cast<double>(taken_));
  } else {
    result.hidden = output() == Output::kRow && rows_ == 1 ? result_.select(0, 0) : std::move(result_);
  }
  result.reused_tokens = reused;
  result.queue_seconds = seconds(submitted_, admitted_.value_or(now));
  result.pin = std::move(pin);
  if (!resolve_once()) return;
  promise_.set_value(std::move(result));
  notify();
}

void EncodeSequence::cancelled() {
  fail(std::make_exception_ptr(
      CancelledError("The call was cancelled before its vector was computed; submit it again to get one.")));
}

void EncodeSequence::fail(std::exception_ptr error) {
  if (!resolve_once()) return;
  promise_.set_exception(std::move(error));
  notify();
}

}  // namespace tte::engine
