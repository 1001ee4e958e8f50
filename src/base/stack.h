// How much stack is left, for code that calls itself as deep as its input says.
#pragma once

#include <cstddef>

namespace tte::base {

// Bytes between here and the end of this thread's stack; a large number where that is not known.
std::size_t stack_left();

// What a function should find left before it goes deeper: enough to throw an exception and write a message.
inline constexpr std::size_t kStackReserve = std::size_t{96} << 10;

}  // namespace tte::base
