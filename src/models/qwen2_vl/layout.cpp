#include "models/qwen2_vl/layout.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "tte/error.h"

namespace tte::models::qwen2_vl {
namespace {

// Throws InputError unless there are as many visuals as placeholders, of the same kinds in the same order.
void check_visuals(const std::vector<bool>& videos,
                   const std::vector<std::shared_ptr<const Visual>>& visuals) {
  if (videos.size() != visuals.size()) {
    throw InputError(
        fmt::format("The prompt has {} image and video placeholders, but {} images and videos were given: "
                    "each needs one.",
                    videos.size(), visuals.size()));
  }
  const auto name = [](bool video) { return video ? "video" : "image"; };
  for (std::size_t i = 0; i < visuals.size(); ++i) {
    if (visuals[i]->video == videos[i]) continue;
    throw InputError(
        fmt::format("Placeholder {} of the prompt is for one {}, but {} {} stands there: give them in the "
                    "order of the prompt.",
                    i + 1, name(videos[i]), visuals[i]->video ? "a" : "an", name(visuals[i]->video)));
  }
}

// Appends one visual's tokens, whose positions start at `start`.
void append_visual(Prompt& prompt, std::int64_t id, const Visual& visual, std::int64_t start,
                   std::int64_t merge) {
  const media::Patches& patches = visual.patches;
  const std::int64_t h = patches.h / merge, w = patches.w / merge;
  const std::int64_t tokens = patches.t * h * w;
  prompt.ids.insert(prompt.ids.end(), static_cast<std::size_t>(tokens), id);
  prompt.kinds.insert(prompt.kinds.end(), static_cast<std::size_t>(tokens),
                      visual.video ? TokenKind::kVideo : TokenKind::kImage);
  for (std::int64_t t = 0; t < patches.t; ++t) {
    for (std::int64_t y = 0; y < h; ++y) {
      for (std::int64_t x = 0; x < w; ++x) prompt.positions.push_back({start + t, start + y, start + x});
    }
  }
  prompt.visual_tokens.push_back(tokens);
}

}  // namespace

QwenLayout::QwenLayout(const Config& config, PatchSpecs specs)
    : specs_(specs),
      image_token_(config.image_token),
      video_token_(config.video_token),
      vocab_size_(config.text.vocab_size),
      merge_size_(config.vision.merge_size) {}

Prompt QwenLayout::layout(const std::vector<std::int64_t>& ids,
                          std::vector<std::shared_ptr<const Visual>> visuals) const {
  std::vector<bool> videos;
  for (const std::int64_t id : ids) {
    if (id < 0 || id >= vocab_size_) {
      throw InputError(
          fmt::format("Token {} is outside of the model's vocabulary of {}: the tokenizer is of another "
                      "checkpoint, or has tokens that the embedding was never resized for.",
                      id, vocab_size_));
    }
    if (id == image_token_ || id == video_token_) videos.push_back(id == video_token_);
  }
  check_visuals(videos, visuals);
  for (const auto& visual : visuals) {
    const media::Patches& patches = visual->patches;
    if (patches.t >= 1 && patches.h >= 1 && patches.w >= 1 && patches.h % merge_size_ == 0 &&
        patches.w % merge_size_ == 0) {
      continue;
    }
    throw InputError(
        fmt::format("A visual of {} x {} x {} patches: height and width must be multiples of {}.", patches.t,
                    patches.h, patches.w, merge_size_));
  }

  Prompt prompt;
  std::int64_t position = 0;
  auto visual = visuals.begin();
  for (const std::int64_t id : ids) {
    if (id == image_token_ || id == video_token_) {
      append_visual(prompt, id, **visual, position, merge_size_);
      position += std::max((*visual)->patches.h, (*visual)->patches.w) / merge_size_;
      ++visual;
    } else {
      prompt.ids.push_back(id);
      prompt.kinds.push_back(TokenKind::kText);
      prompt.positions.push_back({position, position, position});
      ++position;
    }
  }
  // Where text would go on, which can be below the highest position: a trace that is generated stands where
  // it would stand if it were part of the prompt.
  prompt.next_position = position;
  prompt.visuals = std::move(visuals);
  return prompt;
}

std::shared_ptr<const Layout> load_layout(const std::filesystem::path& checkpoint) {
  const Config config = load_config(checkpoint);
  return std::make_shared<QwenLayout>(config, load_patch_specs(checkpoint, config.vision.patch_spec()));
}

}  // namespace tte::models::qwen2_vl
