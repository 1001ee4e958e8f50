#!/usr/bin/env bash
# Runs test suites of what is built, all of them whatever fails, and says at the end which failed.
#   tools/test.sh [cpp] [example] [python]     without a name: all
set -uo pipefail
cd "$(dirname "$0")/.."
build=${TTE_BUILD:-build/release}
interpreter=${TTE_VENV:-.venv}/bin/python

# GTEST_RANDOM_SEED=N: the N-th random order of each program's tests; another every time without it.
cpp() { ctest --test-dir "$build" --output-on-failure --schedule-random -j 2; }

# What a user of the C++ library does: install it, find_package(tte), link, run.
example() {
  mkdir -p build &&
    cmake --install "$build" --prefix build/install --component cpp > build/install.log &&
    cmake -S examples/cpp -B build/example -DCMAKE_PREFIX_PATH="$PWD/build/install" > build/example.log &&
    cmake --build build/example &&
    build/example/think_then_embed models/nano/reasoner models/nano/embedder examples/data/nano/*.png &&
    build/example/tensors models/nano/embedder &&
    readme
}

# The C++ and CMake snippets of the README, as they stand there, in a program and a project around them.
readme() {
  local folder=build/readme
  mkdir -p "$folder" &&
    {
      snippet cpp | grep '^#include'
      echo 'int main() {'
      snippet cpp | grep -v '^#include'
      echo 'return result.embeddings.rows == 1 && result.traces.front() ? 0 : 1; }'
    } > "$folder/app.cpp" &&
    {
      echo 'cmake_minimum_required(VERSION 3.25)'
      echo 'project(readme LANGUAGES CXX)'
      echo 'add_executable(app app.cpp)'
      snippet cmake
    } > "$folder/CMakeLists.txt" &&
    cmake -S "$folder" -B "$folder/build" -DCMAKE_PREFIX_PATH="$PWD/build/install" > "$folder/log" &&
    cmake --build "$folder/build" &&
    "$folder/build/app"
}

snippet() { sed -n "/^\`\`\`$1\$/,/^\`\`\`\$/{//!p}" README.md; }

python() { "$interpreter" -m pytest ${PYTEST_ARGS:-}; }

[ $# -gt 0 ] || set -- cpp example python
failed=()
for suite in "$@"; do
  case $suite in
    cpp | example | python) "$suite" || failed+=("$suite") ;;
    *) echo "tools/test.sh: there is no suite '$suite': cpp, example, python" >&2; exit 2 ;;
  esac
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "tests FAILED in: ${failed[*]}" >&2
  exit 1
fi
echo "tests pass in: $*"
