// The images and videos of an item, as the vision tower reads them.
#pragma once

#include <memory>
#include <string>

#include "base/digest.h"
#include "models/preprocessor.h"
#include "prompt/recipe.h"
#include "tte/input.h"
#include "tte/options.h"

namespace tte::prompt {

// Immutable and thread-safe.
class MediaReader {
 public:
  // Throws ModelError for limits of the recipe that do not fit the checkpoint's.
  MediaReader(const models::Preprocessor& preprocessor, const Recipe& recipe, const MediaLimits& limits = {});

  // All images and videos in the order of the item's parts (of its messages, when it has them), or the
  // recipe's blank image where there are none. Throws InputError, also when they would together cost more than the
  // limits allow (before the first is decoded, where their headers tell), and CancelledError soon after `stop`.
  [[nodiscard]] models::Visuals read(const Input& input, const CancelToken& stop = {}) const;

  // The images that a trace of such an item points at, as the rule of the recipe has it: none of one that points at
  // nothing. Throws as read() does.
  [[nodiscard]] models::Visuals read_evidence(const Input& input, const Evidence& evidence,
                                              const CancelToken& stop = {}) const;

  // Equal for two readers that make the same of every item.
  [[nodiscard]] const base::Digest& signature() const { return signature_; }

 private:
  void check_together(const Input& input, const CancelToken& stop) const;

  std::shared_ptr<const models::VisualReader> reader_;
  EvidenceRule evidence_;
  int blank_image_;
  MediaLimits limits_;
  base::Digest signature_;
};

// A white square, `side` pixels wide: what a recipe puts before an item without images.
Image blank_image(int side);

// True if the item has an image or a video.
bool has_media(const Input& input);

}  // namespace tte::prompt
