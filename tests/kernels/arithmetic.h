// Tests of every type that kernels compute with, and of both ways to multiply bfloat16 values.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "kernels/cpu/simd/host.h"

namespace tte::kernels {

struct Arithmetic {
  at::ScalarType type;
  bool pairs;  // Of bfloat16 values are multiplied, where the processor can.
};

class ArithmeticTest : public testing::TestWithParam<Arithmetic> {
 protected:
  ArithmeticTest() { simd::choose_pairs(GetParam().pairs); }
  ~ArithmeticTest() override { simd::choose_pairs(std::nullopt); }
};

inline auto all_arithmetic() {
  return testing::Values(Arithmetic{at::kFloat, false}, Arithmetic{at::kBFloat16, false},
                         Arithmetic{at::kBFloat16, true}, Arithmetic{at::kHalf, false});
}
inline std::string arithmetic_name(const testing::TestParamInfo<Arithmetic>& info) {
  return std::string(c10::toString(info.param.type)) + (info.param.pairs ? "_pairs" : "");
}

}  // namespace tte::kernels
