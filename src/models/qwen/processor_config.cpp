#include "models/qwen/processor_config.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "tte/error.h"

namespace tte::models::qwen {
namespace {

using base::Json;
using base::JsonObject;

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
void read_limits(const JsonObject& object, LimitKeys keys, VisualSpec& spec) {
  struct Limit {
    const char* old_name;
    const char* new_name;
    std::int64_t most;
    std::int64_t& out;
  };
  const Limit limits[] = {{"min_pixels", "shortest_edge", kMostMinPixels, spec.min_pixels},
                          {"max_pixels", "longest_edge", kMostPixels, spec.max_pixels}};
  if (!object.has("size")) {
    if (keys == LimitKeys::kSize) return;
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
    auto pixels = keys == LimitKeys::kAll ? find_pixels(object, limit.old_name, limit.most) : std::nullopt;
    if (!pixels) {
      if (size.has(limit.old_name) && size.has(limit.new_name)) object.reject("size", kWanted);
      pixels = find_pixels(size, size.has(limit.new_name) ? limit.new_name : limit.old_name, limit.most);
    }
    if (!pixels) object.reject("size", kWanted);
    limit.out = *pixels;
  }
}

void read_sampling(const JsonObject& object, std::optional<FrameSampling>& sampling) {
  if (!object.flag("do_sample_frames", true)) {
    sampling.reset();
    return;
  }
  constexpr std::int64_t kMost = 1 << 20;
  // A null is no rate, not the default one.
  if (object.json().contains("fps"))
    sampling->fps = object.has("fps") ? std::optional(object.number("fps", 0, 0, 1e6)) : std::nullopt;
  if (const auto count = object.integer("num_frames", 1, kMost))
    sampling->num_frames = static_cast<int>(*count);
  if (sampling->fps && sampling->num_frames) {
    object.reject(
        "num_frames",
        fmt::format("it and \"fps\", which is {}, exclude each other: write null for one", *sampling->fps));
  }
  sampling->min_frames = static_cast<int>(object.integer("min_frames", sampling->min_frames, 1, kMost));
  sampling->max_frames = static_cast<int>(object.integer("max_frames", sampling->max_frames, 1, kMost));
}

VisualSpec read_spec(const ProcessorFile& source, const media::PatchSpec& tower, const VisualSpec& defaults,
                     LimitKeys keys = LimitKeys::kAll) {
  VisualSpec spec = parse_visual_spec(source.json, source.where, defaults, keys);
  const auto check = [&](const char* key, int value, int wanted) {
    if (value == wanted) return;
    throw ModelError(fmt::format("{}: \"{}\" is {}, but the vision tower of config.json reads {}.",
                                 source.where, key, value, wanted));
  };
  check("patch_size", spec.patches.patch_size, tower.patch_size);
  check("merge_size", spec.patches.merge_size, tower.merge_size);
  check("temporal_patch_size", spec.patches.temporal_patch_size, tower.temporal_patch_size);
  return spec;
}

}  // namespace

VisualSpec default_video_spec() {
  VisualSpec spec;
  spec.min_pixels = 128 * 28 * 28;
  spec.max_pixels = 28 * 28 * 768;
  return spec;
}

VisualSpec default_sampled_video_spec() {
  VisualSpec spec;
  spec.patches.patch_size = 16;
  spec.patches.mean = spec.patches.std = {0.5, 0.5, 0.5};
  spec.min_pixels = 128 * 32 * 32;
  spec.max_pixels = 32 * 32 * 768;
  spec.max_video_tokens = 768;
  spec.sampling = kFrameBounds;
  spec.sampling->fps = 2.0;
  return spec;
}

VisualSpec parse_visual_spec(const Json& json, const std::string& where, const VisualSpec& defaults,
                             LimitKeys keys) {
  const JsonObject object(json, where);
  VisualSpec spec = defaults;
  const auto small = [&](const char* key, int fallback, int most) {
    return static_cast<int>(object.integer(key, fallback, 1, most));
  };
  media::PatchSpec& patches = spec.patches;
  patches.patch_size = small("patch_size", patches.patch_size, 256);
  patches.merge_size = small("merge_size", patches.merge_size, 64);
  patches.temporal_patch_size = small("temporal_patch_size", patches.temporal_patch_size, 64);
  read_limits(object, keys, spec);
  read_pixels(object, patches);
  spec.do_resize = object.flag("do_resize", spec.do_resize);
  spec.cap_pixels_per_frame = object.flag("cap_pixels_per_frame", spec.cap_pixels_per_frame);
  spec.max_video_tokens = object.integer("max_video_tokens", spec.max_video_tokens, 1, 1 << 24);
  if (spec.sampling) read_sampling(object, spec.sampling);
  return spec;
}

VisualSpecs load_visual_specs(const base::Checkpoint& checkpoint, const media::PatchSpec& tower,
                              const VisualSpec& video_defaults, LimitKeys video_keys) {
  const ProcessorFile image = find_processor(checkpoint, "image_processor", {"preprocessor_config.json"});
  const ProcessorFile video = find_processor(checkpoint, "video_processor",
                                             {"video_preprocessor_config.json", "preprocessor_config.json"});
  return {read_spec(image, tower, {}), read_spec(video, tower, video_defaults, video_keys)};
}

}  // namespace tte::models::qwen
