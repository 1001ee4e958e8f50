// Work in independent units.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace tte::kernels::cpu {

// Calls unit(i) for all i in [0, count), each thread taking the next one when it is free: cores are seldom
// equally fast, and units seldom equally large.
template <class Unit>
void for_units(std::int64_t count, const Unit& unit) {
  const std::int64_t threads = std::min<std::int64_t>(at::get_num_threads(), count);
  if (threads <= 1 || at::in_parallel_region()) {
    for (std::int64_t i = 0; i < count; ++i) unit(i);
    return;
  }
  std::atomic<std::int64_t> next{0};
  at::parallel_for(0, threads, 1, [&](std::int64_t, std::int64_t) {
    for (std::int64_t i = next++; i < count; i = next++) unit(i);
  });
}

// Calls body(row) for all rows of n values; threads are woken for work that outlasts waking them only.
template <class Body>
void for_rows(std::int64_t rows, std::int64_t n, const Body& body) {
  constexpr std::int64_t kValuesPerThread = 16384;
  at::parallel_for(0, rows, std::max<std::int64_t>(1, kValuesPerThread / std::max<std::int64_t>(1, n)),
                   [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t row = begin; row < end; ++row) body(row);
                   });
}

}  // namespace tte::kernels::cpu
