// Memory that a thread keeps for its intermediate results.
#pragma once

#include <cstddef>

namespace tte::base {

// At least `count` floats that belong to this thread until it asks again, aligned to cache lines. Throws
// std::bad_alloc.
float* scratch(std::size_t count);

}  // namespace tte::base
