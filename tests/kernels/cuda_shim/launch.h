// CUDA kernels on the processor: the blocks of a launch one after another, the threads of a block as fibers
// that take turns, both in an order drawn at random. A fiber runs until it waits for others, so that what a
// kernel reads without waiting for it is seen. What a GPU refuses or leaves undefined is a fault.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <string>

namespace tte::kernels::cuda_shim {

// Runs `thread` for each thread of the grid. Faults are reported as a GPU's: by cudaGetLastError().
void launch(dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
            const std::function<void()>& thread);

// In words, what cudaGetLastError() returned last.
const std::string& last_fault();

// The orders of later launches are drawn from this seed on.
void set_seed(std::uint64_t seed);

}  // namespace tte::kernels::cuda_shim
