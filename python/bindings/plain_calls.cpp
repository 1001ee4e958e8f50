// Calls that pybind11 would refuse with a list of C++ signatures are refused in one sentence.
#include <Python.h>

#include <string>
#include <utility>

#include "bindings.h"
#include "tte/error.h"

namespace tte::python {
namespace {

// "(text: object)" of "__init__(self: tte._tte.Trace, text: object) -> None".
std::string parameters_of(const std::string& signature) {
  const std::size_t self_end = signature.find_first_of(",)");
  const std::size_t end = signature.rfind(") -> ");
  if (end == std::string::npos || self_end >= end) return "no argument";
  return "(" + signature.substr(self_end + 2, end - self_end - 2) + ")";
}

std::string members_of(const py::handle& type) {
  return "one of " + py::str(", ").attr("join")(type.attr("__members__")).cast<std::string>();
}

// What a call was given, its self left out.
std::string given(const py::args& args, const py::kwargs& kwargs) {
  const py::module_ text = py::module_::import("tte._text");
  std::string out;
  const auto add = [&](const std::string& name, const py::handle& value) {
    if (!out.empty()) out += ", ";
    out += name + text.attr("shown")(value).cast<std::string>();
  };
  for (std::size_t i = 1; i < args.size() && i < 4; ++i) add("", args[i]);
  for (const auto& [name, value] : kwargs) add(py::str(name).cast<std::string>() + "=", value);
  return out.empty() ? "nothing" : text.attr("shortened")(out, 160).cast<std::string>();
}

// `original`, a method of `type`, with `takes` in the sentence for what it does not take.
py::cpp_function in_one_sentence(const py::handle& type, const std::string& name, const py::object& original,
                                 const std::string& signature) {
  const bool makes = name == "__init__";
  const bool is_enum = makes && py::hasattr(type, "__members__");
  const auto owner = type.attr("__name__").cast<std::string>();
  const std::string called = makes ? owner : owner + "." + name;
  const std::string takes = is_enum ? members_of(type) : parameters_of(signature);
  const std::string remedy = original ? "it takes " + takes : "only tte makes one";
  auto call = [=](const py::args& args, const py::kwargs& kwargs) -> py::object {
    try {
      // pybind11 would call a method of None.
      if (original && !args.empty() && py::isinstance(args[0], type)) {
        py::object result = original(*args, **kwargs);
        // pybind11 makes an enum of any number.
        if (!is_enum || args[0].attr("name").cast<std::string>() != "???") return result;
      }
    } catch (const py::error_already_set& error) {
      if (!error.matches(PyExc_TypeError)) throw;
    }
    throw InputError("tte." + called + "() is given " + given(args, kwargs) + ": " + remedy + ".");
  };
  py::options options;
  options.disable_function_signatures();  // The wrapped method's is in its docstring.
  return {std::move(call), py::name(name.c_str()), py::is_method(type), py::doc(signature.c_str())};
}

}  // namespace

void make_calls_plain(const py::handle& type) {
  const py::dict methods(type.attr("__dict__"));
  for (const auto& [key, method] : methods) {
    const auto name = py::cast<std::string>(key);
    if (PyInstanceMethod_Check(method.ptr()) == 0 || (name.front() == '_' && name != "__init__")) continue;
    const auto doc = py::cast<std::string>(method.attr("__doc__"));
    py::setattr(type, name.c_str(),
                in_one_sentence(type, name, py::reinterpret_borrow<py::object>(method), doc));
  }
  // Where nothing was bound, the slot of pybind11's base class is there.
  if (PyInstanceMethod_Check(methods["__init__"].ptr()) != 0) return;
  const auto owner = py::cast<std::string>(type.attr("__name__"));
  py::setattr(type, "__init__",
              in_one_sentence(type, "__init__", py::object(),
                              "__init__(self: tte._tte." + owner + ") -> typing.NoReturn"));
}

}  // namespace tte::python
