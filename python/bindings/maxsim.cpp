#include "bindings.h"
#include "call.h"
#include "tte/token_embeddings.h"

namespace tte::python {
namespace {

using Offsets = py::array_t<std::int64_t, py::array::c_style>;

// The arrays stay alive and unchanged in size as long as the call runs: the caller holds them.
TokenSets sets_of(const py::array& vectors, const Offsets& offsets, const char* name) {
  TokenSets sets;
  sets.half = vectors.dtype().kind() == 'f' && vectors.itemsize() == 2;
  const bool fine = vectors.ndim() == 2 && (vectors.flags() & py::array::c_style) != 0 &&
                    offsets.ndim() == 1 && (sets.half || py::isinstance<py::array_t<float>>(vectors));
  if (!fine || offsets.size() == 0 || offsets.at(offsets.size() - 1) > vectors.shape(0)) {
    throw InputError(std::string(name) +
                     " must be float16 or float32 [rows, dim], dense, with offsets of its rows.");
  }
  sets.data = vectors.data();
  sets.dim = vectors.shape(1);
  sets.offsets = {offsets.data(), static_cast<std::size_t>(offsets.size())};
  return sets;
}

}  // namespace

void bind_maxsim(py::module_& module) {
  module.def(
      "maxsim",
      [](const py::array& queries, const Offsets& query_offsets, const py::array& documents,
         const Offsets& document_offsets, bool mean, int threads, std::optional<CancelToken> cancel) {
        const TokenSets left = sets_of(queries, query_offsets, "queries");
        const TokenSets right = sets_of(documents, document_offsets, "documents");
        MaxSimOptions options;
        options.mean = mean;
        options.threads = threads;
        if (cancel) options.cancel = std::move(*cancel);
        options.poll = check_signals;
        std::vector<float> scores;
        {
          const RunningCall running;
          scores = maxsim(left, right, options);
        }
        return to_array(std::move(scores),
                        {static_cast<py::ssize_t>(left.size()), static_cast<py::ssize_t>(right.size())});
      },
      py::arg("queries"), py::arg("query_offsets"), py::arg("documents"), py::arg("document_offsets"),
      py::arg("mean") = false, py::arg("threads") = 0, py::arg("cancel") = py::none(),
      "MaxSim of every query with every document, float32 [queries, documents].");
}

}  // namespace tte::python
