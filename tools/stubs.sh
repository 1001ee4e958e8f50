#!/usr/bin/env bash
# The typed stubs of the extension module.  --write: make them anew.  --check: fail if they are out of date.
set -euo pipefail
cd "$(dirname "$0")/.."
stub=python/tte/_tte.pyi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
# The exceptions call themselves tte.InputError, not tte._tte.InputError, in what people read; but they are defined here.
python - "$out" <<'PY' > "$out/log" || { cat "$out/log" >&2; exit 1; }
import sys
from pybind11_stubgen import main
from tte import _tte

for thing in vars(_tte).values():
    if isinstance(thing, type) and issubclass(thing, Exception):
        thing.__module__ = "tte._tte"
main(["tte._tte", "-o", sys.argv[1], "--exit-code"])
PY
ruff format --quiet --stdin-filename _tte.pyi - < "$out/tte/_tte.pyi" > "$out/_tte.pyi"
case "${1:---check}" in
  --write) cp "$out/_tte.pyi" "$stub"; echo "stubs: wrote $stub" ;;
  --check) diff -u "$stub" "$out/_tte.pyi" || { echo "stubs: $stub differs from the module: run 'make stubs'" >&2; exit 1; } ;;
esac
