#!/usr/bin/env bash
# Builds the libFuzzer programs with Clang and its sanitizers, and runs each for some seconds from its seeds. What it
# finds new is kept in build/fuzz/corpus, what it breaks in build/fuzz/found.
#   tools/fuzz.sh [--seconds 10 [--seed 1]] [NAME...]     without a name: all of tests/fuzz; seed 0: another each time
set -uo pipefail
cd "$(dirname "$0")/.."
seconds=10
seed=1
if [ "${1:-}" = --seconds ]; then seconds=$2; shift 2; fi
if [ "${1:-}" = --seed ]; then seed=$2; shift 2; fi
[ $# -gt 0 ] || set -- $(basename -as .cpp tests/fuzz/fuzz_*.cpp | sed 's/^fuzz_//')

mkdir -p build
cmake --preset fuzz > build/fuzz.log && cmake --build --preset fuzz >> build/fuzz.log || { tail -30 build/fuzz.log; exit 1; }
corpus=build/fuzz/corpus
found=build/fuzz/found
mkdir -p "$found"
"${TTE_VENV:-.venv}/bin/python" tests/fuzz/make_seeds.py "$corpus" || exit 1
failed=()
for name in "$@"; do
  # A slow input is a finding: bounded work is what the readers promise.
  build/fuzz/tests/fuzz/fuzz_"$name" -max_total_time="$seconds" -seed="$seed" -timeout=60 -rss_limit_mb=4096 -max_len=65536 \
    -print_final_stats=1 -artifact_prefix="$found/$name-" "$corpus/$name" > "$found/$name.log" 2>&1 || failed+=("$name")
  echo "fuzz_$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$found/$name.log") inputs"
done
if [ ${#failed[@]} -gt 0 ]; then
  for name in "${failed[@]}"; do tail -40 "$found/$name.log"; done
  echo "fuzzers FAILED: ${failed[*]} (inputs in $found)" >&2
  exit 1
fi
echo "fuzzers pass: $*"
