// tte_cuda_check: whether the CUDA kernels, and decoders made of them, compute on this machine's GPU what they should,
// and how fast a decoder is. Takes GoogleTest's options: --gtest_filter=Speed* leaves the comparisons out.
//
// Exit codes: 0, all is well; 1, something differs; 3, there is no GPU that it can run on.
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <torch/headeronly/version.h>

#include <fstream>
#include <string>

#include "kernels/cuda_driver.h"
#include "kernels/kernels.h"
#include "tte/error.h"

namespace {

constexpr int kNoGpu = 3;

// As the driver's kernel module says it.
std::string driver_version() {
  std::ifstream file("/proc/driver/nvidia/version");
  std::string line;
  return std::getline(file, line) ? line : "unknown driver";
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  try {
    tte::kernels::load_cuda();
  } catch (const tte::Error& error) {
    fmt::print("{}\n", error.what());
    return kNoGpu;
  }
  const tte::kernels::Gpu gpu = tte::kernels::driver_gpus()->front();
  fmt::print("{}, {:.0f} GiB; torch {}; {}\n", gpu.name,
             static_cast<double>(gpu.memory_bytes) / (std::int64_t{1} << 30), TORCH_VERSION,
             driver_version());
  return RUN_ALL_TESTS();
}
