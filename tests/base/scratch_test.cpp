#include "base/scratch.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <new>

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
  EXPECT_THROW(scratch(std::numeric_limits<std::size_t>::max() / 16), std::bad_alloc);
  EXPECT_NE(scratch(100), nullptr);
}

}  // namespace
}  // namespace tte::base
