// Reads the sentence-transformers files of a checkpoint as a recipe.
#pragma once

#include <optional>

#include "base/checkpoint.h"
#include "base/json.h"

namespace tte::prompt {

// Reads modules.json and what it names (the pooling's config.json, sentence_bert_config.json,
// config_sentence_transformers.json). The default prompt becomes the instruction, the others presets: a task of each
// prompt's name, and "retrieval" with those of the query and of the document.
// Nothing where there is no modules.json, or where it is not of a SentenceTransformer but of a reranker. Throws
// ModelError naming file and module for what tte does not have.
std::optional<base::Json> recipe_of_modules(const base::Checkpoint& checkpoint);

}  // namespace tte::prompt
