// What a model computes of one item may be no numbers, while other items' results are right: float16 overflows.
#pragma once

#include "tte/error.h"

namespace tte::base {

// With OnError::kSkip the error of its item, where other ModelErrors end the call.
class NotFiniteError final : public ModelError {
 public:
  using ModelError::ModelError;
};

}  // namespace tte::base
