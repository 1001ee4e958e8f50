// Fuzzes what says how tensors are read: the first byte of an input chooses adapter_config.json (0) of an adapter, or
// config.json (1) of a checkpoint with weights of few bits; the tensors stay as they are.
// Anything but a tte::Error of less than 500 bytes is a finding.
#include <ATen/ATen.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "base/checkpoint.h"
#include "tte/error.h"
#include "weights/safetensors_file.h"
#include "weights/state_dict.h"

namespace {

namespace fs = std::filesystem;
using tte::testing::safetensors;

void write(const fs::path& file, std::string_view content) {
  fs::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary | std::ios::trunc) << content;
}

const fs::path& folder() {
  static const fs::path path = [] {
    const fs::path shm = "/dev/shm";  // In memory where there is such a file system: an input is a file.
    auto out = (fs::is_directory(shm) ? shm : fs::temp_directory_path()) /
               ("tte_fuzz_weights_" + std::to_string(::getpid()));
    const at::Tensor one = at::ones({2, 2});
    write(out / "base/model.safetensors", safetensors({{"l.q.weight", one}, {"l.q.bias", at::ones({2})}}));
    write(out / "adapter/adapter_model.safetensors",
          safetensors({{"base_model.model.l.q.lora_A.weight", one},
                       {"base_model.model.l.q.lora_B.weight", one},
                       {"base_model.model.l.q.lora_magnitude_vector.weight", at::ones({2})}}));
    write(out / "few/model.safetensors", safetensors({{"p.weight_packed", at::ones({2, 1}, at::kInt)},
                                                      {"p.weight_scale", at::ones({2, 1})},
                                                      {"p.weight_shape", at::tensor({2, 5}, at::kLong)},
                                                      {"f.weight", one.to(at::kFloat8_e4m3fn)},
                                                      {"f.weight_scale", at::ones({1})},
                                                      {"f.weight_scale_inv", at::ones({1, 1})},
                                                      {"i.weight", one.to(at::kChar)},
                                                      {"i.weight_scale", at::ones({2})},
                                                      {"i.weight_scale_inv", at::ones({2})}}));
    return out;
  }();
  return path;
}

void take_all(const tte::base::Checkpoint& checkpoint) {
  const auto weights = tte::weights::StateDict::open(checkpoint, {});
  static_cast<void>(weights.fingerprint());
  for (const std::string& name : weights.names()) {
    const auto shape = weights.shape(name);
    if (shape.size() == 2 || name.ends_with("bias")) static_cast<void>(weights.get(name, shape));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const bool few = data[0] % 2 == 1;
  write(folder() / (few ? "few/config.json" : "adapter/adapter_config.json"),
        {reinterpret_cast<const char*>(data) + 1, size - 1});
  try {
    take_all(few ? tte::base::Checkpoint(folder() / "few")
                 : tte::base::Checkpoint(folder() / "adapter", folder() / "base"));
  } catch (const tte::Error& error) {
    if (std::strlen(error.what()) >= 500) __builtin_trap();
  }
  return 0;
}
