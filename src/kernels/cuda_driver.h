// What the NVIDIA driver says, asked directly: a host without a GPU answers in microseconds and loads none of torch's
// CUDA libraries. The driver's C interface has been stable since CUDA 4; asking it needs no toolkit and makes no
// context.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tte::kernels {

struct Gpu {
  std::string name;
  std::int64_t memory_bytes = 0;
};

// Those of "cuda:0", "cuda:1", ...; nothing where no driver answers, as in a process forked after CUDA was used.
std::optional<std::vector<Gpu>> driver_gpus();

}  // namespace tte::kernels
