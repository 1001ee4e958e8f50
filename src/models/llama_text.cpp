#include "models/llama_text.h"

namespace tte::models {

TextConfig read_llama_text(const ConfigFile& file) {
  TextRules rules;
  rules.free_head_dim = true;
  rules.window_keys = {"sliding_window", "attention_chunk_size"};
  TextConfig& text = rules.defaults;
  text.vocab_size = 32000;
  text.hidden_size = 4096;
  text.intermediate_size = 11008;
  text.layers = 32;
  text.heads = 32;
  text.max_positions = 2048;
  if (file.text().text("model_type", "llama") == "mistral") {
    text.intermediate_size = 14336;
    text.kv_heads = 8;
    text.max_positions = 131072;
    rules.sliding_window = 4096;
  } else {
    rules.biases.by_attention_key = rules.biases.by_mlp_key = true;
  }
  return read_text(file, rules);
}

}  // namespace tte::models
