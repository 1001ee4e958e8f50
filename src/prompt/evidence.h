// What a trace points at in the item's image or video, which some embedders read as images of their own.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "media/image.h"
#include "models/preprocessor.h"

namespace tte::prompt {

// How traces of a system point: a JSON object between two tags, the first in them that holds no other object.
struct EvidenceRule {
  std::string open, close;  // The tags. Empty: traces point at nothing.
  std::string behind;       // Written behind the closing tag, before the images.
  // The key of a list of boxes [left, top, right, bottom] in the item's first image, and what both sides of that image
  // are in their numbers.
  std::string boxes;
  double scale = 1;
  // The key of a list of places among the frames that are taken of the item's first video, and the area that frames are
  // resized into.
  std::string frames;
  models::VisualOptions::Limits frame_pixels;
  int min_side = 1;         // Pixels: smaller crops are left out,
  double max_aspect = 200;  // and those of which one side is so many times the other.
  int most = 16;            // What comes after so many is left out.

  [[nodiscard]] bool points() const { return !open.empty(); }
};

// A trace, taken apart. Boxes and frames are those that are four numbers and a whole number, `most` at most; the lists
// of a trace that has both keys are its boxes.
struct Evidence {
  std::string head;  // Its text up to the images, without what stands before the opening tag,
  std::string tail;  // and behind them.
  std::vector<std::array<double, 4>> boxes;
  std::vector<std::int64_t> frames;
};

// Nothing for a trace without tags, or without a JSON object between them: it is read as it is.
std::optional<Evidence> evidence_of(std::string_view trace, const EvidenceRule& rule);

// A part of an image, in pixels.
struct Crop {
  std::int64_t left = 0, top = 0, width = 0, height = 0;
};
// What a box is in an image of `size`: rounded down to pixels and cut at the image's sides. Nothing for one that is
// then smaller or longer than the rule allows, reversed ones among them.
std::optional<Crop> crop_of(const std::array<double, 4>& box, media::Size size, const EvidenceRule& rule);

}  // namespace tte::prompt
