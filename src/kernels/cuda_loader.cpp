// Finds and loads libtte_cuda.so, which lies beside the library or program that contains this file.
#include <dlfcn.h>
#include <fmt/format.h>

#include <atomic>
#include <filesystem>
#include <mutex>

#include "kernels/table.h"
#include "tte/error.h"

namespace tte::kernels {
namespace {

std::atomic<const KernelTable*> cuda_table{nullptr};

std::filesystem::path library_path() {
  Dl_info info{};
  const bool found =
      dladdr(reinterpret_cast<const void*>(&cpu_kernels), &info) != 0 && info.dli_fname != nullptr;
  const std::filesystem::path self = found ? std::filesystem::path(info.dli_fname) : std::filesystem::path();
  return self.parent_path() / "libtte_cuda.so";
}

// How many NVIDIA GPUs the driver reports; -1 without a driver. Asked of the driver directly, so that a host
// without a GPU answers in microseconds and loads none of torch's CUDA libraries.
int driver_device_count() {
  static const int count = [] {
    void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (driver == nullptr) return -1;
    using Init = int (*)(unsigned);
    using Count = int (*)(int*);
    const auto init = reinterpret_cast<Init>(dlsym(driver, "cuInit"));
    const auto get_count = reinterpret_cast<Count>(dlsym(driver, "cuDeviceGetCount"));
    int devices = 0;
    if (init == nullptr || get_count == nullptr || init(0) != 0 || get_count(&devices) != 0) return -1;
    return devices;
  }();
  return count;
}

}  // namespace

const KernelTable* loaded_cuda_kernels() {
  return cuda_table.load(std::memory_order_acquire);
}

void load_cuda() {
  static std::mutex mutex;
  const std::scoped_lock lock(mutex);
  if (loaded_cuda_kernels() != nullptr) return;
  const int devices = driver_device_count();
  if (devices <= 0) {
    throw DeviceError(fmt::format(
        "Device 'cuda' is not available: {}; use device 'cpu'.",
        devices < 0 ? "no NVIDIA driver (libcuda.so.1) answers" : "the NVIDIA driver reports no GPU"));
  }
  const std::filesystem::path path = library_path();
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    throw DeviceError(
        fmt::format("Device 'cuda' is not available: the driver sees {} GPU(s), but '{}' does not load ({}); "
                    "build tte with "
                    "-DTTE_CUDA=ON and a torch wheel with CUDA, or use device 'cpu'.",
                    devices, path.string(), reason != nullptr ? reason : "unknown reason"));
  }
  const auto table_function = reinterpret_cast<CudaTableFunction>(dlsym(library, kCudaTableSymbol));
  const KernelTable* table = table_function != nullptr ? table_function(kCudaTableVersion) : nullptr;
  if (table == nullptr) {
    throw DeviceError(fmt::format("'{}' belongs to another version of tte: reinstall tte.", path.string()));
  }
  cuda_table.store(table, std::memory_order_release);
}

bool cuda_available() {
  try {
    load_cuda();
    return true;
  } catch (...) {
    return false;
  }
}

}  // namespace tte::kernels
