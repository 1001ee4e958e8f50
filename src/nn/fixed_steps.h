// Steps whose inputs stay where they are on the device, in few sizes: what one of them does is the same work for all,
// which can be recorded.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/recording.h"
#include "nn/kv_cache.h"

namespace tte::nn {

// For pools on devices whose attention reads_device_lengths(). Every row is a sequence of its own that ends there, so
// that a step has nothing but a number of rows; it is filled up with rows that read and write the pool's scratch block.
class FixedSteps {
 public:
  static constexpr std::int64_t kMostRows = 256;

  struct Inputs {
    at::Tensor ids;        // int64 [rows]
    at::Tensor positions;  // int64 [3, rows]
    kernels::PagedBatch batch;
  };
  // The result [rows, ...] of a step. It may read nothing else that changes from step to step, nor wait for the device
  // or copy between it and the host.
  using Work = std::function<at::Tensor(const Inputs&)>;

  // With `record`, work is recorded once a size has come up before, and replayed from then on.
  FixedSteps(std::shared_ptr<KvPool> pool, bool record);

  // Does `work`, which is the same in every call, for the next tokens[i] tokens of states[i], of which `ids` [rows] and
  // `positions` [3, rows] are on the CPU: at most kMostRows. One copy to the device. Returns [rows, ...]. Throws as
  // reserve_step().
  at::Tensor run(const at::Tensor& ids, const at::Tensor& positions, std::span<KvState* const> states,
                 std::span<const std::int64_t> tokens, const Work& work);

 private:
  struct Steps {
    std::int64_t blocks = 0;  // No sequence has more.
    at::Tensor memory;        // That the inputs are views of.
    Inputs inputs;
    bool done_before = false;
    // What was recorded: from the inputs to the result, with the pool's tensors at these addresses.
    std::unique_ptr<kernels::Recording> recording;
    at::Tensor result;
    std::vector<const void*> addresses;
  };
  Steps& steps_of(std::int64_t rows, std::int64_t blocks);
  void fill(const Steps& steps, const at::Tensor& ids, const at::Tensor& positions,
            std::span<KvState* const> states, std::span<const std::int64_t> tokens) const;
  void replay(Steps& steps, const Work& work);

  std::shared_ptr<KvPool> pool_;
  bool record_;
  std::map<std::int64_t, Steps> steps_;  // By their rows.
};

}  // namespace tte::nn
