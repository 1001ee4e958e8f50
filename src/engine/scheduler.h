// Which tokens of which sequences run in the next step, and what becomes of their outputs.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/prefix_cache.h"
#include "engine/sequence.h"
#include "engine/vision_stage.h"

namespace tte::engine {

// A step is: one token of every decoding sequence, then chunks of prompts in the order of admission, under
// one token budget. Requests are admitted first come, first served, as soon as there is budget and room for
// all the tokens that they may ever hold: an admitted sequence always runs to its end. Where there is no
// room, cached prefixes are dropped (pinned ones only when nothing runs), then the head of the queue waits
// for running sequences to end.
//
// Used by one thread at a time, stats() apart.
class Scheduler {
 public:
  Scheduler(std::shared_ptr<const models::Model> model, VisionCache& vision_cache,
            const EngineOptions& options);

  void add(std::unique_ptr<Sequence> sequence) { waiting_.push_back(std::move(sequence)); }
  // Runs one step. True while there is more to do. Does not throw.
  bool step();
  // Ends all sequences as cancelled and drops all states.
  void shutdown();
  [[nodiscard]] EngineStats stats() const;

 private:
  void run_step();
  void drop_cancelled();
  // Planning.
  std::vector<Chunk> plan();
  void add_chunk(Sequence& sequence, std::int64_t& budget, std::vector<Chunk>& chunks);
  bool admit_head();  // False when it has to wait, or had to fail.
  bool find_room(Sequence& sequence);
  bool make_room(const models::SequenceState* except);
  void encode_visuals(std::vector<Chunk>& chunks);
  // Running.
  void run(std::vector<Chunk>& chunks);
  void give_rows(const std::vector<Chunk>& chunks, const at::Tensor& hidden);
  void give_tokens(const std::vector<Chunk>& chunks, const at::Tensor& hidden);
  // Ending.
  void finish(Sequence& sequence);
  void fail(Sequence& sequence, const std::exception_ptr& error);
  void sweep();  // Lets go of sequences that have their result.
  void count(const std::vector<Chunk>& chunks);

  std::shared_ptr<const models::Model> model_;
  std::int64_t max_step_tokens_;
  std::size_t max_running_;
  VisionStage vision_;
  PrefixCache prefixes_;
  std::vector<std::unique_ptr<Sequence>> running_;  // In the order of admission.
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<const Sequence*> ended_;  // Of running_, in this step.
  bool blocked_ = false;                // The head of the queue found no room, and nothing has ended since.

  mutable std::mutex stats_mutex_;
  EngineStats stats_;
};

// `error` as an exception of tte whose message names the request.
std::exception_ptr name_error(const std::exception_ptr& error, const std::string& name);

}  // namespace tte::engine
