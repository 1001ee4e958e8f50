// Stands in for torch's header of this name.
#pragma once

#include <c10/util/Exception.h>

#include "kernels/cuda_shim/launch.h"

#define C10_CUDA_CHECK(call) TORCH_CHECK((call) == cudaSuccess, ::tte::kernels::cuda_shim::last_fault())
