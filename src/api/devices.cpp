#include "api/devices.h"

#include <fmt/core.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "base/dtype.h"
#include "base/printable.h"
#include "base/split.h"
#include "kernels/cuda_driver.h"
#include "kernels/kernels.h"
#include "tte/error.h"

namespace tte::api {
namespace {

// Where the size of the machine is not known.
constexpr std::int64_t kFallbackMemory = std::int64_t{4} << 30;

// The lesser of two sizes, of which 0 is unknown.
std::int64_t lesser(std::int64_t a, std::int64_t b) {
  return a > 0 && b > 0 ? std::min(a, b) : std::max(a, b);
}

// What the process may map (ulimit -v); 0: all that it likes.
std::int64_t most_space() {
  rlimit space{};
  if (getrlimit(RLIMIT_AS, &space) != 0 || space.rlim_cur == RLIM_INFINITY) return 0;
  return static_cast<std::int64_t>(std::min<rlim_t>(space.rlim_cur, std::int64_t{1} << 62));
}

// What it has mapped.
std::int64_t mapped_space() {
  std::ifstream statm("/proc/self/statm");
  std::int64_t pages = 0;
  return statm >> pages ? pages * sysconf(_SC_PAGE_SIZE) : 0;
}

// Physical memory, or the container's share of it, or what the process may map.
std::int64_t host_memory() {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page = sysconf(_SC_PAGE_SIZE);
  const std::int64_t physical = pages > 0 && page > 0 ? std::int64_t{pages} * page : 0;
  return lesser(lesser(physical, group_memory("/proc/self/cgroup", "/sys/fs/cgroup")), most_space());
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

[[noreturn]] void refuse_device(std::string_view name, const std::vector<DeviceInfo>& available) {
  if (available.size() == 1) kernels::load_cuda();  // Throws, and says why there is no GPU.
  std::string list;
  for (const DeviceInfo& device : available) {
    list += fmt::format("{}{} ({})", list.empty() ? "" : ", ", device.name, device.description);
  }
  throw DeviceError(
      fmt::format("The device \"{}\" is not available: tte can use {}.", base::printable(name, 40), list));
}

}  // namespace

std::int64_t group_memory(const std::filesystem::path& groups, const std::filesystem::path& root) {
  std::int64_t bytes = 0;
  std::ifstream lines(groups);
  for (std::string line; std::getline(lines, line);) {  // "0::/a/b" of version 2, "7:cpu,memory:/a/b" of 1
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string kinds = fmt::format(",{},", line.substr(first + 1, second - first - 1));
    const bool is_first = kinds.find(",memory,") != std::string::npos;
    if (!is_first && kinds != ",,") continue;
    const std::filesystem::path top = is_first ? root / "memory" : root;
    const std::filesystem::path own = std::filesystem::path(line.substr(second + 1)).lexically_normal();
    for (std::filesystem::path group = own.relative_path();; group = group.parent_path()) {
      std::ifstream stream(top / group / (is_first ? "memory.limit_in_bytes" : "memory.max"));
      std::int64_t limit = 0;
      if (stream >> limit) bytes = lesser(bytes, limit);
      if (group.empty()) break;
    }
  }
  return bytes;
}

std::int64_t default_state_bytes(const std::vector<DeviceInfo>& devices) {
  std::int64_t memory = 0;
  for (const DeviceInfo& device : devices) memory = lesser(memory, device.memory_bytes);
  const std::int64_t quarter = (memory > 0 ? memory : kFallbackMemory) / 4;
  const std::int64_t most = devices.front().name == "cpu" ? most_space() : 0;
  if (most == 0) return quarter;
  return std::max<std::int64_t>(1, std::min(quarter, (most - mapped_space()) / 8));
}

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

std::vector<DeviceInfo> choose_devices(const std::string& names, const std::vector<DeviceInfo>& available) {
  if (names == "auto") return {available.front()};
  if (names == "cuda:all" && available.size() > 1) return {available.begin(), available.end() - 1};
  std::vector<DeviceInfo> chosen;
  for (const std::string_view name : base::split(names, ',')) {
    const auto found = std::find_if(available.begin(), available.end(), [&](const DeviceInfo& device) {
      return device.name == (name == "cuda" ? "cuda:0" : name);
    });
    if (found == available.end()) refuse_device(name, available);
    chosen.push_back(*found);
  }
  return chosen;
}

std::vector<DeviceInfo> choose_devices(const std::string& names) {
  // Asking for GPUs initialises CUDA, after which a forked process can use none.
  return names == "cpu" ? std::vector{host()} : choose_devices(names, list_devices());
}

std::string names_of(const std::vector<DeviceInfo>& devices) {
  std::string out;
  for (const DeviceInfo& device : devices) out.append(out.empty() ? "" : ",").append(device.name);
  return out;
}

at::Device torch_device(const DeviceInfo& device) {
  return at::Device(device.name);
}

}  // namespace tte::api
