#include "media/video_file.h"

#include <ATen/Functions.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string_view>

#include "media/exif.h"
#include "media/ffmpeg.h"
#include "media/file.h"
#include "media/truncation.h"
#include "tte/error.h"

namespace tte::media {
namespace {

// Containers that hold a video in one file. Playlists (HLS, DASH, concat), which name other files and
// addresses, and device or script inputs are not among them.
constexpr const char* kContainers = "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,gif";
constexpr int kIoBytes = 1 << 16;
constexpr int kMaxThreads = 4;

constexpr std::string_view kOnlySound =
    "has no video stream, at most sound and a cover image; models cannot hear, so transcribe it to text.";

// MP3 and AAC, with a tag in front or without, FLAC and WAVE.
bool is_sound(std::string_view head) {
  return head.starts_with("ID3") || head.starts_with("fLaC") ||
         (head.starts_with("RIFF") && head.substr(4).substr(0, 8).ends_with("WAVE")) ||
         (head.size() > 1 && head[0] == '\xff' && (head[1] & 0xe0) == 0xe0);
}

struct FreeFormat {
  void operator()(AVFormatContext* p) const { avformat_close_input(&p); }
};
struct FreeIo {
  void operator()(AVIOContext* p) const {
    av_freep(&p->buffer);
    avio_context_free(&p);
  }
};
struct FreeCodec {
  void operator()(AVCodecContext* p) const { avcodec_free_context(&p); }
};
struct FreePacket {
  void operator()(AVPacket* p) const { av_packet_free(&p); }
};
struct FreeFrame {
  void operator()(AVFrame* p) const { av_frame_free(&p); }
};
struct FreeScaler {
  void operator()(SwsContext* p) const { sws_freeContext(p); }
};

std::string error_text(int code) {
  std::array<char, AV_ERROR_MAX_STRING_SIZE> text{};
  av_strerror(code, text.data(), text.size());
  return text.data();
}

// The EXIF orientations that mean as many clockwise turns by 90 degrees.
constexpr std::array<int, 4> kOrientations = {1, 6, 3, 8};

// The clockwise turns by 90 degrees that make the stream's frames upright.
int clockwise_turns(const AVStream* stream) {
  const std::uint8_t* matrix = nullptr;
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 29, 100)
  const AVPacketSideData* data = av_packet_side_data_get(
      stream->codecpar->coded_side_data, stream->codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
  if (data != nullptr && data->size >= 9 * sizeof(std::int32_t)) matrix = data->data;
#else
  std::size_t size = 0;
  matrix = av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
  if (size < 9 * sizeof(std::int32_t)) matrix = nullptr;
#endif
  if (matrix == nullptr) return 0;
  const double degrees =
      av_display_rotation_get(reinterpret_cast<const std::int32_t*>(matrix));  // Anticlockwise.
  if (!std::isfinite(degrees)) return 0;
  return (static_cast<int>(std::lround(-degrees / 90.0)) % 4 + 4) % 4;
}

// One packet of the stream that yields a frame.
struct Entry {
  std::int64_t pts = 0;
  std::int64_t duration = 0;
  bool key = false;
};

}  // namespace

class VideoFile::Impl {
 public:
  Impl(const std::filesystem::path& path, const std::string& label, Budget& budget)
      : label_(label), budget_(budget), file_(path, label, budget.limits().max_file_bytes) {
    budget_.add_video(file_.size(), file_.identity());
    load_ffmpeg(label_);
    open();
    scan();
  }

  [[nodiscard]] int frame_count() const { return static_cast<int>(entries_.size()); }
  [[nodiscard]] double fps() const { return fps_; }
  [[nodiscard]] std::int64_t height() const { return turns_ % 2 == 0 ? stream_height() : stream_width(); }
  [[nodiscard]] std::int64_t width() const { return turns_ % 2 == 0 ? stream_width() : stream_height(); }

  [[nodiscard]] std::int64_t work(const std::vector<int>& indices) const {
    std::int64_t frames = 0;
    int next = 0;
    for (const int index : indices) {
      if (index < next) continue;  // The same frame again.
      frames += index + 1 - (timed_ ? entrance(index, next) : next);
      next = index + 1;
    }
    return frames * stream_width() * stream_height();
  }

  void read(const std::vector<int>& indices, const std::function<void(const at::Tensor&)>& on_frame) {
    budget_.require(work(indices), label_);
    open();  // Back to the start, with a fresh decoder.
    position_ = 0;
    at::Tensor frame;
    for (std::size_t i = 0; i < indices.size(); ++i) {
      if (i == 0 || indices[i] != indices[i - 1]) frame = read_one(indices[i]);
      on_frame(frame);
    }
  }

