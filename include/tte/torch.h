/// @file
/// Tensors in, tensors out: the only public header that includes libtorch. Header-only; the program that uses
/// it links libtorch itself (find_package(tte COMPONENTS torch), target tte::torch).
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tte/embedder.h"
#include "tte/error.h"
#include "tte/input.h"
#include "tte/processor.h"

namespace tte::torch {

namespace internal {

// A tensor over the memory of a vector that it owns from now on. Throws InputError where the vector is shorter.
template <typename T>
at::Tensor adopt(std::vector<T> values, at::IntArrayRef shape, at::ScalarType dtype) {
  std::size_t room = values.size();  // Rows that are left, once the dimensions behind them are taken.
  for (auto size = shape.rbegin(); size != shape.rend(); ++size) {
    if (*size == 0) break;
    if (*size < 0 || static_cast<std::size_t>(*size) > room)
      throw InputError("There are " + std::to_string(values.size()) +
                       " values, fewer than the shape needs: give what tte made.");
    room /= static_cast<std::size_t>(*size);
  }
  auto owner = std::make_shared<std::vector<T>>(std::move(values));
  return at::from_blob(
      owner->data(), shape, [owner](void*) {}, at::TensorOptions().dtype(dtype));
}

inline at::Tensor grid(const std::vector<std::array<std::int64_t, 3>>& rows) {
  at::Tensor out = at::empty({static_cast<std::int64_t>(rows.size()), 3}, at::kLong);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::size_t j = 0; j < 3; ++j)
      out[static_cast<std::int64_t>(i)][static_cast<std::int64_t>(j)] = rows[i][j];
  }
  return out;
}

}  // namespace internal

/// Decoded pixels from a uint8 tensor [height, width, 1 | 3 | 4] on the CPU. Shares memory when it is
/// contiguous. Throws InputError naming shape and dtype for another tensor.
inline Image image(const at::Tensor& pixels) {
  if (pixels.dim() != 3 || pixels.scalar_type() != at::kByte || !pixels.device().is_cpu() ||
      (pixels.size(2) != 1 && pixels.size(2) != 3 && pixels.size(2) != 4)) {
    throw InputError("An image is a " + std::string(pixels.toString()) + " tensor of " +
                     std::to_string(pixels.dim()) +
                     " dimensions: it must be uint8 [height, width, 1, 3 or 4] on the CPU.");
  }
  auto owner = std::make_shared<at::Tensor>(pixels.contiguous());
  Pixels out;
  out.data = std::shared_ptr<const std::uint8_t>(owner, owner->data_ptr<std::uint8_t>());
  out.height = static_cast<int>(pixels.size(0));
  out.width = static_cast<int>(pixels.size(1));
  out.channels = static_cast<int>(pixels.size(2));
  Image image;
  image.source = std::move(out);
  return image;
}

/// A video from a uint8 tensor [frames, height, width, 1 | 3 | 4] on the CPU.
inline Video video(const at::Tensor& frames, std::optional<double> source_fps = std::nullopt) {
  if (frames.dim() != 4) {
    throw InputError("A video is a tensor of " + std::to_string(frames.dim()) +
                     " dimensions: it must be uint8 [frames, height, width, 1, 3 or 4] on the CPU.");
  }
  std::vector<Image> images;
  for (const at::Tensor& frame : frames.unbind(0)) images.push_back(image(frame));
  Video out;
  out.source = std::move(images);
  out.source_fps = source_fps;
  return out;
}

/// float32 [rows, dim] on the CPU; takes the memory over.
inline at::Tensor tensor(Embeddings embeddings) {
  return internal::adopt(std::move(embeddings.data), {embeddings.rows, embeddings.dim}, at::kFloat);
}

/// [rows of all inputs, dim] on the CPU, float16 or (TokenOptions::float32) float32; takes the memory over.
inline at::Tensor tensor(TokenEmbeddings embeddings) {
  const std::int64_t rows = embeddings.offsets.empty() ? 0 : embeddings.offsets.back();
  const std::int64_t dim = embeddings.dim;
  if (!embeddings.data.empty()) return internal::adopt(std::move(embeddings.data), {rows, dim}, at::kFloat);
  return internal::adopt(std::move(embeddings.half), {rows, dim}, at::kHalf);
}

/// ProcessedInput as tensors with transformers' shapes; pixel tensors are undefined where there are no images.
struct ProcessedTensors {
  at::Tensor input_ids;            ///< int64 [1, L]
  at::Tensor mm_token_type_ids;    ///< int64 [1, L]
  at::Tensor position_ids;         ///< int64 [3, 1, L]
  at::Tensor pixel_values;         ///< float32 [patches, patch_dim]
  at::Tensor image_grid_thw;       ///< int64 [images, 3]
  at::Tensor pixel_values_videos;  ///< float32 [patches, patch_dim]
  at::Tensor video_grid_thw;       ///< int64 [videos, 3]
};

/// Takes the memory of `input` over.
inline ProcessedTensors tensors(ProcessedInput input) {
  const auto length = static_cast<std::int64_t>(input.input_ids.size());
  ProcessedTensors out;
  out.input_ids = internal::adopt(std::move(input.input_ids), {1, length}, at::kLong);
  out.mm_token_type_ids = internal::adopt(std::move(input.mm_token_type_ids), {1, length}, at::kLong);
  out.position_ids = internal::adopt(std::move(input.position_ids), {3, 1, length}, at::kLong);
  if (!input.image_grid_thw.empty()) {
    const auto rows = static_cast<std::int64_t>(input.pixel_values.size()) / input.patch_dim;
    out.pixel_values = internal::adopt(std::move(input.pixel_values), {rows, input.patch_dim}, at::kFloat);
    out.image_grid_thw = internal::grid(input.image_grid_thw);
  }
  if (!input.video_grid_thw.empty()) {
    const auto rows = static_cast<std::int64_t>(input.pixel_values_videos.size()) / input.patch_dim;
    out.pixel_values_videos =
        internal::adopt(std::move(input.pixel_values_videos), {rows, input.patch_dim}, at::kFloat);
    out.video_grid_thw = internal::grid(input.video_grid_thw);
  }
  return out;
}

}  // namespace tte::torch
