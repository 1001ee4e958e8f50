#include "base/digest.h"

#include <fmt/core.h>
#include <xxhash.h>

#include <array>
#include <bit>
#include <new>

namespace tte::base {

std::string Digest::hex() const {
  return fmt::format("{:016x}{:016x}", high, low);
}

struct Digester::State {
  XXH3_state_t* xxh = nullptr;
};

Digester::Digester() : state_(new State) {
  state_->xxh = XXH3_createState();
  if (state_->xxh == nullptr) {
    delete state_;
    throw std::bad_alloc();
  }
  XXH3_128bits_reset(state_->xxh);
}

Digester::~Digester() {
  XXH3_freeState(state_->xxh);
  delete state_;
}

Digester& Digester::bytes(const void* data, std::size_t size) {
  if (size != 0) XXH3_128bits_update(state_->xxh, data, size);
  return *this;
}

Digester& Digester::text(std::string_view text) {
  number(static_cast<std::int64_t>(text.size()));
  return bytes(text.data(), text.size());
}

Digester& Digester::number(std::int64_t value) {
  // Little-endian on every machine: digests are kept in files.
  std::array<unsigned char, 8> buffer;
  auto bits = std::bit_cast<std::uint64_t>(value);
  for (auto& byte : buffer) {
    byte = static_cast<unsigned char>(bits & 0xff);
    bits >>= 8;
  }
  return bytes(buffer.data(), buffer.size());
}

Digest Digester::finish() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_->xxh);
  return {.low = hash.low64, .high = hash.high64};
}

}  // namespace tte::base
