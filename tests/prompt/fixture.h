// Items made in memory, and the nano reasoner's tokenizer, template and preprocessor (its weights are not read).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "prompt/checkpoint_files.h"
#include "prompt/prompt_builder.h"
#include "prompt/recipe.h"
#include "tte/input.h"

namespace tte::testing {

inline constexpr const char* kNano = TTE_SOURCE_DIR "/models/nano/reasoner";

inline std::shared_ptr<const prompt::CheckpointFiles> nano_files() {
  static const auto files = prompt::load_checkpoint_files(kNano);
  return files;
}

// An image whose pixels depend on `seed`.
inline Image pattern(int height, int width, unsigned seed = 1) {
  auto bytes = std::make_shared<std::vector<std::uint8_t>>(static_cast<std::size_t>(height * width * 3));
  std::uint32_t state = seed * 2654435761U + 1;
  for (auto& byte : *bytes) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<std::uint8_t>(state >> 24);
  }
  Image image;
  image.source = Pixels{std::shared_ptr<const std::uint8_t>(bytes, bytes->data()), height, width, 3};
  return image;
}

inline Video clip(int frames, int height, int width) {
  std::vector<Image> images;
  for (int i = 0; i < frames; ++i) images.push_back(pattern(height, width, static_cast<unsigned>(i) + 10));
  Video video;
  video.source = std::move(images);
  return video;
}

inline Input parts(std::vector<Part> list) {
  Input input;
  input.parts = std::move(list);
  return input;
}

inline prompt::Recipe recipe_of(const std::string& json) {
  return prompt::parse_recipe(base::parse_json(json, "test"), "test");
}

}  // namespace tte::testing
