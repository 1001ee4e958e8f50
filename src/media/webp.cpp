// WebP through libwebp's demuxer: a still image, or the first frame of an animation, as Pillow shows it.
#include <fmt/core.h>
#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>
#include <vector>

#include "media/codec.h"
#include "media/exif.h"
#include "media/mat.h"

namespace tte::media {
namespace {

struct DeleteDemuxer {
  void operator()(WebPDemuxer* p) const { WebPDemuxDelete(p); }
};
struct DeleteDecoder {
  void operator()(WebPAnimDecoder* p) const { WebPAnimDecoderDelete(p); }
};

Bytes find_chunk(const WebPDemuxer* demuxer, const char* name) {
  WebPChunkIterator chunk;
  Bytes bytes;
  if (WebPDemuxGetChunk(demuxer, name, 1, &chunk) != 0) bytes = Bytes(chunk.chunk.bytes, chunk.chunk.size);
  WebPDemuxReleaseChunkIterator(&chunk);
  return bytes;  // Points into the source's bytes, not into the iterator.
}

}  // namespace

Decoded decode_webp(const Source& source) {
  const WebPData data{source.bytes.data(), source.bytes.size()};
  const std::unique_ptr<WebPDemuxer, DeleteDemuxer> demuxer(WebPDemux(&data));
  if (!demuxer) source.fail("is a truncated or damaged WebP; fetch it again.");
  const std::int64_t width = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_WIDTH);
  const std::int64_t height = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_HEIGHT);
  source.check_size(width, height);
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(data.bytes, data.size, &features) != VP8_STATUS_OK) source.fail("is a damaged WebP.");
  const bool alpha = features.has_alpha != 0;

  Decoded decoded;
  decoded.orientation =
      choose_orientation(find_chunk(demuxer.get(), "EXIF"), find_chunk(demuxer.get(), "XMP "));
  source.work(width * height);
  // Lossless images are decoded into four bytes a pixel; the decoder of animations has two canvases besides.
  const bool canvases = features.has_animation != 0 || (alpha && source.want_alpha);
  const Budget::Loan loan = source.borrow(width * height * (canvases ? 13 : 5));
  constexpr const char* kDamaged = "is a WebP whose image data cannot be decoded; fetch it again.";
  if (!canvases) {
    decoded.pixels = source.allocate(height, width, 3);
    // Hidden colours are not touched by this call, so dropping alpha here equals decoding and then dropping it.
    if (WebPDecodeRGBInto(data.bytes, data.size, decoded.pixels.mutable_data_ptr<std::uint8_t>(),
                          static_cast<std::size_t>(decoded.pixels.numel()),
                          static_cast<int>(width * 3)) == nullptr) {
      source.fail(kDamaged);
    }
    return decoded;
  }
  WebPAnimDecoderOptions options;
  if (WebPAnimDecoderOptionsInit(&options) == 0) source.fail("cannot be decoded by this libwebp.");
  options.color_mode = MODE_RGBA;
  const std::unique_ptr<WebPAnimDecoder, DeleteDecoder> decoder(WebPAnimDecoderNew(&data, &options));
  std::uint8_t* frame = nullptr;
  int timestamp = 0;
  if (!decoder || WebPAnimDecoderGetNext(decoder.get(), &frame, &timestamp) == 0) source.fail(kDamaged);
  const int channels = alpha && source.want_alpha ? 4 : 3;
  decoded.pixels = source.allocate(height, width, channels);
  const cv::Mat to = as_mat(decoded.pixels);
  const cv::Mat rgba(to.rows, to.cols, CV_8UC4, frame);
  pick_channels(rgba, to, channels == 4 ? std::vector{0, 1, 2, 3} : std::vector{0, 1, 2});
  return decoded;
}

}  // namespace tte::media
