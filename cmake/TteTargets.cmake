# One way to declare a library and a test of this project.

add_library(tte_options INTERFACE)
target_compile_options(tte_options INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;$<$<BOOL:${TTE_WERROR}>:-Werror>>")
if(TTE_SANITIZE)
  target_compile_options(tte_options INTERFACE -fsanitize=${TTE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(tte_options INTERFACE -fsanitize=${TTE_SANITIZE})
endif()
if(TTE_BUILD_FUZZERS)
  target_compile_options(tte_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# Several files are compiled as one: most of a file's time goes into its headers, which takes a third of the time then.
# -DCMAKE_UNITY_BUILD=OFF for whoever changes one file again and again.
option(CMAKE_UNITY_BUILD "Compile the files of a folder together" ON)
set(CMAKE_UNITY_BUILD_BATCH_SIZE 16 CACHE STRING "Files that are compiled as one")
if(CMAKE_UNITY_BUILD)
  # A class of one file may have members of types that only that file has: to GCC it looks like a header's then.
  target_compile_options(tte_options INTERFACE "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-subobject-linkage>")
endif()

# The ATen headers take seven seconds to parse: they are precompiled once and shared by every library that uses them.
if(TTE_PCH)
  file(WRITE "${PROJECT_BINARY_DIR}/tte_pch.cpp" "")
  add_library(tte_pch OBJECT "${PROJECT_BINARY_DIR}/tte_pch.cpp")
  target_precompile_headers(tte_pch PRIVATE <ATen/ATen.h> <ATen/Parallel.h> <algorithm> <array> <cstdint> <filesystem>
                            <functional> <map> <memory> <optional> <span> <string> <string_view> <variant> <vector>)
  target_link_libraries(tte_pch PRIVATE tte_options tte::torch_cpu)
endif()

# tte_add_library(NAME media SOURCES a.cpp b.cpp DEPENDS base ... LIBRARIES external::targets ... [NO_TORCH])
# declares the static library tte_<name> with the alias tte::<name>.
function(tte_add_library)
  cmake_parse_arguments(ARG "NO_TORCH" "NAME" "SOURCES;DEPENDS;LIBRARIES" ${ARGN})
  set(target tte_${ARG_NAME})
  add_library(${target} STATIC ${ARG_SOURCES})
  add_library(tte::${ARG_NAME} ALIAS ${target})
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:tte_options>)
  foreach(dep IN LISTS ARG_DEPENDS)
    target_link_libraries(${target} PUBLIC tte_${dep})
  endforeach()
  target_link_libraries(${target} PUBLIC ${ARG_LIBRARIES})
  if(NOT ARG_NO_TORCH)
    target_link_libraries(${target} PUBLIC tte::torch_cpu)
    if(TTE_PCH)
      target_precompile_headers(${target} REUSE_FROM tte_pch)
    endif()
  endif()
  set_property(GLOBAL APPEND PROPERTY TTE_LIBRARIES ${target})
endfunction()

# The precompiled header is made with -fPIC for the libraries; an executable's -fPIE would not match it.
function(tte_reuse_pch executable)
  if(TTE_PCH)
    set_target_properties(${executable} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${executable} PRIVATE -fPIC)
    target_precompile_headers(${executable} REUSE_FROM tte_pch)
  endif()
endfunction()

# tte_add_test(NAME media SOURCES a_test.cpp ...) declares the GoogleTest program test_<name>, linked to tte::<name>.
function(tte_add_test)
  cmake_parse_arguments(ARG "NO_TORCH" "NAME" "SOURCES;DEPENDS;LIBRARIES" ${ARGN})
  set(target test_${ARG_NAME})
  add_executable(${target} ${ARG_SOURCES})
  target_link_libraries(${target} PRIVATE tte_options tte_${ARG_NAME} ${ARG_LIBRARIES} GTest::gmock GTest::gtest_main)
  foreach(dep IN LISTS ARG_DEPENDS)
    target_link_libraries(${target} PRIVATE tte_${dep})
  endforeach()
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/tests")
  target_compile_definitions(${target} PRIVATE TTE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  if(NOT ARG_NO_TORCH)
    tte_reuse_pch(${target})
  endif()
  tte_add_program_test(${target})
endfunction()

# A program is one test to CTest: a process for each of its own would spend most of the time on opening libtorch. The
# time-out is for what hangs: a busy machine may take a hundred times as long as an idle one. OpenMP's threads sleep while
# they wait for each other: spinning takes the processor from those that are waited for, ten times the time there.
function(tte_add_program_test target)
  add_test(NAME ${target} COMMAND ${target})
  set_tests_properties(${target} PROPERTIES TIMEOUT 3600 ENVIRONMENT "OMP_WAIT_POLICY=PASSIVE;GTEST_SHUFFLE=1")
endfunction()
