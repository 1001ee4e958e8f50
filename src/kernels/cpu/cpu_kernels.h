// The CPU implementations behind kernels.h.
#pragma once

#include "kernels/table.h"

namespace tte::kernels::cpu {

inline constexpr std::int64_t kCacheBlockSize = 64;
PackMatrix pack_matrix;
inline constexpr PackMatrix* kPackMatrix = pack_matrix;
inline constexpr decltype(kernels::reads_device_lengths)* kReadsDeviceLengths = nullptr;
inline constexpr decltype(kernels::record)* kRecord = nullptr;

#include "kernels/implementations.h"

}  // namespace tte::kernels::cpu
