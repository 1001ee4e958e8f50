#include "cuda_check/random_decoder.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/packed_weight.h"
#include "kernels/reference.h"
#include "weights/safetensors_writer.h"

namespace tte::testing {
namespace {

using base::LinearFormat;
using weights::TensorsToWrite;
using Shape = std::vector<std::int64_t>;

// Calls tensor(name, shape) for every tensor of a decoder.
void for_tensors(const models::TextConfig& config, DecoderKind kind,
                 const std::function<void(const std::string& name, const Shape& shape)>& tensor) {
  const std::int64_t hidden = config.hidden_size;
  tensor("model.embed_tokens.weight", {config.vocab_size, hidden});
  tensor("lm_head.weight", {config.vocab_size, hidden});
  tensor("model.norm.weight", {hidden});
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"})
      tensor(layer + norm + ".weight", {hidden});
    for (const char* part : {"gate_proj", "up_proj"})
      tensor(fmt::format("{}mlp.{}.weight", layer, part), {config.intermediate_size, hidden});
    tensor(layer + "mlp.down_proj.weight", {hidden, config.intermediate_size});
    if (config.is_delta(i)) {
      const nn::DeltaNetShape& delta = config.delta;
      const std::string mixer = layer + "linear_attn.";
      const std::int64_t values = delta.value_heads * delta.value_dim;
      tensor(mixer + "in_proj_qkv.weight", {delta.channels(), hidden});
      tensor(mixer + "in_proj_z.weight", {values, hidden});
      for (const char* gate : {"in_proj_a", "in_proj_b"})
        tensor(mixer + gate + ".weight", {delta.value_heads, hidden});
      tensor(mixer + "conv1d.weight", {delta.channels(), 1, delta.conv_width});
      for (const char* rate : {"A_log", "dt_bias"}) tensor(mixer + rate, {delta.value_heads});
      tensor(mixer + "norm.weight", {delta.value_dim});
      tensor(mixer + "out_proj.weight", {hidden, values});
      continue;
    }
    const std::string mixer = layer + "self_attn.";
    const std::int64_t queries = config.heads * config.head_dim;
    for (const auto& [name, outputs] : {std::pair{"q_proj", (config.gated ? 2 : 1) * queries},
                                        {"k_proj", config.kv_heads * config.head_dim},
                                        {"v_proj", config.kv_heads * config.head_dim}}) {
      tensor(fmt::format("{}{}.weight", mixer, name), {outputs, hidden});
      if (kind == DecoderKind::kAttention) tensor(fmt::format("{}{}.bias", mixer, name), {outputs});
    }
    tensor(mixer + "o_proj.weight", {hidden, queries});
    if (!config.qk_norm) continue;
    for (const char* norm : {"q_norm", "k_norm"})
      tensor(fmt::format("{}{}.weight", mixer, norm), {config.head_dim});
  }
}

// Numbers of a size with which hidden states keep theirs.
at::Tensor random_tensor(const std::string& name, const Shape& shape, bool one_plus,
                         at::Generator& generator) {
  const at::Tensor numbers = at::randn(shape, generator, at::kFloat);
  const bool norm = name.find("norm") != std::string::npos;
  if (norm) return 0.1 * numbers + (one_plus && !name.ends_with("linear_attn.norm.weight") ? 0.0 : 1.0);
  if (name == "model.embed_tokens.weight" || shape.size() == 1) return numbers;
  return numbers / std::sqrt(static_cast<double>(shape.back()));
}

}  // namespace

models::TextConfig decoder_config(DecoderKind kind, const DecoderSizes& sizes) {
  models::TextConfig config;
  config.layers = sizes.layers;
  config.hidden_size = sizes.hidden;
  config.intermediate_size = sizes.intermediate;
  config.heads = sizes.heads;
  config.kv_heads = sizes.kv_heads;
  config.head_dim = sizes.head_dim;
  config.vocab_size = sizes.vocab;
  config.max_positions = 1 << 15;
  const bool hybrid = kind == DecoderKind::kHybrid;
  config.rope_axes.assign(static_cast<std::size_t>(sizes.head_dim / (hybrid ? 4 : 2)), 0);
  if (!hybrid) return config;
  config.qk_norm = config.gated = true;
  config.norm_scale = kernels::NormScale::kOnePlusWeight;
  config.delta_layers.assign(static_cast<std::size_t>(sizes.layers), true);
  config.delta_layers.back() = false;
  config.delta = {sizes.hidden, sizes.kv_heads, sizes.heads, sizes.head_dim, sizes.head_dim, 4};
  return config;
}

void write_decoder(const std::filesystem::path& file, DecoderKind kind, const DecoderSizes& sizes,
                   LinearFormat rounded) {
  const models::TextConfig config = decoder_config(kind, sizes);
  const bool one_plus = config.norm_scale == kernels::NormScale::kOnePlusWeight;
  at::Generator generator = at::detail::createCPUGenerator(7);
  std::vector<TensorsToWrite> groups;
  for_tensors(config, kind, [&](const std::string& name, const Shape& shape) {
    at::Tensor numbers = random_tensor(name, shape, one_plus, generator).to(at::kBFloat16).to(at::kFloat);
    const bool linear = shape.size() == 2 && name != "model.embed_tokens.weight";
    if (linear && kernels::is_packed(rounded, shape[0], shape[1], at::kFloat)) {
      numbers =
          kernels::reference::numbers(kernels::round(numbers, rounded), rounded, shape[1]).to(at::kFloat);
    }
    groups.push_back({{{name, "F32", shape}}, [numbers] { return std::vector{numbers.contiguous()}; }});
  });
  weights::write_safetensors(file, groups, {});
}

void write_large_decoder(const std::filesystem::path& file, const DecoderSizes& sizes) {
  const models::TextConfig config = decoder_config(DecoderKind::kAttention, sizes);
  at::Generator generator = at::detail::createCPUGenerator(7);
  const at::Tensor block = at::randn({(1 << 22) + 3}, generator, at::kFloat).to(at::kBFloat16);
  std::vector<TensorsToWrite> groups;
  for_tensors(config, DecoderKind::kAttention, [&](const std::string& name, const Shape& shape) {
    const auto make = [shape, block] {
      at::Tensor numbers = at::empty(shape, at::kBFloat16);
      const at::Tensor flat = numbers.view(-1);
      for (std::int64_t begin = 0; begin < flat.numel(); begin += block.numel()) {
        const std::int64_t count = std::min(block.numel(), flat.numel() - begin);
        flat.narrow(0, begin, count).copy_(block.narrow(0, 0, count));
      }
      if (shape.size() > 1) numbers.mul_(1.0 / std::sqrt(static_cast<double>(shape.back())));
      return std::vector{numbers};
    };
    groups.push_back({{{name, "BF16", shape}}, make});
  });
  weights::write_safetensors(file, groups, {});
}

}  // namespace tte::testing
