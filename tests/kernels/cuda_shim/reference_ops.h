// The operators that ATen has for CUDA alone, on the processor: float64 formulas behind the checks of the
// CUDA implementations, registered with the dispatcher when the program starts.
#pragma once

#include <cstdint>

namespace tte::kernels::cuda_shim {

// How _flash_attention_forward treats pages.
enum class Splitting : std::uint8_t {
  kNone,       // In one part, as before torch 2.13.
  kFromTorch,  // As torch 2.13 to 2.15: unless told not to, a step that leaves processors idle is split, and
               // the parts of all its sequences are merged into the first one's rows.
};
void set_splitting(Splitting splitting);

}  // namespace tte::kernels::cuda_shim
