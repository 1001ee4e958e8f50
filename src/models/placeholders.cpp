#include "models/placeholders.h"

#include <fmt/core.h>

#include "tte/error.h"

namespace tte::models {

void check_visuals(const std::vector<bool>& videos, const Visuals& visuals) {
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

void check_ids(const std::vector<std::int64_t>& ids, std::int64_t vocab_size) {
  for (const std::int64_t id : ids) {
    if (id >= 0 && id < vocab_size) continue;
    throw InputError(
        fmt::format("Token {} is outside of the model's vocabulary of {}: the tokenizer is of another "
                    "checkpoint, or has tokens that the embedding was never resized for.",
                    id, vocab_size));
  }
}

void append_text(Prompt& prompt, std::int64_t id, std::int64_t position) {
  prompt.ids.push_back(id);
  prompt.kinds.push_back(base::Modality::kText);
  prompt.positions.push_back({position, position, position});
}

}  // namespace tte::models
