// FFmpeg's functions, which are loaded with the first video: its libraries bring some hundred others, and whoever has
// no videos does not wait for them. Internal to media/.
#pragma once

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/cpu.h>
#include <libavutil/display.h>
#include <libavutil/imgutils.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
}

#include <string>

namespace tte::media {

// Loads them; the functions below may be called after that only. Throws InputError, starting with `label`, where
// FFmpeg's libraries of the version that tte was built with are not there.
void load_ffmpeg(const std::string& label);

struct LoadedSymbol {
  const char* name;
  void* address = nullptr;
};

template <class Function>
struct LoadedFunction : LoadedSymbol {
  template <class... Arguments>
  auto operator()(Arguments... arguments) const {
    return reinterpret_cast<Function>(address)(arguments...);
  }
};

// Each has the name of FFmpeg's, which it stands before in this namespace.
#define TTE_FFMPEG_FUNCTIONS(X)    \
  X(av_cpu_count)                  \
  X(av_dict_free)                  \
  X(av_dict_set)                   \
  X(av_dict_set_int)               \
  X(av_display_rotation_get)       \
  X(av_find_best_stream)           \
  X(av_frame_alloc)                \
  X(av_frame_free)                 \
  X(av_frame_unref)                \
  X(av_freep)                      \
  X(av_get_padded_bits_per_pixel)  \
  X(av_log_set_level)              \
  X(av_malloc)                     \
  X(av_packet_alloc)               \
  X(av_packet_free)                \
  X(av_packet_unref)               \
  X(av_pix_fmt_desc_get)           \
  X(av_read_frame)                 \
  X(av_seek_frame)                 \
  X(av_strerror)                   \
  X(avcodec_alloc_context3)        \
  X(avcodec_flush_buffers)         \
  X(avcodec_free_context)          \
  X(avcodec_open2)                 \
  X(avcodec_parameters_to_context) \
  X(avcodec_receive_frame)         \
  X(avcodec_send_packet)           \
  X(avformat_alloc_context)        \
  X(avformat_close_input)          \
  X(avformat_find_stream_info)     \
  X(avformat_free_context)         \
  X(avformat_open_input)           \
  X(avio_alloc_context)            \
  X(avio_context_free)             \
  X(sws_freeContext)               \
  X(sws_getCachedContext)          \
  X(sws_getCoefficients)           \
  X(sws_getColorspaceDetails)      \
  X(sws_scale)                     \
  X(sws_setColorspaceDetails)
// Those that came or went between versions.
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 29, 100)
#define TTE_FFMPEG_SIDE_DATA(X) X(av_packet_side_data_get)
#else
#define TTE_FFMPEG_SIDE_DATA(X) X(av_stream_get_side_data)
#endif
#if LIBAVFORMAT_VERSION_MAJOR >= 59
#define TTE_FFMPEG_INDEX(X) X(avformat_index_get_entries_count)
#else
#define TTE_FFMPEG_INDEX(X)
#endif

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"  // What av_malloc says of the memory that it returns.
// NOLINTNEXTLINE(bugprone-macro-parentheses): a name that is declared takes none.
#define TTE_LOADED(function) inline LoadedFunction<decltype(&::function)> function{{#function}};
TTE_FFMPEG_FUNCTIONS(TTE_LOADED)
TTE_FFMPEG_SIDE_DATA(TTE_LOADED)
TTE_FFMPEG_INDEX(TTE_LOADED)
#undef TTE_LOADED
#pragma GCC diagnostic pop

}  // namespace tte::media
