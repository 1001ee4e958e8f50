// Marks the process that made an object: one that was forked from it must leave the object's threads and locks alone.
#pragma once

#include <memory>
#include <utility>

namespace tte::base {

// Remembers the process that it was made in. Threads are not inherited by a forked process, and the locks and
// condition variables that they held or waited for are as they were: whatever has threads leaks them there
// instead of joining them, and refuses new work.
class ProcessMark {
 public:
  ProcessMark();
  // True in a process forked since.
  [[nodiscard]] bool elsewhere() const;
  // Throws DeviceError if elsewhere().
  void check() const;

 private:
  int process_;
};

// Never destroys what `owner` points to, and takes no memory for it: for a forked process, which must not wait for
// threads that it does not have.
template <typename T>
void never_destroy(std::shared_ptr<T> owner) noexcept {
  union Kept {
    explicit Kept(std::shared_ptr<T> o) : owner(std::move(o)) {}
    ~Kept() {}
    std::shared_ptr<T> owner;
  };
  [[maybe_unused]] const Kept kept(std::move(owner));
}

}  // namespace tte::base
