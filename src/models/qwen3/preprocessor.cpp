#include "models/qwen3/preprocessor.h"

#include <fmt/core.h>

#include <string>
#include <utility>

#include "base/file.h"
#include "models/qwen/config.h"
#include "models/qwen/placeholders.h"
#include "tte/error.h"

namespace tte::models::qwen3 {
namespace {

class NoVisuals final : public VisualReader {
 public:
  explicit NoVisuals(std::string checkpoint) : checkpoint_(std::move(checkpoint)) {}
  [[nodiscard]] std::shared_ptr<const Visual> image(const Image& /*image*/,
                                                    media::Budget& /*budget*/) const override {
    refuse("an image");
  }
  [[nodiscard]] std::shared_ptr<const Visual> video(const Video& /*video*/,
                                                    media::Budget& /*budget*/) const override {
    refuse("a video");
  }
  [[nodiscard]] std::int64_t image_bytes(media::Size /*size*/, const Resize& /*wanted*/) const override {
    return 0;  // image() refuses it.
  }
  [[nodiscard]] base::Digest signature() const override {
    return base::Digester().text("text only").finish();
  }

 private:
  [[noreturn]] void refuse(const char* what) const {
    throw InputError(fmt::format(
        "it has {}, but the model of {} reads text only: leave images and videos out.", what, checkpoint_));
  }
  std::string checkpoint_;
};

class Qwen3Preprocessor final : public Preprocessor {
 public:
  Qwen3Preprocessor(std::string checkpoint, const qwen::PlaceholderTokens& tokens)
      : checkpoint_(std::move(checkpoint)), tokens_(tokens) {}
  [[nodiscard]] std::shared_ptr<const VisualReader> visual_reader(
      const VisualOptions& /*options*/) const override {
    return std::make_shared<NoVisuals>(checkpoint_);
  }
  [[nodiscard]] std::optional<std::int64_t> image_token() const override { return std::nullopt; }
  [[nodiscard]] std::optional<std::int64_t> video_token() const override { return std::nullopt; }
  [[nodiscard]] Prompt expand_placeholders(const std::vector<std::int64_t>& ids,
                                           Visuals visuals) const override {
    return qwen::expand_placeholders(ids, std::move(visuals), tokens_, {});
  }

 private:
  std::string checkpoint_;
  qwen::PlaceholderTokens tokens_;
};

}  // namespace

std::shared_ptr<const Preprocessor> load_preprocessor(const base::Checkpoint& checkpoint) {
  const TextConfig text = qwen::read_text(qwen::read_config_file(checkpoint), qwen::qwen3_rules());
  return std::make_shared<Qwen3Preprocessor>(base::shown(checkpoint.folder()), qwen::no_placeholders(text));
}

}  // namespace tte::models::qwen3
