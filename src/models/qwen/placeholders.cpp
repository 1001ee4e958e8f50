#include "models/qwen/placeholders.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "tte/error.h"

namespace tte::models::qwen {
namespace {

void check_grids(const Visuals& visuals, std::int64_t merge_size) {
  for (const auto& visual : visuals) {
    const media::Patches& patches = visual->patches;
    if (patches.t >= 1 && patches.h >= 1 && patches.w >= 1 && patches.h % merge_size == 0 &&
        patches.w % merge_size == 0) {
      continue;
    }
    throw InputError(
        fmt::format("A visual of {} x {} x {} patches: height and width must be multiples of {}.", patches.t,
                    patches.h, patches.w, merge_size));
  }
}

// The tokens of t x h x w merged patches, each `id`, from position `start` on.
struct Grid {
  std::int64_t t, h, w;
};
void append_grid(Prompt& prompt, std::int64_t id, base::Modality kind, Grid grid, std::int64_t start,
                 float time_step) {
  const auto tokens = static_cast<std::size_t>(grid.t * grid.h * grid.w);
  prompt.ids.insert(prompt.ids.end(), tokens, id);
  prompt.kinds.insert(prompt.kinds.end(), tokens, kind);
  for (std::int64_t t = 0; t < grid.t; ++t) {
    const std::int64_t time = start + static_cast<std::int64_t>(static_cast<float>(t) * time_step);
    for (std::int64_t y = 0; y < grid.h; ++y) {
      for (std::int64_t x = 0; x < grid.w; ++x) prompt.positions.push_back({time, start + y, start + x});
    }
  }
}

}  // namespace

Prompt expand_placeholders(const std::vector<std::int64_t>& ids, Visuals visuals,
                           const PlaceholderTokens& tokens, const TimeStep& time_step) {
  check_ids(ids, tokens.vocab_size);
  check_grids(visuals, tokens.merge_size);
  Visuals each;  // The visual of each placeholder.
  for (const auto& visual : visuals) {
    const bool one = time_step || !visual->video;
    each.insert(each.end(), one ? 1 : static_cast<std::size_t>(visual->patches.t), visual);
  }
  std::vector<bool> videos;
  for (const std::int64_t id : ids) {
    if (id == tokens.image || id == tokens.video) videos.push_back(id == tokens.video);
  }
  check_visuals(videos, each);

  Prompt prompt;
  std::int64_t position = 0;
  auto next = each.begin();
  for (const std::int64_t id : ids) {
    if (id != tokens.image && id != tokens.video) {
      append_text(prompt, id, position++);
      continue;
    }
    const Visual& visual = **next++;
    const media::Patches& patches = visual.patches;
    const Grid grid = {time_step ? patches.t : 1, patches.h / tokens.merge_size,
                       patches.w / tokens.merge_size};
    append_grid(prompt, id, visual.video ? base::Modality::kVideo : base::Modality::kImage, grid, position,
                time_step ? time_step(visual) : 1);
    position += std::max(grid.h, grid.w);
  }
  for (const auto& visual : visuals) {
    const media::Patches& patches = visual->patches;
    prompt.visual_tokens.push_back(patches.t * patches.h * patches.w /
                                   (tokens.merge_size * tokens.merge_size));
  }
  // Where text would go on, which can be below the highest position: a trace that is generated stands where
  // it would stand if it were part of the prompt.
  prompt.next_position = position;
  prompt.visuals = std::move(visuals);
  return prompt;
}

}  // namespace tte::models::qwen
