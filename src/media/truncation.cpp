#include "media/truncation.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace tte::media {
namespace {

enum class Order { kLittle, kBig };

// Numbers at offsets of a file, read through a window of it.
class Reader {
 public:
  explicit Reader(const File& file) : file_(file) {}

  [[nodiscard]] std::uint64_t size() const { return static_cast<std::uint64_t>(file_.size()); }
  // Whether the file has `count` bytes from `at` on.
  [[nodiscard]] bool holds(std::uint64_t at, std::uint64_t count) const {
    return at <= size() && count <= size() - at;
  }
  // At most as many bytes as the window has; fewer at the end of the file.
  std::string_view bytes(std::uint64_t at, std::size_t count) {
    if (at >= size()) return {};
    if (at < begin_ || at + count > begin_ + window_.size()) {
      window_.resize(std::max<std::size_t>(count, 1 << 16));
      begin_ = at;
      const auto room = static_cast<std::int64_t>(window_.size());
      const std::int64_t read =
          file_.read(reinterpret_cast<std::uint8_t*>(window_.data()), static_cast<std::int64_t>(at), room);
      window_.resize(static_cast<std::size_t>(read));
    }
    return std::string_view(window_).substr(static_cast<std::size_t>(at - begin_), count);
  }
  // 0 past the end of the file.
  std::uint64_t number(std::uint64_t at, std::size_t size, Order order) {
    const std::string_view text = bytes(at, size);
    if (text.size() < size) return 0;
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i) {
      value = value << 8 | static_cast<std::uint8_t>(text[order == Order::kBig ? i : size - 1 - i]);
    }
    return value;
  }

 private:
  const File& file_;
  std::string window_;
  std::uint64_t begin_ = 0;
};

// A number of Matroska's variable length: the leading zero bits of the first byte tell how many bytes follow.
struct EbmlNumber {
  std::uint64_t value = 0;  // Without the length's own bits.
  std::uint64_t length = 0;
  bool unknown = false;  // All bits set: a size that is not known, as in live recordings.
};

std::optional<EbmlNumber> ebml_number(Reader& reader, std::uint64_t at) {
  const auto first = static_cast<std::uint8_t>(reader.number(at, 1, Order::kBig));
  if (first == 0) return std::nullopt;
  const int length = std::countl_zero(first) + 1;
  const auto bytes = static_cast<std::uint64_t>(length);
  if (!reader.holds(at, bytes)) return std::nullopt;
  const std::uint64_t mask = (std::uint64_t{1} << (7 * length)) - 1;
  const std::uint64_t value = reader.number(at, bytes, Order::kBig) & mask;
  return EbmlNumber{value, bytes, value == mask};
}

// Segments and clusters of unknown size are entered; whatever else has a size must have its bytes.
bool is_cut_matroska(Reader& reader) {
  constexpr std::uint64_t kSegment = 0x18538067, kCluster = 0x1F43B675;
  for (std::uint64_t at = 0; at < reader.size();) {
    const auto id = ebml_number(reader, at);
    if (!id) return at > 0 && reader.size() - at < 4;
    const std::uint64_t name = reader.number(at, id->length, Order::kBig);
    const auto size = ebml_number(reader, at + id->length);
    if (!size) return true;
    const std::uint64_t body = at + id->length + size->length;
    at = body;
    if (size->unknown) continue;
    if (!reader.holds(body, size->value)) return true;
    if (name == kSegment) return false;  // It is all there, and so is what it has.
    if (name != kCluster) at += size->value;
  }
  return false;
}

bool is_cut_mp4(Reader& reader) {
  // Whatever else follows the boxes of a video is none of ours.
  static constexpr std::array<std::string_view, 16> kBoxes = {"ftyp", "moov", "mdat", "moof", "mfra", "sidx",
                                                              "styp", "free", "skip", "wide", "uuid", "meta",
                                                              "emsg", "prft", "ssix", "pdin"};
  bool announced = false;  // A fragment's table, whose samples follow it.
  for (std::uint64_t at = 0; reader.holds(at, 8);) {
    std::uint64_t size = reader.number(at, 4, Order::kBig);
    const std::string name(reader.bytes(at + 4, 4));
    if (std::find(kBoxes.begin(), kBoxes.end(), name) == kBoxes.end()) return false;
    announced = name == "moof" || (announced && name != "mdat");
    std::uint64_t head = 8;
    if (size == 1) {
      size = reader.number(at + 8, 8, Order::kBig);
      head = 16;
    } else if (size == 0) {
      return false;  // Up to the end of the file.
    }
    if (size < head) return false;
    if (!reader.holds(at, size)) return true;
    if (name == "sidx") {
      // What it indexes: pieces that follow it, each with its size.
      const bool wide = reader.number(at + 8, 1, Order::kBig) > 0;
      const std::uint64_t first = at + 20 + (wide ? 8 : 4);
      std::uint64_t end = at + size + reader.number(first, wide ? 8 : 4, Order::kBig);
      const std::uint64_t pieces = first + (wide ? 8 : 4) + 4;
      const std::uint64_t count = reader.number(pieces - 2, 2, Order::kBig);
      for (std::uint64_t i = 0; i < count; ++i) {
        end += reader.number(pieces + 12 * i, 4, Order::kBig) & 0x7FFFFFFF;
      }
      if (end > reader.size()) return true;
    }
    at += size;
  }
  return announced;
}

