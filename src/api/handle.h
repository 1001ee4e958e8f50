// What a public class holds: its Impl, unless it was moved from or made of nothing.
#pragma once

#include <fmt/core.h>

#include "tte/error.h"

namespace tte::api {

// The pointer itself, which is not null. Throws InputError naming what is used.
template <typename Pointer>
const Pointer& held(const Pointer& impl, const char* what) {
  if (impl != nullptr) return impl;
  throw InputError(
      fmt::format("This {} is empty: it was moved from, or made of a null pointer. Use the one that it was "
                  "moved to, or load another.",
                  what));
}

}  // namespace tte::api
