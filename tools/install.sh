#!/usr/bin/env bash
# Builds tte in build/release and installs the Python package into the virtual environment; says how far it is.
#   tools/install.sh            the package
#   tools/install.sh tests      and the C++ tests beside it
# What pip and the compilers say is in build/build.log.
set -o pipefail
cd "$(dirname "$0")/.."
log=build/build.log
options=(--no-build-isolation --no-deps --force-reinstall --config-settings=build-dir=build/release)
[ "${1:-}" = tests ] && options+=(--config-settings=cmake.define.TTE_BUILD_TESTS=ON)

tell() {
  local next=30
  while IFS= read -r line; do
    [[ $line =~ ^\ *\[([0-9]+)/([0-9]+)\] ]] && ((SECONDS >= next)) || continue
    echo "building tte: step ${BASH_REMATCH[1]} of ${BASH_REMATCH[2]}"
    next=$((SECONDS + 30))
  done
}

echo "building tte (the first time everything is compiled, which takes a while; the compilers' words are in $log)"
mkdir -p build
"${TTE_VENV:-.venv}/bin/python" -m pip install --verbose "${options[@]}" . 2>&1 | tee "$log" | tell && exit
code=$?
grep -E -A 5 'error: |Error: |FAILED|CMake Error' "$log" | head -n 60 >&2
echo "building tte FAILED: all of what was said is in $log" >&2
exit "$code"
