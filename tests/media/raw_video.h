// Video files that tests write themselves, of any size: uncompressed 4:2:0 in AVI, and GIFs.
#pragma once

#include <cstdint>
#include <string>

namespace tte::media::testing {

// Little-endian numbers and four-letter names, one after the other.
class RiffWriter {
 public:
  RiffWriter& name(const char* four) {
    bytes_.append(four, 4);
    return *this;
  }
  RiffWriter& number(std::uint32_t value, int size = 4) {
    for (int i = 0; i < size; ++i) bytes_.push_back(static_cast<char>(value >> (8 * i)));
    return *this;
  }
  RiffWriter& zeros(std::size_t count) {
    bytes_.append(count, '\0');
    return *this;
  }
  RiffWriter& chunk(const char* four, const std::string& body) {
    name(four).number(static_cast<std::uint32_t>(body.size()));
    bytes_ += body;
    if (body.size() % 2 != 0) zeros(1);
    return *this;
  }
  RiffWriter& list(const char* kind, const std::string& body) { return chunk("LIST", kind + body); }
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// The levels of frame 0 at a place do not depend on the size of the frame.
inline std::string i420_frame(int width, int height, int index) {
  std::string planes;
  for (int plane = 0; plane < 3; ++plane) {
    const int columns = plane == 0 ? width : (width + 1) / 2;
    const int rows = plane == 0 ? height : (height + 1) / 2;
    for (int y = 0; y < rows; ++y) {
      for (int x = 0; x < columns; ++x) {
        planes.push_back(
            static_cast<char>((x * (7 + 4 * plane) + y * 13 + index * 31 + plane * 90) % 220 + 16));
      }
    }
  }
  return planes;
}

inline std::string i420_avi(int width, int height, int frames) {
  const auto w = static_cast<std::uint32_t>(width);
  const auto h = static_cast<std::uint32_t>(height);
  const auto count = static_cast<std::uint32_t>(frames);
  const auto frame_bytes = static_cast<std::uint32_t>(i420_frame(width, height, 0).size());
  constexpr std::uint32_t kMicroseconds = 100'000;
  constexpr std::uint32_t kHasIndex = 0x10, kKeyFrame = 0x10;
  RiffWriter main, stream, format, movie, index;
  main.number(kMicroseconds).number(0).number(0).number(kHasIndex).number(count).number(0).number(1);
  main.number(frame_bytes).number(w).number(h).zeros(16);
  stream.name("vids").name("I420").zeros(12).number(1).number(10).number(0).number(count);
  stream.number(frame_bytes).zeros(8).zeros(8);
  format.number(40).number(w).number(h).number(1, 2).number(12, 2).name("I420").number(frame_bytes).zeros(16);
  std::uint32_t offset = 4;
  for (int i = 0; i < frames; ++i) {
    movie.chunk("00dc", i420_frame(width, height, i));
    index.name("00dc").number(kKeyFrame).number(offset).number(frame_bytes);
    offset += 8 + frame_bytes + frame_bytes % 2;
  }
  RiffWriter streams, headers, body, file;
  streams.chunk("strh", stream.bytes()).chunk("strf", format.bytes());
  headers.chunk("avih", main.bytes()).list("strl", streams.bytes());
  body.list("hdrl", headers.bytes()).list("movi", movie.bytes()).chunk("idx1", index.bytes());
  return file.chunk("RIFF", "AVI " + body.bytes()).bytes();
}

// An animated GIF whose frames are of one pixel, each on the whole canvas: some 25 bytes for a frame of any
// size.
inline std::string dotted_gif(int width, int height, int frames) {
  RiffWriter gif;
  gif.name("GIF8").number('9' | 'a' << 8, 2);
  gif.number(static_cast<std::uint32_t>(width), 2).number(static_cast<std::uint32_t>(height), 2);
  gif.number(0x80, 3).number(0, 3).number(0xFFFFFF, 3);  // A palette of two colours.
  for (int i = 0; i < frames; ++i) {
    gif.number(0x04F921).number(10, 2).number(0, 2);                  // A delay of 0.1 seconds.
    gif.number(0x2C, 1).zeros(4).number(1, 2).number(1, 2).zeros(1);  // One pixel at the top left.
    gif.number(0x01440202).zeros(1);                                  // Clear, colour 0, end.
  }
  return gif.number(0x3B, 1).bytes();
}

}  // namespace tte::media::testing
