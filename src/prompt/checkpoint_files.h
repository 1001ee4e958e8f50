// What a checkpoint folder says before any weight is read.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "models/preprocessor.h"
#include "prompt/decoding.h"
#include "text/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace tte::prompt {

struct CheckpointFiles {
  std::filesystem::path path;
  std::shared_ptr<const models::Preprocessor> preprocessor;
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const text::ChatTemplate> chat_template;  // Null when there is none.
  std::string vocabulary;                                   // vocabulary_digest() of the tokenizer.
  GenerationConfig generation;
};

// Digest of all tokens of a tokenizer and their ids.
std::string vocabulary_digest(const text::Tokenizer& tokenizer);

// Throws ModelError for a path that is not a folder, and naming the file for one that is missing or damaged.
std::shared_ptr<const CheckpointFiles> load_checkpoint_files(const std::filesystem::path& path);

// `path` if it is a folder. Throws ModelError saying what a checkpoint is otherwise.
const std::filesystem::path& checkpoint_folder(const std::filesystem::path& path);
// The same for a folder with config.json; of one without it the error says what it is instead (an adapter, a
// GGUF file).
const std::filesystem::path& model_folder(const std::filesystem::path& path);

}  // namespace tte::prompt
