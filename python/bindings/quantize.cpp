#include "tte/quantize.h"

#include "bindings.h"
#include "call.h"

namespace tte::python {

void bind_quantize(py::module_& module) {
  module.def(
      "quantize",
      [](const std::filesystem::path& checkpoint, const std::filesystem::path& folder,
         std::string quantization, std::optional<std::filesystem::path> adapter) {
        QuantizeOptions options;
        options.quantization = std::move(quantization);
        if (adapter) options.adapter = std::move(*adapter);
        options.poll = check_signals;
        const RunningCall running;
        quantize(checkpoint, folder, options);
      },
      py::arg("checkpoint"), py::arg("folder"), py::arg("quantization"), py::arg("adapter"),
      "Write a checkpoint whose linear layers are rounded into a new folder.");
}

}  // namespace tte::python
