#include "base/scratch.h"

#include <memory>
#include <new>

namespace tte::base {
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
    size = 0;
    memory.reset(static_cast<float*>(::operator new[](count * sizeof(float), kCacheLine)));
    size = count;
  }
  return memory.get();
}

}  // namespace tte::base
