// preprocessor_config.json into a PatchSpec.
#include <fmt/core.h>

#include <cmath>
#include <initializer_list>
#include <optional>

#include "media/patches.h"
#include "tte/error.h"

namespace tte::media {
namespace {

using base::Json;

constexpr int kBicubic = 3;  // Pillow's number.

std::optional<std::int64_t> find_pixels(const Json& json, const std::string& key, const std::string& where) {
  const auto it = json.find(key);
  if (it == json.end() || it->is_null()) return std::nullopt;
  return base::require<std::int64_t>(json, key, where);
}

// A pixel limit under its old name at the top, or under either name inside "size".
std::int64_t read_pixels(const Json& json, const char* old_name, const char* new_name, std::int64_t fallback,
                         const std::string& where) {
  if (const auto value = find_pixels(json, old_name, where)) return *value;
  const auto size = json.find("size");
  if (size == json.end() || size->is_null()) return fallback;
  if (size->is_object()) {
    for (const char* name : {new_name, old_name}) {
      if (const auto value = find_pixels(*size, name, where + ", \"size\"")) return *value;
    }
  }
  throw ModelError(
      fmt::format("{}: \"size\" is {}, but tte reads only {{\"shortest_edge\", \"longest_edge\"}} (in "
                  "pixels of area); this processor resizes in another way than Qwen2-VL's.",
                  where, size->dump().substr(0, 80)));
}

// Three numbers, or one for all channels.
std::array<double, 3> read_channels(const Json& json, const std::string& key, std::array<double, 3> fallback,
                                    const std::string& where) {
  const auto it = json.find(key);
  if (it == json.end() || it->is_null()) return fallback;
  if (it->is_number()) {
    const double value = it->get<double>();
    return {value, value, value};
  }
  const auto values = base::require<std::vector<double>>(json, key, where);
  if (values.size() != 3) {
    throw ModelError(fmt::format("{}: \"{}\" has {} numbers; tte expects one for each of the three colours.",
                                 where, key, values.size()));
  }
  return {values[0], values[1], values[2]};
}

[[noreturn]] void bad_value(const std::string& where, const std::string& key, const std::string& value,
                            const std::string& rule) {
  throw ModelError(fmt::format("{}: \"{}\" is {}, but it must be {}.", where, key, value, rule));
}

void check(const PatchSpec& spec, const std::string& where) {
  const auto in_range = [&](const char* key, int value, int high) {
    if (value < 1 || value > high)
      bad_value(where, key, std::to_string(value), fmt::format("from 1 to {}", high));
  };
  in_range("patch_size", spec.patch_size, 256);
  in_range("merge_size", spec.merge_size, 64);
  in_range("temporal_patch_size", spec.temporal_patch_size, 64);
  if (spec.min_pixels < 1) bad_value(where, "min_pixels", std::to_string(spec.min_pixels), "at least 1");
  if (spec.max_pixels < spec.min_pixels) {
    bad_value(where, "max_pixels", std::to_string(spec.max_pixels),
              fmt::format("at least min_pixels ({})", spec.min_pixels));
  }
  if (spec.max_video_tokens < 1) {
    bad_value(where, "max_video_tokens", std::to_string(spec.max_video_tokens), "at least 1");
  }
  if (!std::isfinite(spec.rescale) || spec.rescale <= 0) {
    bad_value(where, "rescale_factor", fmt::format("{}", spec.rescale), "a positive number");
  }
  for (int c = 0; c < 3; ++c) {
    if (!std::isfinite(spec.mean[c]))
      bad_value(where, "image_mean", fmt::format("{}", spec.mean[c]), "finite");
    if (!std::isfinite(spec.std[c]) || spec.std[c] <= 0) {
      bad_value(where, "image_std", fmt::format("{}", spec.std[c]), "positive");
    }
  }
}

}  // namespace

PatchSpec parse_patch_spec(const Json& json, const std::string& where, const PatchSpec& defaults) {
  if (!json.is_object())
    throw ModelError(fmt::format("{} is not a JSON object of processor settings.", where));
  PatchSpec spec = defaults;
  spec.patch_size = base::get_or(json, "patch_size", spec.patch_size, where);
  spec.merge_size = base::get_or(json, "merge_size", spec.merge_size, where);
  spec.temporal_patch_size = base::get_or(json, "temporal_patch_size", spec.temporal_patch_size, where);
  spec.min_pixels = read_pixels(json, "min_pixels", "shortest_edge", spec.min_pixels, where);
  spec.max_pixels = read_pixels(json, "max_pixels", "longest_edge", spec.max_pixels, where);
  spec.mean = read_channels(json, "image_mean", spec.mean, where);
  spec.std = read_channels(json, "image_std", spec.std, where);
  spec.rescale = base::get_or(json, "rescale_factor", spec.rescale, where);
  spec.do_resize = base::get_or(json, "do_resize", spec.do_resize, where);
  spec.do_rescale = base::get_or(json, "do_rescale", spec.do_rescale, where);
  spec.do_normalize = base::get_or(json, "do_normalize", spec.do_normalize, where);
  spec.cap_pixels_per_frame = base::get_or(json, "cap_pixels_per_frame", spec.cap_pixels_per_frame, where);
  spec.max_video_tokens = base::get_or(json, "max_video_tokens", spec.max_video_tokens, where);
  const int resample = base::get_or(json, "resample", kBicubic, where);
  if (resample != kBicubic)
    bad_value(where, "resample", std::to_string(resample), "3 (bicubic), the only one tte has");
  check(spec, where);
  return spec;
}

}  // namespace tte::media
