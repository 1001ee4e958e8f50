#include "kernels/cpu/parallel.h"

#include <memory>
#include <new>

namespace tte::kernels::cpu {
namespace {

constexpr std::align_val_t kCacheLine{64};

struct Free {
  void operator()(float* memory) const { ::operator delete[](memory, kCacheLine); }
};

}  // namespace

float* scratch(std::size_t count) {
  thread_local std::unique_ptr<float[], Free> memory;
  thread_local std::size_t size = 0;
  if (size < count) {
    memory.reset();
    memory.reset(static_cast<float*>(::operator new[](count * sizeof(float), kCacheLine)));
    size = count;
  }
  return memory.get();
}

}  // namespace tte::kernels::cpu
