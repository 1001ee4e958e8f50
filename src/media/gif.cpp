// The first frame of a GIF through giflib, on the logical screen. Where it is see-through, or does not reach, is what
// Pillow has there, or without alpha the background colour, which the processors of transformers show of a file.
#include <fmt/core.h>
#include <gif_lib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "media/codec.h"

namespace tte::media {
namespace {

struct CloseGif {
  void operator()(GifFileType* gif) const { DGifCloseFile(gif, nullptr); }
};

int read_bytes(GifFileType* gif, GifByteType* to, int count) {
  auto& rest = *static_cast<Bytes*>(gif->UserData);
  const std::size_t n = std::min(rest.size(), static_cast<std::size_t>(std::max(count, 0)));
  std::copy_n(rest.data(), n, to);
  rest = rest.subspan(n);
  return static_cast<int>(n);
}

// Reads up to the first image, remembering the transparent colour. Returns it, or -1.
int seek_first_image(GifFileType* gif, const Source& source) {
  int transparent = -1;
  for (;;) {
    GifRecordType type = UNDEFINED_RECORD_TYPE;
    if (DGifGetRecordType(gif, &type) == GIF_ERROR)
      source.fail("is a truncated or damaged GIF; fetch it again.");
    if (type == IMAGE_DESC_RECORD_TYPE) return transparent;
    if (type == TERMINATE_RECORD_TYPE) source.fail("is a GIF without an image.");
    if (type != EXTENSION_RECORD_TYPE) continue;
    int code = 0;
    GifByteType* block = nullptr;
    if (DGifGetExtension(gif, &code, &block) == GIF_ERROR) source.fail("is a truncated GIF; fetch it again.");
    // A graphic control block: its size, flags (bit 0: there is a transparent colour), delay, the colour.
    if (code == GRAPHICS_EXT_FUNC_CODE && block != nullptr && block[0] >= 4 && (block[1] & 1) != 0) {
      transparent = block[4];
    }
    while (block != nullptr) {
      if (DGifGetExtensionNext(gif, &block) == GIF_ERROR) source.fail("is a truncated GIF; fetch it again.");
    }
  }
}

using Palette = std::array<std::array<std::uint8_t, 4>, 256>;

Palette build_palette(const ColorMapObject* map) {
  Palette palette;
  for (int i = 0; i < 256; ++i) {
    const auto grey = static_cast<std::uint8_t>(map == nullptr ? i : 0);
    palette[i] = {grey, grey, grey, 255};
    if (map != nullptr && i < map->ColorCount) {
      palette[i] = {map->Colors[i].Red, map->Colors[i].Green, map->Colors[i].Blue, 255};
    }
  }
  return palette;
}

// The colour of the screen where nothing is drawn: black without a palette of its own.
std::array<std::uint8_t, 4> background(const GifFileType& gif) {
  const ColorMapObject* map = gif.SColorMap;
  if (map == nullptr || gif.SBackGroundColor >= map->ColorCount) return {0, 0, 0, 255};
  const GifColorType& color = map->Colors[gif.SBackGroundColor];
  return {color.Red, color.Green, color.Blue, 255};
}

}  // namespace

Decoded decode_gif(const Source& source) {
  Bytes rest = source.bytes;
  int error = 0;
  const std::unique_ptr<GifFileType, CloseGif> gif(DGifOpen(&rest, read_bytes, &error));
  if (!gif) source.fail("is a truncated or damaged GIF; fetch it again.");
  const int transparent = seek_first_image(gif.get(), source);
  if (DGifGetImageDesc(gif.get()) == GIF_ERROR) source.fail("is a truncated or damaged GIF; fetch it again.");
  const GifImageDesc& frame = gif->Image;
  // A frame may reach over the screen, which then grows.
  const std::int64_t width = std::max<std::int64_t>(gif->SWidth, std::int64_t{frame.Left} + frame.Width);
  const std::int64_t height = std::max<std::int64_t>(gif->SHeight, std::int64_t{frame.Top} + frame.Height);
  source.check_size(width, height);
  source.work(width * height);
  const Budget::Loan loan = source.borrow(width * height);
  if (frame.Width < 1 || frame.Height < 1) source.fail("is a GIF whose first frame has no pixels.");

  std::vector<GifPixelType> indices(static_cast<std::size_t>(frame.Width) *
                                    static_cast<std::size_t>(frame.Height));
  struct Pass {
    int first, step;
  };
  static constexpr std::array<Pass, 4> kInterlaced = {{{0, 8}, {4, 8}, {2, 4}, {1, 2}}};
  static constexpr std::array<Pass, 1> kPlain = {{{0, 1}}};
  const std::span<const Pass> passes = frame.Interlace ? std::span<const Pass>(kInterlaced) : kPlain;
  for (const Pass& pass : passes) {
    for (int y = pass.first; y < frame.Height; y += pass.step) {
      GifPixelType* row = indices.data() + std::int64_t{y} * frame.Width;
      if (DGifGetLine(gif.get(), row, frame.Width) == GIF_ERROR) {
        source.fail("is a GIF whose first frame is truncated or damaged; fetch it again.");
      }
    }
  }
  Palette palette = build_palette(frame.ColorMap != nullptr ? frame.ColorMap : gif->SColorMap);
  const auto screen = background(*gif);
  if (transparent >= 0 && source.want_alpha) palette[transparent][3] = 0;
  if (transparent >= 0 && !source.want_alpha) palette[transparent] = screen;
  const auto outside = source.want_alpha ? palette[std::max(transparent, 0)] : screen;
  Decoded decoded;
  const int channels = source.want_alpha && transparent >= 0 ? 4 : 3;
  decoded.pixels = source.allocate(height, width, channels);
  auto* out = decoded.pixels.mutable_data_ptr<std::uint8_t>();
  for (std::int64_t y = -frame.Top; y < height - frame.Top; ++y) {
    for (std::int64_t x = -frame.Left; x < width - frame.Left; ++x) {
      const bool drawn = y >= 0 && y < frame.Height && x >= 0 && x < frame.Width;
      const auto& color = drawn ? palette[indices[static_cast<std::size_t>(y * frame.Width + x)]] : outside;
      out = std::copy_n(color.data(), channels, out);
    }
  }
  return decoded;
}

}  // namespace tte::media
