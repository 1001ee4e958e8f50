#include "models/qwen/stamped_preprocessor.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "models/qwen/placeholders.h"
#include "models/qwen/visual_reader.h"
#include "text/tokenizer/tokenizer.h"

namespace tte::models::qwen {
namespace {

constexpr std::string_view kImagePad = "<|image_pad|>", kVideoPad = "<|video_pad|>";
constexpr std::string_view kStart = "<|vision_start|>", kEnd = "<|vision_end|>";

// A placeholder that a template wrote.
struct Written {
  std::size_t at;
  bool video;
};

// Those of `text`, but for what users wrote, which is guarded.
std::vector<Written> find_placeholders(std::string_view text) {
  const std::array<std::string_view, 3> wanted = {kImagePad, kVideoPad, text::kGuardBegin};
  std::array<std::size_t, 3> next{};
  for (std::size_t i = 0; i < wanted.size(); ++i) next[i] = text.find(wanted[i]);
  std::vector<Written> found;
  while (true) {
    const auto first = static_cast<std::size_t>(std::min_element(next.begin(), next.end()) - next.begin());
    const std::size_t at = next[first];
    if (at == std::string_view::npos) return found;
    std::size_t end = at + wanted[first].size();
    if (wanted[first] == text::kGuardBegin) {
      end = std::min(text.find(text::kGuardEnd, at), text.size());
    } else {
      found.push_back({at, wanted[first] == kVideoPad});
    }
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      if (next[i] < end) next[i] = text.find(wanted[i], end);
    }
  }
}

// A placeholder for each temporal patch behind the time in the middle between its first and its last frame,
// as transformers' Qwen3VLProcessor writes them; it assumes 24 frames a second where a video does not say. The
// last frame is repeated to fill the last patch.
std::string with_timestamps(const Visual& video, int temporal_patch_size) {
  const auto step = static_cast<std::size_t>(temporal_patch_size);
  const std::vector<double>& times = video.frame_times;
  std::string out;
  for (std::size_t first = 0; first < times.size(); first += step) {
    const double last = times[std::min(first + step, times.size()) - 1];
    out += fmt::format("<{:.1f} seconds>{}{}{}", (times[first] + last) / 2, kStart, kVideoPad, kEnd);
  }
  return out;
}

class StampedPreprocessor final : public Preprocessor {
 public:
  StampedPreprocessor(const VisualSpecs& specs, const PlaceholderTokens& tokens)
      : specs_(specs), tokens_(tokens) {}

  [[nodiscard]] std::shared_ptr<const VisualReader> visual_reader(
      const VisualOptions& options) const override {
    return std::make_shared<QwenVisualReader>(specs_, options, kQwen3VideoRules);
  }
  [[nodiscard]] std::optional<std::int64_t> image_token() const override { return tokens_.image; }
  [[nodiscard]] std::optional<std::int64_t> video_token() const override { return tokens_.video; }

  [[nodiscard]] std::string expand_text(std::string text, const Visuals& visuals,
                                        const VisualOptions& options) const override {
    const std::vector<Written> written = find_placeholders(text);
    std::vector<bool> videos;
    videos.reserve(written.size());
    for (const Written& placeholder : written) videos.push_back(placeholder.video);
    check_visuals(videos, visuals);
    std::string out;
    std::size_t done = 0;
    for (std::size_t i = 0; i < written.size(); ++i) {
      if (!written[i].video) continue;
      out.append(text, done, written[i].at - done);
      done = written[i].at + kVideoPad.size();
      if (!options.video_outer_tokens && out.ends_with(kStart) &&
          text.compare(done, kEnd.size(), kEnd) == 0) {
        out.resize(out.size() - kStart.size());
        done += kEnd.size();
      }
      out += with_timestamps(*visuals[i], specs_.video.patches.temporal_patch_size);
    }
    return out.append(text, done);
  }

  // A video has a placeholder for each temporal patch.
  [[nodiscard]] Prompt expand_placeholders(const std::vector<std::int64_t>& ids,
                                           Visuals visuals) const override {
    return qwen::expand_placeholders(ids, std::move(visuals), tokens_, {});
  }

 private:
  VisualSpecs specs_;
  PlaceholderTokens tokens_;
};

}  // namespace

std::shared_ptr<const Preprocessor> make_stamped_preprocessor(const VisualSpecs& specs,
                                                              const PlaceholderTokens& tokens) {
  return std::make_shared<StampedPreprocessor>(specs, tokens);
}

}  // namespace tte::models::qwen
