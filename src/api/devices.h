// Which devices there are, and which one a name means.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tte/backend.h"

namespace tte::api {

// All devices, the one that "auto" means first.
std::vector<DeviceInfo> list_devices();

// The device of "auto", "cpu", "cuda" or "cuda:N". Throws DeviceError listing what is there for one that is
// missing.
DeviceInfo choose_device(const std::string& name);

at::Device torch_device(const DeviceInfo& device);

}  // namespace tte::api
