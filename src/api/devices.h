// Which devices there are, and which one a name means.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tte/backend.h"

namespace tte::api {

// All devices, the one that "auto" means first.
std::vector<DeviceInfo> list_devices();

// The device of "auto", "cpu", "cuda" or "cuda:N". Throws DeviceError listing what is there for one that is missing.
DeviceInfo choose_device(const std::string& name);

// The memory that the process's control group, and each that it is in, may have, at most; 0: as much as there is.
// `groups` is its /proc/self/cgroup, and the groups' files are below `root`, of either version.
std::int64_t group_memory(const std::filesystem::path& groups, const std::filesystem::path& root);

// Bytes of sequence states where the caller says nothing: a quarter of the device's memory. Where address space is
// limited, an eighth of what is left: pools take it at once, a pair has two, and weights and steps need some.
std::int64_t default_state_bytes(const DeviceInfo& device);

at::Device torch_device(const DeviceInfo& device);

}  // namespace tte::api
