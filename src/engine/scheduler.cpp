#include "engine/scheduler.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <algorithm>
#include <iterator>
#include <new>
#include <optional>
#include <string_view>
#include <utility>

#include "base/plain_error.h"
#include "engine/guesses.h"
#include "engine/latent.h"
#include "engine/rows.h"
#include "tte/error.h"

namespace tte::engine {
namespace {

// Bounds the search for a prefix; memory bounds what is kept long before as a rule.
constexpr std::size_t kMaxPrefixes = 512;
// Bytes kept of sequences that nobody pinned: enough for the instructions and images that recent requests had
// in common (18,000 tokens of Qwen2-VL-2B), little beside the weights.
constexpr std::int64_t kMaxIdleBytes = std::int64_t{512} << 20;
// Requests that are looked at in a step when those before them find no room.
constexpr std::size_t kSearch = 8;
// States that nobody waits for yet take this part of a step's tokens, so that whoever shares the machine with
// them hardly waits.
constexpr std::int64_t kBackgroundPart = 8;

constexpr std::string_view kLessOfAStep =
    "lower the backend's max_step_tokens, max_running or state_bytes, or give smaller inputs";

// Made before it is needed: then there may be no memory for it.
const std::exception_ptr& bare_no_memory() {
  static const std::exception_ptr error =
      std::make_exception_ptr(OutOfMemoryError(fmt::format("memory ran out: {}.", kLessOfAStep)));
  return error;
}

}  // namespace

std::exception_ptr plain_error(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(base::plain_error(error, {}, kLessOfAStep));
  } catch (const Error&) {
    return std::current_exception();
  } catch (const std::bad_alloc&) {
    return bare_no_memory();
  } catch (const std::exception& e) {
    return std::make_exception_ptr(Error(e.what()));
  } catch (...) {
    return std::make_exception_ptr(Error("The model threw something that is not an exception."));
  }
}

Scheduler::Scheduler(std::shared_ptr<const models::Model> model, VisionCache& vision_cache,
                     const EngineOptions& options)
    : model_(std::move(model)),
      max_step_tokens_(options.max_step_tokens),
      // Every running sequence can then run a token in every step.
      max_running_(static_cast<std::size_t>(std::min(options.max_running, options.max_step_tokens))),
      prompt_lookup_tokens_(options.prompt_lookup_tokens),
      vision_(*model_, vision_cache, options.max_step_patches),
      prefixes_(kMaxPrefixes, kMaxIdleBytes) {}

void Scheduler::add(Sequences&& sequences) {
  blocked_ = blocked_ && sequences.empty();
  while (!sequences.empty()) {
    try {
      waiting_.add(sequences, sequences.begin());
    } catch (...) {
      fail(*sequences.front(), std::current_exception());
      sequences.pop_front();
    }
  }
}

bool Scheduler::step() {
  try {
    run_step();
  } catch (...) {
    // Not a model's failure, which run() handles: the step itself could not be formed.
    fail_step(std::current_exception());
  }
  sweep();
  return !running_.empty() || !waiting_.empty();
}

void Scheduler::run_step() {
  drop_cancelled();
  std::vector<Chunk> chunks = plan();
  encode_visuals(chunks);
  count(chunks);  // First, so that whoever has a result finds it counted.
  // What comes in at a head is a batch of its own.
  const auto middle = std::stable_partition(
      chunks.begin(), chunks.end(), [](const Chunk& chunk) { return !chunk.sequence->hidden().defined(); });
  std::vector<Chunk> from_hidden(middle, chunks.end());
  chunks.erase(middle, chunks.end());
  if (!chunks.empty()) run(std::move(chunks));
  if (!from_hidden.empty()) run(std::move(from_hidden));
}

void Scheduler::drop_cancelled() {
  Sequences gone;
  waiting_.pop_if([](const Sequence& sequence) { return sequence.cancel_requested(); }, gone);
  blocked_ = blocked_ && gone.empty();
  running_.splice(running_.end(), gone);
  for (const auto& sequence : running_) {
    if (!sequence->cancel_requested()) continue;
    sequence->cancelled();
    sequence->ended = true;
  }
  sweep();
}

