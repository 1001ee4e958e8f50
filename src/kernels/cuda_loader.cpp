// Finds and loads libtte_cuda.so, which lies beside the library or program that contains this file.
#include <dlfcn.h>
#include <fmt/format.h>

#include <atomic>
#include <filesystem>
#include <mutex>

#include "kernels/cuda_driver.h"
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

}  // namespace

const KernelTable* loaded_cuda_kernels() {
  return cuda_table.load(std::memory_order_acquire);
}

void load_cuda() {
  static std::mutex mutex;
  const std::scoped_lock lock(mutex);
  if (loaded_cuda_kernels() != nullptr) return;
  const auto gpus = driver_gpus();
  if (!gpus || gpus->empty()) {
    throw DeviceError(
        fmt::format("Device 'cuda' is not available: {}; use device 'cpu'.",
                    gpus ? "the NVIDIA driver reports no GPU" : "no NVIDIA driver (libcuda.so.1) answers"));
  }
  const std::filesystem::path path = library_path();
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    throw DeviceError(
        fmt::format("Device 'cuda' is not available: the driver sees {} GPU(s), but '{}' does not load ({}); "
                    "build tte with "
                    "-DTTE_CUDA=ON and a torch wheel with CUDA, or use device 'cpu'.",
                    gpus->size(), path.string(), reason != nullptr ? reason : "unknown reason"));
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
