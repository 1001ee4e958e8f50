// What a checkpoint folder says before any weight is read.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/checkpoint.h"
#include "models/preprocessor.h"
#include "prompt/decoding.h"
#include "text/chat_template.h"
#include "text/tokenizer/tokenizer.h"
#include "tte/adapter.h"

namespace tte::prompt {

struct CheckpointFiles {
  std::filesystem::path path;  // The adapter's where there is one.
  std::shared_ptr<const models::Preprocessor> preprocessor;
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const text::ChatTemplate> chat_template;  // Null when there is none.
  std::string vocabulary;                                   // vocabulary_digest() of the tokenizer.
  GenerationConfig generation;
};

// Digest of all tokens of a tokenizer and their ids.
std::string vocabulary_digest(const text::Tokenizer& tokenizer);

// Throws ModelError naming the file for one that is missing or damaged.
std::shared_ptr<const CheckpointFiles> load_checkpoint_files(const base::Checkpoint& checkpoint);

// The checkpoint that a caller names: a folder with config.json, perhaps with an adapter of it; or, where `adapter` is
// empty, an adapter's folder alone, whose base is then the one that it names. An embedding head (tte_head.json) counts
// as an adapter. Throws ModelError saying what a path is instead (a GGUF file, an adapter whose base is missing).
base::Checkpoint find_checkpoint(const std::filesystem::path& path,
                                 const std::filesystem::path& adapter = {});
// The base of an adapter's or an embedding head's folder; nothing for another folder.
std::optional<AdapterBase> base_of(const std::filesystem::path& folder);
// The same of a folder that needs nothing but a tokenizer: an adapter's base is not missed.
base::Checkpoint tokenizer_checkpoint(const std::filesystem::path& path);

}  // namespace tte::prompt
