#include "api/devices.h"

#include <dlfcn.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <thread>

#include "base/dtype.h"
#include "base/printable.h"
#include "kernels/kernels.h"
#include "tte/error.h"

namespace tte::api {
namespace {

// Physical memory, or the container's share of it.
std::int64_t host_memory() {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page = sysconf(_SC_PAGE_SIZE);
  std::int64_t bytes = pages > 0 && page > 0 ? std::int64_t{pages} * page : 0;
  for (const char* file : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream stream(file);
    std::int64_t limit = 0;
    if (stream >> limit && limit > 0) bytes = bytes > 0 ? std::min(bytes, limit) : limit;
  }
  return bytes;
}

std::string host_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0) {
      const std::size_t at = line.find(": ");
      if (at != std::string::npos) return line.substr(at + 2);
    }
  }
  return "CPU";
}

DeviceInfo host() {
  return {"cpu", host_name(), host_memory(), base::dtype_names()};
}

// The driver's C interface has been stable since CUDA 4, and asking it needs no toolkit and makes no context.
std::vector<DeviceInfo> cuda_devices() {
  std::vector<DeviceInfo> devices;
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr) return devices;
  const auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
  const auto count = reinterpret_cast<int (*)(int*)>(dlsym(driver, "cuDeviceGetCount"));
  const auto get = reinterpret_cast<int (*)(int*, int)>(dlsym(driver, "cuDeviceGet"));
  const auto name = reinterpret_cast<int (*)(char*, int, int)>(dlsym(driver, "cuDeviceGetName"));
  const auto memory = reinterpret_cast<int (*)(std::size_t*, int)>(dlsym(driver, "cuDeviceTotalMem_v2"));
  int total = 0;
  if (!init || !count || !get || !name || !memory || init(0) != 0 || count(&total) != 0) return devices;
  for (int i = 0; i < total; ++i) {
    int device = 0;
    std::array<char, 256> text{};
    std::size_t bytes = 0;
    if (get(&device, i) != 0 || name(text.data(), static_cast<int>(text.size()) - 1, device) != 0 ||
        memory(&bytes, device) != 0) {
      continue;
    }
    devices.push_back(
        {fmt::format("cuda:{}", i), text.data(), static_cast<std::int64_t>(bytes), base::dtype_names()});
  }
  return devices;
}

}  // namespace

std::vector<DeviceInfo> list_devices() {
  std::vector<DeviceInfo> devices;
  if (kernels::cuda_available()) devices = cuda_devices();
  devices.push_back(host());
  return devices;
}

DeviceInfo choose_device(const std::string& name) {
  // Asking for GPUs initialises CUDA, after which a forked process can use none.
  if (name == "cpu") return host();
  const std::vector<DeviceInfo> devices = list_devices();
  if (name == "auto") return devices.front();
  const std::string wanted = name == "cuda" ? "cuda:0" : name;
  for (const DeviceInfo& device : devices) {
    if (device.name == wanted) return device;
  }
  if (devices.size() == 1) kernels::load_cuda();  // Throws, and says why there is no GPU.
  std::string list;
  for (const DeviceInfo& device : devices) {
    list += fmt::format("{}{} ({})", list.empty() ? "" : ", ", device.name, device.description);
  }
  throw DeviceError(
      fmt::format("The device \"{}\" is not there: tte can use {}.", base::printable(name, 40), list));
}

at::Device torch_device(const DeviceInfo& device) {
  return at::Device(device.name);
}

}  // namespace tte::api