std::vector<Chunk> Scheduler::plan() {
  grow();
  const auto decoding = [this] {
    return std::count_if(running_.begin(), running_.end(),
                         [](const auto& sequence) { return sequence->decoding(); });
  };
  Budget left{max_step_tokens_ - decoding(), static_cast<std::int64_t>(max_running_)};
  std::vector<Chunk> prompts;
  add_prompts(left, prompts);
  left.tokens += decoding();  // Kept for them.
  std::vector<Chunk> chunks;
  for (const auto& sequence : running_) {  // Where places are short, the youngest step aside.
    if (sequence->decoding()) add_chunk(*sequence, left, chunks);
  }
  chunks.insert(chunks.end(), prompts.begin(), prompts.end());
  add_background(left, chunks);
  add_guesses({left.tokens, prompt_lookup_tokens_, max_step_tokens_}, chunks);
  return chunks;
}

void Scheduler::add_prompts(Budget& left, std::vector<Chunk>& chunks) {
  for (const auto& sequence : running_) {
    if (!sequence->decoding() && !sequence->background()) add_chunk(*sequence, left, chunks);
  }
  while (left.tokens > 0 && left.places > 0 && !blocked_) {
    Sequence* admitted = admit_next();
    if (admitted == nullptr) break;
    if (admitted->decoding()) {  // It was paused, and all is there still.
      --left.tokens;
    } else if (!admitted->ended && !add_chunk(*admitted, left, chunks)) {
      break;
    }
  }
  collect_paused();
}

void Scheduler::add_background(Budget& left, std::vector<Chunk>& chunks) {
  const auto vector = [](const auto& sequence) { return !sequence->generates() && !sequence->background(); };
  if (std::any_of(running_.begin(), running_.end(), vector) || waiting_.has_vectors()) return;
  left.tokens = std::min(left.tokens, std::max<std::int64_t>(max_step_tokens_ / kBackgroundPart, 1));
  for (const auto& sequence : running_) {
    if (sequence->background()) add_chunk(*sequence, left, chunks);
  }
  while (left.tokens > 0 && left.places > 0 && waiting_.background() != nullptr) {
    Sequence* admitted = admit_first({waiting_.background()});
    if (admitted == nullptr) break;
    if (!admitted->ended && !add_chunk(*admitted, left, chunks)) break;
  }
}

bool Scheduler::add_chunk(Sequence& sequence, Budget& left, std::vector<Chunk>& chunks) {
  if (sequence.ended || sequence.state == nullptr) return false;
  const std::int64_t unread = sequence.length() - sequence.done;
  if (unread == 0) {  // All of it was known already.
    finish(sequence);
    return true;
  }
  if (left.tokens <= 0 || left.places <= 0) return false;
  std::int64_t tokens = std::min(left.tokens, sequence.piece());
  if (sequence.whole()) {  // One that is larger than a step has it alone.
    if (unread > left.tokens && left.tokens < max_step_tokens_) return false;
    tokens = unread;
  }
  if (!sequence.hidden().defined()) tokens = vision_.request(sequence, tokens);
  if (tokens == 0 || (sequence.whole() && tokens < unread)) return false;
  left.tokens -= tokens;
  --left.places;
  chunks.push_back({&sequence, tokens});
  return true;
}

void Scheduler::grow() {
  for (const auto& sequence : running_) {  // The oldest first: it never pauses for another.
    if (sequence->state != nullptr && sequence->decoding()) grow(*sequence);
  }
  collect_paused();
}

void Scheduler::grow(Sequence& sequence) {
  while (!sequence.state->reserve(sequence.done + 1)) {
    if (make_room(sequence, nullptr)) continue;
    if (alone(sequence)) return fail(sequence, std::make_exception_ptr(no_room(sequence.done + 1)));
    Sequence* last = youngest(/*background=*/false);
    pause(*last);
    if (last == &sequence) return;
  }
}

bool Scheduler::alone(const Sequence& sequence) const {
  return std::none_of(running_.begin(), running_.end(), [&](const auto& other) {
    return other.get() != &sequence && other->state != nullptr && !other->ended;
  });
}

Sequence* Scheduler::youngest(bool background) const {
  const auto found = std::find_if(running_.rbegin(), running_.rend(), [&](const auto& sequence) {
    return sequence->state != nullptr && !sequence->ended &&
           (background ? sequence->background() : sequence->generates());
  });
  return found == running_.rend() ? nullptr : found->get();
}

void Scheduler::pause(Sequence& sequence) {
  auto [chain, state] = sequence.take_state();
  state->trim();
  if (chain.size() > 0) prefixes_.insert(std::move(chain), std::move(state), /*pin=*/false);
}

