#include "tte/trace.h"

#include "bindings.h"

namespace tte::python {

void bind_trace(py::module_& module) {
  py::enum_<FinishReason>(module, "FinishReason", "Why a trace ended.")
      .value("STOP", FinishReason::kStop, "An end token or a stop string.")
      .value("LENGTH", FinishReason::kLength, "max_new_tokens was reached.")
      .value("CALLBACK", FinishReason::kCallback, "The token callback asked to stop.")
      .value("CANCELLED", FinishReason::kCancelled, "The call was cancelled; the text so far is kept.")
      .value("GIVEN", FinishReason::kGiven, "Handed in by the caller.");

  py::class_<Timings>(module, "Timings", "Seconds spent on one item, by stage.")
      .def_readonly("media", &Timings::media, "Decode, resize, patchify.")
      .def_readonly("queue", &Timings::queue, "Waiting for a place in the batch.")
      .def_readonly("prefill", &Timings::prefill, "From admission to the first token, vision included.")
      .def_readonly("decode", &Timings::decode, "From the first to the last token.")
      .def_readonly("embed", &Timings::embed, "From handing to the embedder to the vector.");

  py::class_<Trace>(module, "Trace", "A reasoning trace: `<think>thinking</think>conclusion`.")
      .def(py::init([](std::string text) { return Trace::from_text(std::move(text)); }), py::arg("text"),
           "A trace written by hand.")
      .def_readonly("text", &Trace::text, "Everything generated, tags included, special tokens left out.")
      .def_readonly("thinking", &Trace::thinking, "Between the tags; empty if there are none.")
      .def_readonly("conclusion", &Trace::conclusion, "After the closing tag; the whole text without tags.")
      .def_readonly("token_ids", &Trace::token_ids)
      .def_readonly("finish", &Trace::finish)
      .def_readonly("prompt_tokens", &Trace::prompt_tokens)
      .def_readonly("reused_tokens", &Trace::reused_tokens,
                    "Tokens of the prompt that were taken from an earlier sequence's state.")
      .def_readonly("timings", &Trace::timings)
      .def("__str__", [](const Trace& t) { return t.text; })
      .def("__repr__", [](const Trace& t) {
        return py::str("Trace({!r}, finish={}, tokens={})")
            .format(t.text, py::cast(t.finish), t.token_ids.size());
      });
}

}  // namespace tte::python
