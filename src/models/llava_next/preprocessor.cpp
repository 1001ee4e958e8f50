#include "models/llava_next/preprocessor.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "models/llava_next/config.h"
#include "models/placeholders.h"
#include "models/processor_files.h"
#include "tte/error.h"

namespace tte::models::llava_next {
namespace {

// An image of `size` in the middle of black, cut into tiles row by row: uint8 [tile, tile, 3] each.
std::vector<at::Tensor> cut_tiles(const at::Tensor& image, Size size, std::int64_t tile) {
  const std::int64_t top = (size.height - image.size(0)) / 2, left = (size.width - image.size(1)) / 2;
  at::Tensor canvas = at::zeros({size.height, size.width, 3}, at::kByte);
  canvas.narrow(0, top, image.size(0)).narrow(1, left, image.size(1)).copy_(image);
  std::vector<at::Tensor> tiles;
  for (std::int64_t y = 0; y < size.height; y += tile) {
    for (std::int64_t x = 0; x < size.width; x += tile)
      tiles.push_back(canvas.narrow(0, y, tile).narrow(1, x, tile).contiguous());
  }
  return tiles;
}

class TileReader final : public VisualReader {
 public:
  TileReader(const Tiling& tiling, const media::PatchSpec& patches, std::string checkpoint)
      : tiling_(tiling), patches_(patches), checkpoint_(std::move(checkpoint)) {}

  [[nodiscard]] std::shared_ptr<const Visual> image(const Image& image,
                                                    media::Budget& budget) const override {
    check_size_free(image.resize);
    const at::Tensor pixels = media::decode_image(image, budget);
    const Size original = {pixels.size(0), pixels.size(1)}, best = tiling_.best(original);
    const std::int64_t bytes = patch_bytes(original);
    const std::string label =
        fmt::format("an image for the model, tiles of {}x{} pixels (width x height) and the whole,",
                    best.width, best.height);
    budget.keep(bytes, label);
    // The image itself, its resized copy, the canvas and its tiles: a byte where patches have a float.
    const auto loan = budget.borrow(static_cast<std::int64_t>(pixels.nbytes()) + 3 * bytes / 4, label);
    std::vector<at::Tensor> tiles =
        cut_tiles(media::resize(pixels, fit_into(original, best)), best, tiling_.tile);
    tiles.insert(tiles.begin(), media::resize(pixels, tile_size()));
    auto visual = std::make_shared<Visual>();
    visual->original = original;
    visual->patches = media::patchify(tiles, patches_, tile_size());
    // The same tiles have other features where more or less of them is margin.
    visual->patches.digest = base::Digester()
                                 .text(visual->patches.digest.hex())
                                 .number(original.height)
                                 .number(original.width)
                                 .finish();
    return visual;
  }
  [[nodiscard]] std::shared_ptr<const Visual> video(const Video& /*video*/,
                                                    media::Budget& /*budget*/) const override {
    throw InputError(
        fmt::format("it has a video, but the model of {} reads text and images: give frames of it as images.",
                    checkpoint_));
  }
  [[nodiscard]] std::int64_t image_bytes(media::Size size, const Resize& wanted) const override {
    check_size_free(wanted);
    return patch_bytes(size);
  }
  [[nodiscard]] base::Digest signature() const override {
    base::Digester out;
    out.text("tiles").number(tiling_.tile).number(tiling_.side);
    for (const Size& size : tiling_.pinpoints) out.number(size.height).number(size.width);
    for (const auto& values : {patches_.mean, patches_.std}) out.bytes(values.data(), sizeof(values));
    out.number(std::bit_cast<std::int64_t>(patches_.rescale));
    out.number(patches_.do_rescale).number(patches_.do_normalize);
    return out.finish();
  }

 private:
  [[nodiscard]] Size tile_size() const { return {tiling_.tile, tiling_.tile}; }
  [[nodiscard]] std::int64_t patch_bytes(Size image) const {
    const Size best = tiling_.best(image);
    const std::int64_t tiles = 1 + best.height / tiling_.tile * (best.width / tiling_.tile);
    return media::patch_bytes(tile_size(), tiles, patches_);
  }
  void check_size_free(const Resize& wanted) const {
    if (!wanted.min_pixels && !wanted.max_pixels && !wanted.height && !wanted.width) return;
    throw InputError(
        fmt::format("a size is asked for an image, but the model of {} has fixed sizes "
                    "(image_grid_pinpoints): leave it out.",
                    checkpoint_));
  }

