// The tokenizer files of a checkpoint, read into TokenizerParts.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/checkpoint.h"
#include "base/json.h"
#include "text/tokenizer/pipeline.h"

namespace tte::text {

// tokenizer_config.json and what else says how to read a checkpoint's tokenizer files.
struct TokenizerConfig {
  std::filesystem::path folder;  // Has all tokenizer files: the first folder with a tokenizer.
  base::JsonObject json;         // tokenizer_config.json; empty when there is no such file.
  std::string class_name;        // tokenizer_class without "Fast"; empty when unknown.
  std::string model_type;        // config.json's; empty when unknown.

  static TokenizerConfig read(const base::Checkpoint& checkpoint);

  // What transformers builds the tokenizer with whatever tokenizer.json says, because the class makes its own.
  [[nodiscard]] bool is_llama_class() const;
  [[nodiscard]] bool is_qwen_class() const;
};

// Each fills the parts that its files decide; throws ModelError naming file and key.
TokenizerParts read_tokenizer_json(const std::filesystem::path& file, const TokenizerConfig& config);
TokenizerParts read_vocab_and_merges(const TokenizerConfig& config);
TokenizerParts read_sentencepiece(const std::filesystem::path& file, const TokenizerConfig& config);

// Adds the tokens that tokenizer_config.json, added_tokens.json and special_tokens_map.json declare, in the order in
// which transformers does: the flags of the last declaration of a string count. Sets the named tokens.
void add_declared_tokens(TokenizerParts& parts, const TokenizerConfig& config);

// Before tokens that the tokenizers library adds in one call: new ones are numbered from behind those that it has, or
// from the vocabulary's size.
void start_adding(TokenizerParts& parts);

// Adds one token. A new one that is no piece of the vocabulary gets the next id, whatever id a file gives it, as in the
// library. Of a string that was added before it changes the flags; its id stays, and so does its being special.
void add_token(TokenizerParts& parts, AddedToken token);

// The parts around the model of transformers' LlamaTokenizer, and of its Qwen2Tokenizer and Qwen3_5Tokenizer.
void set_llama_pipeline(TokenizerParts& parts, const TokenizerConfig& config);
void set_qwen_pipeline(TokenizerParts& parts, const TokenizerConfig& config);

// One entry of added_tokens or added_tokens_decoder.
AddedToken read_added_token(const base::JsonObject& json);

}  // namespace tte::text
