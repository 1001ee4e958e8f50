// Runs items through a checkpoint and writes what it computes, for comparisons with transformers over many
// shapes:
//   model_runner CHECKPOINT ITEMS.safetensors OUTPUT_FOLDER float32|bfloat16 STEP NEW_TOKENS
// Writes <item>.hidden (float32), <item>.positions (int64) and <item>.tokens (int64), raw and row-major.
#include <ATen/ATen.h>

#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "models/driver.h"

namespace {

using namespace tte;

template <typename T>
void write(const std::filesystem::path& file, const T* data, std::size_t count) {
  std::ofstream stream(file, std::ios::binary);
  stream.write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(count * sizeof(T)));
  if (!stream.flush()) throw std::runtime_error("cannot write " + file.string());
}

void run(const std::vector<std::string>& args) {
  const std::filesystem::path output = args[2];
  const auto dtype = args[3] == "bfloat16" ? at::kBFloat16 : at::kFloat;
  const std::int64_t step = std::stoll(args[4]), new_tokens = std::stoll(args[5]);
  const auto preprocessor = models::load_preprocessor(args[0]);
  const auto model = testing::open_model(args[0], dtype, std::int64_t{256} << 20);
  for (const auto& [name, item] : testing::load_items(args[1])) {
    const models::Prompt prompt = preprocessor->expand_placeholders(item.ids, item.visuals);
    testing::Sequence prefill(model, prompt), generate(model, prompt);
    const at::Tensor hidden = testing::hidden_states(*model, prefill, {step}).contiguous();
    const std::vector<std::int64_t> tokens = testing::greedy(*model, generate, new_tokens);
    write(output / (name + ".hidden"), hidden.const_data_ptr<float>(),
          static_cast<std::size_t>(hidden.numel()));
    write(output / (name + ".positions"), prompt.positions.data(), prompt.positions.size());
    write(output / (name + ".tokens"), tokens.data(), tokens.size());
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  if (args.size() != 6) {
    std::cerr << "usage: model_runner CHECKPOINT ITEMS OUTPUT_FOLDER DTYPE STEP NEW_TOKENS\n";
    return 2;
  }
  try {
    run(args);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  return 0;
}
