#include "engine/scheduler.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <algorithm>
#include <new>
#include <optional>
#include <utility>

#include "engine/rows.h"
#include "tte/error.h"

namespace tte::engine {
namespace {

// Bounds the search for a prefix; memory bounds what is kept long before as a rule.
constexpr std::size_t kMaxPrefixes = 512;
// Tokens kept of sequences that nobody pinned: enough for the instructions and pictures that recent requests
// had in common, little beside the weights.
constexpr std::int64_t kMaxIdleTokens = 16'384;
// A finished state that reserved this many tokens more than it holds is cut to size before it is kept.
constexpr std::int64_t kMaxSpareTokens = 64;

}  // namespace

std::exception_ptr name_error(const std::exception_ptr& error, const std::string& name) {
  const auto message = [&](const char* what) { return fmt::format("{}: {}", name, what); };
  try {
    std::rethrow_exception(error);
  } catch (const InputError& e) {
    return std::make_exception_ptr(InputError(message(e.what())));
  } catch (const ModelError& e) {
    return std::make_exception_ptr(ModelError(message(e.what())));
  } catch (const DeviceError& e) {
    return std::make_exception_ptr(DeviceError(message(e.what())));
  } catch (const c10::OutOfMemoryError& e) {
    return std::make_exception_ptr(DeviceError(message(e.what_without_backtrace())));
  } catch (const c10::Error& e) {
    return std::make_exception_ptr(Error(message(e.what_without_backtrace())));
  } catch (const std::bad_alloc&) {
    return std::make_exception_ptr(DeviceError(
        message("the machine has no memory left for this step; lower BackendOptions::max_step_tokens "
                "or state_bytes.")));
  } catch (const std::exception& e) {
    return std::make_exception_ptr(Error(message(e.what())));
  } catch (...) {
    return std::make_exception_ptr(Error(message("the model threw something that is not an exception.")));
  }
}

Scheduler::Scheduler(std::shared_ptr<const models::Model> model, VisionCache& vision_cache,
                     const EngineOptions& options)
    : model_(std::move(model)),
      max_step_tokens_(options.max_step_tokens),
      // Every running sequence can then run a token in every step.
      max_running_(static_cast<std::size_t>(std::min(options.max_running, options.max_step_tokens))),
      vision_(*model_, vision_cache, options.max_step_patches),
      prefixes_(kMaxPrefixes, kMaxIdleTokens) {}

bool Scheduler::step() {
  try {
    run_step();
  } catch (...) {
    // Not a model's failure, which run() handles: the step itself could not be formed.
    vision_.forget();
    for (const auto& sequence : running_) fail(*sequence, std::current_exception());
  }
  sweep();
  return !running_.empty() || !waiting_.empty();
}

void Scheduler::run_step() {
  drop_cancelled();
  std::vector<Chunk> chunks = plan();
  encode_visuals(chunks);
  count(chunks);  // First, so that whoever has a result finds it counted.
  if (!chunks.empty()) run(chunks);
}

void Scheduler::drop_cancelled() {
  for (const auto& sequence : running_) {
    if (!sequence->cancel_requested()) continue;
    sequence->cancelled();
    ended_.push_back(sequence.get());
  }
  const auto wanted = [](const auto& sequence) { return !sequence->cancel_requested(); };
  if (!std::all_of(waiting_.begin(), waiting_.end(), wanted)) {
    blocked_ = false;
    const auto gone = std::stable_partition(waiting_.begin(), waiting_.end(), wanted);
    for (auto it = gone; it != waiting_.end(); ++it) (*it)->cancelled();
    waiting_.erase(gone, waiting_.end());
  }
  sweep();
}

std::vector<Chunk> Scheduler::plan() {
  std::vector<Chunk> chunks;
  std::int64_t budget = max_step_tokens_;
  for (const auto& sequence : running_) {
    if (sequence->decoding()) add_chunk(*sequence, budget, chunks);
  }
  for (const auto& sequence : running_) {
    if (!sequence->decoding()) add_chunk(*sequence, budget, chunks);
  }
  while (budget > 0 && !waiting_.empty() && running_.size() < max_running_ && !blocked_) {
    if (admit_head()) add_chunk(*running_.back(), budget, chunks);
  }
  return chunks;
}

void Scheduler::add_chunk(Sequence& sequence, std::int64_t& budget, std::vector<Chunk>& chunks) {
  const std::int64_t left = sequence.length() - sequence.done;
  if (left == 0) return finish(sequence);  // All of it was known already.
  const std::int64_t tokens = vision_.request(sequence, std::min(budget, left));
  if (tokens == 0) return;
  budget -= tokens;
  chunks.push_back({&sequence, tokens});
}

bool Scheduler::admit_head() {
  Sequence& head = *waiting_.front();
  bool admitted = true;
  try {
    if (!find_room(head)) {
      blocked_ = true;
      return false;
    }
    running_.push_back(std::move(waiting_.front()));
  } catch (...) {
    admitted = false;
    head.fail(name_error(std::current_exception(), head.name()));
  }
  waiting_.pop_front();
  if (!admitted) return false;
  const std::lock_guard lock(stats_mutex_);
  stats_.reused_tokens += running_.back()->reused;
  stats_.peak_running = std::max(stats_.peak_running, static_cast<std::int64_t>(running_.size()));
  return true;
}

bool Scheduler::find_room(Sequence& sequence) {
  const std::int64_t room = sequence.room();
  while (sequence.reuse_limit() > 0) {
    auto found = prefixes_.fork(sequence.chain(), sequence.reuse_limit());
    if (found.source == nullptr) break;
    bool can_make_room = true;
    while (found.state && can_make_room) {
      if (found.state->reserve(room)) {
        sequence.admit(std::move(found.state), found.length);
        return true;
      }
      can_make_room = make_room(found.source);
    }
    if (!can_make_room) break;
    // Not forked: either there is no room for what cannot be shared, or states of this kind cannot be cut
    // there.
    if (auto state = model_->start(room)) {
      sequence.admit(std::move(state), 0);
      return true;
    }
    if (!make_room(found.source)) break;
  }
  for (;;) {
    if (auto state = model_->start(room)) {
      sequence.admit(std::move(state), 0);
      return true;
    }
    if (make_room(nullptr)) continue;
    if (!running_.empty()) return false;
    throw InputError(
        fmt::format("it needs room for {} tokens, which is more than the model's sequence states give ({} "
                    "tokens in all) even "
                    "with nothing else running: raise BackendOptions::state_bytes.",
                    room, model_->state_capacity()));
  }
}

// Pins are wishes of callers who may themselves be waiting for the head of the queue: with nothing running,
// nothing else will ever give room, so they yield.
bool Scheduler::make_room(const models::SequenceState* except) {
  return prefixes_.evict(/*pinned=*/false, except) ||
         (running_.empty() && prefixes_.evict(/*pinned=*/true, except));
}

void Scheduler::encode_visuals(std::vector<Chunk>& chunks) {
  for (const auto& [sequence, error] : vision_.encode()) {
    fail(*sequence, error);
    std::erase_if(chunks, [failed = sequence](const Chunk& chunk) { return chunk.sequence == failed; });
  }
}

void Scheduler::run(std::vector<Chunk>& chunks) {
  at::Tensor hidden;
  try {
    hidden = model_->forward(pack(chunks, model_->info().device));
  } catch (...) {
    // Some states may have grown and others not: none of them can go on.
    for (const Chunk& chunk : chunks) fail(*chunk.sequence, std::current_exception());
    return;
  }
  for (const Chunk& chunk : chunks) chunk.sequence->advance(chunk.tokens);
  give_rows(chunks, hidden);
  give_tokens(chunks, hidden);
}

void Scheduler::give_rows(const std::vector<Chunk>& chunks, const at::Tensor& hidden) {
  std::vector<std::int64_t> rows;  // Of sequences that want a single one: these go to the CPU together.
  for (const Chunk& chunk : chunks) {
    const auto* encode = dynamic_cast<const EncodeSequence*>(chunk.sequence);
    if (encode != nullptr && encode->single_row() && chunk.outputs > 0) rows.push_back(chunk.first_output);
  }
  at::Tensor single;
  std::exception_ptr error;
  try {
    if (!rows.empty()) single = select_rows(hidden, rows).to(at::kFloat).to(at::kCPU);
  } catch (...) {
    error = std::current_exception();
  }
  std::int64_t next = 0;
  for (const Chunk& chunk : chunks) {
    auto* encode = dynamic_cast<EncodeSequence*>(chunk.sequence);
    if (encode == nullptr) continue;
    try {
      if (chunk.outputs > 0 && encode->single_row()) {
        if (error) std::rethrow_exception(error);
        encode->take(single.narrow(0, next++, 1));
      } else if (chunk.outputs > 0) {
        encode->take(hidden.narrow(0, chunk.first_output, chunk.outputs));
      }
      if (!encode->finished()) continue;
      encode->check_finite();
      finish(*encode);
    } catch (...) {
      fail(*encode, std::current_exception());
    }
  }
}

void Scheduler::give_tokens(const std::vector<Chunk>& chunks, const at::Tensor& hidden) {
  struct Next {
    GenerateSequence* sequence;
    std::optional<std::int64_t> forced;
    Sampled sampled;
  };
  std::vector<Next> next;
  std::vector<std::int64_t> rows;
  std::vector<Sampler*> samplers;
  for (const Chunk& chunk : chunks) {
    auto* sequence = dynamic_cast<GenerateSequence*>(chunk.sequence);
    if (sequence == nullptr || chunk.outputs == 0) continue;
    next.push_back({sequence, sequence->forced(), {}});
    if (next.back().forced) continue;
    rows.push_back(chunk.first_output);
    samplers.push_back(&sequence->sampler());
  }
  std::vector<Sampled> sampled(rows.size());
  try {
    if (!rows.empty()) sampled = sample_rows(model_->logits(select_rows(hidden, rows)), samplers);
  } catch (...) {
    for (Sampled& row : sampled) row.error = std::current_exception();
  }
  std::size_t row = 0;
  for (Next& item : next) {
    if (!item.forced) item.sampled = std::move(sampled[row++]);
    if (item.sampled.error) {
      fail(*item.sequence, item.sampled.error);
      continue;
    }
    try {
      item.sequence->take(item.forced.value_or(item.sampled.id), item.forced.has_value());
    } catch (...) {  // The caller's own exception, as it is.
      item.sequence->fail(std::current_exception());
      ended_.push_back(item.sequence);
      continue;
    }
    if (item.sequence->finished()) finish(*item.sequence);
  }
}

void Scheduler::finish(Sequence& sequence) {
  const std::int64_t spare = sequence.room() - sequence.done;
  auto [chain, state] = sequence.take_state();
  if (spare >= kMaxSpareTokens) {
    if (auto cut = state->fork(chain.size())) state = std::move(cut);
  }
  sequence.deliver(prefixes_.insert(std::move(chain), std::move(state), sequence.pin_state()));
  ended_.push_back(&sequence);
}

void Scheduler::fail(Sequence& sequence, const std::exception_ptr& error) {
  sequence.fail(name_error(error, sequence.name()));
  ended_.push_back(&sequence);
}

void Scheduler::sweep() {
  if (ended_.empty()) return;
  std::erase_if(running_, [this](const auto& sequence) {
    return std::find(ended_.begin(), ended_.end(), sequence.get()) != ended_.end();
  });
  ended_.clear();
  blocked_ = false;
}

void Scheduler::shutdown() {
  for (const auto& sequence : running_) sequence->cancelled();
  for (const auto& sequence : waiting_) sequence->cancelled();
  running_.clear();
  waiting_.clear();
  prefixes_.clear();
}

void Scheduler::count(const std::vector<Chunk>& chunks) {
  const std::lock_guard lock(stats_mutex_);
  for (const Chunk& chunk : chunks) {
    (chunk.sequence->decoding() ? stats_.decode_tokens : stats_.prefill_tokens) += chunk.tokens;
  }
  stats_.vision_encoded = vision_.encoded();
  stats_.vision_reused = vision_.reused();
  stats_.steps += chunks.empty() ? 0 : 1;
}

EngineStats Scheduler::stats() const {
  const std::lock_guard lock(stats_mutex_);
  return stats_;
}

}  // namespace tte::engine
