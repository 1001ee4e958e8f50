#include "tte/tokenizer.h"

#include "bindings.h"

namespace tte::python {

void bind_tokenizer(py::module_& module) {
  py::class_<Tokenizer>(module, "Tokenizer", "A checkpoint's tokenizer and chat template by themselves.")
      .def_static("load", &Tokenizer::load, py::arg("checkpoint"), py::call_guard<py::gil_scoped_release>())
      .def("encode", &Tokenizer::encode, py::arg("text"), py::arg("parse_control") = true,
           py::call_guard<py::gil_scoped_release>())
      .def("decode", &Tokenizer::decode, py::arg("ids"), py::arg("skip_special") = true,
           py::call_guard<py::gil_scoped_release>())
      .def("apply_chat_template", &Tokenizer::apply_chat_template, py::arg("messages"),
           py::arg("add_generation_prompt") = true, py::arg("continue_final_message") = false)
      .def("id_of", &Tokenizer::id_of, py::arg("token"))
      .def_property_readonly("vocab_size", &Tokenizer::vocab_size)
      .def_property_readonly("eos_id", &Tokenizer::eos_id)
      .def_property_readonly("pad_id", &Tokenizer::pad_id)
      .def_property_readonly("vocabulary", &Tokenizer::vocabulary);
}

}  // namespace tte::python
