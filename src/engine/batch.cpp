#include "engine/batch.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "engine/latent.h"
#include "kernels/tensors.h"

namespace tte::engine {
namespace {

// Adds the slices of features that stand in tokens [done, done + tokens) and the batch rows they go to.
void add_features(const Chunk& chunk, std::int64_t first_row, std::vector<std::int64_t>& rows,
                  std::vector<at::Tensor>& slices) {
  const Sequence& sequence = *chunk.sequence;
  const VisualRows& visual_rows = sequence.visual_rows();
  const auto [begin, end] = visual_rows.ordinals(sequence.done, sequence.done + chunk.tokens);
  for (std::int64_t ordinal = begin; ordinal < end;) {
    const std::size_t visual = visual_rows.visual_of(ordinal);
    const std::int64_t from = ordinal - visual_rows.first_ordinal(visual);
    const std::int64_t count = std::min(end - ordinal, visual_rows.count(visual) - from);
    slices.push_back(sequence.features[visual].narrow(0, from, count));
    for (std::int64_t i = 0; i < count; ++i) {
      rows.push_back(first_row + visual_rows.row(ordinal + i) - sequence.done);
    }
    ordinal += count;
  }
}

}  // namespace

models::RaggedBatch pack(std::vector<Chunk>& chunks, const models::Model& model) {
  const at::Device device = model.info().device;
  const std::int64_t total =
      std::accumulate(chunks.begin(), chunks.end(), std::int64_t{0},
                      [](std::int64_t sum, const Chunk& chunk) { return sum + chunk.tokens; });
  models::RaggedBatch batch;
  batch.segments.reserve(chunks.size());
  batch.ids = kernels::host_tensor({total}, device);
  batch.positions = kernels::host_tensor({3, total}, device);
  auto* ids = batch.ids.mutable_data_ptr<std::int64_t>();
  auto* positions = batch.positions.mutable_data_ptr<std::int64_t>();
  std::vector<std::int64_t> visual_rows;
  std::vector<at::Tensor> slices, hidden;

  std::int64_t row = 0;
  for (Chunk& chunk : chunks) {
    Sequence& sequence = *chunk.sequence;
    batch.segments.push_back({sequence.state.get(), chunk.tokens});
    if (const at::Tensor rows = sequence.hidden(); rows.defined()) {
      hidden.push_back(rows.narrow(0, sequence.done, chunk.tokens));
    } else {
      add_features(chunk, row, visual_rows, slices);
    }
    for (std::int64_t i = 0; i < chunk.tokens; ++i, ++row) {
      const std::int64_t index = sequence.done + i;
      ids[row] = sequence.id(index);
      const auto position = sequence.position(index);
      for (std::int64_t axis = 0; axis < 3; ++axis) positions[axis * total + row] = position[axis];
      const bool wants = sequence.wants(index), feeds = sequence.feeds_latent(index);
      if (!wants && !feeds) continue;
      const auto output = static_cast<std::int64_t>(batch.output_rows.size());
      if (wants && chunk.outputs++ == 0) chunk.first_output = output;  // What is wanted stands together.
      if (feeds) chunk.feeding.emplace_back(index, output);
      batch.output_rows.push_back(row);
    }
  }
  if (!hidden.empty()) batch.hidden = at::cat(hidden);  // Also of one: the model may write to it.
  if (!slices.empty()) {
    batch.visual_rows = kernels::host_tensor({static_cast<std::int64_t>(visual_rows.size())}, device);
    std::copy(visual_rows.begin(), visual_rows.end(), batch.visual_rows.mutable_data_ptr<std::int64_t>());
    batch.visual_features = slices.size() == 1 ? slices[0] : at::cat(slices);
  }
  give_latent_rows(chunks, model, batch);
  return batch;
}

}  // namespace tte::engine
