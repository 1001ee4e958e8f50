#include "kernels/cuda_shim/launch.h"

#include <fmt/core.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "kernels/cuda_shim/tape.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

// The linker's names for the first and the last byte of the section of __shared__ variables.
extern "C" char __start_tte_shared[], __stop_tte_shared[];

namespace tte::kernels::cuda_shim {
namespace {

constexpr std::size_t kStackBytes = 1 << 16;
constexpr std::size_t kWarp = 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFu;

// Tells AddressSanitizer which stack is in use. Does nothing in other builds.
void leave_stack([[maybe_unused]] void** fake_stack, [[maybe_unused]] const void* next_stack,
                 [[maybe_unused]] std::size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fake_stack, next_stack, bytes);
#endif
}
void enter_stack([[maybe_unused]] void* fake_stack, [[maybe_unused]] const void** last_stack,
                 [[maybe_unused]] std::size_t* bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, last_stack, bytes);
#endif
}

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack = std::make_unique_for_overwrite<char[]>(kStackBytes);
  void* fake_stack = nullptr;
};

// The lanes that came to a shuffle, and what they brought; the shuffle before may still be read.
struct Warp {
  std::array<std::array<float, kWarp>, 2> values{};
  std::size_t shuffles = 0;
  std::vector<std::size_t> waiting;
  std::size_t ended = 0;
};

// The block that runs.
class Block {
 public:
  // False after a fault.
  bool run(const std::function<void()>& body, std::mt19937_64& random) {
    body_ = &body;
    random_ = &random;
    const std::size_t size = std::size_t{blockDim.x} * blockDim.y * blockDim.z;
    while (fibers_.size() < size) fibers_.push_back(std::make_unique<Fiber>());
    warps_.assign((size + kWarp - 1) / kWarp, {});
    at_barrier_.clear();
    ended_ = 0;
    size_ = size;
    ready_.resize(size);
    std::iota(ready_.begin(), ready_.end(), std::size_t{0});
    for (std::size_t i = 0; i < size; ++i) start(i);
    std::memset(__start_tte_shared, 0xFF, static_cast<std::size_t>(__stop_tte_shared - __start_tte_shared));
    while (!ready_.empty() && fault.empty()) {
      std::swap(ready_[random() % ready_.size()], ready_.back());
      current_ = ready_.back();
      ready_.pop_back();
      resume();
    }
    if (fault.empty() && ended_ < size) fault = "threads of one block wait at different places";
    return fault.empty();
  }

  void barrier() {
    if (ended_ > 0) return fail("__syncthreads() after a thread of the block has ended");
    at_barrier_.push_back(current_);
    if (at_barrier_.size() == size_) release(at_barrier_);
    suspend();
  }

  float shuffle_xor(unsigned mask, float value, int lane_mask) {
    const std::size_t lane = current_ % kWarp;
    Warp& warp = warps_[current_ / kWarp];
    const std::size_t lanes = std::min(kWarp, size_ - current_ / kWarp * kWarp);
    if (mask != kAllLanes || lanes != kWarp || warp.ended > 0) {
      fail("__shfl_xor_sync() with lanes that are not there, or a mask that leaves some out");
    }
    std::array<float, kWarp>& values = warp.values[warp.shuffles % 2];
    values[lane] = value;
    warp.waiting.push_back(current_);
    if (warp.waiting.size() == kWarp) {
      ++warp.shuffles;
      release(warp.waiting);
    }
    suspend();
    return values[lane ^ static_cast<std::size_t>(lane_mask)];
  }

  std::string fault;

 private:
  void release(std::vector<std::size_t>& waiting) {
    ready_.insert(ready_.end(), waiting.begin(), waiting.end());
    waiting.clear();
  }

  // Ends the current fiber, which is never resumed.
  void fail(const char* what) {
    fault = what;
    suspend();
  }

  void start(std::size_t i) {
    Fiber& fiber = *fibers_[i];
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = nullptr;
    fiber.fake_stack = nullptr;
    makecontext(&fiber.context, &Block::entry, 0);
  }

  static void entry();

