/// @file
/// What a caller hands in: text, images, videos, ordered parts, or whole chat messages.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tte {

/// Decoded pixels, row-major [height, width, channels] uint8; channels is 1 (grey), 3 (RGB) or 4 (RGBA).
/// `data` is shared and never written to.
struct Pixels {
  std::shared_ptr<const std::uint8_t> data;
  int height = 0;
  int width = 0;
  int channels = 3;
};

/// An encoded image file held in memory (JPEG, PNG, WebP, BMP without run lengths, TIFF or GIF).
struct EncodedImage {
  std::shared_ptr<const std::vector<std::uint8_t>> bytes;
};

/// What to do with transparency.
enum class Alpha {
  kDrop,       ///< Forget it; hidden colours show. What transformers does with files, hence the default.
  kOverWhite,  ///< Composite over white. What transformers does with PIL images.
  kOverBlack,  ///< Composite over black.
};

/// Width times height of the largest image that is read; told from its header, before anything is decoded.
inline constexpr std::int64_t kMaxImagePixels = 178'956'970;

/// What one image, or the frames of one video, are resized to, instead of what the model's files and the recipe say.
/// Sides are rounded to what the model reads (multiples of 28 for Qwen2-VL, of 32 for Qwen3-VL).
struct Resize {
  std::optional<std::int64_t> min_pixels = {};  ///< Least width times height; a smaller image is enlarged.
  std::optional<std::int64_t> max_pixels = {};  ///< Most width times height; a larger image is shrunk.
  /// The sides to resize to, as far as the limits allow; both or neither.
  std::optional<std::int64_t> height = {}, width = {};
};

/// One image: a file, an encoded file in memory, or decoded pixels. EXIF orientation is applied to the first two.
struct Image {
  std::variant<std::filesystem::path, EncodedImage, Pixels> source;
  Alpha alpha = Alpha::kDrop;
  Resize resize = {};
};

/// What names of image files end with, in lower case. Others in a folder of frames are none of its frames.
inline constexpr std::array<std::string_view, 8> kImageSuffixes = {".bmp", ".gif", ".jpeg", ".jpg",
                                                                   ".png", ".tif", ".tiff", ".webp"};

/// One video: a file, a folder of frames in natural order, or a list of frames.
struct Video {
  std::variant<std::filesystem::path, std::vector<Image>> source;
  /// Frames per second to sample. Excludes `num_frames`. Unset: the recipe's rule, else the checkpoint's
  /// (Qwen3-VL: two a second), else every frame.
  std::optional<double> fps;
  /// Number of frames to sample, evenly spread from first to last.
  std::optional<int> num_frames;
  /// Frames per second of the source, for frame lists and folders, which do not say.
  std::optional<double> source_fps;
  Resize resize = {};
};

using Part = std::variant<std::string, Image, Video>;

/// One chat turn. Roles are those of the checkpoint's template: system, user, assistant.
struct Message {
  std::string role;
  std::vector<Part> parts;
  bool plain = false;  ///< The content is one string, not a list of parts: templates tell them apart.
};

/// One item. Either `parts` (with an optional instruction), placed by the recipe's prompt, or whole chat
/// `messages`, which are rendered with the checkpoint's own template and then exclude the other two; a last
/// turn of the assistant is left open and continued.
struct Input {
  std::vector<Part> parts;
  std::optional<std::string> instruction;
  std::vector<Message> messages;
  /// Names the item in errors; empty: its index in the call is used.
  std::string name;
  /// Not empty: the item could not be made, and whatever uses it throws an InputError that says this. With
  /// OnError::kSkip it takes its place among items that could.
  std::string error;

  Input() = default;
  Input(std::string text) { parts.emplace_back(std::move(text)); }  // NOLINT(google-explicit-constructor)
  Input(const char* text) {                                         // NOLINT(google-explicit-constructor)
    if (text == nullptr)
      error = "The text of an item is a null pointer: give a string, which may be empty.";
    else
      parts.emplace_back(std::string(text));
  }
  Input(Image image) { parts.emplace_back(std::move(image)); }  // NOLINT(google-explicit-constructor)
  Input(Video video) { parts.emplace_back(std::move(video)); }  // NOLINT(google-explicit-constructor)
};

}  // namespace tte
