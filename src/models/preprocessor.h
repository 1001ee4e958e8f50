// What a family does with an item before any weight is read: media into patches, text into token ids with positions.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/checkpoint.h"
#include "base/digest.h"
#include "media/budget.h"
#include "models/prompt.h"
#include "tte/input.h"

namespace tte::models {

// The program whose rule sets the size of a video's frames.
enum class VideoResize : std::uint8_t {
  kProcessor,    // transformers' processor of the family.
  kQwenVlUtils,  // The package qwen-vl-utils, which Qwen's own examples resize with before the processor.
};

// What a recipe asks of all images and videos; unset: what the checkpoint's files say.
struct VisualOptions {
  std::string recipe;  // Its name, for errors.
  std::optional<std::int64_t> image_min_pixels, image_max_pixels, video_min_pixels, video_max_pixels;
  struct Limits {
    std::optional<std::int64_t> min_pixels, max_pixels;
  };
  // Images are resized to these before they are to the others, as systems do that call fetch_image of the package
  // qwen-vl-utils before the processor; unset limits are its own.
  std::optional<Limits> image_first;
  // Images with a side below image_min_side become squares of image_small_side, before everything else; 0: none do.
  int image_min_side = 0, image_small_side = 0;
  struct {
    std::optional<double> fps;
    std::optional<int> num_frames, min_frames, max_frames;
  } frames;
  VideoResize video_resize = VideoResize::kProcessor;
  std::optional<std::int64_t> video_total_pixels;  // kQwenVlUtils: of all frames of a video together.
  // Families that write times between frames: the template's own vision tokens stay around all of them.
  bool video_outer_tokens = true;
};

// Images and videos into patches: the family's numbers, with a recipe's over them. Immutable and thread-safe.
class VisualReader {
 public:
  virtual ~VisualReader() = default;
  // Throw InputError, also where `budget` does not have what it would cost.
  [[nodiscard]] virtual std::shared_ptr<const Visual> image(const Image& image,
                                                            media::Budget& budget) const = 0;
  [[nodiscard]] virtual std::shared_ptr<const Visual> video(const Video& video,
                                                            media::Budget& budget) const = 0;
  // Images of frames that video() takes, by their places among these, resized into an area; places past
  // the last frame give no image, and families without videos have no frames. Throws as video() does.
  [[nodiscard]] virtual Visuals frame_images(const Video& /*video*/,
                                             const std::vector<std::int64_t>& /*places*/,
                                             const VisualOptions::Limits& /*area*/,
                                             media::Budget& /*budget*/) const {
    return {};
  }
  // Takes from `budget` what video() would, without decoding a frame. False where no file tells it. Throws InputError
  // as video() does.
  [[nodiscard]] virtual bool measure_video(const Video& /*video*/, media::Budget& /*budget*/) const {
    return false;
  }
  // What an image's patches take, for a limit that holds for several. Throws InputError as image() does.
  [[nodiscard]] virtual std::int64_t image_bytes(media::Size size, const Resize& wanted) const = 0;
  // Equal for two readers that make the same of every image and video.
  [[nodiscard]] virtual base::Digest signature() const = 0;
};

class Preprocessor {
 public:
  virtual ~Preprocessor() = default;
  // Throws ModelError for pixel limits that exclude each other.
  [[nodiscard]] virtual std::shared_ptr<const VisualReader> visual_reader(
      const VisualOptions& options) const = 0;
  // The placeholder ids that a template writes once per image / video; none for a model that reads text only,
  // whose visual_reader() refuses every visual.
  [[nodiscard]] virtual std::optional<std::int64_t> image_token() const = 0;
  [[nodiscard]] virtual std::optional<std::int64_t> video_token() const = 0;
  // A prompt's text with what each visual's placeholder stands for in text, as timestamps between the frames
  // of a video. Control tokens in the text of users are guarded (text/tokenizer/tokenizer.h). Throws InputError
  // if placeholders and visuals do not match.
  [[nodiscard]] virtual std::string expand_text(std::string text, const Visuals& visuals,
                                                const VisualOptions& options) const;
  // Expands the placeholders of `ids` to their visuals' merged patches and assigns kinds and positions.
  // Throws InputError if placeholders and visuals do not match in number, order or kind.
  [[nodiscard]] virtual Prompt expand_placeholders(const std::vector<std::int64_t>& ids,
                                                   Visuals visuals) const = 0;
};

inline std::string Preprocessor::expand_text(std::string text, const Visuals& /*visuals*/,
                                             const VisualOptions& /*options*/) const {
  return text;
}

// The family's by config.json's model_type. Throws ModelError naming the folder for a checkpoint that does not
// fit, and listing the known families for an unknown one.
std::shared_ptr<const Preprocessor> load_preprocessor(const base::Checkpoint& checkpoint);

}  // namespace tte::models
