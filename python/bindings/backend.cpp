#include "tte/backend.h"

#include "bindings.h"
#include "call.h"

namespace tte::python {

void bind_backend(py::module_& module) {
  py::class_<DeviceInfo>(module, "DeviceInfo", "A device that tte can run on.")
      .def_readonly("name", &DeviceInfo::name)
      .def_readonly("description", &DeviceInfo::description)
      .def_readonly("memory_bytes", &DeviceInfo::memory_bytes)
      .def_readonly("dtypes", &DeviceInfo::dtypes)
      .def("__repr__", [](const DeviceInfo& d) {
        return py::str("DeviceInfo({!r}, {!r}, {:.1f} GiB)")
            .format(d.name, d.description, static_cast<double>(d.memory_bytes) / (1 << 30));
      });

  py::class_<BackendStats>(module, "BackendStats", "What the engines of a backend did since it was made.")
      .def_readonly("engines", &BackendStats::engines)
      .def_readonly("steps", &BackendStats::steps)
      .def_readonly("prefill_tokens", &BackendStats::prefill_tokens)
      .def_readonly("decode_tokens", &BackendStats::decode_tokens)
      .def_readonly("guessed_tokens", &BackendStats::guessed_tokens,
                    "Tokens that prompt lookup or a draft guessed.")
      .def_readonly("right_guesses", &BackendStats::right_guesses,
                    "Those of them that were right, which are generated tokens.")
      .def_readonly("drafted_tokens", &BackendStats::drafted_tokens, "Of the guessed tokens those of drafts.")
      .def_readonly("right_drafts", &BackendStats::right_drafts, "Those of them that were right.")
      .def_readonly("reused_tokens", &BackendStats::reused_tokens)
      .def_readonly(
          "head_tokens", &BackendStats::head_tokens,
          "Tokens that embedding heads went on with from their hidden states, and nobody read again.")
      .def_readonly("vision_encoded", &BackendStats::vision_encoded)
      .def_readonly("vision_reused", &BackendStats::vision_reused)
      .def_readonly("peak_running", &BackendStats::peak_running)
      .def("__repr__", [](const BackendStats& s) {
        return py::
            str("BackendStats(engines={}, steps={}, prefill_tokens={}, decode_tokens={}, reused_tokens={}, "
                "vision_encoded={}, vision_reused={}, peak_running={})")
                .format(s.engines, s.steps, s.prefill_tokens, s.decode_tokens, s.reused_tokens,
                        s.vision_encoded, s.vision_reused, s.peak_running);
      });

  py::class_<BackendOptions>(module, "BackendOptions", "Where and how models run.")
      .def(py::init<>())
      .def_readwrite("device", &BackendOptions::device)
      .def_readwrite("replicas", &BackendOptions::replicas)
      .def_readwrite("tensor_parallel", &BackendOptions::tensor_parallel)
      .def_readwrite("threads", &BackendOptions::threads)
      .def_readwrite("media_threads", &BackendOptions::media_threads)
      .def_readwrite("state_bytes", &BackendOptions::state_bytes)
      .def_readwrite("max_step_tokens", &BackendOptions::max_step_tokens)
      .def_readwrite("max_running", &BackendOptions::max_running)
      .def_readwrite("prompt_lookup_tokens", &BackendOptions::prompt_lookup_tokens)
      .def_readwrite("cuda_graphs", &BackendOptions::cuda_graphs)
      .def_readwrite("vision_cache_bytes", &BackendOptions::vision_cache_bytes);

  py::class_<Backend, Holder<Backend>>(module, "Backend", "Devices with their kernels, threads and memory.")
      .def_static("make", &Backend::make, py::arg("options"), py::call_guard<RunningCall>())
      .def_static("shared", &Backend::shared, py::arg("options"), py::call_guard<RunningCall>())
      .def_static("devices", &Backend::devices)
      .def_property_readonly("device", &Backend::device)
      .def_property_readonly("options", &Backend::options)
      .def("supports", &Backend::supports, py::arg("dtype"))
      .def("stats", &Backend::stats)
      .def("replica_stats", &Backend::replica_stats);
}

}  // namespace tte::python
