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
# at::parallel_for is a header template: without -fopenmp it silently runs on one thread. GCC's OpenMP runtime and the
# wheel's are both called libgomp.so.1, so only one is ever loaded. Clang would bring a second one of another name, so
# what it builds (fuzzers, analysis) goes without.
set(_tte_openmp "")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(_tte_openmp -fopenmp)
endif()
add_library(tte_torch_cpu SHARED IMPORTED)
set_target_properties(tte_torch_cpu PROPERTIES
  IMPORTED_LOCATION "${TTE_TORCH_DIR}/lib/libtorch_cpu.so"
  # Searched last: the wheel also carries fmt, pybind11 and others of its own versions, which must not shadow those
  # that this project (and spdlog) is built and linked with.
  INTERFACE_COMPILE_OPTIONS
    "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-idirafter ${TTE_TORCH_DIR}/include;${_tte_openmp}>;$<$<COMPILE_LANGUAGE:CUDA>:-isystem=${TTE_TORCH_DIR}/include>"
  # As the wheel was built: without it some of its classes have members that the library does not know.
  INTERFACE_COMPILE_DEFINITIONS "$<$<NOT:$<CONFIG:Release>>:NDEBUG>"
  INTERFACE_LINK_OPTIONS "${_tte_openmp}"
  INTERFACE_LINK_LIBRARIES tte_torch_c10)
# The wheel's own libraries (cudart, cupti, gomp) are found by its RPATH at run time; the linker needs to be told.
file(GLOB _tte_nvidia_lib_dirs "${TTE_TORCH_DIR}/../nvidia/*/lib")
foreach(_dir IN LISTS _tte_nvidia_lib_dirs ITEMS "${TTE_TORCH_DIR}/lib")
  set_property(TARGET tte_torch_cpu APPEND PROPERTY INTERFACE_LINK_OPTIONS "-Wl,-rpath-link,${_dir}")
endforeach()
add_library(tte::torch_cpu ALIAS tte_torch_cpu)

# What libtte_cuda.so is linked with, where the wheel has it. Nothing else may link it.
if(EXISTS "${TTE_TORCH_DIR}/lib/libtorch_cuda.so" AND EXISTS "${TTE_TORCH_DIR}/lib/libc10_cuda.so")
  add_library(tte_torch_c10_cuda SHARED IMPORTED)
  set_target_properties(tte_torch_c10_cuda PROPERTIES IMPORTED_LOCATION "${TTE_TORCH_DIR}/lib/libc10_cuda.so")
  add_library(tte_torch_cuda SHARED IMPORTED)
  set_target_properties(tte_torch_cuda PROPERTIES
    IMPORTED_LOCATION "${TTE_TORCH_DIR}/lib/libtorch_cuda.so"
    # Its operators register themselves when it is loaded: it has to be loaded although no symbol of it is used.
    INTERFACE_LINK_OPTIONS "-Wl,--no-as-needed"
    INTERFACE_LINK_LIBRARIES "tte_torch_c10_cuda;tte_torch_cpu")
  add_library(tte::torch_cuda ALIAS tte_torch_cuda)
endif()
