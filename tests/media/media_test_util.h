// What the media tests share: goldens.json, the test image, digests.
#pragma once

#include <ATen/Functions.h>
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/json.h"
#include "expect_error.h"
#include "media/image.h"
#include "media/patches.h"
#include "tte/error.h"
#include "tte/input.h"

namespace tte::media::testing {

using Buffer = std::vector<std::uint8_t>;
constexpr PatchSpec kPatches = {.patch_size = 14, .merge_size = 2, .temporal_patch_size = 2};

inline std::filesystem::path data_folder() {
  return std::filesystem::path(TTE_SOURCE_DIR) / "tests/data/media";
}

inline const base::Json& goldens() {
  static const base::Json json = base::read_json(data_folder() / "goldens.json");
  return json;
}

inline Buffer read_file(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  EXPECT_TRUE(stream) << path;
  return Buffer(std::istreambuf_iterator<char>(stream), {});
}

inline Buffer read_image(const std::string& name) {
  return read_file(data_folder() / "images" / name);
}

inline Image encoded(Buffer bytes, Alpha alpha = Alpha::kDrop) {
  return {EncodedImage{std::make_shared<const Buffer>(std::move(bytes))}, alpha};
}

// 64-bit FNV-1a of a tensor's bytes, as make.py computes it.
inline std::string fnv1a(const at::Tensor& tensor) {
  const at::Tensor whole = tensor.contiguous();
  const auto* data = static_cast<const std::uint8_t*>(whole.const_data_ptr());
  std::uint64_t value = 0xCBF29CE484222325U;
  for (std::size_t i = 0; i < whole.nbytes(); ++i) value = (value ^ data[i]) * 0x100000001B3U;
  return fmt::format("{:016x}", value);
}

// What make.py calls pattern(height, width, seed): uint8 [height, width, 3].
inline at::Tensor pattern(std::int64_t height, std::int64_t width, std::int64_t seed = 0) {
  at::Tensor image = at::empty({height, width, 3}, at::kByte);
  auto* out = image.mutable_data_ptr<std::uint8_t>();
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      for (std::int64_t c = 0; c < 3; ++c) {
        const std::int64_t wave = (x * (3 + c) + y * (5 - c) + seed * 17) % 256;
        const std::int64_t noise = ((x * 7919 + y * 104729 + c * 1299709 + seed * 15485863) >> 3) % 64;
        *out++ = static_cast<std::uint8_t>(std::min<std::int64_t>(255, wave * 3 / 4 + noise));
      }
    }
  }
  return image;
}

// The message of the InputError that decoding `bytes` must give; it must name the item.
inline std::string decode_error(Buffer bytes, const MediaLimits& limits = {}) {
  const std::string message =
      tte::testing::message_of<InputError>([&] { decode_image(encoded(std::move(bytes)), limits); });
  return message;
}

}  // namespace tte::media::testing
