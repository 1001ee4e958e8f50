// Stands in for torch's header of this name: the operator goes through the dispatcher, to reference_ops.cpp.
#pragma once

#include <ATen/ops/_flash_attention_forward.h>

#include <utility>

namespace at::cuda {

template <typename... Arguments>
auto _flash_attention_forward(Arguments&&... arguments)
    -> decltype(at::_flash_attention_forward(std::forward<Arguments>(arguments)...)) {
  return at::_flash_attention_forward(std::forward<Arguments>(arguments)...);
}

}  // namespace at::cuda
