// The one thread of a replica that runs model steps, and the vision features its engines share.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <thread>

#include "base/process_mark.h"
#include "engine/vision_cache.h"

namespace tte::engine {

// Something with steps to run. step() does one and says whether more are waiting. Must not throw.
class Stepper {
 public:
  virtual ~Stepper() = default;
  virtual bool step() = 0;
};

// Runs the steps of all engines of a replica in turn on one thread, so that two models never fight for the
// same cores, and OpenMP keeps a single warm thread team.
class Executor {
 public:
  // `threads` inside an operation (0: leave torch's default), which are made at once. Steps run in inference mode.
  // `device` is the thread's current one. Throws std::system_error where the system does not give the threads.
  Executor(int threads, std::int64_t vision_cache_bytes, at::Device device = at::kCPU);
  ~Executor();  // Finishes the step that runs; in a forked process it leaves everything as it is.
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;
  void add(std::weak_ptr<Stepper> stepper);
  void wake();                                      // A stepper has new work.
  void check_process() const { process_.check(); }  // Throws DeviceError in a forked process.
  [[nodiscard]] bool elsewhere() const { return process_.elsewhere(); }
  [[nodiscard]] VisionCache& vision_cache();
  // True on the thread of any executor: what waits there for a step waits for ever.
  [[nodiscard]] static bool on_own_thread();

 private:
  class Impl;
  base::ProcessMark process_;
  std::shared_ptr<Impl> impl_;
  std::thread thread_;
};

}  // namespace tte::engine
