#!/usr/bin/env bash
# The typed stubs of the extension module.  --write: make them anew.  --check: fail if they are out of date.
set -euo pipefail
cd "$(dirname "$0")/.."
stub=python/tte/_tte.pyi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
python -m pybind11_stubgen tte._tte -o "$out" --exit-code >/dev/null
ruff format --quiet --stdin-filename _tte.pyi - < "$out/tte/_tte.pyi" > "$out/_tte.pyi"
case "${1:---check}" in
  --write) cp "$out/_tte.pyi" "$stub"; echo "stubs: wrote $stub" ;;
  --check) diff -u "$stub" "$out/_tte.pyi" || { echo "stubs: $stub differs from the module: run 'make stubs'" >&2; exit 1; } ;;
esac