  void resume() {
    Fiber& fiber = *fibers_[current_];
    const auto i = static_cast<unsigned>(current_);
    threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    void* fake_stack = nullptr;
    leave_stack(&fake_stack, fiber.stack.get(), kStackBytes);
    swapcontext(&scheduler_, &fiber.context);
    enter_stack(fake_stack, nullptr, nullptr);
  }

  // Back to run().
  void suspend() {
    Fiber& fiber = *fibers_[current_];
    leave_stack(&fiber.fake_stack, scheduler_stack_, scheduler_stack_bytes_);
    swapcontext(&fiber.context, &scheduler_);
    enter_stack(fiber.fake_stack, nullptr, nullptr);
  }

  [[noreturn]] void end() {
    ++ended_;
    Warp& warp = warps_[current_ / kWarp];
    ++warp.ended;
    if (!warp.waiting.empty()) fault = "a thread ended while others of its warp wait for its value";
    if (!at_barrier_.empty()) fault = "a thread ended while others of its block wait at __syncthreads()";
    leave_stack(nullptr, scheduler_stack_, scheduler_stack_bytes_);
    setcontext(&scheduler_);
    std::abort();
  }

  const std::function<void()>* body_ = nullptr;
  std::mt19937_64* random_ = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Warp> warps_;
  std::vector<std::size_t> ready_, at_barrier_;
  std::size_t current_ = 0, size_ = 0, ended_ = 0;
  ucontext_t scheduler_{};
  const void* scheduler_stack_ = nullptr;
  std::size_t scheduler_stack_bytes_ = 0;
};

Block running;
std::mt19937_64 random_orders;
cudaError_t error = cudaSuccess;
std::string fault_text;

void Block::entry() {
  enter_stack(nullptr, &running.scheduler_stack_, &running.scheduler_stack_bytes_);
  (*running.body_)();
  running.end();
}

// What the driver refuses; empty if nothing.
std::string refusal(dim3 grid, dim3 block, std::size_t shared_bytes) {
  const auto shared = shared_bytes + static_cast<std::size_t>(__stop_tte_shared - __start_tte_shared);
  const bool grid_fits = grid.x >= 1 && grid.x <= 0x7FFFFFFFu && grid.y >= 1 && grid.y <= 65535 &&
                         grid.z >= 1 && grid.z <= 65535;
  const bool block_fits = block.x >= 1 && block.x <= 1024 && block.y >= 1 && block.y <= 1024 &&
                          block.z >= 1 && block.z <= 64 && std::size_t{block.x} * block.y * block.z <= 1024;
  if (grid_fits && block_fits && shared <= 48 * 1024) return {};
  return fmt::format(
      "no GPU launches a grid of {} x {} x {} blocks of {} x {} x {} threads with {} shared bytes", grid.x,
      grid.y, grid.z, block.x, block.y, block.z, shared);
}

void report(cudaError_t code, std::string text) {
  error = code;
  fault_text = std::move(text);
}

}  // namespace

void launch(dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
            const std::function<void()>& thread) {
  Tape::add([=] { launch(grid, block, shared_bytes, stream, thread); });
  if (std::string text = refusal(grid, block, shared_bytes); !text.empty()) {
    return report(cudaErrorInvalidConfiguration, std::move(text));
  }
  gridDim = grid;
  blockDim = block;
  std::vector<unsigned> order(std::size_t{grid.x} * grid.y * grid.z);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), random_orders);
  for (const unsigned i : order) {
    blockIdx = {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
    if (!running.run(thread, random_orders))
      return report(cudaErrorLaunchFailure, std::exchange(running.fault, {}));
  }
}

const std::string& last_fault() {
  return fault_text;
}

void set_seed(std::uint64_t seed) {
  random_orders.seed(seed);
}

}  // namespace tte::kernels::cuda_shim

using tte::kernels::cuda_shim::running;

void __syncthreads() {
  running.barrier();
}
float __shfl_xor_sync(unsigned mask, float value, int lane_mask) {
  return running.shuffle_xor(mask, value, lane_mask);
}

cudaError_t cudaGetLastError() {
  return std::exchange(tte::kernels::cuda_shim::error, cudaSuccess);
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? 9 : 0;
  return cudaSuccess;
}
