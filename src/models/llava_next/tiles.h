// Any-resolution tiles: an image once as a whole, and once in tiles at the best of several resolutions.
#pragma once

#include <cstdint>
#include <vector>

#include "base/json.h"
#include "media/image.h"

namespace tte::models::llava_next {

using media::Size;

// image_grid_pinpoints of config.json or of the processor's file: heights and widths, multiples of `tile`. Throws
// ModelError for others.
std::vector<Size> read_pinpoints(const base::JsonObject& object, std::int64_t tile);

struct Tiling {
  std::vector<Size> pinpoints;  // What tiles together can be, in pixels.
  std::int64_t tile = 0;        // The side of a tile, in pixels,
  std::int64_t side = 0;        // and in features.

  // The one of the pinpoints that keeps most of an image, and of equals the one that wastes least.
  [[nodiscard]] Size best(Size image) const;
};

// The size of an image that fills `target` as far as its shape allows.
Size fit_into(Size image, Size target);

// The features of an image's tiles as a grid, without those that lie wholly in its margins.
struct FeatureGrid {
  std::int64_t rows = 0, columns = 0;  // Counted in tiles.
  std::int64_t top = 0, left = 0;      // Features cut off at either end.
  std::int64_t height = 0, width = 0;  // What is left; each row ends with a newline besides.

  // How many the image has in all: those of the whole, and of the grid.
  [[nodiscard]] std::int64_t tokens(const Tiling& tiling) const {
    return tiling.side * tiling.side + height * (width + 1);
  }
};
FeatureGrid feature_grid(Size image, const Tiling& tiling);

}  // namespace tte::models::llava_next
