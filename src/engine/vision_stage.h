// Visuals of one step: found in the cache, or encoded together.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "engine/sequence.h"
#include "engine/vision_cache.h"
#include "models/model.h"

namespace tte::engine {

class VisionStage {
 public:
  // At most `max_patches` are encoded in a step, so that running sequences do not wait long for their next
  // token; a visual that is larger is encoded alone.
  VisionStage(const models::Model& model, VisionCache& cache, std::int64_t max_patches)
      : model_(model), cache_(cache), max_patches_(max_patches) {}

  // How many of the next `tokens` tokens of a sequence can be run in this step. Fetches the features that
  // they need from the cache, or has them encoded by the next encode().
  std::int64_t request(Sequence& sequence, std::int64_t tokens);

  // A sequence whose features could not be computed.
  struct Failure {
    Sequence* sequence;
    std::exception_ptr error;
  };
  std::vector<Failure> encode();
  void forget() { jobs_.clear(); }  // What was requested, when the step comes to nothing.

  [[nodiscard]] std::int64_t encoded() const { return encoded_; }
  [[nodiscard]] std::int64_t reused() const { return reused_; }

 private:
  struct Job {
    std::shared_ptr<const models::Visual> visual;
    std::vector<std::pair<Sequence*, std::size_t>> users;  // Each with the index of `visual` among its own.
  };
  bool provide(Sequence& sequence, std::size_t visual);
  void encode_jobs(std::span<const Job> jobs);

  const models::Model& model_;
  VisionCache& cache_;
  std::int64_t max_patches_;
  std::int64_t patches_ = 0;
  std::vector<Job> jobs_;
  std::int64_t encoded_ = 0;
  std::int64_t reused_ = 0;
};

}  // namespace tte::engine
