#include "tte/error.h"

#include <new>

#include "bindings.h"
#include "tte/remote.h"

namespace tte::python {

namespace {

// An exception class of the module with two bases: tte's own and the builtin that callers may already catch.
py::object make_exception(py::module_& module, const char* name, const py::tuple& bases, const char* doc) {
  const auto qualified = std::string("tte.") + name;
  auto type = py::reinterpret_steal<py::object>(
      PyErr_NewExceptionWithDoc(qualified.c_str(), doc, bases.ptr(), nullptr));
  if (!type) throw py::error_already_set();
  module.attr(name) = type;
  return type;
}

// The message; bytes that are not UTF-8 do not hide it.
py::object message_of(const Error& error) {
  const std::string_view text = error.what();
  return py::reinterpret_steal<py::object>(
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
}

void raise(const py::object& type, const Error& error) {
  if (const py::object message = message_of(error)) PyErr_SetObject(type.ptr(), message.ptr());
}

void raise_remote(const py::object& type, const RemoteError& error) {
  const py::object message = message_of(error);
  if (!message) return;
  const auto raised = py::reinterpret_steal<py::object>(PyObject_CallOneArg(type.ptr(), message.ptr()));
  const py::int_ status(error.status());
  if (!raised || PyObject_SetAttrString(raised.ptr(), "status", status.ptr()) != 0) return;
  PyErr_SetObject(type.ptr(), raised.ptr());
}

struct ExceptionTypes {
  py::object error, input, model, device, memory, remote, cancelled;
};

}  // namespace

void bind_errors(py::module_& module) {
  auto builtin = [](PyObject* type) { return py::reinterpret_borrow<py::object>(type); };
  // Leaked on purpose: exceptions may be translated while the interpreter shuts down.
  static auto* types = new ExceptionTypes;
  types->error = make_exception(module, "Error", py::make_tuple(builtin(PyExc_Exception)),
                                "Base of everything that tte raises on purpose.");
  types->input = make_exception(module, "InputError", py::make_tuple(types->error, builtin(PyExc_ValueError)),
                                "An input or an option cannot be used; names the item and the file.");
  types->model =
      make_exception(module, "ModelError", py::make_tuple(types->error, builtin(PyExc_RuntimeError)),
                     "A checkpoint, recipe or tokenizer file is missing, damaged or does not fit.");
  types->device =
      make_exception(module, "DeviceError", py::make_tuple(types->error, builtin(PyExc_RuntimeError)),
                     "A device, or memory on it, is not available.");
  types->memory =
      make_exception(module, "OutOfMemoryError", py::make_tuple(types->device, builtin(PyExc_MemoryError)),
                     "Memory ran out; says where, how much was wanted if that is known, and what lowers it.");
  types->remote = make_exception(
      module, "RemoteError", py::make_tuple(types->error, builtin(PyExc_RuntimeError)),
      "A server did not give a trace; says what it said. `status` is that of its answer, 0 without one.");
  types->remote.attr("status") = 0;
  types->cancelled = make_exception(module, "CancelledError", py::make_tuple(types->error),
                                    "The call was stopped before it finished.");
  // NOLINTNEXTLINE(performance-unnecessary-value-param): pybind11 takes a function of this signature.
  py::register_exception_translator([](std::exception_ptr pending) {
    try {
      if (pending) std::rethrow_exception(pending);
    } catch (const InputError& e) {
      raise(types->input, e);
    } catch (const ModelError& e) {
      raise(types->model, e);
    } catch (const OutOfMemoryError& e) {
      raise(types->memory, e);
    } catch (const DeviceError& e) {
      raise(types->device, e);
    } catch (const RemoteError& e) {
      raise_remote(types->remote, e);
    } catch (const CancelledError& e) {
      raise(types->cancelled, e);
    } catch (const Error& e) {
      raise(types->error, e);
    } catch (const std::bad_alloc&) {
      PyErr_SetString(types->memory.ptr(), "Memory ran out: give the call fewer items at a time.");
    }
  });
}

}  // namespace tte::python
