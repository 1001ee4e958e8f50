#include "models/llava_next/tiles.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace tte::models::llava_next {
namespace {

constexpr std::size_t kMostPinpoints = 1024;
constexpr std::int64_t kMostTiles = 256;

// Python's int(round(value, 7)).
std::int64_t whole(double value) {
  constexpr double kDigits = 1e7;
  return static_cast<std::int64_t>(std::round(value * kDigits) / kDigits);
}

double ratio(std::int64_t a, std::int64_t b) {
  return static_cast<double>(a) / static_cast<double>(b);
}

std::int64_t scaled(std::int64_t value, double scale) {
  return static_cast<std::int64_t>(static_cast<double>(value) * scale);
}

}  // namespace

std::vector<Size> read_pinpoints(const base::JsonObject& object, std::int64_t tile) {
  constexpr const char* kKey = "image_grid_pinpoints";
  const base::Json* value = object.find(kKey);
  if (value == nullptr) {
    if (tile != 336)
      object.fail(kKey, fmt::format("is missing, and what is usual does not fit tiles of {}", tile));
    return {{336, 672}, {672, 336}, {672, 672}, {1008, 336}, {336, 1008}};
  }
  if (!value->is_array() || value->empty() || value->size() > kMostPinpoints)
    object.reject(kKey, fmt::format("it must be a list of up to {} sizes", kMostPinpoints));
  std::vector<Size> out;
  for (const base::Json& entry : *value) {
    const auto size = base::strict_cast<std::vector<std::int64_t>>(entry);
    const auto fits = [&](std::int64_t side) {
      return side >= tile && side % tile == 0 && side / tile <= kMostTiles;
    };
    if (!size || size->size() != 2 || !fits(size->at(0)) || !fits(size->at(1)) ||
        size->at(0) / tile * (size->at(1) / tile) > kMostTiles) {
      object.reject(
          kKey, fmt::format("{} must be a height and a width, multiples of the tower's image_size {}, of up "
                            "to {} tiles",
                            base::shown(entry, 40), tile, kMostTiles));
    }
    out.push_back({size->at(0), size->at(1)});
  }
  return out;
}

Size Tiling::best(Size image) const {
  Size best = pinpoints.front();
  std::int64_t most = 0, least_waste = std::numeric_limits<std::int64_t>::max();
  for (const Size& candidate : pinpoints) {
    const double scale = std::min(ratio(candidate.width, image.width), ratio(candidate.height, image.height));
    const std::int64_t kept =
        std::min(scaled(image.width, scale) * scaled(image.height, scale), image.width * image.height);
    const std::int64_t waste = candidate.width * candidate.height - kept;
    if (kept > most || (kept == most && waste < least_waste)) {
      most = kept;
      least_waste = waste;
      best = candidate;
    }
  }
  return best;
}

Size fit_into(Size image, Size target) {
  const double by_width = ratio(target.width, image.width), by_height = ratio(target.height, image.height);
  const auto side = [](std::int64_t length, double scale, std::int64_t most) {
    return std::min(static_cast<std::int64_t>(std::ceil(static_cast<double>(length) * scale)), most);
  };
  if (by_width < by_height) return {side(image.height, by_width, target.height), target.width};
  return {target.height, side(image.width, by_height, target.width)};
}

FeatureGrid feature_grid(Size image, const Tiling& tiling) {
  const Size best = tiling.best(image);
  FeatureGrid grid;
  grid.rows = best.height / tiling.tile;
  grid.columns = best.width / tiling.tile;
  grid.height = grid.rows * tiling.side;
  grid.width = grid.columns * tiling.side;
  if (ratio(image.width, image.height) > ratio(grid.width, grid.height)) {
    grid.top = (grid.height - whole(static_cast<double>(image.height) * ratio(grid.width, image.width))) / 2;
    grid.height -= 2 * grid.top;
  } else {
    grid.left = (grid.width - whole(static_cast<double>(image.width) * ratio(grid.height, image.height))) / 2;
    grid.width -= 2 * grid.left;
  }
  return grid;
}

}  // namespace tte::models::llava_next
