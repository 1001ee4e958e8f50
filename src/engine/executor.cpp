#include "engine/executor.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/InferenceMode.h>

#include <condition_variable>
#include <exception>
#include <future>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/threads.h"

namespace tte::engine {

namespace {

thread_local bool is_executor = false;

}  // namespace

bool Executor::on_own_thread() {
  return is_executor;
}

class Executor::Impl {
 public:
  explicit Impl(std::int64_t vision_cache_bytes) : vision_cache(vision_cache_bytes) {}

  // `ready` learns whether the threads of operations are there.
  void run(int threads, at::Device device, std::promise<void>& ready) {
    if (threads > 0) base::set_operation_threads(threads);
    if (!base::make_operation_threads()) {
      const auto code = std::make_error_code(std::errc::resource_unavailable_try_again);
      ready.set_exception(std::make_exception_ptr(std::system_error(code)));
      return;
    }
    base::touch_thread_locals();
    ready.set_value();
    is_executor = true;
    const c10::InferenceMode inference;
    const c10::DeviceGuard guard(device);  // So that nothing makes a context on another GPU.
    bool more = false;
    while (wait(more)) more = step_all();
  }

  void add(std::weak_ptr<Stepper> stepper) {
    {
      const std::lock_guard lock(mutex_);
      steppers_.push_back(std::move(stepper));
      woken_ = true;
    }
    ready_.notify_one();
  }

  void wake() {
    {
      const std::lock_guard lock(mutex_);
      woken_ = true;
    }
    ready_.notify_one();
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    ready_.notify_one();
  }

  VisionCache vision_cache;

 private:
  // False when it is time to end.
  bool wait(bool more) {
    std::unique_lock lock(mutex_);
    if (!more) ready_.wait(lock, [this] { return woken_ || stopping_; });
    woken_ = false;
    return !stopping_;
  }

  // One step of each stepper. Their number changes while they run: a step may create or destroy engines.
  bool step_all() {
    std::vector<std::weak_ptr<Stepper>> turn;
    {
      const std::lock_guard lock(mutex_);
      std::erase_if(steppers_, [](const auto& stepper) { return stepper.expired(); });
      turn = steppers_;
    }
    bool more = false;
    for (const auto& weak : turn) {
      if (const auto stepper = weak.lock()) more |= stepper->step();
    }
    return more;
  }

  std::mutex mutex_;
  std::condition_variable ready_;
  std::vector<std::weak_ptr<Stepper>> steppers_;
  bool woken_ = false;
  bool stopping_ = false;
};

Executor::Executor(int threads, std::int64_t vision_cache_bytes, at::Device device)
    : impl_(std::make_shared<Impl>(vision_cache_bytes)) {
  std::promise<void> ready;
  std::future<void> made = ready.get_future();
  thread_ = std::thread([impl = impl_, threads, device, ready = std::move(ready)]() mutable {
    impl->run(threads, device, ready);
  });
  try {
    made.get();
  } catch (...) {
    thread_.join();
    throw;
  }
}

Executor::~Executor() {
  if (process_.elsewhere()) {
    base::never_destroy(std::move(impl_));
    thread_.detach();
    return;
  }
  impl_->stop();
  // The last engine may go in a callback, which runs on this very thread: it then ends by itself, right after
  // the step. Nobody waits for it when the process ends: it may be waiting for an interpreter that is gone.
  if (thread_.get_id() == std::this_thread::get_id()) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

void Executor::add(std::weak_ptr<Stepper> stepper) {
  impl_->add(std::move(stepper));
}
void Executor::wake() {
  impl_->wake();
}
VisionCache& Executor::vision_cache() {
  return impl_->vision_cache;
}

}  // namespace tte::engine
