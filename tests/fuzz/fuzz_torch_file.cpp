// A file of torch.save of any bytes, and any pickle in a sound one, give tensors that lie inside it, or a ModelError.

#include <ATen/ATen.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "tte/error.h"
#include "weights/torch_archive.h"
#include "weights/torch_file.h"

namespace {

// The fuzzer reports the trap and keeps the input.
void require(bool condition) {
  if (!condition) __builtin_trap();
}

void fuzz_file(std::string_view bytes) {
  static const int descriptor = memfd_create("fuzzed", 0);
  require(ftruncate(descriptor, 0) == 0);
  require(pwrite(descriptor, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  try {
    const auto file = tte::weights::MappedFile::open("/proc/self/fd/" + std::to_string(descriptor));
    for (const auto& [name, tensors] : tte::weights::read_torch_file(file)) {
      for (const at::Tensor& tensor : tensors) {
        if (tensor.numel() > 1 << 20) continue;  // Strides of 0: few numbers that are many.
        (void)tensor.to(at::kDouble).sum().item<double>();
      }
    }
  } catch (const tte::ModelError& error) {
    require(std::string_view(error.what()).size() > 10 && std::string_view(error.what()).size() < 500);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (bytes.starts_with("PK")) {
    fuzz_file(bytes);
  } else {
    fuzz_file(
        tte::testing::torch_archive({{"data.pkl", std::string(bytes)}, {"data/0", std::string(96, '\1')}}));
  }
  return 0;
}