void Scheduler::collect_paused() {
  for (auto it = running_.begin(); it != running_.end();) {
    const auto here = it++;
    if ((*here)->state == nullptr && !(*here)->ended) waiting_.pause(running_, here);
  }
}

Sequence* Scheduler::admit_next() {
  std::size_t places = 0, vectors = 0;  // That are taken.
  for (const auto& sequence : running_) {
    if (sequence->background()) continue;
    ++places;
    vectors += sequence->generates() ? 0 : 1;
  }
  const bool full = places >= max_running_;
  if (full && vectors >= max_running_ / 2) return nullptr;
  const auto candidates = waiting_.candidates(kSearch, /*traces=*/!full);
  Sequence* admitted = admit_first(candidates);
  blocked_ = admitted == nullptr && !candidates.empty();
  return admitted;
}

Sequence* Scheduler::admit_first(const std::vector<Sequence*>& candidates) {
  for (auto next = candidates.begin(); next != candidates.end(); ++next) {
    Sequence& sequence = **next;
    try {
      if (!find_room(sequence)) continue;
    } catch (...) {
      fail(sequence, std::current_exception());
    }
    waiting_.pop(sequence, running_);
    if (!sequence.ended) {
      std::for_each(candidates.begin(), next, [this](Sequence* passed) { waiting_.overtaken(*passed); });
      keep_order(sequence);
    }
    return &sequence;
  }
  return nullptr;
}

void Scheduler::keep_order(Sequence& admitted) {
  if (admitted.ticket == 0) {
    admitted.ticket = ++tickets_;
    const std::lock_guard lock(stats_mutex_);
    stats_.reused_tokens += admitted.reused;
    return;
  }
  const auto younger = std::find_if(running_.begin(), running_.end(),
                                    [&](const auto& other) { return other->ticket > admitted.ticket; });
  running_.splice(younger, running_, std::prev(running_.end()));
}

bool Scheduler::find_room(Sequence& sequence) {
  if (sequence.kept_layer()) model_->keep_hidden(*sequence.kept_layer());
  while (sequence.reuse_limit() > 0) {
    auto found = prefixes_.fork(sequence.chain(), sequence.reuse_limit(), sequence.kept_layer());
    if (found.source == nullptr) break;
    while (found.state) {
      if (found.state->reserve(sequence.room())) {
        sequence.admit(std::move(found.state), found.length);
        return true;
      }
      if (!make_room(sequence, found.source)) found.state.reset();
    }
    if (!make_room(sequence, found.source)) break;  // There was none for what cannot be shared.
  }
  for (;;) {
    if (start(sequence)) return true;
    if (make_room(sequence, nullptr)) continue;
    if (!alone(sequence)) return false;
    throw no_room(sequence.room());
  }
}

bool Scheduler::start(Sequence& sequence) {
  auto state = model_->start(sequence.room());
  if (!state) return false;
  sequence.admit(std::move(state), 0);
  return true;
}

InputError Scheduler::no_room(std::int64_t tokens) const {
  return InputError(
      fmt::format("it needs room for {} tokens ({} bytes), which is more than the model's sequence states "
                  "give ({} bytes in all) even with nothing else running: raise the backend's state_bytes.",
                  tokens, model_->state_bytes(tokens), model_->state_capacity()));
}

// Pins are wishes of callers who may themselves be waiting for this room: with nothing else running, nothing
// else will ever give any, so they yield.
bool Scheduler::make_room(const Sequence& sequence, const models::SequenceState* except) {
  if (stop_drafts()) return true;
  if (prefixes_.evict(/*pinned=*/false, except)) return true;
  Sequence* last = sequence.background() ? nullptr : youngest(/*background=*/true);
  if (last != nullptr) {
    pause(*last);
    return true;
  }
  return alone(sequence) && prefixes_.evict(/*pinned=*/true, except);
}

bool Scheduler::stop_drafts() {
  bool stopped = false;
  for (const auto& sequence : running_) {
    DraftReader* reader = sequence->draft_reader();
    stopped |= reader != nullptr && reader->stop();
  }
  return stopped;
}

void Scheduler::encode_visuals(std::vector<Chunk>& chunks) {
  for (const auto& [sequence, error] : vision_.encode()) {
    fail(*sequence, error);
    std::erase_if(chunks, [failed = sequence](const Chunk& chunk) { return chunk.sequence == failed; });
  }
}