 private:
  [[noreturn]] void fail(std::string_view why) const { throw InputError(fmt::format("{} {}", label_, why)); }

  [[noreturn]] void fail_to_open(const std::string& reason) const {
    std::vector<std::uint8_t> head(static_cast<std::size_t>(std::min<std::int64_t>(file_.size(), kIoBytes)));
    head.resize(static_cast<std::size_t>(file_.read(head.data(), 0, static_cast<std::int64_t>(head.size()))));
    if (is_sound({reinterpret_cast<const char*>(head.data()), head.size()})) fail(kOnlySound);
    const auto bytes = std::make_shared<const std::vector<std::uint8_t>>(std::move(head));
    if (look_at(Image{EncodedImage{bytes}}, budget_.limits()))
      fail("is an image, not a video; give it as one.");
    fail(fmt::format(
        "is not a video that tte can open ({}); it reads MP4, MOV, MKV, WebM, AVI, MPEG, FLV, Ogg, WMV "
        "and GIF files that are whole.",
        reason));
  }
  [[nodiscard]] bool is_format(std::string_view name) const { return format_->iformat->name == name; }
  [[nodiscard]] std::int64_t stream_height() const { return stream_->codecpar->height; }
  [[nodiscard]] std::int64_t stream_width() const { return stream_->codecpar->width; }

  static int read_bytes(void* self, std::uint8_t* to, int count) {
    auto* impl = static_cast<Impl*>(self);
    if (impl->budget_.refuses(0)) return AVERROR_EXIT;
    try {
      const std::int64_t n = impl->file_.read(to, impl->offset_, count);
      impl->offset_ += n;
      return n > 0 ? static_cast<int>(n) : AVERROR_EOF;
    } catch (const InputError&) {
      return AVERROR(EIO);  // No exception may pass through C code.
    }
  }
  static std::int64_t seek_bytes(void* self, std::int64_t offset, int whence) {
    auto* impl = static_cast<Impl*>(self);
    whence &= ~AVSEEK_FORCE;
    if (whence == AVSEEK_SIZE) return impl->file_.size();
    if (whence == SEEK_CUR) offset += impl->offset_;
    if (whence == SEEK_END) offset += impl->file_.size();
    if (offset < 0) return AVERROR(EINVAL);
    impl->offset_ = offset;
    return offset;
  }

  void open() {
    codec_.reset();
    scaler_.reset();
    format_.reset();
    io_.reset();
    offset_ = 0;
    open_container();
    open_decoder();
    packet_.reset(av_packet_alloc());
    frame_.reset(av_frame_alloc());
    if (!packet_ || !frame_) fail("needs more memory than there is.");
    draining_ = false;
  }

  void open_container() {
    auto* buffer = static_cast<std::uint8_t*>(av_malloc(kIoBytes));
    if (buffer == nullptr) fail("needs more memory than there is.");
    io_.reset(avio_alloc_context(buffer, kIoBytes, 0, this, read_bytes, nullptr, seek_bytes));
    AVFormatContext* format = avformat_alloc_context();
    if (!io_ || format == nullptr) {
      avformat_free_context(format);
      fail("needs more memory than there is.");
    }
    format->pb = io_.get();
    format->flags |= AVFMT_FLAG_CUSTOM_IO;
    AVDictionary* options = nullptr;
    av_dict_set(&options, "format_whitelist", kContainers, 0);
    av_dict_set(&options, "protocol_whitelist", "none",
                0);  // Nothing inside the file may open anything else.
    const int code = avformat_open_input(&format, "", nullptr, &options);  // Frees `format` when it fails.
    av_dict_free(&options);
    if (code < 0) fail_to_open(error_text(code));
    format_.reset(format);
    if (!whole_ && is_cut(file_, format->iformat->name)) fail("is truncated; fetch it again.");
    whole_ = true;
    // It decodes a few frames, if need be. Freeing the options needs the number of streams there are now.
    const unsigned streams = format_->nb_streams;
    std::vector<AVDictionary*> limits(streams, nullptr);
    for (AVDictionary*& limit : limits)
      av_dict_set_int(&limit, "max_pixels", std::min<std::int64_t>(budget_.limits().max_pixels, INT32_MAX),
                      0);
    const int found = avformat_find_stream_info(format_.get(), limits.data());
    for (AVDictionary*& limit : limits) av_dict_free(&limit);
    budget_.check_cancelled();
    if (found < 0) fail(fmt::format("is a video whose streams cannot be read ({}).", error_text(found)));
  }

