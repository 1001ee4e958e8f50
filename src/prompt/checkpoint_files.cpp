#include "prompt/checkpoint_files.h"

#include <fmt/core.h>

#include "base/digest.h"
#include "base/printable.h"
#include "tte/error.h"

namespace tte::prompt {

std::string vocabulary_digest(const text::Tokenizer& tokenizer) {
  base::Digester digester;
  const std::int64_t size = tokenizer.vocab_size();
  for (std::int64_t id = 0; id < size; ++id) digester.text(tokenizer.token_bytes(id, false));
  for (const text::AddedToken& token : tokenizer.added_tokens()) {
    digester.number(token.id).number(token.special ? 1 : 0).text(token.content);
  }
  return digester.finish().hex();
}

const std::filesystem::path& checkpoint_folder(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) {
    throw ModelError(
        fmt::format("\"{}\" is not a folder: a checkpoint is a folder as written by save_pretrained, with "
                    "config.json, weights and "
                    "tokenizer files; download models of a hub first.",
                    base::printable(path.string())));
  }
  return path;
}

std::shared_ptr<const CheckpointFiles> load_checkpoint_files(const std::filesystem::path& path) {
  auto files = std::make_shared<CheckpointFiles>();
  files->path = checkpoint_folder(path);
  files->layout = models::load_layout(path);
  files->tokenizer = text::Tokenizer::load(path);
  files->chat_template = text::ChatTemplate::load(path, *files->tokenizer);
  files->vocabulary = vocabulary_digest(*files->tokenizer);
  files->generation = load_generation_config(path, *files->tokenizer);
  return files;
}

}  // namespace tte::prompt
