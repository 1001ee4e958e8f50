// Which tokens of which sequences run in the next step, and what becomes of their outputs.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/prefix_cache.h"
#include "engine/sequence.h"
#include "engine/vision_stage.h"
#include "engine/waiting_queue.h"
#include "tte/error.h"

namespace tte::engine {

// A step is: one token of every decoding sequence and chunks of prompts in the order of admission, under one
// token budget. Who is admitted next is WaitingQueue's to say; a request that finds no room for its prompt is
// passed, a bounded number of times, by requests that do.
//
// Room is taken as sequences grow. Where there is none, cached prefixes are dropped, then states that nobody
// waits for yet, then the youngest trace pauses: its state becomes a cached prefix, and it goes on from
// whatever is left of that once there is room again, with the same tokens. Pinned prefixes are dropped only
// when nothing else runs.
//
// A prompt of a model that reads whole prompts is never cut, whatever the budget; where it is larger, the step has
// nothing else.
//
// max_running sequences run in a step. For a vector that finds all places taken by traces, the youngest of
// them step aside (up to half of the places), since a vector takes few steps and a trace takes many.
//
// Used by one thread at a time, stats() apart.
class Scheduler {
 public:
  Scheduler(std::shared_ptr<const models::Model> model, VisionCache& vision_cache,
            const EngineOptions& options);

  void add(Sequences&& sequences);  // Does not throw.
  // Runs one step. True while there is more to do. Does not throw: whom an exception concerns gets it.
  bool step();
  // Ends all sequences as cancelled and drops all states.
  void shutdown();
  [[nodiscard]] BackendStats stats() const;

 private:
  // What is left of a step.
  struct Budget {
    std::int64_t tokens = 0;
    std::int64_t places = 0;
  };
  // A sequence that takes tokens: the rows of logits that are left for it.
  struct Writer {
    Sequence* sequence = nullptr;
    std::int64_t row = 0;
    std::int64_t rows = 0;
  };
  void run_step();
  void drop_cancelled();
  // Planning.
  std::vector<Chunk> plan();
  void add_prompts(Budget& left, std::vector<Chunk>& chunks);
  void add_background(Budget& left, std::vector<Chunk>& chunks);
  // False when nothing of the sequence can run in this step.
  bool add_chunk(Sequence& sequence, Budget& left, std::vector<Chunk>& chunks);
  // Room for the next token of every decoding sequence: some may have to pause.
  void grow();
  void grow(Sequence& sequence);
  void pause(Sequence& sequence);
  void collect_paused();
  // The last admitted of those that may pause: states that nobody waits for, or traces. Null: none.
  [[nodiscard]] Sequence* youngest(bool background) const;
  [[nodiscard]] bool alone(const Sequence& sequence) const;  // Nothing else holds a state of its own.
  // Admission.
  Sequence* admit_next();  // Null when nobody can be admitted now.
  Sequence* admit_first(const std::vector<Sequence*>& candidates);
  bool find_room(Sequence& sequence);
  bool start(Sequence& sequence);  // Anew, where there is room.
  bool make_room(const Sequence& sequence, const models::SequenceState* except);
  bool stop_drafts();  // For their room; false where they have none.
  void keep_order(Sequence& admitted);
  [[nodiscard]] InputError no_room(std::int64_t tokens) const;
  void encode_visuals(std::vector<Chunk>& chunks);
  // Running.
  void run(std::vector<Chunk>&& chunks);
  void keep_snapshot(const Sequence& sequence);
  void deliver_rows(const std::vector<Chunk>& chunks, const at::Tensor& hidden);
  void sample_tokens(const std::vector<Chunk>& chunks, const at::Tensor& hidden);
  static std::vector<Sampled> next_tokens(const std::vector<Writer>& writers, const at::Tensor& logits,
                                          const std::exception_ptr& error);
  // True when the token was guessed: the next one can be taken.
  bool add_token(const Writer& writer, const Sampled& token);
  // Ending. None of these throws.
  void finish(Sequence& sequence);
  void fail(Sequence& sequence, const std::exception_ptr& error);
  void fail_step(const std::exception_ptr& error);
  void sweep();  // Lets go of sequences that have their result.
  void count(const std::vector<Chunk>& chunks);

  std::shared_ptr<const models::Model> model_;
  std::int64_t max_step_tokens_;
  std::size_t max_running_;
  std::int64_t prompt_lookup_tokens_;
  VisionStage vision_;
  PrefixCache prefixes_;
  Sequences running_;  // By age. Those without a state are about to be paused.
  WaitingQueue waiting_;
  std::int64_t tickets_ = 0;
  bool blocked_ = false;  // Nobody found room, and nothing has changed since.

  mutable std::mutex stats_mutex_;
  BackendStats stats_{.engines = 1};
};

// `error` as an exception of tte. Does not throw: where there is no memory for a message, the exception says
// just that.
std::exception_ptr plain_error(const std::exception_ptr& error);

}  // namespace tte::engine
