// A safetensors file of any bytes either gives tensors that lie inside it, or a ModelError.

#include <ATen/ATen.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "tte/error.h"
#include "weights/safetensors.h"
#include "weights/state_dict.h"
#include "weights/weight_store.h"

namespace {

using tte::ModelError;

// The fuzzer reports the trap and keeps the input.
void require(bool condition) {
  if (!condition) __builtin_trap();
}

// The header alone, with a length that always fits: most random bytes would fail at their first eight.
void fuzz_header(std::string_view text, std::size_t data_bytes) {
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>(text.size() >> (8 * i) & 0xff);
  file.append(text).append(data_bytes, 'x');
  try {
    std::size_t next = 8 + text.size();
    for (const auto& tensor : tte::weights::read_safetensors(file, "fuzzed")) {
      require(tensor.begin == next);
      next += tensor.size;
    }
    require(next == file.size());
  } catch (const ModelError& error) {
    require(std::string_view(error.what()).size() > 10);
  }
}

// The bytes as a file, every tensor of which is read to its last byte.
void fuzz_file(std::string_view bytes) {
  static const int descriptor = memfd_create("fuzzed", 0);
  require(ftruncate(descriptor, 0) == 0);
  require(pwrite(descriptor, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  try {
    const auto store = std::make_shared<tte::weights::WeightStore>();
    const auto dict =
        tte::weights::StateDict::open("/proc/self/fd/" + std::to_string(descriptor), {.store = store});
    static_cast<void>(dict.fingerprint());
    for (const auto& name : dict.names()) {
      try {
        const at::Tensor tensor = dict.get(name, dict.shape(name));
        volatile std::uint8_t sum = 0;
        const auto* data = static_cast<const std::uint8_t*>(tensor.const_data_ptr());
        for (std::size_t i = 0; i < tensor.nbytes(); ++i) sum = sum + data[i];
      } catch (const ModelError&) {  // A dtype that tte does not compute with.
      }
    }
  } catch (const ModelError& error) {
    require(std::string_view(error.what()).size() > 10);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  fuzz_file(bytes);
  if (size > 0) fuzz_header(bytes.substr(1), data[0]);
  return 0;
}
