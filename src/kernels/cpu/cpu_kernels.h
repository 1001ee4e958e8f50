// The CPU implementations behind kernels.h.
#pragma once

#include "kernels/table.h"

namespace tte::kernels::cpu {

inline constexpr std::int64_t kCacheBlockSize = 64;

#include "kernels/implementations.h"

}  // namespace tte::kernels::cpu
