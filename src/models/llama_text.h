// The decoders of Llama and Mistral, by themselves and inside of vision-language models.
#pragma once

#include "models/config_file.h"

namespace tte::models {

// What config.json says of the text model, with the defaults of transformers' LlamaConfig or, where its model_type is
// "mistral", MistralConfig. Throws as read_text().
TextConfig read_llama_text(const ConfigFile& file);

}  // namespace tte::models
