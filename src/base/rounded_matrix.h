// A matrix of few bits as files have it, the same on every machine. What a processor multiplies is packed from it.
#pragma once

#include <ATen/core/Tensor.h>

namespace tte::base {

struct RoundedMatrix {
  // LinearFormat::kInt8: int8 [outputs, inputs]. kInt4: uint8 [outputs, bytes], two codes (-8 to 7, with 8 added) in
  // each, that of the earlier input in the low half; the bytes of an output fill 32-bit words.
  at::Tensor codes;
  // What the codes of an output, or of kInt4Group inputs of one, are multiplied with: float32 [outputs, 1] (kInt8), or
  // [outputs, groups] (kInt4).
  at::Tensor scales;
  // kInt4: what the codes of kInt4Block inputs are multiplied with before: int8 [outputs, groups * blocks of a group].
  at::Tensor factors = {};
};

}  // namespace tte::base
