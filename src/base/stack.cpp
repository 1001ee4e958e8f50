#include "base/stack.h"

#include <pthread.h>

#include <cstdint>
#include <limits>

namespace tte::base {
namespace {

// The lowest address of this thread's stack; 0 if it is not known.
std::uintptr_t lowest_address() {
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return 0;
  void* address = nullptr;
  std::size_t size = 0;
  const bool known = pthread_attr_getstack(&attributes, &address, &size) == 0;
  pthread_attr_destroy(&attributes);
  return known ? reinterpret_cast<std::uintptr_t>(address) : 0;
}

}  // namespace

std::size_t stack_left() {
  static thread_local const std::uintptr_t kLowest = lowest_address();
  const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  if (kLowest == 0 || here < kLowest) return std::numeric_limits<std::size_t>::max();
  return here - kLowest;
}

}  // namespace tte::base
