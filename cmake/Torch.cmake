# libtorch from the Python wheel, as the imported target tte::torch_cpu.
#
# find_package(Torch) insists on a complete CUDA toolkit as soon as nvcc is on the path and leaks its flags into
# every later package. The core library needs nothing but libtorch_cpu.so and libc10.so, so those two are imported
# directly; the CUDA libraries are imported as tte::torch_cuda only where the wheel and a toolkit have them.
#
# Input:  TTE_TORCH_DIR (the wheel's `torch` folder), or a Python interpreter that has torch installed.
# Output: tte::torch_cpu, and tte::torch_cuda where libtorch_cuda.so exists.

if(NOT TTE_TORCH_DIR)
  find_package(Python COMPONENTS Interpreter REQUIRED)
  # find_spec does not import torch: a light installation without the CUDA libraries cannot be imported.
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
            "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
    OUTPUT_VARIABLE TTE_TORCH_DIR OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
if(NOT EXISTS "${TTE_TORCH_DIR}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "No libtorch at '${TTE_TORCH_DIR}': install the torch wheel into the active Python, or set TTE_TORCH_DIR to its `torch` folder.")
endif()
set(TTE_TORCH_DIR "${TTE_TORCH_DIR}" CACHE PATH "The `torch` folder of the PyPI wheel" FORCE)
message(STATUS "libtorch: ${TTE_TORCH_DIR}")

add_library(tte_torch_c10 SHARED IMPORTED)
set_target_properties(tte_torch_c10 PROPERTIES IMPORTED_LOCATION "${TTE_TORCH_DIR}/lib/libc10.so")
add_library(tte_torch_cpu SHARED IMPORTED)
set_target_properties(tte_torch_cpu PROPERTIES
  IMPORTED_LOCATION "${TTE_TORCH_DIR}/lib/libtorch_cpu.so"
  # Searched last: the wheel also carries fmt, pybind11 and others of its own versions, which must not shadow those
  # that this project (and spdlog) is built and linked with.
  # at::parallel_for is a header template: without -fopenmp it silently runs on one thread. Both runtimes are
  # called libgomp.so.1, so only one is ever loaded.
  INTERFACE_COMPILE_OPTIONS
    "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-idirafter ${TTE_TORCH_DIR}/include;-fopenmp>;$<$<COMPILE_LANGUAGE:CUDA>:-isystem=${TTE_TORCH_DIR}/include>"
  INTERFACE_LINK_OPTIONS -fopenmp
  INTERFACE_LINK_LIBRARIES tte_torch_c10)
# The wheel's own libraries (cudart, cupti, gomp) are found by its RPATH at run time; the linker needs to be told.
file(GLOB _tte_nvidia_lib_dirs "${TTE_TORCH_DIR}/../nvidia/*/lib")
foreach(_dir IN LISTS _tte_nvidia_lib_dirs ITEMS "${TTE_TORCH_DIR}/lib")
  set_property(TARGET tte_torch_cpu APPEND PROPERTY INTERFACE_LINK_OPTIONS "-Wl,-rpath-link,${_dir}")
endforeach()
add_library(tte::torch_cpu ALIAS tte_torch_cpu)