void Scheduler::run(std::vector<Chunk>&& chunks) {
  at::Tensor hidden;
  try {
    hidden = model_->forward(pack(chunks, *model_));
    keep_latent_states(chunks, hidden);
  } catch (...) {
    // Some states may have grown and others not: none of them can go on.
    for (const Chunk& chunk : chunks) fail(*chunk.sequence, std::current_exception());
    return;
  }
  for (const Chunk& chunk : chunks) {
    chunk.sequence->advance(chunk.tokens);
    keep_snapshot(*chunk.sequence);
  }
  deliver_rows(chunks, hidden);
  sample_tokens(chunks, hidden);
}

// A state that cannot be cut helps other requests only as it was where they part from this one.
void Scheduler::keep_snapshot(const Sequence& sequence) {
  if (sequence.whole() || !sequence.at_snapshot()) return;
  try {
    TokenChain chain = sequence.chain();
    chain.truncate(sequence.done);
    auto state = sequence.state->fork(sequence.done);
    if (state) prefixes_.insert(std::move(chain), std::move(state), /*pin=*/false);
  } catch (const std::exception&) {  // Without memory for it, others read the beginning again.
  }
}

void Scheduler::deliver_rows(const std::vector<Chunk>& chunks, const at::Tensor& hidden) {
  std::vector<std::int64_t> rows,
      asked;  // Rows that are wanted by themselves: these go to the CPU, or the head, together.
  for (const Chunk& chunk : chunks) {
    if (chunk.outputs == 0) continue;
    for (std::int64_t i = 0; i < chunk.outputs && chunk.sequence->output() == Output::kRow; ++i)
      rows.push_back(chunk.first_output + i);
    if (chunk.sequence->output() == Output::kLogProbs) asked.push_back(chunk.first_output);
  }
  at::Tensor single, logits;
  std::exception_ptr error;
  try {
    if (!rows.empty()) single = select_rows(hidden, rows).to(at::kFloat).to(at::kCPU);
    if (!asked.empty()) logits = model_->logits(select_rows(hidden, asked));
  } catch (...) {
    error = std::current_exception();
  }
  std::int64_t next = 0, next_asked = 0;
  for (const Chunk& chunk : chunks) {
    Sequence& sequence = *chunk.sequence;
    if (sequence.generates()) continue;
    try {
      if (chunk.outputs > 0 && sequence.output() == Output::kRow) {
        if (error) std::rethrow_exception(error);
        const at::Tensor taken = single.narrow(0, next, chunk.outputs);
        next += chunk.outputs;  // First: a row that is refused is not the next sequence's.
        sequence.add_rows(taken);
      } else if (chunk.outputs > 0 && sequence.output() == Output::kLogProbs) {
        if (error) std::rethrow_exception(error);
        sequence.add_rows(logits.narrow(0, next_asked++, 1));
      } else if (chunk.outputs > 0) {
        sequence.add_rows(hidden.narrow(0, chunk.first_output, chunk.outputs));
      }
      if (sequence.finished()) finish(sequence);
    } catch (...) {
      fail(sequence, std::current_exception());
    }
  }
}

void Scheduler::sample_tokens(const std::vector<Chunk>& chunks, const at::Tensor& hidden) {
  std::vector<Writer> writers;
  std::vector<std::int64_t> rows;
  for (const Chunk& chunk : chunks) {
    if (!chunk.sequence->generates() || chunk.outputs == 0) continue;
    writers.push_back({chunk.sequence, static_cast<std::int64_t>(rows.size()), chunk.outputs});
    for (std::int64_t i = 0; i < chunk.outputs; ++i) rows.push_back(chunk.first_output + i);
  }
  if (writers.empty()) return;
  at::Tensor logits;
  std::exception_ptr error;
  try {
    logits = model_->logits(select_rows(hidden, rows));
  } catch (...) {
    error = std::current_exception();
  }
  // The first token of each, then the second of those whose first was guessed, ...
  while (!writers.empty()) {
    std::vector<Sampled> sampled = next_tokens(writers, logits, error);
    std::vector<Writer> going;
    for (std::size_t i = 0; i < writers.size(); ++i) {
      if (add_token(writers[i], sampled[i]))
        going.push_back({writers[i].sequence, writers[i].row + 1, writers[i].rows - 1});
    }
    writers = std::move(going);
  }
}

