// What a stream does while it is recorded, to be done again. As a GPU's recording it knows nothing of the host: what
// the host writes into memory that was allocated meanwhile is lost, and numbers and sizes that the host computed stay
// what they were. Unlike a GPU's, it also does what it records.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace tte::kernels::cuda_shim {

class Tape {
 public:
  Tape();   // Records from here on: one at a time,
  ~Tape();  // until it ends.
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  void end();
  void replay() const;

  // Adds to the tape that records, if one does.
  static void add(std::function<void()> again);

 private:
  friend struct Recorder;
  std::vector<std::function<void()>> work_;
  std::vector<at::Tensor> made_;  // Memory that was allocated meanwhile.
};

}  // namespace tte::kernels::cuda_shim