bool is_cut_avi(Reader& reader) {
  for (std::uint64_t at = 0; reader.bytes(at, 4) == "RIFF";) {
    const std::uint64_t size = reader.number(at + 4, 4, Order::kLittle);
    if (size == 0 || size >= 0xFFFFFF00) return false;  // Nobody came back to write it.
    if (!reader.holds(at + 8, size)) return true;
    at += 8 + size + size % 2;
  }
  return false;
}

bool is_cut_asf(Reader& reader) {
  const std::string header("\x30\x26\xB2\x75\x8E\x66\xCF\x11\xA6\xD9\x00\xAA\x00\x62\xCE\x6C", 16);
  const std::string properties("\xA1\xDC\xAB\x8C\x47\xA9\xCF\x11\x8E\xE4\x00\xC0\x0C\x20\x53\x65", 16);
  const auto has = [&](std::uint64_t at, const std::string& id) { return reader.bytes(at, 16) == id; };
  bool broadcast = false;
  for (std::uint64_t at = 0; reader.holds(at, 24);) {
    const std::uint64_t size = reader.number(at + 16, 8, Order::kLittle);
    if (at == 0 && has(at, header)) {
      for (std::uint64_t in = 30; in + 24 <= size && reader.holds(in, 24);) {
        const std::uint64_t inner = reader.number(in + 16, 8, Order::kLittle);
        if (has(in, properties)) {
          broadcast = (reader.number(in + 88, 4, Order::kLittle) & 1) != 0;
          if (!broadcast && reader.number(in + 40, 8, Order::kLittle) > reader.size()) return true;
        }
        if (inner < 24 || inner > size) break;
        in += inner;
      }
    }
    if (broadcast || size < 24) return false;
    if (!reader.holds(at, size)) return true;
    at += size;
  }
  return false;
}

