#include "models/biases.h"

#include <fmt/core.h>

#include <algorithm>
#include <string_view>

#include "base/printable.h"
#include "tte/error.h"

namespace tte::models {
namespace {

constexpr std::string_view kLayers = "model.layers.", kBias = ".bias", kWeight = ".weight";

// Whether decoder layers have a bias at `module`, "self_attn.q_proj".
BiasRule rule_of(std::string_view module, const Biases& biases) {
  const bool attention = module.starts_with("self_attn."), mlp = module.starts_with("mlp.");
  const std::string_view last = module.substr(module.rfind('.') + 1);
  const bool is_out = last == "o_proj";
  BiasRule rule;
  if (attention && (is_out || last == "q_proj" || last == "k_proj" || last == "v_proj")) {
    rule.has = is_out ? biases.out : biases.qkv;
    if (biases.by_attention_key) rule.key = "attention_bias";
  } else if (mlp && (last == "gate_proj" || last == "up_proj" || last == "down_proj")) {
    rule.has = biases.mlp;
    if (biases.by_mlp_key) rule.key = "mlp_bias";
  }
  return rule;
}

void check(const std::string& file, const BiasRule& rule, const weights::StateDict& weights) {
  const std::string bias = rule.module + std::string(kBias);
  const bool there = weights.has(bias);
  if (there == rule.has || (rule.has && !weights.has(rule.module + std::string(kWeight)))) return;
  const std::string says =
      rule.key.empty() ? fmt::format("models of its model_type have {}bias there", rule.has ? "a " : "no ")
                       : fmt::format("\"{}\" is {}", rule.key, rule.has ? "true" : "false, or not given");
  throw ModelError(fmt::format("The checkpoint has {}tensor \"{}\", but by {} {}: {}.", there ? "a " : "no ",
                               base::printable(bias, 80), file, says,
                               there ? "take it out of the checkpoint, or correct config.json"
                                     : "save the checkpoint with its biases, or correct config.json"));
}

}  // namespace

void check_biases(const std::string& file, const Biases& biases, const std::vector<BiasRule>& others,
                  const weights::StateDict& weights) {
  for (const BiasRule& rule : others) check(file, rule, weights);
  for (const std::string& name : weights.names()) {
    const std::string_view ending = name.ends_with(kBias) ? kBias : kWeight;
    if (!name.starts_with(kLayers) || !name.ends_with(ending)) continue;
    const std::string module = name.substr(0, name.size() - ending.size());
    const std::size_t layer = module.find('.', kLayers.size());
    if (layer == std::string::npos) continue;
    BiasRule rule = rule_of(std::string_view(module).substr(layer + 1), biases);
    rule.module = module;
    check(file, rule, weights);
  }
}

}  // namespace tte::models
