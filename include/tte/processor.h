/// @file
/// What the model sees of an input: ids, pixels, positions. No weights are read.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tte/export.h"
#include "tte/input.h"
#include "tte/options.h"
#include "tte/tokenizer.h"
#include "tte/trace.h"

namespace tte {

/// One prompt under transformers' names. L tokens; images and videos in the order of their tokens.
struct ProcessedInput {
  std::vector<std::int64_t> input_ids;                      ///< [L], placeholders expanded.
  std::vector<std::int64_t> mm_token_type_ids;              ///< [L]: 0 text, 1 image, 2 video.
  std::vector<std::int64_t> position_ids;                   ///< [3, L] row-major: time, height, width.
  std::vector<float> pixel_values;                          ///< [patches of all images, patch_dim] row-major.
  std::vector<std::array<std::int64_t, 3>> image_grid_thw;  ///< [images, 3], in patches.
  std::vector<float> pixel_values_videos;                   ///< [patches of all videos, patch_dim] row-major.
  std::vector<std::array<std::int64_t, 3>> video_grid_thw;  ///< [videos, 3], in patches.
  std::int64_t patch_dim = 0;      ///< Values of a patch; 0 when there is neither image nor video.
  std::int64_t next_position = 0;  ///< Position of the token that would come next.
  /// First and end of the rows of latent steps, in a recipe with "latent": what the model reads there it makes of its
  /// own states, one after the other. Equal: there are none.
  std::array<std::int64_t, 2> latent_rows = {0, 0};
  std::int64_t pooled_row = -1;  ///< Row that an embedder pools; -1: it pools all, or none.
};

struct ProcessOptions {
  Stage stage = Stage::kReason;
  std::optional<std::string> instruction;  ///< Instead of the recipe's; an item's own comes first.
  Task task;
  std::optional<Trace> trace;  ///< kEmbed only: appended where the recipe says.
};

/// Immutable and thread-safe; copies share it.
class TTE_API Processor {
 public:
  /// Reads config.json, the preprocessor files, the tokenizer and the recipe of a checkpoint folder.
  /// Throws ModelError naming the file for anything missing or damaged.
  static Processor load(const std::filesystem::path& checkpoint, const LoadOptions& options = {});

  /// The prompt of one item. Throws InputError naming the item.
  [[nodiscard]] ProcessedInput process(const Input& input, const ProcessOptions& options = {}) const;

  /// The recipe in force, as JSON.
  [[nodiscard]] std::string recipe() const;
  /// Why it is in force: given by name, found from the checkpoint, ...
  [[nodiscard]] std::string recipe_reason() const;
  [[nodiscard]] Tokenizer tokenizer() const;

  class Impl;
  explicit Processor(std::shared_ptr<const Impl> impl);

 private:
  std::shared_ptr<const Impl> impl_;
};

}  // namespace tte
