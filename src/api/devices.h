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

// The devices of "auto", "cpu", "cuda", "cuda:N", "cuda:N,cuda:M" or "cuda:all", of those that are `available`, as
// list_devices() gives them. Throws DeviceError listing what is there for one that is missing.
std::vector<DeviceInfo> choose_devices(const std::string& names, const std::vector<DeviceInfo>& available);
std::vector<DeviceInfo> choose_devices(const std::string& names);

// The most memory that the process's control group and those around it allow; 0: they set no limit. `groups` is its
// /proc/self/cgroup, and the groups' files are below `root`, of either version.
std::int64_t group_memory(const std::filesystem::path& groups, const std::filesystem::path& root);

// Bytes of sequence states on each of the devices where the caller says nothing: a quarter of the smallest's memory.
// Where address space is limited, an eighth of what is left: pools take it at once, a pair has two, and weights and
// steps need some.
std::int64_t default_state_bytes(const std::vector<DeviceInfo>& devices);

// As BackendOptions::device has them.
std::string names_of(const std::vector<DeviceInfo>& devices);
at::Device torch_device(const DeviceInfo& device);

}  // namespace tte::api
