#include "tte/think_then_embed.h"

#include "bindings.h"
#include "call.h"

namespace tte::python {

namespace {

void bind_call_stats(py::module_& module) {
  py::class_<CallStats>(module, "CallStats", "What a call took in all.")
      .def_readonly("seconds", &CallStats::seconds, "From call to return.")
      .def_readonly("thought", &CallStats::thought, "Items for which a trace was generated.")
      .def_readonly("generated_tokens", &CallStats::generated_tokens)
      .def_readonly("prompt_tokens", &CallStats::prompt_tokens, "Of both models' prompts, traces included.")
      .def_readonly("reused_tokens", &CallStats::reused_tokens,
                    "Of those, tokens whose state was there already.")
      .def(py::pickle(
          [](const CallStats& s) {
            return py::make_tuple(s.seconds, s.thought, s.generated_tokens, s.prompt_tokens, s.reused_tokens);
          },
          [](const py::tuple& state) {
            if (state.size() != 5) throw py::value_error("The state of CallStats is a tuple of five.");
            CallStats stats;
            stats.seconds = state[0].cast<decltype(stats.seconds)>();
            stats.thought = state[1].cast<decltype(stats.thought)>();
            stats.generated_tokens = state[2].cast<decltype(stats.generated_tokens)>();
            stats.prompt_tokens = state[3].cast<decltype(stats.prompt_tokens)>();
            stats.reused_tokens = state[4].cast<decltype(stats.reused_tokens)>();
            return stats;
          }))
      .def("__repr__", [](const CallStats& s) {
        return py::str(
                   "CallStats(seconds={:.3f}, thought={}, generated_tokens={}, prompt_tokens={}, "
                   "reused_tokens={})")
            .format(s.seconds, s.thought, s.generated_tokens, s.prompt_tokens, s.reused_tokens);
      });
}

}  // namespace

// NOLINTNEXTLINE(readability-function-size): a list of what there is.
void bind_think_then_embed(py::module_& module) {
  bind_call_stats(module);

  py::class_<ThinkThenEmbedResult>(module, "ThinkThenEmbedResult")
      .def_property_readonly(
          "embeddings", [](ThinkThenEmbedResult& self) -> Embeddings& { return self.embeddings; },
          py::return_value_policy::reference_internal)
      .def_property_readonly(
          "without_trace",
          [](ThinkThenEmbedResult& self) { return self.without_trace ? &*self.without_trace : nullptr; },
          py::return_value_policy::reference_internal)
      .def_property_readonly(
          "tokens", [](ThinkThenEmbedResult& self) { return self.tokens ? &*self.tokens : nullptr; },
          py::return_value_policy::reference_internal)
      .def_readonly("traces", &ThinkThenEmbedResult::traces)
      .def_readonly("timings", &ThinkThenEmbedResult::timings)
      .def_readonly("stats", &ThinkThenEmbedResult::stats);

  py::class_<ThinkThenEmbed, Holder<ThinkThenEmbed>>(module, "ThinkThenEmbed",
                                                     "Reasoner and Embedder joined.")
      .def(py::init<Reasoner, Embedder>(), py::arg("reasoner"), py::arg("embedder"))
      .def(
          "run",
          [](const ThinkThenEmbed& self, const std::vector<Input>& inputs,
             std::optional<std::string> instruction, std::vector<Task> tasks,
             std::vector<ThinkMode> think_each, Callback<bool(std::size_t, py::array_t<float>)> decide,
             const std::optional<py::array_t<float, py::array::c_style | py::array::forcecast>>& targets,
             double margin, std::vector<std::optional<Trace>> traces,
             std::vector<GenerateOptions> generate_each, std::optional<bool> normalize,
             std::optional<int> truncate_dim, bool without_trace, std::optional<TokenOptions> tokens,
             Callback<OnToken(std::size_t, std::string_view, std::int64_t)> on_token,
             Callback<void(std::size_t, const Trace&)> on_trace,
             Callback<void(std::size_t, py::array_t<float>)> on_vector, OnError on_error, Progress progress,
             std::optional<CancelToken> cancel, int max_in_flight) {
            ThinkThenEmbedOptions options;
            options.instruction = std::move(instruction);
            options.tasks = std::move(tasks);
            options.think_each = std::move(think_each);
            options.traces = std::move(traces);
            options.generate_each = std::move(generate_each);
            options.normalize = normalize;
            options.truncate_dim = truncate_dim;
            options.without_trace = without_trace;
            options.tokens = tokens;
            options.on_token = or_none(std::move(on_token));
            options.on_trace = or_none(std::move(on_trace));
            if (decide) {
              options.auto_think.decide = [decide = std::move(*decide)](std::size_t item,
                                                                        std::span<const float> plain) {
                const py::gil_scoped_acquire gil;
                return decide(item, copy_array(plain));
              };
            }
            if (targets) {
              auto vectors = std::make_shared<Embeddings>();
              vectors->rows = targets->shape(0);
              vectors->dim = targets->shape(1);
              vectors->data.assign(targets->data(), targets->data() + targets->size());
              options.auto_think.targets = std::move(vectors);
              options.auto_think.margin = margin;
            }
            if (on_vector) {
              options.on_vector = [on_vector = std::move(*on_vector)](std::size_t item,
                                                                      std::span<const float> vector) {
                const py::gil_scoped_acquire gil;
                on_vector(item, copy_array(vector));
              };
            }
            apply({on_error, std::move(progress), std::move(cancel), max_in_flight}, options);
            const RunningCall running;
            return self.run(inputs, options);
          },
          py::arg("inputs"), py::arg("instruction") = py::none(), py::arg("tasks") = std::vector<Task>{},
          py::arg("think_each") = std::vector<ThinkMode>{}, py::arg("decide") = py::none(),
          py::arg("targets") = py::none(), py::arg("margin") = 0.0,
          py::arg("traces") = std::vector<std::optional<Trace>>{},
          py::arg("generate_each") = std::vector<GenerateOptions>{}, py::arg("normalize") = py::none(),
          py::arg("truncate_dim") = py::none(), py::arg("without_trace") = false,
          py::arg("tokens") = py::none(), py::arg("on_token") = py::none(), py::arg("on_trace") = py::none(),
          py::arg("on_vector") = py::none(), py::arg_v("on_error", OnError::kThrow, "OnError.THROW"),
          py::arg("progress") = py::none(), py::arg("cancel") = py::none(), py::arg("max_in_flight") = 0);
}

}  // namespace tte::python
