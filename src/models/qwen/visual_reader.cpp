#include "models/qwen/visual_reader.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <set>
#include <utility>

#include "media/image.h"
#include "tte/error.h"

namespace tte::models::qwen {
namespace {

// The most tokens that qwen-vl-utils gives a video, from a context of 128,000.
constexpr double kUtilsTokens = 128'000 * 0.9;
// The fewest and the most that it gives an image.
constexpr std::int64_t kLeastUtilsTokens = 4, kMostUtilsTokens = 16384;

void limit(VisualSpec& spec, const std::optional<std::int64_t>& least,
           const std::optional<std::int64_t>& most, const std::string& recipe, const char* what) {
  if (least) spec.min_pixels = *least;
  if (most) spec.max_pixels = *most;
  // The checkpoint's own limits count as they are, as in transformers: the most before the least.
  if ((least || most) && spec.min_pixels > spec.max_pixels) {
    throw ModelError(
        fmt::format("The recipe \"{}\" leaves {}s with min_pixels {} above max_pixels {}: it must set both, "
                    "as the checkpoint's own limits do not fit.",
                    recipe, what, spec.min_pixels, spec.max_pixels));
  }
}

void digest(base::Digester& out, const VisualSpec& spec) {
  const media::PatchSpec& patches = spec.patches;
  out.number(patches.patch_size).number(patches.merge_size).number(patches.temporal_patch_size);
  out.number(spec.min_pixels).number(spec.max_pixels);
  for (const auto& values : {patches.mean, patches.std}) out.bytes(values.data(), sizeof(values));
  out.number(std::bit_cast<std::int64_t>(patches.rescale));
  out.number(spec.do_resize).number(patches.do_rescale).number(patches.do_normalize);
  out.number(spec.cap_pixels_per_frame).number(spec.max_video_tokens);
}

}  // namespace

QwenVisualReader::QwenVisualReader(const VisualSpecs& files, const VisualOptions& recipe, VideoRules rules)
    : recipe_(recipe.recipe),
      image_(files.image),
      video_(files.video),
      min_side_(recipe.image_min_side),
      small_side_(recipe.image_small_side),
      sampling_(files.video.sampling.value_or(kFrameBounds)),
      family_samples_(files.video.sampling && !recipe.frames.fps && !recipe.frames.num_frames),
      rules_(rules) {
  if (!family_samples_) {
    sampling_.fps = recipe.frames.fps;
    sampling_.num_frames = recipe.frames.num_frames;
  }
  sampling_.min_frames = recipe.frames.min_frames.value_or(sampling_.min_frames);
  sampling_.max_frames = recipe.frames.max_frames.value_or(sampling_.max_frames);
  if (recipe.frames.min_frames && sampling_.min_frames > sampling_.max_frames) {
    throw ModelError(fmt::format(
        "The recipe \"{}\" leaves videos with min_frames {} above max_frames {}: it must set both, as the "
        "checkpoint's own do not fit.",
        recipe.recipe, sampling_.min_frames, sampling_.max_frames));
  }
  if (recipe.video_resize == VideoResize::kQwenVlUtils) {
    const std::int64_t token = std::int64_t{video_.factor()} * video_.factor();
    video_.min_pixels = 128 * token;
    video_.max_pixels = 768 * token;
    utils_pixels_ = recipe.video_total_pixels ? static_cast<double>(*recipe.video_total_pixels)
                                              : kUtilsTokens * static_cast<double>(token);
  }
  if (recipe.image_first) {
    const std::int64_t token = std::int64_t{image_.factor()} * image_.factor();
    first_ = image_;
    first_->min_pixels = kLeastUtilsTokens * token;
    first_->max_pixels = kMostUtilsTokens * token;
    limit(*first_, recipe.image_first->min_pixels, recipe.image_first->max_pixels, recipe.recipe, "image");
  }
  limit(image_, recipe.image_min_pixels, recipe.image_max_pixels, recipe.recipe, "image");
  limit(video_, recipe.video_min_pixels, recipe.video_max_pixels, recipe.recipe, "video");
}

std::vector<Size> QwenVisualReader::image_sizes(Size image, const Stages& stages) const {
  std::vector<Size> sizes;
  const auto now = [&] { return sizes.empty() ? image : sizes.back(); };
  if (std::min(image.height, image.width) < min_side_) sizes.push_back({small_side_, small_side_});
  if (stages.first) sizes.push_back(utils_image_size(now(), *stages.first));
  sizes.push_back(image_size(now(), stages.last));
  return sizes;
}

std::int64_t QwenVisualReader::image_bytes(media::Size size, const Resize& wanted) const {
  const VisualSpec spec = with_resize(image_, wanted);
  return media::patch_bytes(image_sizes(size, {first_, spec}).back(), 1, spec.patches);
}

base::Digest QwenVisualReader::signature() const {
  base::Digester out;
  digest(out, image_);
  digest(out, video_);
  out.number(std::bit_cast<std::int64_t>(sampling_.fps.value_or(-1.0)))
      .number(sampling_.num_frames.value_or(-1));
  out.number(sampling_.min_frames).number(sampling_.max_frames).number(family_samples_);
  out.number(std::bit_cast<std::int64_t>(utils_pixels_.value_or(-1.0)));
  out.number(min_side_).number(small_side_).number(first_ ? 1 : 0);
  if (first_) digest(out, *first_);
  return out.finish();
}

std::shared_ptr<const Visual> QwenVisualReader::image(const Image& image, media::Budget& budget) const {
  return image_of(media::decode_image(image, budget), {first_, with_resize(image_, image.resize)}, budget);
}

Visuals QwenVisualReader::frame_images(const Video& video, const std::vector<std::int64_t>& places,
                                       const VisualOptions::Limits& area, media::Budget& budget) const {
  const VisualSpec spec = with_resize(video_, video.resize);
  const Reading how = reading(video, spec, budget);
  std::vector<std::int64_t> there;  // Those of `places` that frames were taken for, ascending.
  const auto some = [&](int total, std::optional<double> source_fps) {
    const std::vector<int> all = how.sample(total, source_fps);
    std::vector<int> wanted;
    there.clear();
    for (const std::int64_t place : std::set<std::int64_t>(places.begin(), places.end())) {
      if (place < 0 || place >= static_cast<std::int64_t>(all.size())) continue;
      there.push_back(place);
      wanted.push_back(all[static_cast<std::size_t>(place)]);
    }
    return wanted.empty() ? std::vector<int>{all.front()} : wanted;  // No video is read without a frame.
  };
  const media::Frames frames = media::read_video(video, budget, some);
  Stages stages{first_, image_};
  limit(stages.first ? *stages.first : stages.last, area.min_pixels, area.max_pixels, recipe_, "frame");
  Visuals out;
  for (const std::int64_t place : places) {
    const auto at = std::find(there.begin(), there.end(), place);
    if (at == there.end()) continue;
    out.push_back(image_of(frames.images[static_cast<std::size_t>(at - there.begin())], stages, budget));
  }
  return out;
}

std::shared_ptr<const Visual> QwenVisualReader::image_of(at::Tensor pixels, const Stages& stages,
                                                         media::Budget& budget) const {
  const VisualSpec& spec = stages.last;
  const std::vector<Size> sizes = image_sizes({pixels.size(0), pixels.size(1)}, stages);
  const Size size = sizes.back();
  const std::int64_t bytes = media::patch_bytes(size, 1, spec.patches);
  const std::string label =
      fmt::format("an image for the model, {}x{} pixels (width x height),", size.width, size.height);
  budget.keep(bytes, label);
  // The image itself, and its resized copy: a byte where patches have a float, or less.
  const auto loan = budget.borrow(static_cast<std::int64_t>(pixels.nbytes()) + bytes / 4, label);
  for (std::size_t i = 0; i + 1 < sizes.size(); ++i) {
    const auto copy = budget.borrow(sizes[i].height * sizes[i].width * 3, label);
    pixels = media::resize(pixels, sizes[i]);
  }
  auto visual = std::make_shared<Visual>();
  visual->patches = media::patchify({pixels}, spec.patches, size);
  return visual;
}

FrameSampling QwenVisualReader::choose(const Video& video, int total,
                                       std::optional<double> source_fps) const {
  if (!family_samples_ || video.fps || video.num_frames)
    return choose_rule(video, sampling_, video_.patches.temporal_patch_size, total, source_fps);
  FrameSampling rule = sampling_;
  // As the reference, where its file names neither: within the bounds, even of fewer frames.
  if (!rule.fps && !rule.num_frames)
    rule.num_frames = std::min(std::max(total, rule.min_frames), rule.max_frames);
  return rule;
}

Size QwenVisualReader::size(Size frame, std::int64_t frames, const VisualSpec& spec) const {
  return utils_pixels_ ? utils_size(frame, frames, spec, *utils_pixels_) : rules_.size(frame, frames, spec);
}

QwenVisualReader::Reading QwenVisualReader::reading(const Video& video, const VisualSpec& spec,
                                                    media::Budget& budget) const {
  const auto sample = [&](int total, std::optional<double> source_fps) {
    return rules_.sample_frames(total, source_fps, choose(video, total, source_fps),
                                spec.patches.temporal_patch_size);
  };
  const auto fit = [&](Size frame, std::int64_t count) {
    const Size size = this->size(frame, count, spec);
    budget.keep(media::patch_bytes(size, count, spec.patches),
                fmt::format("a video for the model, {} frames of {}x{} pixels (width x height),", count,
                            size.width, size.height));
    return size;
  };
  return {sample, fit};
}

bool QwenVisualReader::measure_video(const Video& video, media::Budget& budget) const {
  const VisualSpec spec = with_resize(video_, video.resize);
  const Reading how = reading(video, spec, budget);
  return media::measure_video(video, budget, how.sample, how.fit);
}

std::shared_ptr<const Visual> QwenVisualReader::video(const Video& video, media::Budget& budget) const {
  const VisualSpec spec = with_resize(video_, video.resize);
  const int temporal = spec.patches.temporal_patch_size;
  const Reading how = reading(video, spec, budget);
  const media::Frames frames = media::read_video(video, budget, how.sample, how.fit);
  auto visual = std::make_shared<Visual>();
  visual->video = true;
  const at::Tensor& first = frames.images.front();
  visual->patches = media::patchify(frames.images, spec.patches, {first.size(0), first.size(1)});
  // Rounded to float32, which is how transformers hands it to the position index.
  const double fps = frames.sampled_fps.value_or(frames.source_fps.value_or(kDefaultFps));
  visual->seconds_per_grid = static_cast<float>(temporal / fps);
  for (const int index : frames.indices)
    visual->frame_times.push_back(index / frames.source_fps.value_or(kDefaultFps));
  return visual;
}

}  // namespace tte::models::qwen
