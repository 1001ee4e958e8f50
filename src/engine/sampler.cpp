#include "engine/sampler.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <functional>
#include <limits>
#include <utility>

#include "base/not_finite.h"
#include "engine/rows.h"
#include "kernels/tensors.h"
#include "tte/error.h"

namespace tte::engine {
namespace {

constexpr float kDropped = -std::numeric_limits<float>::infinity();

std::uint64_t random_seed() {
  std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32) | device();
}

base::NotFiniteError no_token() {
  return base::NotFiniteError(
      "the model's logits are NaN or all -infinity, so no token can follow; try another dtype (float32 has "
      "the widest range) or check the checkpoint.");
}

// Divides by a temperature, as transformers does in float32. Where a quotient would overflow, the highest logit becomes
// 0 and those below it what they are without rounding: a temperature near 0 is nearly greedy.
void divide(std::span<float> logits, double by) {
  const float top = *std::max_element(logits.begin(), logits.end());
  if (std::isinf(top)) return;  // It is taken, or there is none.
  const auto temperature = static_cast<float>(by);
  if (std::isfinite(top / temperature)) {
    for (float& logit : logits) logit /= temperature;
    return;
  }
  for (float& logit : logits) logit = static_cast<float>((static_cast<double>(logit) - top) / by);
}

// Keeps the k highest and whatever equals the k-th.
void keep_top_k(std::span<float> logits, std::int64_t k) {
  if (k <= 0 || k >= static_cast<std::int64_t>(logits.size())) return;
  std::vector<float> sorted(logits.begin(), logits.end());
  std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), std::greater<>());
  const float least = sorted[static_cast<std::size_t>(k - 1)];
  for (float& logit : logits) {
    if (logit < least) logit = kDropped;
  }
}

// Keeps the fewest tokens whose probabilities sum up to p: those with less than p above them. Of equal logits
// at the edge the lower ids are kept, as in argmax; transformers leaves these to an unstable sort.
void keep_top_p(std::span<float> logits, double p) {
  if (p >= 1.0) return;
  std::vector<std::int64_t> order;
  float top = kDropped;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] == kDropped) continue;
    order.push_back(static_cast<std::int64_t>(i));
    top = std::max(top, logits[i]);
  }
  const auto weight = [&](std::int64_t i) { return std::exp(static_cast<double>(logits[i]) - top); };
  double total = 0;
  for (const std::int64_t i : order) total += weight(i);

  // The nucleus is small as a rule: sort only as far as it reaches.
  const auto higher = [&](std::int64_t a, std::int64_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  double above = 0;
  std::size_t kept = 0;
  std::size_t sorted = 0;
  while (kept < order.size()) {
    if (kept == sorted) {
      const std::size_t next = std::min(order.size(), std::max<std::size_t>(64, sorted * 4));
      std::partial_sort(order.begin() + static_cast<std::ptrdiff_t>(sorted),
                        order.begin() + static_cast<std::ptrdiff_t>(next), order.end(), higher);
      sorted = next;
    }
    if (kept > 0 && above >= p) break;
    above += weight(order[kept]) / total;
    ++kept;
  }
  for (std::size_t i = kept; i < order.size(); ++i) logits[order[i]] = kDropped;
}

// Keeps tokens at least p times as probable as the most probable one.
void keep_min_p(std::span<float> logits, double p) {
  if (p <= 0.0) return;
  const float top = *std::max_element(logits.begin(), logits.end());
  for (float& logit : logits) {
    if (std::exp(static_cast<double>(logit) - top) < p) logit = kDropped;
  }
}

}  // namespace

Sampler::Sampler(const GenerateOptions& options, std::vector<std::int64_t> end_ids,
                 std::span<const std::int64_t> prompt_ids)
    : temperature_(options.temperature.value_or(0.0)),
      top_k_(options.top_k.value_or(0)),
      top_p_(options.top_p.value_or(1.0)),
      min_p_(options.min_p.value_or(0.0)),
      penalty_(options.repetition_penalty.value_or(1.0)),
      min_new_tokens_(options.min_new_tokens.value_or(0)),
      end_ids_(std::move(end_ids)),
      random_(options.seed       ? *options.seed
              : temperature_ > 0 ? random_seed()
                                 : 0) {
  if (penalty_ != 1.0) seen_.insert(prompt_ids.begin(), prompt_ids.end());
}

bool Sampler::plain_argmax() const {
  return temperature_ <= 0 && penalty_ == 1.0 && (accepted_ >= min_new_tokens_ || end_ids_.empty());
}

