// What a model reads of one item: token ids with positions, and the visuals among them.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/modality.h"
#include "media/patches.h"

namespace tte::models {

// One image or video as the vision tower reads it.
struct Visual {
  bool video = false;
  media::Patches patches;
  media::Size original;  // An image's size as given, for families that cut its margins off the features.
  // Seconds between two temporal patches, and the time of each frame that was taken. Of videos, for families
  // whose positions or texts know time.
  double seconds_per_grid = 0;
  std::vector<double> frame_times;
};
using Visuals = std::vector<std::shared_ptr<const Visual>>;

// Rows of a prompt that are no tokens: in each, the model reads what it makes of its own state behind the row before
// (Model::next_latent). The ids there only stand for them.
struct LatentRows {
  std::int64_t begin = 0;     // Tokens before the first: one at least.
  std::int64_t count = 0;     // 0: there are none.
  std::int64_t context = -1;  // The token before them whose state every step sees; -1: none.

  [[nodiscard]] std::int64_t end() const { return begin + count; }
  [[nodiscard]] bool has(std::int64_t row) const { return row >= begin && row < end(); }
};

// A prompt as the model sees it: placeholders expanded, positions assigned.
struct Prompt {
  std::vector<std::int64_t> ids;
  std::vector<base::Modality> kinds;                   // Same length as ids.
  std::vector<std::array<std::int64_t, 3>> positions;  // (t, h, w) per token.
  std::int64_t next_position = 0;                      // The first generated token has it, on all three axes.
  Visuals visuals;                                     // In the order of their tokens.
  std::vector<std::int64_t> visual_tokens;             // How many image / video tokens each visual has.
  // Lengths at which other prompts may part from this one, ascending: what states that cannot be cut are kept
  // at for them.
  std::vector<std::int64_t> boundaries;
  LatentRows latent;

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(ids.size()); }
};

}  // namespace tte::models
