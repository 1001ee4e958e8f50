#!/usr/bin/env bash
# Formatting, static analysis, types, and stubs against the built module. Usage: tools/lint.sh BUILD_DIR | --format-only
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/release}
mapfile -t cpp < <(git ls-files '*.cpp' '*.h' '*.cu' '*.cuh')
echo "clang-format: ${#cpp[@]} files"
clang-format --dry-run -Werror "${cpp[@]}"
echo "ruff"
ruff check .
ruff format --check .
[ "$build" = --format-only ] && { echo "lint: formatting passes"; exit 0; }
echo "mypy"
mypy
echo "stubs"
tools/stubs.sh --check
if [ -f "$build/compile_commands.json" ]; then
  mapfile -t tidy < <(git ls-files 'src/*.cpp' 'python/bindings/*.cpp')
  echo "clang-tidy: ${#tidy[@]} files"
  printf '%s\n' "${tidy[@]}" | xargs -P "$(nproc)" -n 4 clang-tidy --quiet -p "$build" 2>/dev/null
fi
echo "lint: everything passes"
