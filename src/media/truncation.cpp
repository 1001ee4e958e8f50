#include "media/truncation.h"

#include <array>
#include <bit>
#include <optional>
#include <span>

namespace tte::media {
namespace {

// A number of Matroska's variable length at `at`: the leading zero bits of the first byte tell how many bytes
// follow. Moves `at` on; nothing when it does not fit, or when all its bits are set ("size unknown", as in
// live recordings).
std::optional<std::uint64_t> ebml_size(std::span<const std::uint8_t> bytes, std::size_t& at) {
  if (at >= bytes.size() || bytes[at] == 0) return std::nullopt;
  const int length = std::countl_zero(bytes[at]) + 1;
  if (bytes.size() - at < static_cast<std::size_t>(length)) return std::nullopt;
  std::uint64_t value = bytes[at] & (0xFFU >> length);
  for (int i = 1; i < length; ++i) value = value << 8 | bytes[at + static_cast<std::size_t>(i)];
  at += static_cast<std::size_t>(length);
  const std::uint64_t unknown = (std::uint64_t{1} << (7 * length)) - 1;
  return value == unknown ? std::nullopt : std::optional(value);
}

}  // namespace

bool is_cut_matroska(const File& file) {
  std::array<std::uint8_t, 4096> head{};
  const std::span<const std::uint8_t> bytes(head.data(),
                                            static_cast<std::size_t>(file.read(head.data(), 0, head.size())));
  const auto has_id = [&](std::size_t at, std::uint32_t id) {
    if (at > bytes.size() || bytes.size() - at < 4) return false;
    for (std::size_t i = 0; i < 4; ++i) {
      if (bytes[at + i] != static_cast<std::uint8_t>(id >> (24 - 8 * i))) return false;
    }
    return true;
  };
  std::size_t at = 4;
  if (!has_id(0, 0x1A45DFA3)) return false;
  const auto header = ebml_size(bytes, at);
  if (!header || *header > bytes.size()) return false;
  at += static_cast<std::size_t>(*header);
  if (!has_id(at, 0x18538067)) return false;
  at += 4;
  const auto segment = ebml_size(bytes, at);
  return segment && *segment > static_cast<std::uint64_t>(file.size()) - at;
}

bool is_cut_transport_stream(const File& file) {
  // Packets have 188 bytes, with a time of 4 bytes before each in Blu-ray files, or 16 check bytes after it
  // in broadcasts.
  struct Layout {
    std::int64_t packet, sync;
  };
  constexpr std::uint8_t kSync = 0x47;  // The first byte of every packet.
  constexpr int kPackets = 4;
  for (const auto& [packet, sync] : {Layout{188, 0}, Layout{192, 4}, Layout{204, 0}}) {
    const auto is_packet = [&, sync = sync](std::int64_t at) {
      std::uint8_t byte = 0;
      return file.read(&byte, at + sync, 1) == 1 && byte == kSync;
    };
    int found = 0;
    while (found < kPackets && is_packet(found * packet)) ++found;
    if (found < kPackets) continue;
    const std::int64_t rest = file.size() % packet;
    return rest != 0 && is_packet(file.size() - rest);
  }
  return false;
}

}  // namespace tte::media