void Sampler::process(std::span<float> logits) const {
  const auto vocab = static_cast<std::int64_t>(logits.size());
  const auto penalty = static_cast<float>(penalty_);
  for (const std::int64_t id : seen_) {
    if (id < 0 || id >= vocab) continue;
    logits[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
  }
  if (accepted_ < min_new_tokens_) {
    for (const std::int64_t id : end_ids_) {
      if (id >= 0 && id < vocab) logits[id] = kDropped;
    }
  }
  if (temperature_ <= 0) return;
  if (temperature_ != 1.0) divide(logits, temperature_);
  keep_top_k(logits, top_k_);
  keep_top_p(logits, top_p_);
  keep_min_p(logits, min_p_);
}

void Sampler::process_greedy(const at::Tensor& logits, std::span<Sampler* const> samplers) {
  const std::int64_t vocab = logits.size(1);
  std::vector<std::int64_t> seen, dropped;  // Rows lie behind each other.
  std::vector<float> penalties;
  for (std::size_t row = 0; row < samplers.size(); ++row) {
    const Sampler& sampler = *samplers[row];
    const std::int64_t first = static_cast<std::int64_t>(row) * vocab;
    for (const std::int64_t id : sampler.seen_) {
      if (id < 0 || id >= vocab) continue;
      seen.push_back(first + id);
      penalties.push_back(static_cast<float>(sampler.penalty_));
    }
    if (sampler.accepted_ >= sampler.min_new_tokens_) continue;
    for (const std::int64_t id : sampler.end_ids_)
      if (id >= 0 && id < vocab) dropped.push_back(first + id);
  }
  const auto there = [&](const auto& values, at::ScalarType type) {
    const at::Tensor host = kernels::host_tensor({std::ssize(values)}, logits.device(), type);
    std::memcpy(host.mutable_data_ptr(), values.data(), host.nbytes());
    return kernels::upload(host, logits.device());
  };
  at::Tensor flat = logits.view({-1});
  if (!seen.empty()) {
    const at::Tensor index = there(seen, at::kLong), penalty = there(penalties, at::kFloat);
    const at::Tensor values = flat.index_select(0, index);
    flat.index_copy_(0, index, at::where(values < 0, values * penalty, values / penalty));
  }
  if (dropped.empty()) return;
  const at::Tensor index = there(dropped, at::kLong), values = flat.index_select(0, index);
  flat.index_copy_(0, index,
                   values.masked_fill(values.isnan().logical_not(), kDropped));  // sample() throws for NaN.
}

std::int64_t Sampler::sample(std::span<float> logits) {
  if (std::any_of(logits.begin(), logits.end(), [](float logit) { return std::isnan(logit); }))
    throw no_token();
  process(logits);
  const auto top = std::max_element(logits.begin(), logits.end());  // The first of equals.
  if (*top == kDropped) throw no_token();
  if (temperature_ <= 0 || std::isinf(*top)) return top - logits.begin();
  return draw(logits);
}

std::int64_t Sampler::draw(std::span<const float> logits) {
  const float top = *std::max_element(logits.begin(), logits.end());
  std::vector<std::pair<std::int64_t, double>> weights;  // What is left, by id.
  double total = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] == kDropped) continue;
    weights.emplace_back(i, std::exp(static_cast<double>(logits[i]) - top));
    total += weights.back().second;
  }
  const double u = static_cast<double>(random_() >> 11) * 0x1.0p-53;
  double left = u * total;
  for (const auto& [id, weight] : weights) {
    left -= weight;
    if (left < 0) return id;
  }
  return weights.back().first;
}

void Sampler::accept(std::int64_t id) {
  ++accepted_;
  if (penalty_ != 1.0) seen_.insert(id);
}

std::vector<Sampled> sample_rows(const at::Tensor& logits, std::span<Sampler* const> samplers) {
  std::vector<Sampled> result(samplers.size());
  const bool on_host = logits.is_cpu();
  std::vector<std::int64_t> plain, others;
  std::vector<Sampler*> plain_samplers;
  for (std::size_t i = 0; i < samplers.size(); ++i) {
    const bool reduced = on_host ? samplers[i]->plain_argmax() : samplers[i]->greedy();
    (reduced ? plain : others).push_back(static_cast<std::int64_t>(i));
    if (reduced) plain_samplers.push_back(samplers[i]);
  }
  if (!plain.empty()) {
    // Reduced where the logits are; ids and values come over in one copy (ids are exact in float64).
    const at::Tensor part = select_rows(logits, plain);
    if (!on_host) Sampler::process_greedy(part, plain_samplers);
    const at::Tensor ids = part.argmax(1, /*keepdim=*/true);
    const at::Tensor both =
        at::cat({ids.to(at::kDouble), part.gather(1, ids).to(at::kDouble)}, 1).to(at::kCPU);
    const double* values = both.const_data_ptr<double>();
    for (std::size_t i = 0; i < plain.size(); ++i) {
      Sampled& sampled = result[static_cast<std::size_t>(plain[i])];
      sampled.id = static_cast<std::int64_t>(values[2 * i]);
      const double value = values[2 * i + 1];
      if (std::isnan(value) || value == static_cast<double>(kDropped)) {
        sampled.error = std::make_exception_ptr(no_token());
      }
    }
  }
  if (!others.empty()) {
    const at::Tensor part = select_rows(logits, others).to(at::kCPU).contiguous();
    const auto vocab = static_cast<std::size_t>(part.size(1));
    auto* values = part.mutable_data_ptr<float>();
    // Rows are independent: each has its own random numbers.
    at::parallel_for(
        0, static_cast<std::int64_t>(others.size()), 1, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) {
            const auto row = static_cast<std::size_t>(others[static_cast<std::size_t>(i)]);
            try {
              result[row].id = samplers[row]->sample({values + static_cast<std::size_t>(i) * vocab, vocab});
            } catch (...) {
              result[row].error = std::current_exception();
            }
          }
        });
  }
  return result;
}

}  // namespace tte::engine
