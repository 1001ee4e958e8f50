#include "models/qwen/preprocessor.h"

#include <utility>
#include <vector>

#include "models/qwen/visual_reader.h"

namespace tte::models::qwen {
namespace {

class QwenPreprocessor final : public Preprocessor {
 public:
  QwenPreprocessor(const VisualSpecs& specs, const PlaceholderTokens& tokens, TimeStep time_step)
      : specs_(specs), tokens_(tokens), time_step_(std::move(time_step)) {}

  [[nodiscard]] std::shared_ptr<const VisualReader> visual_reader(
      const VisualOptions& options) const override {
    return std::make_shared<QwenVisualReader>(specs_, options);
  }
  [[nodiscard]] std::optional<std::int64_t> image_token() const override { return tokens_.image; }
  [[nodiscard]] std::optional<std::int64_t> video_token() const override { return tokens_.video; }
  [[nodiscard]] Prompt expand_placeholders(const std::vector<std::int64_t>& ids,
                                           Visuals visuals) const override {
    return qwen::expand_placeholders(ids, std::move(visuals), tokens_, time_step_);
  }

 private:
  VisualSpecs specs_;
  PlaceholderTokens tokens_;
  TimeStep time_step_;
};

}  // namespace

std::shared_ptr<const Preprocessor> make_preprocessor(const VisualSpecs& specs,
                                                      const PlaceholderTokens& tokens, TimeStep time_step) {
  return std::make_shared<QwenPreprocessor>(specs, tokens, std::move(time_step));
}

}  // namespace tte::models::qwen
