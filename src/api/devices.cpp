#include "api/devices.h"

#include <fmt/core.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "base/dtype.h"
#include "base/printable.h"
#include "kernels/cuda_driver.h"
#include "kernels/kernels.h"
#include "tte/error.h"

namespace tte::api {
namespace {

// Physical memory, or the container's share of it, or what the process may map (ulimit -v).
std::int64_t host_memory() {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page = sysconf(_SC_PAGE_SIZE);
  std::int64_t bytes = pages > 0 && page > 0 ? std::int64_t{pages} * page : 0;
  for (const char* file : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream stream(file);
    std::int64_t limit = 0;
    if (stream >> limit && limit > 0) bytes = bytes > 0 ? std::min(bytes, limit) : limit;
  }
  rlimit space{};
  if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY) {
    const auto limit = static_cast<std::int64_t>(std::min<rlim_t>(space.rlim_cur, std::int64_t{1} << 62));
    bytes = bytes > 0 ? std::min(bytes, limit) : limit;
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

}  // namespace

std::vector<DeviceInfo> list_devices() {
  std::vector<DeviceInfo> devices;
  if (const auto gpus = kernels::driver_gpus(); gpus && !gpus->empty() && kernels::cuda_available()) {
    for (const kernels::Gpu& gpu : *gpus) {
      devices.push_back(
          {fmt::format("cuda:{}", devices.size()), gpu.name, gpu.memory_bytes, base::dtype_names()});
    }
  }
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
      fmt::format("The device \"{}\" is not available: tte can use {}.", base::printable(name, 40), list));
}

at::Device torch_device(const DeviceInfo& device) {
  return at::Device(device.name);
}

}  // namespace tte::api
