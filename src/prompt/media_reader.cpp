#include "prompt/media_reader.h"

#include <fmt/core.h>

#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>

#include "media/budget.h"
#include "media/image.h"
#include "tte/error.h"

namespace tte::prompt {
namespace {

template <typename Visit>
void for_each_part(const Input& input, Visit visit) {
  for (const Part& part : input.parts) visit(part);
  for (const Message& message : input.messages) {
    for (const Part& part : message.parts) visit(part);
  }
}

// The item's first part of a kind; null if it has none.
template <typename Kind>
const Kind* first_part(const Input& input) {
  for (const Part& part : input.parts) {
    if (const auto* found = std::get_if<Kind>(&part)) return found;
  }
  return nullptr;
}

// What an error calls one of the item's media: its file, or its place among several. Empty for the only one.
std::string name_of(const Input& input, const Part& part) {
  const bool is_image = std::holds_alternative<Image>(part);
  const char* kind = is_image ? "image" : "video";
  const auto* path = is_image ? std::get_if<std::filesystem::path>(&std::get<Image>(part).source)
                              : std::get_if<std::filesystem::path>(&std::get<Video>(part).source);
  if (path != nullptr) return media::label_of_file(kind, *path);
  std::size_t count = 0, place = 0;
  for_each_part(input, [&](const Part& other) {
    count += other.index() == part.index() ? 1 : 0;
    if (&other == &part) place = count;
  });
  return count > 1 ? fmt::format("{} {}", kind, place) : "";
}

// Calls read(), whose errors may not say which of the item's media they are about.
template <typename Read>
auto naming(const Input& input, const Part& part, const Read& read) {
  try {
    return read();
  } catch (const InputError& error) {
    const std::string name = name_of(input, part);
    if (name.empty() || std::string_view(error.what()).find(name) != std::string_view::npos) throw;
    throw InputError(fmt::format("{}: {}", name, error.what()));
  }
}

// What tells two video files of an item apart; nothing for frames.
using VideoKey = std::tuple<std::filesystem::path, std::optional<double>, std::optional<int>,
                            std::optional<double>, std::array<std::optional<std::int64_t>, 4>>;
std::optional<VideoKey> key_of(const Video& video) {
  const auto* path = std::get_if<std::filesystem::path>(&video.source);
  if (path == nullptr) return std::nullopt;
  const Resize& size = video.resize;
  return VideoKey(*path, video.fps, video.num_frames, video.source_fps,
                  {size.min_pixels, size.max_pixels, size.height, size.width});
}

}  // namespace

bool has_media(const Input& input) {
  bool found = false;
  for_each_part(input,
                [&](const Part& part) { found = found || !std::holds_alternative<std::string>(part); });
  return found;
}

MediaReader::MediaReader(const models::Preprocessor& preprocessor, const Recipe& recipe,
                         const MediaLimits& limits)
    : reader_(preprocessor.visual_reader(recipe.visuals)),
      evidence_(recipe.trace.evidence),
      blank_image_(recipe.prompt.blank_image),
      limits_(limits) {
  limits_.validate();
  base::Digester hash;
  const base::Digest reader = reader_->signature();
  hash.bytes(&reader, sizeof(reader)).number(blank_image_);
  hash.number(limits_.max_pixels).number(limits_.max_file_bytes);
  hash.number(limits_.max_item_bytes).number(limits_.max_item_pixels);
  signature_ = hash.finish();
}

// Thousands of images, or of videos, would else be decoded, one after the other, until the first that is too many.
void MediaReader::check_together(const Input& input, const CancelToken& stop) const {
  std::vector<const Part*> media;
  std::size_t videos = 0;
  for_each_part(input, [&](const Part& part) {
    if (std::holds_alternative<std::string>(part)) return;
    media.push_back(&part);
    videos += std::holds_alternative<Video>(part) ? 1 : 0;
  });
  if (media.size() < 2) return;
  // How much work the bytes of a video allow is known once it is measured. A single one is, where it is read.
  bool measured = videos != 1;
  media::Budget budget(limits_, stop);
  std::vector<media::Budget::Loan> patches;
  std::set<VideoKey> seen;
  const auto check_video = [&](const Video& clip) {
    const auto key = key_of(clip);
    if (measured && (!key || seen.insert(*key).second)) measured = reader_->measure_video(clip, budget);
  };
  const auto check_image = [&](const Image& still) {
    const auto found = media::look_at(still, limits_);
    if (!found) return;
    budget.add_image(found->bytes, found->identity);
    if (measured) budget.work(found->size.height * found->size.width, found->label);
    patches.push_back(budget.borrow(reader_->image_bytes(found->size, still.resize), found->label));
  };
  for (const Part* part : media) {
    budget.check_cancelled();
    naming(input, *part, [&] {
      if (const auto* clip = std::get_if<Video>(part)) {
        check_video(*clip);
      } else {
        check_image(std::get<Image>(*part));
      }
    });
  }
}

Image blank_image(int side) {
  const auto length = static_cast<std::size_t>(side);
  const auto white = std::make_shared<std::vector<std::uint8_t>>(length * length * 3, std::uint8_t{255});
  return Image{Pixels{std::shared_ptr<const std::uint8_t>(white, white->data()), side, side, 3}};
}

models::Visuals MediaReader::read(const Input& input, const CancelToken& stop) const {
  check_together(input, stop);
  media::Budget budget(limits_, stop);
  models::Visuals visuals;
  std::map<VideoKey, std::shared_ptr<const models::Visual>>
      known;  // A file that is there again is not decoded again.
  const auto read_video = [&](const Video& clip) {
    const auto key = key_of(clip);
    const auto found = key ? known.find(*key) : known.end();
    visuals.push_back(found != known.end() ? found->second : reader_->video(clip, budget));
    if (key) known.emplace(*key, visuals.back());
  };
  for_each_part(input, [&](const Part& part) {
    naming(input, part, [&] {
      if (const auto* still = std::get_if<Image>(&part)) visuals.push_back(reader_->image(*still, budget));
      if (const auto* clip = std::get_if<Video>(&part)) read_video(*clip);
    });
  });
  if (visuals.empty() && blank_image_ > 0 && input.messages.empty()) {
    visuals.push_back(reader_->image(blank_image(blank_image_), budget));
  }
  return visuals;
}

models::Visuals MediaReader::read_evidence(const Input& input, const Evidence& evidence,
                                           const CancelToken& stop) const {
  media::Budget budget(limits_, stop);
  const Image* image = first_part<Image>(input);
  const Video* video = first_part<Video>(input);
  if (video != nullptr && !evidence.frames.empty())
    return reader_->frame_images(*video, evidence.frames, evidence_.frame_pixels, budget);
  models::Visuals out;
  if (image == nullptr || evidence.boxes.empty()) return out;
  const at::Tensor pixels = media::decode_image(*image, budget);
  for (const auto& box : evidence.boxes) {
    const auto crop = crop_of(box, {pixels.size(0), pixels.size(1)}, evidence_);
    if (!crop) continue;
    const at::Tensor part =
        pixels.narrow(0, crop->top, crop->height).narrow(1, crop->left, crop->width).contiguous();
    Image cut;
    // The tensor lives as long as its bytes are used.
    cut.source = Pixels{std::shared_ptr<const std::uint8_t>(std::make_shared<at::Tensor>(part),
                                                            part.const_data_ptr<std::uint8_t>()),
                        static_cast<int>(crop->height), static_cast<int>(crop->width), 3};
    cut.resize = image->resize;
    out.push_back(reader_->image(cut, budget));
  }
  return out;
}

}  // namespace tte::prompt
