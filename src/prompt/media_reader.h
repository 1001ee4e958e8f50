// The images and videos of an item, as the vision tower reads them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/digest.h"
#include "media/patches.h"
#include "media/video.h"
#include "models/model.h"
#include "prompt/recipe.h"
#include "tte/input.h"
#include "tte/options.h"

namespace tte::prompt {

using Visuals = std::vector<std::shared_ptr<const models::Visual>>;

// Immutable and thread-safe.
class MediaReader {
 public:
  // The family's numbers, with the recipe's limits over them. Throws ModelError for limits that exclude each
  // other.
  MediaReader(const models::Layout& layout, const Recipe& recipe, const MediaLimits& limits = {});

  // All images and videos in the order of the item's parts (of its messages, when it has them), or the
  // recipe's blank image where there are none. Throws InputError naming `item`, also when they would
  // together cost more than the limits allow, and CancelledError soon after `stop`.
  [[nodiscard]] Visuals read(const Input& input, const std::string& item, const CancelToken& stop = {}) const;

  // Equal for two readers that make the same of every item.
  [[nodiscard]] const base::Digest& signature() const { return signature_; }

 private:
  [[nodiscard]] std::shared_ptr<const models::Visual> image(const Image& image, const std::string& item,
                                                            media::Budget& budget) const;
  [[nodiscard]] std::shared_ptr<const models::Visual> video(const Video& video, const std::string& item,
                                                            media::Budget& budget) const;

  media::PatchSpec image_spec_, video_spec_;
  media::FrameSampling sampling_;
  int blank_image_;
  MediaLimits limits_;
  base::Digest signature_;
};

// True if the item has an image or a video.
bool has_media(const Input& input);

}  // namespace tte::prompt
