#include "models/qwen2_vl/names.h"

#include <array>
#include <utility>

namespace tte::models::qwen2_vl {
namespace {

void add_number(base::Digester& digester, double value) {
  digester.bytes(&value, sizeof value);
}

void add_compute(base::Digester& digester, const ModelInfo& info) {
  digester.number(static_cast<std::int64_t>(info.dtype))
      .number(static_cast<std::int64_t>(info.device.type()));
}

void add_digest(base::Digester& digester, const base::Digest& digest) {
  digester.bytes(&digest.low, sizeof digest.low).bytes(&digest.high, sizeof digest.high);
}

void add_vision(base::Digester& digester, const VisionConfig& config, const ModelInfo& info) {
  digester.text("qwen2_vl vision");
  for (const std::int64_t value :
       {config.depth, config.embed_dim, config.hidden_size, config.heads, config.mlp_dim,
        static_cast<std::int64_t>(config.activation), config.in_channels, config.patch_size,
        config.merge_size, config.temporal_patch_size}) {
    digester.number(value);
  }
  add_number(digester, config.rope_theta);
  add_compute(digester, info);
}

}  // namespace

namespace names {

std::optional<std::string> first_generation(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 6> rules = {{
      {"model.visual.", "visual."},
      {"model.language_model.", "model."},
      {"language_model.", "model."},
      {"embed_tokens.", "model.embed_tokens."},
      {"layers.", "model.layers."},
      {"norm.", "model.norm."},
  }};
  for (const auto& [from, to] : rules) {
    if (name.starts_with(from)) return std::string(to).append(name.substr(from.size()));
  }
  return std::nullopt;
}

}  // namespace names

base::Digest fingerprint(const Config& config, const weights::StateDict& weights, const ModelInfo& info) {
  const TextConfig& text = config.text;
  base::Digester digester;
  digester.text("qwen2_vl");
  for (const std::int64_t value : {text.heads, text.kv_heads, text.mrope_section[0], text.mrope_section[1],
                                   text.mrope_section[2], config.image_token, config.video_token}) {
    digester.number(value);
  }
  add_number(digester, text.rms_norm_eps);
  add_number(digester, text.rope_theta);
  add_compute(digester, info);
  add_digest(digester, vision_fingerprint(config.vision, weights.select(names::kVision), info));
  add_digest(digester, weights.fingerprint());
  return digester.finish();
}

base::Digest vision_fingerprint(const VisionConfig& config, const weights::StateDict& weights,
                                const ModelInfo& info) {
  base::Digester digester;
  add_vision(digester, config, info);
  add_digest(digester, weights.fingerprint());
  return digester.finish();
}

base::Digest vision_identity(const VisionConfig& config, const weights::StateDict& weights,
                             const ModelInfo& info) {
  base::Digester digester;
  add_vision(digester, config, info);
  digester.number(static_cast<std::int64_t>(weights.identity()));
  return digester.finish();
}

}  // namespace tte::models::qwen2_vl
