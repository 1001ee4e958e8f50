// The decoders of Llama and Mistral, by themselves and inside of vision-language models.
#pragma once

#include "models/config_file.h"

namespace tte::models {

// What config.json says of the text model, with the defaults of transformers' LlamaConfig or MistralConfig: `type`, a
// model_type, is "llama" or "mistral". Throws as read_text().
TextConfig read_llama_text(const ConfigFile& file, const std::string& type);

}  // namespace tte::models
