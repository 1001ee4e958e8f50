// Decoders of random weights, as checkpoints.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "base/linear_format.h"
#include "models/language_model.h"

namespace tte::testing {

struct DecoderSizes {
  std::int64_t layers = 0, hidden = 0, intermediate = 0, heads = 0, kv_heads = 0, head_dim = 0, vocab = 0;
};

enum class DecoderKind : std::uint8_t {
  kAttention,  // As Qwen2: attention with biases.
  kHybrid,  // As Qwen3.5: gated delta nets, and a last layer of gated attention with normed queries and keys.
};

models::TextConfig decoder_config(DecoderKind kind, const DecoderSizes& sizes);

// Writes the checkpoint of such a decoder, whose numbers bfloat16 has. With `rounded` its matrices are what these
// become when they are rounded so, in float32.
void write_decoder(const std::filesystem::path& file, DecoderKind kind, const DecoderSizes& sizes,
                   base::LinearFormat rounded = base::LinearFormat::kPlain);

// Writes one of bfloat16 quickly: the same few millions of numbers again and again.
void write_large_decoder(const std::filesystem::path& file, const DecoderSizes& sizes);

}  // namespace tte::testing
