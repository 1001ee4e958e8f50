// Content hashes: what makes two tensors, visuals or prompts "the same".
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace tte::base {

// 128 bits of XXH3. Not cryptographic: it keys caches and finds identical weights.
struct Digest {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  auto operator<=>(const Digest&) const = default;
  [[nodiscard]] std::string hex() const;
};

// Hashes a stream of bytes and integers.
class Digester {
 public:
  Digester();
  ~Digester();
  Digester(const Digester&) = delete;
  Digester& operator=(const Digester&) = delete;
  Digester& bytes(const void* data, std::size_t size);
  Digester& text(std::string_view text);  // Length first, so that ("a", "bc") differs from ("ab", "c").
  Digester& number(std::int64_t value);
  [[nodiscard]] Digest finish() const;

 private:
  struct State;
  State* state_;
};

}  // namespace tte::base

template <>
struct std::hash<tte::base::Digest> {
  std::size_t operator()(const tte::base::Digest& d) const noexcept { return d.low; }
};
