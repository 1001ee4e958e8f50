#pragma once

#include <string_view>

namespace tte::nn {

// What to do where a device does not give the memory of a pool.
inline constexpr std::string_view kFewerStates =
    "lower the backend's state_bytes, or let the process have more memory (ulimit -v)";

}  // namespace tte::nn
