// Work of a device that is recorded once and then done again by one call: a CUDA graph.
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>

namespace tte::kernels {

class Recording {
 public:
  virtual ~Recording() = default;
  // Does the work with what stands now in the memory that it reads.
  virtual void replay() = 0;
};

// Records what `work` does, which has been done once before, without doing it. `work` reads nothing back from the
// device and copies nothing to it; what it allocates stays its own while the recording lives. Recordings that are not
// replayed at the same time may share memory: `sharing` is one of those before, of the same device, or null.
// For devices on which some attention reads_device_lengths() (kernels.h).
std::unique_ptr<Recording> record(at::Device device, const std::function<void()>& work, Recording* sharing);

}  // namespace tte::kernels
