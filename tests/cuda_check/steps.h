// Small decoders, and steps of sequences of random tokens.
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "cuda_check/device.h"
#include "cuda_check/random_decoder.h"
#include "models/language_model.h"
#include "weights/state_dict.h"

namespace tte::testing {

inline constexpr DecoderSizes kSmall =
    kIsShim ? DecoderSizes{2, 72, 64, 4, 2, 32, 70} : DecoderSizes{4, 768, 2048, 6, 2, 128, 4000};
inline constexpr std::int64_t kLongestPrompt = kIsShim ? 21 : 700;

inline models::LanguageModel load_small(const std::filesystem::path& file, DecoderKind kind,
                                        at::Device device, at::ScalarType dtype, base::LinearFormat format,
                                        bool cuda_graphs = false,
                                        const std::vector<at::Device>& further = {}) {
  weights::Placement placement;
  placement.device = device;
  placement.further = further;
  placement.dtype = dtype;
  placement.linears = format;
  return {decoder_config(kind, kSmall),
          weights::StateDict::open(base::Checkpoint(file), placement),
          /*state_bytes=*/std::int64_t{64} << 20,
          /*deepstack=*/0,
          /*ending=*/std::nullopt,
          cuda_graphs};
}

struct Piece {
  std::int64_t sequence = 0, tokens = 0;
};

class Steps {
 public:
  Steps(const models::LanguageModel& model, std::int64_t sequences) : model_(model) {
    at::Generator generator = at::detail::createCPUGenerator(3);
    ids_ = at::randint(kSmall.vocab, {sequences, 2 * kLongestPrompt}, generator, at::kLong);
    for (std::int64_t i = 0; i < sequences; ++i) states_.push_back(model.start(ids_.size(1)));
  }

  // The logits of the last tokens of each piece, or of all.
  at::Tensor step(const std::vector<Piece>& pieces, bool all) {
    models::RaggedBatch batch;
    std::vector<at::Tensor> ids, positions;
    std::int64_t rows = 0;
    for (const auto& [sequence, tokens] : pieces) {
      models::SequenceState& state = *states_[static_cast<std::size_t>(sequence)];
      batch.segments.push_back({&state, tokens});
      ids.push_back(ids_[sequence].narrow(0, state.length(), tokens));
      positions.push_back(at::arange(state.length(), state.length() + tokens, at::kLong).expand({3, tokens}));
      for (std::int64_t i = 0; i < tokens; ++i, ++rows)
        if (all || i + 1 == tokens) batch.output_rows.push_back(rows);
    }
    batch.ids = at::cat(ids);
    batch.positions = at::cat(positions, 1).contiguous();
    return model_.logits(model_.forward(batch)).cpu();
  }

 private:
  const models::LanguageModel& model_;
  at::Tensor ids_;
  std::vector<std::unique_ptr<models::SequenceState>> states_;
};

}  // namespace tte::testing
