// How much work a step should have.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>

namespace tte::models {

// As many tokens and vision patches as keep a device busy. More in one step would win nothing, and delay the
// next token of every running sequence and the answer to every cancellation.
struct StepSize {
  std::int64_t tokens = 0;
  std::int64_t patches = 0;
};

constexpr StepSize step_size(c10::DeviceType device) {
  return device == c10::DeviceType::CPU ? StepSize{512, 1024} : StepSize{2048, 4096};
}

}  // namespace tte::models