  void open_decoder() {
    const AVCodec* codec = nullptr;
#if LIBAVFORMAT_VERSION_MAJOR >= 59
    const AVCodec** codec_out = &codec;
#else
    AVCodec** codec_out = const_cast<AVCodec**>(&codec);
#endif
    const int index = av_find_best_stream(format_.get(), AVMEDIA_TYPE_VIDEO, -1, -1, codec_out, 0);
    if (index == AVERROR_STREAM_NOT_FOUND) fail(kOnlySound);
    if (index < 0) {
      fail(fmt::format("has no video stream that can be decoded ({}); convert it to H.264 in MP4.",
                       error_text(index)));
    }
    stream_ = format_->streams[index];
    if ((stream_->disposition & AV_DISPOSITION_ATTACHED_PIC) != 0) fail(kOnlySound);
    check_size();
    for (unsigned i = 0; i < format_->nb_streams; ++i) {
      if (static_cast<int>(i) != index) format_->streams[i]->discard = AVDISCARD_ALL;
    }
    codec_.reset(avcodec_alloc_context3(codec));
    if (!codec_ || avcodec_parameters_to_context(codec_.get(), stream_->codecpar) < 0)
      fail("has a damaged header.");
    codec_->max_pixels = budget_.limits().max_pixels;
    codec_->thread_count = std::clamp(av_cpu_count(), 1, kMaxThreads);
    // Only its frames tell that an MPEG stream was cut, so that is_damaged must be able to.
    if (is_format("mpegts") || is_format("mpeg")) codec_->thread_type = FF_THREAD_SLICE;
    codec_->pkt_timebase = stream_->time_base;
    if (const int code = avcodec_open2(codec_.get(), codec, nullptr); code < 0) {
      fail(fmt::format("cannot be decoded ({}).", error_text(code)));
    }
    turns_ = clockwise_turns(stream_);
  }

  void check_size() {
    const std::int64_t width = stream_width();
    const std::int64_t height = stream_height();
    const std::int64_t most = budget_.limits().max_pixels;
    if (width < 1 || height < 1 || width > most / height) {
      fail(fmt::format(
          "says that its frames are {}x{} pixels (width x height), but they must have from 1 to {} pixels "
          "(max_pixels of MediaLimits).",
          width, height, most));
    }
    memory_ = {};
    memory_ = budget_.borrow(decoder_bytes(), label_);
  }

  // Frames that a decoder keeps to predict others from, those that its threads work at, and the converted one.
  [[nodiscard]] std::int64_t decoder_bytes() const {
    constexpr std::int64_t kFrames = 12;
    const AVPixFmtDescriptor* format =
        av_pix_fmt_desc_get(static_cast<AVPixelFormat>(stream_->codecpar->format));
    const std::int64_t bits = format != nullptr ? av_get_padded_bits_per_pixel(format) : 24;
    return stream_width() * stream_height() * (kFrames * bits / 8 + 6);
  }

  // Of all frames those that no list of edits hides, as in a video that was trimmed without being encoded again.
  [[nodiscard]] std::int64_t said_packets() const {
#if LIBAVFORMAT_VERSION_MAJOR >= 59
    const std::int64_t indexed = avformat_index_get_entries_count(stream_);
#else
    const std::int64_t indexed = stream_->nb_index_entries;
#endif
    return std::min(stream_->nb_frames, indexed);
  }

