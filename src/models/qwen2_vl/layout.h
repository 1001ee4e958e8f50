// Where the tokens of a Qwen2-VL prompt stand.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "models/model.h"
#include "models/preprocessor.h"
#include "models/qwen2_vl/config.h"

namespace tte::models::qwen2_vl {

// Positions as transformers' get_rope_index: text counts up on all three axes; a visual's tokens count from
// where text stopped, t by temporal patch, h and w by merged row and column; text then goes on max(h, w)
// further, even if t went past that. What is generated goes on as text does, as with transformers' generate()
// (5.24; its forward(), given a cache and no positions, goes on past the highest position of all).
class QwenLayout final : public Layout {
 public:
  QwenLayout(const Config& config, PatchSpecs specs);
  [[nodiscard]] const media::PatchSpec& image_spec() const override { return specs_.image; }
  [[nodiscard]] const media::PatchSpec& video_spec() const override { return specs_.video; }
  [[nodiscard]] std::int64_t image_token() const override { return image_token_; }
  [[nodiscard]] std::int64_t video_token() const override { return video_token_; }
  // Throws InputError also for ids outside of the vocabulary.
  [[nodiscard]] Prompt layout(const std::vector<std::int64_t>& ids,
                              std::vector<std::shared_ptr<const Visual>> visuals) const override;

 private:
  PatchSpecs specs_;
  std::int64_t image_token_, video_token_, vocab_size_, merge_size_;
};

std::shared_ptr<const Layout> load_layout(const std::filesystem::path& checkpoint);

}  // namespace tte::models::qwen2_vl
