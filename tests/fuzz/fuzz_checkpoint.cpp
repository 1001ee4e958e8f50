// Fuzzes the small files of a checkpoint, each in the place of a good one. The first byte of an input
// chooses:
//   0 config.json   1 preprocessor_config.json   2 processor_config.json   3 generation_config.json
//   4 tokenizer_config.json   5 special_tokens_map.json   6 added_tokens.json
//   7 model.safetensors.index.json   8 a recipe   9 tte_head.json
// Anything but a tte::Error of less than 500 bytes is a finding.
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "base/json.h"
#include "models/head_config.h"
#include "models/model.h"
#include "prompt/decoding.h"
#include "prompt/recipe.h"
#include "text/tokenizer/tokenizer.h"
#include "tte/error.h"
#include "weights/state_dict.h"

namespace {

namespace fs = std::filesystem;

constexpr const char* kNames[] = {"config.json",           "preprocessor_config.json",
                                  "processor_config.json", "generation_config.json",
                                  "tokenizer_config.json", "special_tokens_map.json",
                                  "added_tokens.json",     "model.safetensors.index.json"};

const fs::path& source() {
  static const fs::path path = fs::path(TTE_SOURCE_DIR) / "models/nano/reasoner";
  return path;
}

const fs::path& folder() {
  static const fs::path path = [] {
    const fs::path shm = "/dev/shm";  // In memory where there is such a file system: an input is a file.
    auto out = (fs::is_directory(shm) ? shm : fs::temp_directory_path()) /
               ("tte_fuzz_checkpoint_" + std::to_string(::getpid()));
    fs::create_directories(out);
    for (const char* name : {"tokenizer.json", "vocab.json", "merges.txt"}) {
      std::error_code missing;
      fs::copy_file(source() / name, out / name, fs::copy_options::overwrite_existing, missing);
    }
    return out;
  }();
  return path;
}

void restore(const char* name) {
  std::error_code missing;
  fs::remove(folder() / name, missing);
  fs::copy_file(source() / name, folder() / name, missing);
}

void read(std::size_t choice, std::string_view content) {
  using namespace tte;
  if (choice == std::size(kNames)) {
    prompt::parse_recipe(base::parse_json(content, "the fuzzed recipe"), "the fuzzed recipe");
    return;
  }
  if (choice > std::size(kNames)) {
    std::ofstream(folder() / models::kHeadFile, std::ios::binary | std::ios::trunc) << content;
    static_cast<void>(models::base_of_head(folder()));
    return;
  }
  std::ofstream(folder() / kNames[choice], std::ios::binary | std::ios::trunc) << content;
  if (choice == 7) {
    weights::StateDict::open(folder(), {});
    return;
  }
  models::load_preprocessor(folder());
  if (choice < 3) return;
  const auto tokenizer = text::Tokenizer::load(folder());
  static_cast<void>(tokenizer->decode(tokenizer->encode("a <|im_end|> <think> b  c")));
  const auto generation = prompt::load_generation_config(folder(), *tokenizer);
  prompt::resolve({}, {}, generation);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static const bool prepared = [] {
    for (const char* name : kNames) restore(name);
    return true;
  }();
  static_cast<void>(prepared);
  const std::size_t choice = data[0] % (std::size(kNames) + 2);
  try {
    read(choice, {reinterpret_cast<const char*>(data) + 1, size - 1});
  } catch (const tte::Error& error) {
    if (std::strlen(error.what()) >= 500) __builtin_trap();
  }
  if (choice < std::size(kNames)) restore(kNames[choice]);
  return 0;
}
