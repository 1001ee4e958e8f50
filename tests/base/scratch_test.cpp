#include "base/scratch.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <new>

// The sanitizers' own end the process where memory runs out.
void* operator new[](std::size_t size, std::align_val_t alignment) {
  void* block = nullptr;
  if (size > std::size_t{1} << 30 || posix_memalign(&block, std::size_t(alignment), size) != 0)
    throw std::bad_alloc();
  return block;
}
void operator delete[](void* block, std::align_val_t) noexcept {
  std::free(block);
}

namespace tte::base {
namespace {

TEST(Scratch, IsAlignedAndKept) {
  float* memory = scratch(1000);
  memory[999] = 1;
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % 64, 0);
  EXPECT_EQ(scratch(10), memory);
}

TEST(Scratch, WhatDidNotFitIsNotThere) {
  scratch(1000);
  EXPECT_THROW(scratch(std::size_t{1} << 40), std::bad_alloc);
  EXPECT_NE(scratch(100), nullptr);
}

}  // namespace
}  // namespace tte::base
