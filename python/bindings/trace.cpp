#include "tte/trace.h"

#include <cstdint>
#include <string>
#include <vector>

#include "bindings.h"

namespace tte::python {

namespace {

constexpr std::size_t kShownLetters = 80;

// Everything that an embedder reads of a trace and that people ask for later; not the timings. A store keeps these.
py::tuple content_of(const Trace& trace) {
  return py::make_tuple(trace.text, trace.thinking, trace.conclusion, trace.token_ids, trace.vocabulary,
                        trace.finish, trace.error, trace.prompt_tokens, trace.reused_tokens);
}

py::tuple state_of(const Trace& trace) {
  return content_of(trace) + py::make_tuple(trace.generated_tokens);
}

// Timings and counts tell what else ran, not what was written.
bool same_writing(const Trace& a, Trace b) {
  b.reused_tokens = a.reused_tokens;
  return content_of(a).equal(content_of(b));
}

// Checks the content too: a trace with ids tells by them how many tokens were written.
Trace trace_of(const py::tuple& state) {
  if (state.size() != 9 && state.size() != 10)
    throw py::value_error("The state of a Trace is a tuple of ten.");
  Trace trace;
  trace.text = state[0].cast<std::string>();
  trace.thinking = state[1].cast<std::string>();
  trace.conclusion = state[2].cast<std::string>();
  trace.token_ids = state[3].cast<std::vector<std::int64_t>>();
  trace.vocabulary = state[4].cast<std::string>();
  trace.finish = state[5].cast<FinishReason>();
  trace.error = state[6].cast<std::string>();
  trace.prompt_tokens = state[7].cast<std::int64_t>();
  trace.reused_tokens = state[8].cast<std::int64_t>();
  trace.generated_tokens =
      state.size() > 9 ? state[9].cast<std::int64_t>() : static_cast<std::int64_t>(trace.token_ids.size());
  return trace;
}

}  // namespace

// NOLINTNEXTLINE(readability-function-size): a list of what there is.
void bind_trace(py::module_& module) {
  py::enum_<FinishReason>(module, "FinishReason", "Why a trace ended.")
      .value("STOP", FinishReason::kStop, "An end token or a stop string.")
      .value("LENGTH", FinishReason::kLength, "max_new_tokens was reached.")
      .value("CALLBACK", FinishReason::kCallback, "The token callback asked to stop.")
      .value("CANCELLED", FinishReason::kCancelled, "The call was cancelled; the text so far is kept.")
      .value("GIVEN", FinishReason::kGiven, "Handed in by the caller.")
      .value("ERROR", FinishReason::kError, "The item could not be used.");

  py::class_<Timings>(module, "Timings", "Seconds spent on one item, by stage.")
      .def_readonly("media", &Timings::media, "Decode, resize, patchify.")
      .def_readonly("queue", &Timings::queue, "Waiting for a place in the batch.")
      .def_readonly("prefill", &Timings::prefill, "From admission to the first token, vision included.")
      .def_readonly("decode", &Timings::decode, "From the first to the last token.")
      .def_readonly("embed", &Timings::embed, "From handing to the embedder to the vector.")
      .def(py::pickle(
          [](const Timings& t) { return py::make_tuple(t.media, t.queue, t.prefill, t.decode, t.embed); },
          [](const py::tuple& state) {
            if (state.size() != 5) throw py::value_error("The state of Timings is a tuple of five.");
            Timings timings;
            timings.media = state[0].cast<double>();
            timings.queue = state[1].cast<double>();
            timings.prefill = state[2].cast<double>();
            timings.decode = state[3].cast<double>();
            timings.embed = state[4].cast<double>();
            return timings;
          }))
      .def("__repr__", [](const Timings& t) {
        return py::str("Timings(media={:.4f}, queue={:.4f}, prefill={:.4f}, decode={:.4f}, embed={:.4f})")
            .format(t.media, t.queue, t.prefill, t.decode, t.embed);
      });

  py::class_<Trace>(module, "Trace", "A reasoning trace: `<think>thinking</think>conclusion`.")
      .def(py::init([](const py::object& text) { return Trace::from_text(to_text(text, "a trace's text")); }),
           py::arg("text"), "A trace written by hand.")
      .def_readonly("text", &Trace::text, "Everything generated, tags included, special tokens left out.")
      .def_readonly("thinking", &Trace::thinking, "Between the tags; empty if there are none.")
      .def_readonly("conclusion", &Trace::conclusion, "After the closing tag; the whole text without tags.")
      .def_readonly("token_ids", &Trace::token_ids, "Empty where a server wrote it: it tells no ids.")
      .def_readonly("vocabulary", &Trace::vocabulary,
                    "Digest of the vocabulary that `token_ids` belong to; empty: unknown.")
      .def_readonly("finish", &Trace::finish)
      .def_readonly("error", &Trace::error, "One sentence; empty unless `finish` is ERROR.")
      .def_readonly("prompt_tokens", &Trace::prompt_tokens)
      .def_readonly("generated_tokens", &Trace::generated_tokens,
                    "Tokens that were written, as whoever wrote them counts; 0: unknown, as of a server's "
                    "trace out of a "
                    "store.")
      .def_readonly("reused_tokens", &Trace::reused_tokens,
                    "Tokens of the prompt that were taken from an earlier sequence's state.")
      .def_readonly("timings", &Trace::timings)
      .def(py::pickle(&state_of, &trace_of))
      .def(
          "__eq__",
          [](const Trace& a, const py::object& b) {
            return py::isinstance<Trace>(b) && same_writing(a, b.cast<Trace>());
          },
          py::arg("other"), "Whether all but `timings`, `reused_tokens` and `generated_tokens` is equal.")
      .def("__hash__", [](const Trace& t) { return py::hash(py::str(t.text)); })
      .def("__str__", [](const Trace& t) { return t.text; })
      .def("__repr__", [](const Trace& t) {
        py::str shown(t.text);
        if (py::len(shown) > kShownLetters) shown = py::str("{:.80}...").format(shown);
        return py::str("Trace({!r}, finish={}, tokens={})")
            .format(shown, py::cast(t.finish), t.generated_tokens);
      });
}

}  // namespace tte::python
