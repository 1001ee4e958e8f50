#include "prompt/media_reader.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>

#include "media/image.h"
#include "tte/error.h"

namespace tte::prompt {
namespace {

// What transformers assumes of a video that does not say.
constexpr double kDefaultFps = 24.0;

template <typename Visit>
void for_each_part(const Input& input, Visit visit) {
  for (const Part& part : input.parts) visit(part);
  for (const Message& message : input.messages) {
    for (const Part& part : message.parts) visit(part);
  }
}

void limit(media::PatchSpec& spec, const std::optional<std::int64_t>& least,
           const std::optional<std::int64_t>& most, const std::string& recipe, const char* what) {
  if (least) spec.min_pixels = *least;
  if (most) spec.max_pixels = *most;
  // The checkpoint's own limits count as they are, as in transformers: the most before the least.
  if ((least || most) && spec.min_pixels > spec.max_pixels) {
    throw ModelError(
        fmt::format("The recipe \"{}\" leaves {}s with min_pixels {} above max_pixels {}: it must set both, "
                    "as the checkpoint's "
                    "own limits do not fit.",
                    recipe, what, spec.min_pixels, spec.max_pixels));
  }
}

void digest(base::Digester& out, const media::PatchSpec& spec) {
  out.number(spec.patch_size).number(spec.merge_size).number(spec.temporal_patch_size);
  out.number(spec.min_pixels).number(spec.max_pixels);
  for (const auto& values : {spec.mean, spec.std}) out.bytes(values.data(), sizeof(values));
  out.number(std::bit_cast<std::int64_t>(spec.rescale));
  out.number(spec.do_resize).number(spec.do_rescale).number(spec.do_normalize);
  out.number(spec.cap_pixels_per_frame).number(spec.max_video_tokens);
}

}  // namespace

bool has_media(const Input& input) {
  bool found = false;
  for_each_part(input,
                [&](const Part& part) { found = found || !std::holds_alternative<std::string>(part); });
  return found;
}

MediaReader::MediaReader(const models::Layout& layout, const Recipe& recipe, const MediaLimits& limits)
    : image_spec_(layout.image_spec()),
      video_spec_(layout.video_spec()),
      sampling_(recipe.frames),
      blank_image_(recipe.prompt.blank_image),
      limits_(limits) {
  limits_.validate();
  sampling_.temporal_patch_size = video_spec_.temporal_patch_size;
  limit(image_spec_, recipe.image_min_pixels, recipe.image_max_pixels, recipe.name, "image");
  limit(video_spec_, recipe.video_min_pixels, recipe.video_max_pixels, recipe.name, "video");
  base::Digester hash;
  digest(hash, image_spec_);
  digest(hash, video_spec_);
  hash.number(std::bit_cast<std::int64_t>(sampling_.fps.value_or(-1.0)))
      .number(sampling_.num_frames.value_or(-1));
  hash.number(sampling_.min_frames).number(sampling_.max_frames).number(blank_image_);
  hash.number(limits_.max_pixels).number(limits_.max_file_bytes);
  hash.number(limits_.max_item_bytes).number(limits_.max_item_pixels);
  signature_ = hash.finish();
}

std::shared_ptr<const models::Visual> MediaReader::image(const Image& image, const std::string& item,
                                                         media::Budget& budget) const {
  const media::PatchSpec spec = media::with_resize(image_spec_, image.resize, item);
  const at::Tensor pixels = media::decode_image(image, item, budget);
  const media::Size size = media::image_size({pixels.size(0), pixels.size(1)}, spec, item);
  const std::int64_t bytes = media::patch_bytes(size, 1, spec);
  const std::string label = fmt::format("{}: an image for the model, {}x{} pixels (width x height),", item,
                                        size.width, size.height);
  budget.keep(bytes, label);
  // The image itself, and its resized copy: a byte where patches have a float, or less.
  const auto loan = budget.borrow(static_cast<std::int64_t>(pixels.nbytes()) + bytes / 4, label);
  auto visual = std::make_shared<models::Visual>();
  visual->patches = media::patchify({pixels}, spec, size);
  return visual;
}

std::shared_ptr<const models::Visual> MediaReader::video(const Video& video, const std::string& item,
                                                         media::Budget& budget) const {
  const media::PatchSpec spec = media::with_resize(video_spec_, video.resize, item);
  const auto fit = [&](media::Size frame, std::int64_t count) {
    const media::Size size = media::video_size(frame, count, spec, item);
    budget.keep(media::patch_bytes(size, count, spec),
                fmt::format("{}: a video for the model, {} frames of {}x{} pixels (width x height),", item,
                            count, size.width, size.height));
    return size;
  };
  const media::Frames frames = media::read_video(video, sampling_, item, budget, fit);
  auto visual = std::make_shared<models::Visual>();
  visual->video = true;
  const at::Tensor& first = frames.images.front();
  visual->patches = media::patchify(frames.images, spec, {first.size(0), first.size(1)});
  // Rounded to float32, which is how transformers hands it to the position index.
  const double fps = frames.sampled_fps.value_or(frames.source_fps.value_or(kDefaultFps));
  visual->seconds_per_grid = static_cast<float>(video_spec_.temporal_patch_size / fps);
  return visual;
}

Visuals MediaReader::read(const Input& input, const std::string& item, const CancelToken& stop) const {
  if (!input.error.empty()) throw InputError(input.error);
  media::Budget budget(limits_, stop);
  Visuals visuals;
  for_each_part(input, [&](const Part& part) {
    if (const auto* still = std::get_if<Image>(&part)) visuals.push_back(image(*still, item, budget));
    if (const auto* clip = std::get_if<Video>(&part)) visuals.push_back(video(*clip, item, budget));
  });
  if (visuals.empty() && blank_image_ > 0 && input.messages.empty()) {
    const auto size = static_cast<std::size_t>(blank_image_);
    auto white = std::make_shared<std::vector<std::uint8_t>>(size * size * 3, std::uint8_t{255});
    Image blank;
    blank.source =
        Pixels{std::shared_ptr<const std::uint8_t>(white, white->data()), blank_image_, blank_image_, 3};
    visuals.push_back(image(blank, item, budget));
  }
  return visuals;
}

}  // namespace tte::prompt
