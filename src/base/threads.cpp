#include "base/threads.h"

#include <ATen/Parallel.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <thread>

namespace tte::base {

void set_operation_threads([[maybe_unused]] int threads) {
  // libtorch sets a thread's OpenMP team size at its first parallel_for, which would undo ours: both copies
  // of that one-time initialisation (libtorch's and the one inlined here) have to come first.
  at::get_num_threads();
  at::internal::lazy_init_num_threads();
#ifdef _OPENMP
  omp_set_num_threads(threads);
#endif
}

int most_threads() {
  return std::max(64, 4 * static_cast<int>(std::thread::hardware_concurrency()));
}

int media_threads(int wanted) {
  return wanted > 0 ? wanted : std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / 4);
}

}  // namespace tte::base
