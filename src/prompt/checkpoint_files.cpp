#include "prompt/checkpoint_files.h"

#include <fmt/core.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/json.h"
#include "base/printable.h"
#include "models/head_config.h"
#include "tte/error.h"
#include "weights/adapter.h"

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

namespace {

constexpr std::string_view kWhatItIs =
    "a checkpoint is a folder as written by save_pretrained, with config.json, weights and tokenizer files";

// What a folder without config.json is.
[[noreturn]] void fail_folder(const std::filesystem::path& folder) {
  const std::string name = base::shown(folder);
  if (models::is_head(folder)) {
    throw ModelError(fmt::format(
        "{} holds an embedding head, not the model whose head it is: give that model's folder.", name));
  }
  if (base::is_present(folder / "adapter_config.json")) {
    throw ModelError(fmt::format(
        "{} holds a PEFT adapter, not the model that an adapter changes: give the folder of its base.",
        name));
  }
  std::error_code code;
  for (std::filesystem::directory_iterator it(folder, code), end; !code && it != end; it.increment(code)) {
    if (it->path().extension() != ".gguf") continue;
    throw ModelError(
        fmt::format("{} holds a GGUF file ({}), which is llama.cpp's form of a model and not one "
                    "that tte reads: use the original checkpoint, {}.",
                    name, base::printable(it->path().filename().string(), 60), kWhatItIs));
  }
  throw ModelError(fmt::format("{} has no config.json: {}.", name, kWhatItIs));
}

// `path` if it is a folder. Throws ModelError saying what a checkpoint is otherwise.
const std::filesystem::path& checkpoint_folder(const std::filesystem::path& path) {
  const std::string name = base::shown(path);
  if (path.native().find('\0') != std::string::npos)
    throw ModelError(fmt::format("\"{}\" has a NUL character in its path: no folder can be named so.", name));
  std::error_code code;
  const auto status = std::filesystem::status(path, code);
  if (std::filesystem::is_directory(status)) return path;
  if (code && status.type() == std::filesystem::file_type::none)
    throw ModelError(fmt::format("\"{}\" cannot be looked at: {}.", name, code.message()));
  if (path.extension() == ".gguf") {
    throw ModelError(
        fmt::format("\"{}\" is a GGUF file, which is llama.cpp's form of a model and not one that tte "
                    "reads: use the original checkpoint, {}.",
                    name, kWhatItIs));
  }
  throw ModelError(
      fmt::format("\"{}\" is not a folder: {}; download models of a hub first.", name, kWhatItIs));
}

}  // namespace

std::optional<AdapterBase> base_of(const std::filesystem::path& folder) {
  if (models::is_head(folder)) return models::base_of_head(folder);
  if (weights::is_adapter(folder)) return weights::base_of_adapter(folder);
  return std::nullopt;
}

base::Checkpoint tokenizer_checkpoint(const std::filesystem::path& path) {
  const std::optional<AdapterBase> base = base_of(checkpoint_folder(path));
  return base && !base->folder.empty() ? base::Checkpoint(path, base->folder) : base::Checkpoint(path);
}

base::Checkpoint find_checkpoint(const std::filesystem::path& path, const std::filesystem::path& adapter) {
  if (!adapter.empty()) {
    if (!base::is_present(checkpoint_folder(adapter) / "adapter_config.json") && !models::is_head(adapter)) {
      throw ModelError(
          fmt::format("{} is no adapter: it has no adapter_config.json, which PEFT's save_pretrained writes.",
                      base::shown(adapter)));
    }
    base::Checkpoint both(adapter, checkpoint_folder(path));
    if (!base::is_present(both / "config.json")) fail_folder(path);
    return both;
  }
  if (const std::optional<AdapterBase> base = base_of(checkpoint_folder(path))) {
    if (base->folder.empty()) {
      throw ModelError(fmt::format(
          "{} holds {} of {}: give that model's folder as the checkpoint, and this one as its "
          "adapter.",
          base::shown(path), models::is_head(path) ? "an embedding head" : "a PEFT adapter",
          base->name.empty() ? "a model that its adapter_config.json does not name"
                             : fmt::format("the model \"{}\", which is no folder with config.json here",
                                           base::printable(base->name, 80))));
    }
    return {path, base->folder};
  }
  if (!base::is_present(path / "config.json")) fail_folder(path);
  return path;
}

std::shared_ptr<const CheckpointFiles> load_checkpoint_files(const base::Checkpoint& checkpoint) {
  auto files = std::make_shared<CheckpointFiles>();
  files->path = checkpoint.folder();
  files->preprocessor = models::load_preprocessor(checkpoint);
  files->tokenizer = text::Tokenizer::load(checkpoint);
  files->chat_template = text::ChatTemplate::load(checkpoint, *files->tokenizer);
  files->vocabulary = vocabulary_digest(*files->tokenizer);
  files->generation = load_generation_config(checkpoint, *files->tokenizer);
  return files;
}

}  // namespace tte::prompt
