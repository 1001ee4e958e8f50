// The images and videos of an item as parts of a message.
#pragma once

#include <string_view>
#include <vector>

#include "base/json.h"
#include "media/budget.h"
#include "media/image.h"
#include "prompt/recipe.h"
#include "tte/input.h"

namespace tte::remote {

// The media of one item, each as the list of its images: {"type": "image_url", "image_url": {"url": "data:..."}}.
class Attachments {
 public:
  Attachments(const prompt::Recipe& recipe, media::Budget& budget) : recipe_(recipe), budget_(budget) {}

  // An image or a video. Throws InputError as media/ does.
  [[nodiscard]] base::Json read(const Part& part);
  // Those of all parts in their order, or the recipe's blank image where there are none.
  [[nodiscard]] std::vector<base::Json> read_all(const Input& input);

 private:
  [[nodiscard]] base::Json image(const Image& image);
  [[nodiscard]] base::Json video(const Video& video);
  [[nodiscard]] base::Json png(const at::Tensor& pixels);
  [[nodiscard]] base::Json part_of(std::string_view mime, const std::vector<std::uint8_t>& file);

  const prompt::Recipe& recipe_;
  media::Budget& budget_;
};

// RFC 4648, with padding.
std::string to_base64(const std::vector<std::uint8_t>& bytes);

// The size that something of `size` gets: `wanted` before the recipe's limits. At least 1x1.
media::Size fitted(media::Size size, const Resize& wanted, std::optional<std::int64_t> min_pixels,
                   std::optional<std::int64_t> max_pixels);

}  // namespace tte::remote
