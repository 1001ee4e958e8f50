// From logits to the next token, in transformers' order and semantics.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <exception>
#include <random>
#include <span>
#include <unordered_set>
#include <vector>

#include "tte/options.h"

namespace tte::engine {

// The decoding settings of one sequence, and what they remember of it.
//
// Order: repetition penalty, min_new_tokens, temperature, top-k, top-p, min-p, then the draw. One uniform
// number is taken per drawn token from the sequence's own std::mt19937_64(seed): u = (next >> 11) * 2^-53 in
// [0, 1), and the token is the first, by id, at which the cumulative probability exceeds u. So a seed gives
// the same tokens whatever else is in the batch.
class Sampler {
 public:
  // `end_ids` may not come before min_new_tokens.
  Sampler(const GenerateOptions& options, std::vector<std::int64_t> end_ids,
          std::span<const std::int64_t> prompt_ids);

  // True when the token is the highest logit, of those that process() makes, or of these as they are now: a batch of
  // such rows can be reduced where it lies.
  [[nodiscard]] bool greedy() const { return temperature_ <= 0; }
  [[nodiscard]] bool plain_argmax() const;

  // The next token by `logits` (float32 [vocab], CPU; changed in place). Throws ModelError for logits that
  // are NaN or all -infinity.
  std::int64_t sample(std::span<float> logits);

  // The logits with everything applied but the draw; dropped tokens are -infinity. For sample() and its tests.
  void process(std::span<float> logits) const;

  // The same for rows of logits [rows, vocab] of greedy samplers, where they lie and to the bit. No host-device sync.
  static void process_greedy(const at::Tensor& logits, std::span<Sampler* const> samplers);

  // Tells which token was taken, drawn here or forced.
  void accept(std::int64_t id);

 private:
  [[nodiscard]] std::int64_t draw(std::span<const float> logits);

  double temperature_;
  std::int64_t top_k_;
  double top_p_;
  double min_p_;
  double penalty_;
  std::int64_t min_new_tokens_;
  std::int64_t accepted_ = 0;
  std::vector<std::int64_t> end_ids_;
  std::unordered_set<std::int64_t> seen_;  // Only with a repetition penalty.
  std::mt19937_64 random_;
};

// The next token of each row of logits (float32 [rows, vocab], changed in place) and what to do with a row
// that has none.
struct Sampled {
  std::int64_t id = 0;
  std::exception_ptr error;
  bool forced = false;  // Not drawn: it had to come.
};
std::vector<Sampled> sample_rows(const at::Tensor& logits, std::span<Sampler* const> samplers);

}  // namespace tte::engine
