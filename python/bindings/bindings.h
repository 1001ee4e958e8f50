// One function per bound class; module.cpp calls them in the order in which they depend on each other.
#pragma once

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <string>

namespace tte::python {

namespace py = pybind11;

// The text of a Python str. Throws InputError that begins with `name` for what is no str, or cannot be
// written as UTF-8: the one place where texts of Python callers are checked.
std::string to_text(const py::object& value, const std::string& name);

// Makes the constructor and the methods of a class that users call refuse other arguments with an InputError.
void make_calls_plain(const py::handle& type);

void bind_errors(py::module_& module);
void bind_inputs(py::module_& module);
void bind_trace(py::module_& module);
void bind_options(py::module_& module);
void bind_tokenizer(py::module_& module);
void bind_processor(py::module_& module);
void bind_backend(py::module_& module);
void bind_quantize(py::module_& module);
void bind_reasoner(py::module_& module);
void bind_embedder(py::module_& module);
void bind_maxsim(py::module_& module);
void bind_think_then_embed(py::module_& module);

}  // namespace tte::python
