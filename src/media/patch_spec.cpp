#include "media/patch_spec.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "tte/error.h"

namespace tte::media {
namespace {

using base::Json;
using base::JsonObject;

constexpr int kBicubic = 3;  // Pillow's number.
// A small image is enlarged to min_pixels: what a file asks for is bounded before any image comes.
constexpr std::int64_t kMostMinPixels = std::int64_t{1} << 26;
constexpr std::int64_t kMostPixels = std::int64_t{1} << 40;

// A limit at `key`, which some files write as 784.0.
std::optional<std::int64_t> find_pixels(const JsonObject& object, const std::string& key, std::int64_t most) {
  const Json* value = object.find(key);
  if (value == nullptr) return std::nullopt;
  auto pixels = base::whole_number(*value, 1, most);
  if (value->is_number_float()) {
    const double number = value->get<double>();
    if (number >= 1 && number <= static_cast<double>(most) && std::floor(number) == number)
      pixels = static_cast<std::int64_t>(number);
  }
  if (!pixels) object.reject(key, fmt::format("it must be a whole number from 1 to {}", most));
  return pixels;
}

// As in transformers: min_pixels and max_pixels replace their part of "size"; a "size" must then have both
// parts, and only where there is none the defaults count.
void read_limits(const JsonObject& object, PatchSpec& spec) {
  struct Limit {
    const char* old_name;
    const char* new_name;
    std::int64_t most;
    std::int64_t& out;
  };
  const Limit limits[] = {{"min_pixels", "shortest_edge", kMostMinPixels, spec.min_pixels},
                          {"max_pixels", "longest_edge", kMostPixels, spec.max_pixels}};
  if (!object.has("size")) {
    for (const Limit& limit : limits)
      limit.out = find_pixels(object, limit.old_name, limit.most).value_or(limit.out);
    return;
  }
  constexpr const char* kWanted =
      "tte reads only {\"shortest_edge\", \"longest_edge\"}, both of them, in pixels of area";
  if (!object.find("size")->is_object()) object.reject("size", kWanted);
  const JsonObject size = object.object("size");
  for (const auto& member : size.json().items()) {
    const auto names = [&key = member.key()](const Limit& limit) {
      return key == limit.old_name || key == limit.new_name;
    };
    if (!member.value().is_null() && std::none_of(std::begin(limits), std::end(limits), names))
      object.reject("size", kWanted);
  }
  for (const Limit& limit : limits) {
    auto pixels = find_pixels(object, limit.old_name, limit.most);
    if (!pixels) {
      if (size.has(limit.old_name) && size.has(limit.new_name)) object.reject("size", kWanted);
      pixels = find_pixels(size, size.has(limit.new_name) ? limit.new_name : limit.old_name, limit.most);
    }
    if (!pixels) object.reject("size", kWanted);
    limit.out = *pixels;
  }
}

// Three numbers, or one for all channels.
std::array<double, 3> read_channels(const JsonObject& object, const std::string& key,
                                    std::array<double, 3> fallback) {
  const Json* value = object.find(key);
  if (value == nullptr) return fallback;
  std::vector<double> values;
  if (value->is_number()) values = {value->get<double>()};
  if (auto list = base::strict_cast<std::vector<double>>(*value)) values = std::move(*list);
  if (values.size() == 1) values.assign(3, values[0]);
  if (values.size() != 3 || !std::all_of(values.begin(), values.end(),
                                         [](double v) { return std::isfinite(static_cast<float>(v)); })) {
    object.reject(key, "it must be a number, or one for each of the three colours");
  }
  return {values[0], values[1], values[2]};
}

}  // namespace

PatchSpec parse_patch_spec(const Json& json, const std::string& where, const PatchSpec& defaults) {
  const JsonObject object(json, where);
  PatchSpec spec = defaults;
  const auto small = [&](const char* key, int fallback, int most) {
    return static_cast<int>(object.integer(key, fallback, 1, most));
  };
  spec.patch_size = small("patch_size", spec.patch_size, 256);
  spec.merge_size = small("merge_size", spec.merge_size, 64);
  spec.temporal_patch_size = small("temporal_patch_size", spec.temporal_patch_size, 64);
  read_limits(object, spec);
  spec.mean = read_channels(object, "image_mean", spec.mean);
  spec.std = read_channels(object, "image_std", spec.std);
  if (std::any_of(spec.std.begin(), spec.std.end(), [](double v) { return !(static_cast<float>(v) > 0); }))
    object.reject("image_std", "it must be positive");
  spec.rescale = object.number("rescale_factor", spec.rescale, 0, 1e6);
  spec.do_resize = object.flag("do_resize", spec.do_resize);
  spec.do_rescale = object.flag("do_rescale", spec.do_rescale);
  spec.do_normalize = object.flag("do_normalize", spec.do_normalize);
  spec.cap_pixels_per_frame = object.flag("cap_pixels_per_frame", spec.cap_pixels_per_frame);
  spec.max_video_tokens = object.integer("max_video_tokens", spec.max_video_tokens, 1, 1 << 24);
  if (object.integer("resample", kBicubic, 0, 100) != kBicubic)
    object.reject("resample", "it must be 3 (bicubic), the only one tte has");
  return spec;
}

}  // namespace tte::media
