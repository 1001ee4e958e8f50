#include "bindings.h"
#include "call.h"
#include "tte/version.h"

PYBIND11_MODULE(_tte, module) {
  using namespace tte::python;
  module.doc() = "The C++ engine of tte. Use the package `tte`, which wraps it.";
  module.attr("__version__") = TTE_VERSION;
  bind_errors(module);
  bind_inputs(module);
  bind_trace(module);
  bind_options(module);
  bind_tokenizer(module);
  bind_processor(module);
  bind_backend(module);
  bind_quantize(module);
  bind_reasoner(module);
  bind_embedder(module);
  bind_maxsim(module);
  bind_think_then_embed(module);
  // Those that the package exports as they are.
  for (const char* name : {"BackendStats", "CallStats", "CancelToken", "DeviceInfo", "FinishReason",
                           "ItemError", "ModelDescription", "Timings", "Trace"}) {
    make_calls_plain(module.attr(name));
  }
  py::module_::import("atexit").attr("register")(py::cpp_function(&wait_for_calls));
}