std::vector<Sampled> Scheduler::next_tokens(const std::vector<Writer>& writers, const at::Tensor& logits,
                                            const std::exception_ptr& error) {
  std::vector<Sampled> next(writers.size());
  std::vector<std::size_t> drawn;
  std::vector<std::int64_t> rows;
  std::vector<Sampler*> samplers;
  for (std::size_t i = 0; i < writers.size(); ++i) {
    const auto [forced, sampler] = writers[i].sequence->next();
    next[i] = {forced.value_or(0), forced ? nullptr : error, forced.has_value()};
    if (forced || error) continue;
    drawn.push_back(i);
    rows.push_back(writers[i].row);
    samplers.push_back(sampler);
  }
  if (drawn.empty()) return next;
  try {
    std::vector<Sampled> sampled = sample_rows(select_rows(logits, rows), samplers);
    for (std::size_t i = 0; i < drawn.size(); ++i) next[drawn[i]] = std::move(sampled[i]);
  } catch (...) {
    for (const std::size_t i : drawn) next[i].error = std::current_exception();
  }
  return next;
}

bool Scheduler::add_token(const Writer& writer, const Sampled& token) {
  Sequence& sequence = *writer.sequence;
  if (token.error) {
    fail(sequence, token.error);
    return false;
  }
  // Read in this step already, and what follows it is known.
  const bool guessed = writer.rows > 1 && sequence.id(sequence.length()) == token.id;
  try {
    sequence.add_token(token.id, token.forced);
  } catch (const std::bad_alloc&) {
    fail(sequence, std::current_exception());
    return false;
  } catch (...) {  // The caller's own exception, as it is.
    sequence.fail(std::current_exception());
    sequence.ended = true;
    return false;
  }
  if (guessed && !sequence.finished()) return true;
  const auto [right, drafted] = sequence.settle();
  {
    const std::lock_guard lock(stats_mutex_);
    stats_.decode_tokens += right;
    stats_.right_guesses += right;
    if (drafted) stats_.right_drafts += right;
  }
  if (sequence.finished()) finish(sequence);
  return false;
}

void Scheduler::finish(Sequence& sequence) {
  try {
    sequence.complete(*model_);
    auto [chain, state] = sequence.take_state();
    std::shared_ptr<PrefixPin> pin;
    if (sequence.whole()) {
      state.reset();
    } else {
      state->trim();
      pin = prefixes_.insert(std::move(chain), std::move(state), sequence.pin_state());
    }
    sequence.deliver(std::move(pin));
    sequence.ended = true;
  } catch (...) {
    fail(sequence, std::current_exception());
  }
}

void Scheduler::fail(Sequence& sequence, const std::exception_ptr& error) {
  sequence.fail(plain_error(error));
  sequence.ended = true;
}

void Scheduler::fail_step(const std::exception_ptr& error) {
  vision_.forget();
  if (running_.empty()) waiting_.pop_first(running_);  // Or it would be tried for ever.
  for (const auto& sequence : running_) fail(*sequence, error);
}

void Scheduler::sweep() {
  const auto ended = [](const auto& sequence) { return sequence->ended; };
  if (std::erase_if(running_, ended) > 0) blocked_ = false;
}

void Scheduler::shutdown() {
  waiting_.pop_if([](const Sequence&) { return true; }, running_);
  for (const auto& sequence : running_) {
    try {
      sequence->cancelled();
    } catch (...) {
      fail(*sequence, std::current_exception());
    }
  }
  running_.clear();
  prefixes_.clear();
}

void Scheduler::count(const std::vector<Chunk>& chunks) {
  const std::lock_guard lock(stats_mutex_);
  for (const Chunk& chunk : chunks) {
    const bool at_head = chunk.sequence->hidden().defined();
    (at_head                      ? stats_.head_tokens
     : chunk.sequence->decoding() ? stats_.decode_tokens
                                  : stats_.prefill_tokens) += chunk.tokens - chunk.guesses;
    stats_.guessed_tokens += chunk.guesses;
    if (chunk.drafted) stats_.drafted_tokens += chunk.guesses;
  }
  stats_.vision_encoded = vision_.encoded();
  stats_.vision_reused = vision_.reused();
  stats_.steps += chunks.empty() ? 0 : 1;
  stats_.peak_running = std::max(stats_.peak_running, static_cast<std::int64_t>(chunks.size()));
}

BackendStats Scheduler::stats() const {
  const std::lock_guard lock(stats_mutex_);
  return stats_;
}

}  // namespace tte::engine