  Tiling tiling_;
  media::PatchSpec patches_;
  std::string checkpoint_;
};

class LlavaNextPreprocessor final : public Preprocessor {
 public:
  LlavaNextPreprocessor(const Config& config, const media::PatchSpec& patches, std::string checkpoint)
      : tiling_(config.tiling),
        patches_(patches),
        image_token_(config.image_token),
        vocab_size_(config.text.vocab_size),
        checkpoint_(std::move(checkpoint)) {}

  [[nodiscard]] std::shared_ptr<const VisualReader> visual_reader(
      const VisualOptions& /*options*/) const override {
    return std::make_shared<TileReader>(tiling_, patches_, checkpoint_);
  }
  [[nodiscard]] std::optional<std::int64_t> image_token() const override { return image_token_; }
  [[nodiscard]] std::optional<std::int64_t> video_token() const override { return std::nullopt; }

  [[nodiscard]] Prompt expand_placeholders(const std::vector<std::int64_t>& ids,
                                           Visuals visuals) const override {
    check_ids(ids, vocab_size_);
    check_visuals(
        std::vector<bool>(static_cast<std::size_t>(std::count(ids.begin(), ids.end(), image_token_))),
        visuals);
    Prompt prompt;
    auto next = visuals.begin();
    for (const std::int64_t id : ids) {
      if (id != image_token_) {
        append_text(prompt, id, prompt.next_position++);
        continue;
      }
      const std::int64_t tokens = feature_grid((*next++)->original, tiling_).tokens(tiling_);
      for (std::int64_t i = 0; i < tokens; ++i) {
        append_text(prompt, id, prompt.next_position++);
        prompt.kinds.back() = base::Modality::kImage;
      }
      prompt.visual_tokens.push_back(tokens);
    }
    prompt.visuals = std::move(visuals);
    return prompt;
  }

 private:
  Tiling tiling_;
  media::PatchSpec patches_;
  std::int64_t image_token_, vocab_size_;
  std::string checkpoint_;
};

// Sides of what a key of the processor's file says: a square, or its shortest edge.
void check_square(const base::JsonObject& object, const char* key, std::int64_t tile) {
  if (!object.has(key))
    object.fail(key, fmt::format("is missing: tte needs the tower's image_size, {}", tile));
  const base::Json& value = *object.find(key);
  const std::int64_t most = std::int64_t{1} << 24;
  bool fits = base::whole_number(value, tile, tile).has_value();
  if (value.is_object()) {
    const base::JsonObject size = object.object(key);
    fits = size.has("shortest_edge")
               ? size.integer("shortest_edge", 0, 1, most) == tile
               : size.integer("height", 0, 1, most) == tile && size.integer("width", 0, 1, most) == tile;
  }
  if (!fits) object.reject(key, fmt::format("it must be the tower's image_size, {}", tile));
}

media::PatchSpec read_processor(const base::Checkpoint& checkpoint, const Config& config) {
  const ProcessorFile file = find_processor(checkpoint, "image_processor", {"preprocessor_config.json"});
  const base::JsonObject object(file.json, file.where);
  media::PatchSpec patches{
      .patch_size = static_cast<int>(config.vision.patch_size), .mean = kClipMean, .std = kClipStd};
  read_pixels(object, patches);
  for (const char* key : {"size", "crop_size"}) check_square(object, key, config.tiling.tile);
  const std::vector<Size> pinpoints = read_pinpoints(object, config.tiling.tile);
  const bool same = std::equal(pinpoints.begin(), pinpoints.end(), config.tiling.pinpoints.begin(),
                               config.tiling.pinpoints.end(),
                               [](Size a, Size b) { return a.height == b.height && a.width == b.width; });
  if (!same) object.reject("image_grid_pinpoints", fmt::format("those of {} differ", config.file));
  return patches;
}

}  // namespace

std::shared_ptr<const Preprocessor> load_preprocessor(const base::Checkpoint& checkpoint) {
  const Config config = load_config(checkpoint);
  return std::make_shared<LlavaNextPreprocessor>(config, read_processor(checkpoint, config),
                                                 base::shown(checkpoint.folder()));
}

}  // namespace tte::models::llava_next
