#include "models/qwen3/config.h"

#include "models/qwen/config.h"

namespace tte::models::qwen3 {
namespace {

void read_mixture(const base::JsonObject& config, TextConfig& text) {
  qwen::read_qwen3_mixture(config, text);
  text.experts.normalised = config.flag("norm_topk_prob", false);
}

TextRules mixture_rules() {
  TextRules rules = qwen::qwen3_rules();
  rules.defaults.hidden_size = 2048;
  rules.defaults.intermediate_size = 6144;
  rules.defaults.layers = 24;
  rules.defaults.kv_heads = 4;
  rules.defaults.head_dim = 0;
  rules.defaults.experts = {.experts = 128, .per_token = 8, .intermediate = 768};
  rules.read_own = read_mixture;
  rules.window_keys = {"attention_chunk_size"};
  return rules;
}

}  // namespace

TextConfig read_config(const ConfigFile& file) {
  return read_text(file, file.type() == "qwen3_moe" ? mixture_rules() : qwen::qwen3_rules());
}

}  // namespace tte::models::qwen3
