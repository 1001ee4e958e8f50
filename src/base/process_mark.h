// What a process forked from this one must leave alone.
#pragma once

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

}  // namespace tte::base
