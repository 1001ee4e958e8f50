#include "kernels/cuda_driver.h"

#include <dlfcn.h>

#include <array>

namespace tte::kernels {

std::optional<std::vector<Gpu>> driver_gpus() {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver == nullptr) return std::nullopt;
  const auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  const auto count = reinterpret_cast<int (*)(int*)>(dlsym(driver, "cuDeviceGetCount"));
  const auto get = reinterpret_cast<int (*)(int*, int)>(dlsym(driver, "cuDeviceGet"));
  const auto name = reinterpret_cast<int (*)(char*, int, int)>(dlsym(driver, "cuDeviceGetName"));
  const auto memory = reinterpret_cast<int (*)(std::size_t*, int)>(dlsym(driver, "cuDeviceTotalMem_v2"));
  int total = 0;
  if (!init || !count || !get || !name || !memory || init(0) != 0 || count(&total) != 0) return std::nullopt;
  std::vector<Gpu> gpus;
  for (int i = 0; i < total; ++i) {
    int device = 0;
    std::array<char, 256> text{};
    std::size_t bytes = 0;
    if (get(&device, i) != 0 || name(text.data(), static_cast<int>(text.size()) - 1, device) != 0 ||
        memory(&bytes, device) != 0) {
      return std::nullopt;
    }
    gpus.push_back({text.data(), static_cast<std::int64_t>(bytes)});
  }
  return gpus;
}

}  // namespace tte::kernels
