#include "models/qwen2/config.h"

namespace tte::models::qwen2 {

TextConfig read_config(const ConfigFile& file) {
  TextRules rules;
  rules.free_head_dim = true;
  rules.biases.qkv = true;
  TextConfig& text = rules.defaults;
  text.vocab_size = 151936;
  text.hidden_size = 4096;
  text.intermediate_size = 22016;
  text.layers = 32;
  text.heads = 32;
  text.kv_heads = 32;
  text.max_positions = 32768;
  return read_text(file, rules);
}

}  // namespace tte::models::qwen2
