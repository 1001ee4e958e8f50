#include "tte/reasoner.h"

#include "bindings.h"
#include "call.h"
#include "tte/adapter.h"
#include "tte/remote.h"
#include "tte/tensor_info.h"

namespace tte::python {
namespace {

std::optional<std::filesystem::path> unless_empty(const std::filesystem::path& path) {
  return path.empty() ? std::nullopt : std::optional(path);
}

void bind_remote_options(py::module_& module) {
  py::class_<RemoteOptions>(module, "RemoteOptions", "Where a server is, and how it is asked.")
      .def(py::init<>())
      .def("validate", &RemoteOptions::validate,
           "Raise InputError naming the first option that cannot be used.")
      .def_readwrite("base_url", &RemoteOptions::base_url)
      .def_readwrite("model", &RemoteOptions::model)
      .def_readwrite("api_key", &RemoteOptions::api_key)
      .def_readwrite("api_key_env", &RemoteOptions::api_key_env)
      .def_readwrite("recipe", &RemoteOptions::recipe)
      .def_readwrite("template_options", &RemoteOptions::template_options)
      .def_readwrite("extra", &RemoteOptions::extra)
      .def_readwrite("stream", &RemoteOptions::stream)
      .def_readwrite("max_concurrent", &RemoteOptions::max_concurrent)
      .def_readwrite("media_threads", &RemoteOptions::media_threads)
      .def_readwrite("media_limits", &RemoteOptions::media_limits)
      .def_readwrite("max_retries", &RemoteOptions::max_retries)
      .def_readwrite("retry_delay", &RemoteOptions::retry_delay)
      .def_readwrite("max_retry_delay", &RemoteOptions::max_retry_delay)
      .def_readwrite("retry_seed", &RemoteOptions::retry_seed)
      .def_readwrite("connect_timeout", &RemoteOptions::connect_timeout)
      .def_readwrite("idle_timeout", &RemoteOptions::idle_timeout)
      .def_readwrite("total_timeout", &RemoteOptions::total_timeout)
      .def_readwrite("max_response_bytes", &RemoteOptions::max_response_bytes);
}

void bind_load_options(py::module_& module) {
  py::class_<DraftOptions>(module, "DraftOptions",
                           "A smaller model that guesses what a reasoner writes next.")
      .def(py::init([](std::filesystem::path checkpoint, const std::optional<std::filesystem::path>& adapter,
                       std::string dtype, std::string quantization, int tokens) {
             return DraftOptions{std::move(checkpoint), adapter.value_or(std::filesystem::path()),
                                 std::move(dtype), std::move(quantization), tokens};
           }),
           py::arg("checkpoint"), py::arg("adapter") = py::none(), py::arg("dtype") = "auto",
           py::arg("quantization") = "none", py::arg("tokens") = 8);
  py::class_<LoadOptions>(module, "LoadOptions", "How a checkpoint is loaded.")
      .def(py::init([](std::string dtype, std::string recipe, bool parse_control_tokens,
                       const std::optional<MediaLimits>& media_limits,
                       std::optional<std::filesystem::path> adapter, std::string quantization,
                       std::optional<DraftOptions> draft, TemplateOptions template_options) {
             LoadOptions options;
             options.draft = std::move(draft);
             options.template_options = std::move(template_options);
             if (adapter) options.adapter = std::move(*adapter);
             options.dtype = std::move(dtype);
             options.quantization = std::move(quantization);
             options.recipe = std::move(recipe);
             options.parse_control_tokens = parse_control_tokens;
             if (media_limits) options.media_limits = *media_limits;
             return options;
           }),
           py::arg("dtype") = "auto", py::arg("recipe") = "", py::arg("parse_control_tokens") = false,
           py::arg("media_limits") = py::none(), py::arg("adapter") = py::none(),
           py::arg("quantization") = "none", py::arg("draft") = py::none(),
           py::arg_v("template_options", TemplateOptions(), "{}"));
}

}  // namespace

// NOLINTNEXTLINE(readability-function-size): a list of what there is.
void bind_reasoner(py::module_& module) {
  bind_load_options(module);
  py::class_<AdapterBase>(module, "AdapterBase", "The model that an adapter changes.")
      .def_readonly("name", &AdapterBase::name)
      .def_readonly("revision", &AdapterBase::revision)
      .def_property_readonly("folder", [](const AdapterBase& base) { return unless_empty(base.folder); });
  module.def("adapter_base", &adapter_base, py::arg("folder"),
             "The base of the folder of a PEFT adapter or of an embedding head; None for another folder.");
  py::class_<TensorInfo>(module, "TensorInfo", "A tensor of a safetensors file.")
      .def_readonly("name", &TensorInfo::name)
      .def_readonly("dtype", &TensorInfo::dtype)
      .def_readonly("shape", &TensorInfo::shape)
      .def_readonly("bytes", &TensorInfo::bytes)
      .def_readonly("vision", &TensorInfo::vision);
  py::class_<TensorFileInfo>(module, "TensorFileInfo", "What the header of a safetensors file says.")
      .def_readonly("tensors", &TensorFileInfo::tensors)
      .def_readonly("quantization", &TensorFileInfo::quantization);
  module.def("read_tensor_info", &read_tensor_info, py::arg("file"),
             "The tensors of a safetensors file, from its header.");

  py::class_<ModelDescription>(module, "ModelDescription", "What is known of a loaded checkpoint.")
      .def_readonly("path", &ModelDescription::path)
      .def_property_readonly("base", [](const ModelDescription& m) { return unless_empty(m.base); })
      .def_readonly("server", &ModelDescription::server,
                    "Base URL of the server that has the model; empty for a loaded checkpoint.")
      .def_readonly("family", &ModelDescription::family)
      .def_readonly("dtype", &ModelDescription::dtype)
      .def_readonly("quantization", &ModelDescription::quantization,
                    "How matrices are kept: none, int8 or int4.")
      .def_readonly("parse_control_tokens", &ModelDescription::parse_control_tokens,
                    "Whether control tokens in the text of inputs act as such.")
      .def_readonly("device", &ModelDescription::device)
      .def_readonly("hidden_size", &ModelDescription::hidden_size)
      .def_readonly("num_layers", &ModelDescription::num_layers)
      .def_readonly("vocab_size", &ModelDescription::vocab_size)
      .def_readonly("fingerprint", &ModelDescription::fingerprint)
      .def_readonly("vision_fingerprint", &ModelDescription::vision_fingerprint)
      .def_readonly("recipe", &ModelDescription::recipe)
      .def_readonly("recipe_reason", &ModelDescription::recipe_reason)
      .def("__repr__", [](const ModelDescription& m) {
        return py::str(
                   "ModelDescription(path={!r}, family={!r}, dtype={!r}, device={!r}, hidden_size={}, "
                   "num_layers={}, vocab_size={}, fingerprint={!r})")
            .format(py::str(py::cast(m.path)), m.family, m.dtype, m.device, m.hidden_size, m.num_layers,
                    m.vocab_size, m.fingerprint);
      });

  bind_remote_options(module);
  py::class_<Reasoner, Holder<Reasoner>>(module, "Reasoner", "The model that thinks.")
      .def_static("load", &Reasoner::load, py::arg("checkpoint"), py::arg("options"), py::arg("backend"),
                  py::call_guard<RunningCall>())
      .def_static("remote", &Reasoner::remote, py::arg("options"), py::call_guard<RunningCall>())
      .def(
          "think",
          [](const Reasoner& self, const std::vector<Input>& inputs, std::optional<std::string> instruction,
             std::vector<Task> tasks, std::vector<GenerateOptions> generate_each,
             Callback<OnToken(std::size_t, std::string_view, std::int64_t)> on_token,
             Callback<void(std::size_t, const Trace&)> on_result, OnError on_error, Progress progress,
             std::optional<CancelToken> cancel, int max_in_flight) {
            ThinkOptions options;
            options.instruction = std::move(instruction);
            options.tasks = std::move(tasks);
            options.generate_each = std::move(generate_each);
            options.on_token = or_none(std::move(on_token));
            options.on_result = or_none(std::move(on_result));
            apply({on_error, std::move(progress), std::move(cancel), max_in_flight}, options);
            const RunningCall running;
            return self.think(inputs, options);
          },
          py::arg("inputs"), py::arg("instruction") = py::none(), py::arg("tasks") = std::vector<Task>{},
          py::arg("generate_each") = std::vector<GenerateOptions>{}, py::arg("on_token") = py::none(),
          py::arg("on_result") = py::none(), py::arg_v("on_error", OnError::kThrow, "OnError.THROW"),
          py::arg("progress") = py::none(), py::arg("cancel") = py::none(), py::arg("max_in_flight") = 0)
      .def(
          "score",
          [](const Reasoner& self, const std::vector<Input>& inputs, const std::vector<std::string>& labels,
             const std::vector<std::optional<Trace>>& traces, std::optional<std::string> instruction,
             std::vector<Task> tasks, OnError on_error, Progress progress, std::optional<CancelToken> cancel,
             int max_in_flight) {
            ScoreOptions options;
            options.instruction = std::move(instruction);
            options.tasks = std::move(tasks);
            apply({on_error, std::move(progress), std::move(cancel), max_in_flight}, options);
            LabelScores scores;
            {
              const RunningCall running;
              scores = self.score(inputs, labels, traces, options);
            }
            return to_array(std::move(scores.data), {static_cast<py::ssize_t>(inputs.size()),
                                                     static_cast<py::ssize_t>(labels.size())});
          },
          py::arg("inputs"), py::arg("labels"), py::arg("traces") = std::vector<std::optional<Trace>>{},
          py::arg("instruction") = py::none(), py::arg("tasks") = std::vector<Task>{},
          py::arg_v("on_error", OnError::kThrow, "OnError.THROW"), py::arg("progress") = py::none(),
          py::arg("cancel") = py::none(), py::arg("max_in_flight") = 0)
      .def("thinks", &Reasoner::thinks, py::arg("task"),
           "Whether the recipe says that items of a task are reasoned about.")
      .def_property_readonly("model", &Reasoner::model)
      .def_property_readonly("backend", &Reasoner::backend)
      .def_property_readonly("tokenizer", &Reasoner::tokenizer);
}

}  // namespace tte::python
