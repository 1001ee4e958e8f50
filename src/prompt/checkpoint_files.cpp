#include "prompt/checkpoint_files.h"

#include <fmt/core.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/json.h"
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

namespace {

constexpr std::string_view kWhatItIs =
    "a checkpoint is a folder as written by save_pretrained, with config.json, weights and tokenizer files";

// What a folder without config.json is.
[[noreturn]] void fail_folder(const std::filesystem::path& folder) {
  const std::string name = base::shown(folder);
  if (const auto adapter = folder / "adapter_config.json"; base::is_present(adapter)) {
    const base::Json json = base::read_json_object(adapter);
    const auto model =
        base::get_or<std::string>(json, "base_model_name_or_path", "unknown", base::shown(adapter));
    throw ModelError(
        fmt::format("{} holds a PEFT adapter of the model \"{}\", not a model: merge the two with "
                    "peft's merge_and_unload(), write them with save_pretrained(folder), and load "
                    "that folder.",
                    name, base::printable(model, 80)));
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

}  // namespace

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

const std::filesystem::path& model_folder(const std::filesystem::path& path) {
  if (!base::is_present(checkpoint_folder(path) / "config.json")) fail_folder(path);
  return path;
}

std::shared_ptr<const CheckpointFiles> load_checkpoint_files(const std::filesystem::path& path) {
  auto files = std::make_shared<CheckpointFiles>();
  files->path = model_folder(path);
  files->preprocessor = models::load_preprocessor(path);
  files->tokenizer = text::Tokenizer::load(path);
  files->chat_template = text::ChatTemplate::load(path, *files->tokenizer);
  files->vocabulary = vocabulary_digest(*files->tokenizer);
  files->generation = load_generation_config(path, *files->tokenizer);
  return files;
}

}  // namespace tte::prompt
