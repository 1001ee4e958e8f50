#include "tte/embedder.h"

#include "bindings.h"
#include "call.h"

namespace tte::python {
namespace {

template <typename T>
py::array_t<T> take_rows(std::vector<T>& data, std::int64_t rows, std::int64_t dim) {
  if (data.size() != static_cast<std::size_t>(rows * dim)) {
    throw InputError("take_data() has moved the vectors out already: keep the array that it returned.");
  }
  return to_array(std::exchange(data, {}), {static_cast<py::ssize_t>(rows), static_cast<py::ssize_t>(dim)});
}

// float16 has no type in C++20.
py::array take_half(std::vector<std::uint16_t>& data, std::int64_t rows, std::int64_t dim) {
  return take_rows(data, rows, dim).attr("view")("float16").cast<py::array>();
}

template <typename T>
py::array_t<T> copy_of(const std::vector<T>& values) {
  return to_array(std::vector<T>(values), {static_cast<py::ssize_t>(values.size())});
}

template <typename T>
py::array_t<T> moved(std::vector<T>& values) {
  const auto size = static_cast<py::ssize_t>(values.size());
  return to_array(std::exchange(values, {}), {size});
}

void bind_sparse(py::module_& module) {
  py::class_<SparseEmbeddings>(module, "SparseEmbeddings",
                               "Sparse vectors of a call, and the dense ones of the same pass.")
      .def(
          "take_values", [](SparseEmbeddings& self) { return moved(self.values); },
          "float32 [entries]; moves the memory out.")
      .def(
          "take_indices", [](SparseEmbeddings& self) { return moved(self.indices); },
          "int32 [entries]; moves the memory out.")
      .def_property_readonly("offsets", [](const SparseEmbeddings& self) { return copy_of(self.offsets); })
      .def_readonly("dim", &SparseEmbeddings::dim)
      .def_property_readonly(
          "pooled", [](SparseEmbeddings& self) -> Embeddings& { return self.pooled; },
          py::return_value_policy::reference_internal);
}

void bind_tokens(py::module_& module) {
  py::enum_<TokenPooling>(module, "TokenPooling", "How neighbouring or similar vectors become one.")
      .value("NEIGHBOURS", TokenPooling::kNeighbours)
      .value("HIERARCHICAL", TokenPooling::kHierarchical);

  py::class_<TokenOptions>(module, "TokenOptions",
                           "Which tokens get a vector, and which of these are merged.")
      .def(py::init([](bool text, bool visual, bool trace, std::optional<bool> special, TokenPooling pooling,
                       int factor, bool float32) {
             const TokenOptions options{text, visual, trace, special, pooling, factor, float32};
             options.validate();
             return options;
           }),
           py::arg("text"), py::arg("visual"), py::arg("trace"), py::arg("special"), py::arg("pooling"),
           py::arg("factor"), py::arg("float32"));

  py::class_<TokenEmbeddings>(module, "TokenEmbeddings", "Vectors of the tokens of each input.")
      .def(
          "take_data",
          [](TokenEmbeddings& self) -> py::array {
            if (self.data.empty()) return take_half(self.half, self.offsets.back(), self.dim);
            return take_rows(self.data, self.offsets.back(), self.dim);
          },
          "float16 or float32 [rows, dim]; moves the memory out.")
      .def_property_readonly("offsets", [](const TokenEmbeddings& self) { return copy_of(self.offsets); })
      .def_property_readonly("positions", [](const TokenEmbeddings& self) { return copy_of(self.positions); })
      .def_property_readonly("ids", [](const TokenEmbeddings& self) { return copy_of(self.ids); })
      .def_property_readonly("origins",
                             [](const TokenEmbeddings& self) {
                               std::vector<std::uint8_t> out;
                               out.reserve(self.origins.size());
                               for (const TokenOrigin origin : self.origins)
                                 out.push_back(static_cast<std::uint8_t>(origin));
                               return copy_of(out);
                             })
      .def_property_readonly(
          "pooled", [](TokenEmbeddings& self) -> Embeddings& { return self.pooled; },
          py::return_value_policy::reference_internal);
}

}  // namespace

// NOLINTNEXTLINE(readability-function-size): a list of what there is.
void bind_embedder(py::module_& module) {
  py::class_<Embeddings>(module, "Embeddings", "Vectors of a call, with errors and timings.")
      .def(
          "take_data", [](Embeddings& self) { return take_rows(self.data, self.rows, self.dim); },
          "float32 [rows, dim]; moves the memory out, so a second call raises InputError.")
      .def_readonly("rows", &Embeddings::rows)
      .def_readonly("dim", &Embeddings::dim)
      .def_readonly("errors", &Embeddings::errors)
      .def_readonly("timings", &Embeddings::timings)
      .def_readonly("tokens", &Embeddings::tokens);

  bind_tokens(module);
  bind_sparse(module);

  const auto call_options = [](std::optional<std::string> instruction, std::vector<Task> tasks,
                               std::optional<bool> normalize, std::optional<int> truncate_dim,
                               OnError on_error, Progress progress, std::optional<CancelToken> cancel,
                               int max_in_flight) {
    EmbedCallOptions options;
    options.instruction = std::move(instruction);
    options.tasks = std::move(tasks);
    options.normalize = normalize;
    options.truncate_dim = truncate_dim;
    apply({on_error, std::move(progress), std::move(cancel), max_in_flight}, options);
    return options;
  };

  py::class_<Embedder, Holder<Embedder>>(module, "Embedder", "The model that embeds.")
      .def_static("load", &Embedder::load, py::arg("checkpoint"), py::arg("options"), py::arg("backend"),
                  py::call_guard<RunningCall>())
      .def(
          "embed",
          [call_options](const Embedder& self, const std::vector<Input>& inputs,
                         const std::vector<std::optional<Trace>>& traces,
                         std::optional<std::string> instruction, std::vector<Task> tasks,
                         std::optional<bool> normalize, std::optional<int> truncate_dim,
                         Callback<void(std::size_t, py::array_t<float>)> on_result, OnError on_error,
                         Progress progress, std::optional<CancelToken> cancel, int max_in_flight) {
            auto options = call_options(std::move(instruction), std::move(tasks), normalize, truncate_dim,
                                        on_error, std::move(progress), std::move(cancel), max_in_flight);
            if (on_result) {
              options.on_result = [on_result = std::move(*on_result)](std::size_t item,
                                                                      std::span<const float> vector) {
                const py::gil_scoped_acquire gil;
                on_result(item, copy_array(vector));
              };
            }
            const RunningCall running;
            return self.embed(inputs, traces, options);
          },
          py::arg("inputs"), py::arg("traces") = std::vector<std::optional<Trace>>{},
          py::arg("instruction") = py::none(), py::arg("tasks") = std::vector<Task>{},
          py::arg("normalize") = py::none(), py::arg("truncate_dim") = py::none(),
          py::arg("on_result") = py::none(), py::arg_v("on_error", OnError::kThrow, "OnError.THROW"),
          py::arg("progress") = py::none(), py::arg("cancel") = py::none(), py::arg("max_in_flight") = 0)
      .def(
          "embed_tokens",
          [call_options](const Embedder& self, const std::vector<Input>& inputs,
                         const std::vector<std::optional<Trace>>& traces,
                         std::optional<std::string> instruction, std::vector<Task> tasks,
                         std::optional<bool> normalize, std::optional<int> truncate_dim,
                         const TokenOptions& tokens, OnError on_error, Progress progress,
                         std::optional<CancelToken> cancel, int max_in_flight) {
            const auto options =
                call_options(std::move(instruction), std::move(tasks), normalize, truncate_dim, on_error,
                             std::move(progress), std::move(cancel), max_in_flight);
            const RunningCall running;
            return self.embed_tokens(inputs, traces, options, tokens);
          },
          py::arg("inputs"), py::arg("traces") = std::vector<std::optional<Trace>>{},
          py::arg("instruction") = py::none(), py::arg("tasks") = std::vector<Task>{},
          py::arg("normalize") = py::none(), py::arg("truncate_dim") = py::none(), py::kw_only(),
          py::arg("tokens"), py::arg_v("on_error", OnError::kThrow, "OnError.THROW"),
          py::arg("progress") = py::none(), py::arg("cancel") = py::none(), py::arg("max_in_flight") = 0)
      .def(
          "embed_sparse",
          [call_options](const Embedder& self, const std::vector<Input>& inputs,
                         const std::vector<std::optional<Trace>>& traces,
                         std::optional<std::string> instruction, std::vector<Task> tasks,
                         std::optional<bool> normalize, std::optional<int> truncate_dim,
                         std::optional<int> top_k, OnError on_error, Progress progress,
                         std::optional<CancelToken> cancel, int max_in_flight) {
            const auto options =
                call_options(std::move(instruction), std::move(tasks), normalize, truncate_dim, on_error,
                             std::move(progress), std::move(cancel), max_in_flight);
            const RunningCall running;
            return self.embed_sparse(inputs, traces, options, {top_k});
          },
          py::arg("inputs"), py::arg("traces") = std::vector<std::optional<Trace>>{},
          py::arg("instruction") = py::none(), py::arg("tasks") = std::vector<Task>{},
          py::arg("normalize") = py::none(), py::arg("truncate_dim") = py::none(), py::kw_only(),
          py::arg("top_k") = py::none(), py::arg_v("on_error", OnError::kThrow, "OnError.THROW"),
          py::arg("progress") = py::none(), py::arg("cancel") = py::none(), py::arg("max_in_flight") = 0)
      .def_property_readonly("sparse_dim", &Embedder::sparse_dim)
      .def_property_readonly("dim", &Embedder::dim)
      .def_property_readonly("model", &Embedder::model)
      .def_property_readonly("backend", &Embedder::backend)
      .def_property_readonly("tokenizer", &Embedder::tokenizer);
}

}  // namespace tte::python
