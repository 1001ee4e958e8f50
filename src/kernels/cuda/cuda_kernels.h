// The CUDA implementations behind kernels.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/cuda/rows.h"
#include "kernels/table.h"
#include "kernels/tensors.h"

namespace tte::kernels::cuda {

// Flash attention wants pages of a multiple of 256 tokens.
inline constexpr std::int64_t kCacheBlockSize = 256;
inline constexpr PackMatrix* kPackMatrix = nullptr;
decltype(kernels::reads_device_lengths) reads_device_lengths;
inline constexpr decltype(kernels::reads_device_lengths)* kReadsDeviceLengths = reads_device_lengths;
decltype(kernels::record) record;
inline constexpr decltype(kernels::record)* kRecord = record;

#include "kernels/implementations.h"

// A host vector on the device. All layers of a step ask for the same ones: the last few are kept.
at::Tensor on_device(const std::vector<std::int32_t>& values, at::Device device);

}  // namespace tte::kernels::cuda
