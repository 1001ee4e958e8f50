#include "models/qwen2_vl/preprocessor.h"

#include <utility>
#include <vector>

#include "models/qwen/placeholders.h"
#include "models/qwen/processor_config.h"
#include "models/qwen/visual_reader.h"
#include "models/qwen2_vl/config.h"

namespace tte::models::qwen2_vl {
namespace {

class Qwen2VlPreprocessor final : public Preprocessor {
 public:
  Qwen2VlPreprocessor(const Config& config, const qwen::VisualSpecs& specs)
      : specs_(specs), tokens_(config.tokens) {}

  [[nodiscard]] std::shared_ptr<const VisualReader> visual_reader(
      const VisualOptions& options) const override {
    return std::make_shared<qwen::QwenVisualReader>(specs_, options);
  }
  [[nodiscard]] std::int64_t image_token() const override { return tokens_.image; }
  [[nodiscard]] std::int64_t video_token() const override { return tokens_.video; }
  [[nodiscard]] Prompt expand_placeholders(const std::vector<std::int64_t>& ids,
                                           Visuals visuals) const override {
    return qwen::expand_placeholders(ids, std::move(visuals), tokens_,
                                     [](const Visual& /*visual*/) { return 1.0F; });
  }

 private:
  qwen::VisualSpecs specs_;
  qwen::PlaceholderTokens tokens_;
};

}  // namespace

std::shared_ptr<const Preprocessor> load_preprocessor(const std::filesystem::path& checkpoint) {
  const Config config = load_config(checkpoint);
  return std::make_shared<Qwen2VlPreprocessor>(
      config, qwen::load_visual_specs(checkpoint, config.vision.patch_spec()));
}

}  // namespace tte::models::qwen2_vl