  // Reads every packet once, without decoding.
  void scan() {
    bool timed = true;
    std::int64_t packets = 0;
    int code = 0;
    while ((code = av_read_frame(format_.get(), packet_.get())) >= 0) {
      if (packet_->stream_index == stream_->index) {
        if ((packet_->flags & AV_PKT_FLAG_CORRUPT) != 0)
          fail("is truncated, damaged or several files in one; fetch it again, or convert it to MP4.");
        ++packets;
        if ((packet_->flags & AV_PKT_FLAG_DISCARD) == 0) {
          timed = timed && packet_->pts != AV_NOPTS_VALUE;
          entries_.push_back({packet_->pts, packet_->duration, (packet_->flags & AV_PKT_FLAG_KEY) != 0});
        }
      }
      av_packet_unref(packet_.get());
    }
    budget_.check_cancelled();
    if (code != AVERROR_EOF || (io_->error != 0 && io_->error != AVERROR_EOF)) {
      fail(fmt::format("is truncated or damaged ({}); fetch it again.", error_text(code)));
    }
    if (entries_.empty()) fail("has a video stream without a frame.");
    if (entries_.size() > INT32_MAX) fail("has too many frames.");
    // MP4 says how many packets there are; fewer means that the end of the file is missing.
    const std::int64_t said = said_packets();
    if (std::string_view(format_->iformat->name).find("mp4") != std::string_view::npos && packets < said)
      fail(fmt::format("is truncated: {} of its {} frames are there; fetch it again.", packets, said));
    std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.pts < b.pts; });
    const auto same_time = [](const Entry& a, const Entry& b) { return a.pts == b.pts; };
    timed_ = timed && std::adjacent_find(entries_.begin(), entries_.end(), same_time) == entries_.end();
    find_fps();
  }

  void find_fps() {
    if (timed_) {
      std::int64_t end = entries_.front().pts;
      for (const Entry& entry : entries_) end = std::max(end, entry.pts + entry.duration);
      // Times first, then their difference, as torchcodec has it: the last bit decides how a time is written.
      const auto seconds_at = [base = stream_->time_base](std::int64_t pts) {
        return static_cast<double>(pts) * base.num / base.den;
      };
      const double seconds = seconds_at(end) - seconds_at(entries_.front().pts);
      if (seconds > 0) {
        fps_ = static_cast<double>(entries_.size()) / seconds;
        return;
      }
    }
    const AVRational rate = stream_->avg_frame_rate.num > 0 ? stream_->avg_frame_rate : stream_->r_frame_rate;
    fps_ = rate.num > 0 && rate.den > 0 ? av_q2d(rate) : 0;
  }

  // Frame `index`. Where a jump did not lead to it (damaged indexes do that), the file is decoded from its start.
  at::Tensor read_one(int index) {
    const bool jumped = timed_ && may_jump_ && seek_towards(index);
    std::optional<at::Tensor> pixels = decode_up_to(index);
    if (!pixels && jumped) {
      may_jump_ = false;
      open();
      position_ = 0;
      pixels = decode_up_to(index);
    }
    if (!pixels) {
      fail(
          fmt::format("is damaged: frame {} of {} cannot be decoded; fetch it again.", index, frame_count()));
    }
    return *pixels;
  }

  std::optional<at::Tensor> decode_up_to(int index) {
    while (next_frame()) {
      if (!timed_) {
        if (position_++ != index) continue;
        return is_damaged() ? std::nullopt : std::optional(convert());
      }
      const std::int64_t pts = frame_->pts != AV_NOPTS_VALUE ? frame_->pts : frame_->best_effort_timestamp;
      const std::int64_t wanted = entries_[static_cast<std::size_t>(index)].pts;
      if (pts == AV_NOPTS_VALUE || pts < wanted) continue;
      if (pts > wanted || is_damaged()) break;
      position_ = index + 1;
      return convert();
    }
    return std::nullopt;
  }

  // Whether the decoder had to make up parts of frame_. With a thread a frame, FFmpeg may say so too late.
  [[nodiscard]] bool is_damaged() const {
    return codec_->active_thread_type != FF_THREAD_FRAME &&
           (frame_->decode_error_flags != 0 || (frame_->flags & AV_FRAME_FLAG_CORRUPT) != 0);
  }

  // The last key frame up to the wanted one, or the decoder's position where there is none behind it.
  [[nodiscard]] int entrance(int index, int position) const {
    while (index > position && !entries_[static_cast<std::size_t>(index)].key) --index;
    return index;
  }

  // Jumps when there is a key frame between the decoder's position and the wanted frame.
  bool seek_towards(int index) {
    const int key = entrance(index, position_);
    if (key <= position_) return false;
    const std::int64_t pts = entries_[static_cast<std::size_t>(key)].pts;
    if (av_seek_frame(format_.get(), stream_->index, pts, AVSEEK_FLAG_BACKWARD) < 0) return false;
    avcodec_flush_buffers(codec_.get());
    draining_ = false;
    return true;
  }

  // Decodes the next frame into frame_. False at the end of the stream.
  bool next_frame() {
    for (;;) {
      av_frame_unref(frame_.get());
      const int received = avcodec_receive_frame(codec_.get(), frame_.get());
      if (received == 0) {
        budget_.work(stream_width() * stream_height(), label_);
        return true;
      }
      if (received != AVERROR(EAGAIN) || draining_) return false;
      int code = 0;
      while ((code = av_read_frame(format_.get(), packet_.get())) >= 0 &&
             packet_->stream_index != stream_->index) {
        av_packet_unref(packet_.get());
      }
      draining_ = code < 0;
      // A packet that the decoder refuses costs its own frames; whoever wants one of those gets an error.
      avcodec_send_packet(codec_.get(), draining_ ? nullptr : packet_.get());
      av_packet_unref(packet_.get());
    }
  }

  at::Tensor convert() {
    const int width = frame_->width;
    const int height = frame_->height;
    if (width != stream_width() || height != stream_height()) {
      fail(fmt::format(
          "changes its frame size from {}x{} to {}x{} (width x height); all frames must have one size.",
          stream_width(), stream_height(), width, height));
    }
    const auto format = static_cast<AVPixelFormat>(frame_->format);
    scaler_.reset(sws_getCachedContext(scaler_.release(), width, height, format, width, height,
                                       AV_PIX_FMT_RGB24, SWS_BICUBIC, nullptr, nullptr, nullptr));
    if (!scaler_) fail("has a pixel format that cannot be converted to RGB.");
    set_colorspace();
    const at::Tensor lines = padded_lines(height, width);
    std::array<std::uint8_t*, 4> planes = {lines.mutable_data_ptr<std::uint8_t>(), nullptr, nullptr, nullptr};
    std::array<int, 4> strides = {static_cast<int>(lines.stride(0)), 0, 0, 0};
    if (sws_scale(scaler_.get(), frame_->data, frame_->linesize, 0, height, planes.data(), strides.data()) !=
        height) {
      fail("cannot be converted to RGB.");
    }
    const at::Tensor pixels = lines.narrow(0, 0, height).narrow(1, 0, width).contiguous();
    return apply_orientation(pixels, kOrientations[static_cast<std::size_t>(turns_)]);
  }

  // uint8 [height + 1, padded width, 3]: swscale writes whole vectors, past the end of a line, and leaves the
  // last pixels out where a line has no room for that.
  static at::Tensor padded_lines(int height, int width) {
    constexpr std::int64_t kVectorPixels = 64;
    const std::int64_t padded = (width + kVectorPixels - 1) / kVectorPixels * kVectorPixels;
    return at::empty({std::int64_t{height} + 1, padded, 3}, at::kByte);
  }

  // The matrix (BT.601, BT.709, ...) and the range of levels that the frame names, as torchcodec does;
  // swscale alone always takes BT.601, and the full range for few formats.
  void set_colorspace() {
    int *inverse = nullptr, *table = nullptr;
    int source_range = 0, target_range = 0, brightness = 0, contrast = 0, saturation = 0;
    if (sws_getColorspaceDetails(scaler_.get(), &inverse, &source_range, &table, &target_range, &brightness,
                                 &contrast, &saturation) < 0) {
      return;  // RGB sources have none.
    }
    if (frame_->color_range != AVCOL_RANGE_UNSPECIFIED)
      source_range = frame_->color_range == AVCOL_RANGE_JPEG ? 1 : 0;
    const int* coefficients = sws_getCoefficients(frame_->colorspace);
    sws_setColorspaceDetails(scaler_.get(), coefficients, source_range, coefficients, target_range,
                             brightness, contrast, saturation);
  }

  std::string label_;
  Budget& budget_;
  Budget::Loan memory_;
  File file_;
  std::int64_t offset_ = 0;
  bool whole_ = false;  // As far as its container tells.
  std::unique_ptr<AVIOContext, FreeIo> io_;
  std::unique_ptr<AVFormatContext, FreeFormat> format_;  // After io_, so that it is closed before.
  std::unique_ptr<AVCodecContext, FreeCodec> codec_;
  std::unique_ptr<SwsContext, FreeScaler> scaler_;
  std::unique_ptr<AVPacket, FreePacket> packet_;
  std::unique_ptr<AVFrame, FreeFrame> frame_;
  AVStream* stream_ = nullptr;
  int turns_ = 0;
  std::vector<Entry> entries_;  // In order of presentation.
  bool timed_ = false;          // Whether every entry has a time of its own; without, frames are counted.
  bool may_jump_ = true;
  double fps_ = 0;
  int position_ = 0;  // The frame that comes next if the decoder just goes on.
  bool draining_ = false;
};

VideoFile::VideoFile(const std::filesystem::path& path, const std::string& label, Budget& budget)
    : impl_(std::make_unique<Impl>(path, label, budget)) {}
VideoFile::~VideoFile() = default;

int VideoFile::frame_count() const {
  return impl_->frame_count();
}
double VideoFile::fps() const {
  return impl_->fps();
}
std::int64_t VideoFile::height() const {
  return impl_->height();
}
std::int64_t VideoFile::width() const {
  return impl_->width();
}
std::int64_t VideoFile::work(const std::vector<int>& indices) const {
  return impl_->work(indices);
}
void VideoFile::read(const std::vector<int>& indices,
                     const std::function<void(const at::Tensor&)>& on_frame) {
  impl_->read(indices, on_frame);
}

}  // namespace tte::media
