#include "models/text_only.h"

#include <fmt/core.h>

#include <string>
#include <utility>

#include "base/file.h"
#include "models/assemble.h"
#include "models/placeholders.h"
#include "tte/error.h"

namespace tte::models {
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

class TextOnlyPreprocessor final : public Preprocessor {
 public:
  TextOnlyPreprocessor(std::string checkpoint, std::int64_t vocab_size)
      : checkpoint_(std::move(checkpoint)), vocab_size_(vocab_size) {}
  [[nodiscard]] std::shared_ptr<const VisualReader> visual_reader(
      const VisualOptions& /*options*/) const override {
    return std::make_shared<NoVisuals>(checkpoint_);
  }
  [[nodiscard]] std::optional<std::int64_t> image_token() const override { return std::nullopt; }
  [[nodiscard]] std::optional<std::int64_t> video_token() const override { return std::nullopt; }
  [[nodiscard]] Prompt expand_placeholders(const std::vector<std::int64_t>& ids,
                                           Visuals visuals) const override {
    check_ids(ids, vocab_size_);
    check_visuals({}, visuals);
    Prompt prompt;
    for (const std::int64_t id : ids) append_text(prompt, id, prompt.next_position++);
    return prompt;
  }

 private:
  std::string checkpoint_;
  std::int64_t vocab_size_;
};

}  // namespace

Family text_only_family(TextConfig (*read)(const ConfigFile& file), std::vector<std::string> unread) {
  return {
      [read](const base::Checkpoint& checkpoint) {
        return std::make_shared<const TextOnlyPreprocessor>(base::shown(checkpoint.folder()),
                                                            read(read_config_file(checkpoint)).vocab_size);
      },
      [read, unread = std::move(unread)](const base::Checkpoint& checkpoint, const ModelOptions& options) {
        const ConfigFile file = read_config_file(checkpoint);
        Parts parts;
        parts.family = file.type();
        parts.file = file.name;
        parts.text = read(file);
        parts.unread = unread;
        return assemble(checkpoint, options, std::move(parts));
      }};
}

}  // namespace tte::models