// A number of the metadata that most writers put in front.
std::optional<double> flv_number(std::string_view metadata, std::string_view key) {
  std::string wanted(1, '\0');
  wanted += static_cast<char>(key.size());
  wanted += key;
  wanted += '\0';  // What follows is a double.
  const auto at = metadata.find(wanted);
  if (at == std::string_view::npos || metadata.size() - at - wanted.size() < 8) return std::nullopt;
  std::uint64_t bits = 0;
  for (std::size_t i = 0; i < 8; ++i)
    bits = bits << 8 | static_cast<std::uint8_t>(metadata[at + wanted.size() + i]);
  const auto value = std::bit_cast<double>(bits);
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

// By how many milliseconds the frame of a video tag is shown after it is decoded; nothing of a tag without a frame.
std::optional<std::uint64_t> flv_delay(Reader& reader, std::uint64_t body) {
  constexpr std::uint64_t kH264 = 7, kFrame = 1;
  if ((reader.number(body, 1, Order::kBig) & 0x8F) != kH264) return 0;
  if (reader.number(body + 1, 1, Order::kBig) != kFrame) return std::nullopt;
  const std::uint64_t delay = reader.number(body + 2, 3, Order::kBig);
  return delay < 1 << 23 ? delay : 0;  // A signed number.
}

bool is_cut_flv(Reader& reader) {
  constexpr std::uint64_t kTagHead = 11, kSizeAfter = 4;
  constexpr std::size_t kMetadata = 1 << 16;
  constexpr double kTolerance = 1.0;  // Seconds that writers round.
  std::uint64_t at = reader.number(5, 4, Order::kBig) + kSizeAfter;
  std::optional<double> duration;
  std::optional<std::uint64_t> last;   // Time of the frame before.
  std::optional<std::uint64_t> delay;  // Of the first frame, and so of the last that is shown.
  double seconds = 0;
  double told = 0;   // Seconds that a frame is shown, as the file says.
  double frame = 0;  // By how many the last two are apart.
  while (at < reader.size()) {
    if (!reader.holds(at, kTagHead)) return true;
    const std::uint64_t type = reader.number(at, 1, Order::kBig) & 0x1F;
    const std::uint64_t size = reader.number(at + 1, 3, Order::kBig);
    if (type != 8 && type != 9 && type != 18)
      return false;  // Sound, video, metadata; else not for us to judge.
    if (!reader.holds(at + kTagHead, size + kSizeAfter)) return true;
    if (type == 18 && !duration) {
      const std::string metadata(reader.bytes(at + kTagHead, std::min<std::size_t>(size, kMetadata)));
      if (flv_number(metadata, "filesize").value_or(0) > static_cast<double>(reader.size())) return true;
      duration = flv_number(metadata, "duration");
      if (const double rate = flv_number(metadata, "framerate").value_or(0); rate > 0) told = 1 / rate;
    } else {
      const std::uint64_t time = reader.number(at + 4, 3, Order::kBig) | reader.number(at + 7, 1, Order::kBig)
                                                                             << 24;
      seconds = std::max(seconds, static_cast<double>(time) / 1000);
      if (const auto own = type == 9 ? flv_delay(reader, at + kTagHead) : std::nullopt) {
        if (!delay) delay = own;
        if (last && time > *last) frame = static_cast<double>(time - *last) / 1000;
        last = time;
      }
    }
    at += kTagHead + size + kSizeAfter;
  }
  seconds += static_cast<double>(delay.value_or(0)) / 1000 + std::max(told, frame);
  return duration.value_or(0) > seconds + kTolerance;
}

// The last page of every stream says so.
bool is_cut_ogg(Reader& reader) {
  constexpr std::uint64_t kFirst = 2, kLast = 4;
  std::set<std::uint64_t> open;
  for (std::uint64_t at = 0; at < reader.size();) {
    if (reader.bytes(at, 4) != "OggS") return !open.empty();
    const std::uint64_t flags = reader.number(at + 5, 1, Order::kBig);
    const std::uint64_t stream = reader.number(at + 14, 4, Order::kLittle);
    const auto segments = static_cast<std::size_t>(reader.number(at + 26, 1, Order::kBig));
    std::uint64_t size = 27 + segments;
    const std::string_view lengths = reader.bytes(at + 27, segments);
    for (const char length : lengths) size += static_cast<std::uint8_t>(length);
    if (lengths.size() < segments || !reader.holds(at, size)) return true;
    if ((flags & kFirst) != 0) open.insert(stream);
    if ((flags & kLast) != 0) open.erase(stream);
    at += size;
  }
  return !open.empty();
}

bool is_cut_gif(Reader& reader) {
  const auto palette = [&](std::uint64_t flags_at) {
    const std::uint64_t flags = reader.number(flags_at, 1, Order::kBig);
    return (flags & 0x80) != 0 ? std::uint64_t{3} << ((flags & 7) + 1) : 0;
  };
  std::uint64_t at = 13 + palette(10);
  while (reader.holds(at, 1)) {
    switch (reader.number(at, 1, Order::kBig)) {
      case 0x3B:
        return false;  // The mark of the end.
      case 0x21:
        at += 2;
        break;
      case 0x2C:
        at += 11 + palette(at + 9);
        break;
      default:
        return false;  // Damaged, which the decoder will say.
    }
    std::uint64_t size = 0;  // Bytes of the next data block; an empty block is the last.
    do {
      if (!reader.holds(at, 1)) return true;
      size = reader.number(at, 1, Order::kBig);
      at += 1 + size;
    } while (size != 0);
  }
  return true;
}

// Packs, and in them packets that say how long they are.
bool is_cut_program_stream(Reader& reader) {
  constexpr std::uint64_t kStart = 1, kEnd = 0xB9, kPack = 0xBA;
  for (std::uint64_t at = 0; reader.holds(at, 4);) {
    const std::uint64_t kind = reader.number(at + 3, 1, Order::kBig);
    if (reader.number(at, 3, Order::kBig) != kStart || kind < kEnd) return false;  // Not for us to judge.
    std::uint64_t size = 4;
    if (kind == kPack) {
      const bool second =
          reader.number(at + 4, 1, Order::kBig) >> 6 == 1;  // MPEG-2's, with stuffing at its end.
      size = second ? 14 + (reader.number(at + 13, 1, Order::kBig) & 7) : 12;
    } else if (kind != kEnd) {
      size = 6 + reader.number(at + 4, 2, Order::kBig);
    }
    if (!reader.holds(at, size)) return true;
    at += size;
  }
  return false;
}

bool is_cut_transport_stream(Reader& reader) {
  // Packets have 188 bytes, with a time of 4 bytes before each in Blu-ray files, or 16 check bytes after it
  // in broadcasts.
  struct Layout {
    std::uint64_t packet, sync;
  };
  constexpr std::uint64_t kSync = 0x47;  // The first byte of every packet.
  constexpr std::uint64_t kPackets = 4;
  for (const auto& [packet, sync] : {Layout{188, 0}, Layout{192, 4}, Layout{204, 0}}) {
    const auto is_packet = [&, sync = sync](std::uint64_t at) {
      return reader.number(at + sync, 1, Order::kBig) == kSync;
    };
    std::uint64_t found = 0;
    while (found < kPackets && is_packet(found * packet)) ++found;
    if (found < kPackets) continue;
    const std::uint64_t rest = reader.size() % packet;
    return rest != 0 && is_packet(reader.size() - rest);
  }
  return false;
}

}  // namespace

bool is_cut(const File& file, std::string_view format) {
  Reader reader(file);
  if (format.starts_with("matroska")) return is_cut_matroska(reader);
  if (format.starts_with("mov")) return is_cut_mp4(reader);
  if (format == "avi") return is_cut_avi(reader);
  if (format == "asf") return is_cut_asf(reader);
  if (format == "flv") return is_cut_flv(reader);
  if (format == "ogg") return is_cut_ogg(reader);
  if (format == "gif") return is_cut_gif(reader);
  if (format == "mpeg") return is_cut_program_stream(reader);
  if (format == "mpegts") return is_cut_transport_stream(reader);
  return false;
}

}  // namespace tte::media
