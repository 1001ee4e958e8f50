#include "media/ffmpeg.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <string>
#include <utility>

#include "base/printable.h"
#include "tte/error.h"

namespace tte::media {
namespace {

// What is missing; empty where all is there.
std::string load() {
  std::array<void*, 4> libraries{};
  const std::array<std::pair<const char*, int>, 4> names = {{{"avutil", LIBAVUTIL_VERSION_MAJOR},
                                                             {"avcodec", LIBAVCODEC_VERSION_MAJOR},
                                                             {"avformat", LIBAVFORMAT_VERSION_MAJOR},
                                                             {"swscale", LIBSWSCALE_VERSION_MAJOR}}};
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string file = fmt::format("lib{}.so.{}", names[i].first, names[i].second);
    libraries[i] = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (libraries[i] == nullptr) return fmt::format("{} ({})", file, base::printable(dlerror(), 200));
  }
  const auto find = [&libraries](LoadedSymbol& symbol) {
    for (void* library : libraries) {
      if (symbol.address == nullptr) symbol.address = dlsym(library, symbol.name);
    }
    return symbol.address != nullptr;
  };
#define TTE_FIND(function) \
  if (!find(function)) return fmt::format("the function {}", #function);
  TTE_FFMPEG_FUNCTIONS(TTE_FIND)
  TTE_FFMPEG_SIDE_DATA(TTE_FIND)
  TTE_FFMPEG_INDEX(TTE_FIND)
#undef TTE_FIND
  av_log_set_level(
      AV_LOG_QUIET);  // Its log is the process's: it must not print what it thinks of a user's file.
  return "";
}

}  // namespace

void load_ffmpeg(const std::string& label) {
  static std::mutex mutex;
  static bool loaded = false;
  const std::lock_guard lock(mutex);
  if (loaded) return;
  if (const std::string missing = load(); !missing.empty()) {
    throw InputError(
        fmt::format("{} cannot be read without FFmpeg, of which {} is missing here: install the version that "
                    "tte was built with.",
                    label, missing));
  }
  loaded = true;
}

}  // namespace tte::media
