#!/usr/bin/env bash
# Looks for tests that depend on time, load or order: runs the suites again and again in random order while every core
# has a busy loop of its own. Says at the end how often what failed.
#   tools/stress.sh [--rounds 20] [cpp] [python]     without a name: both
set -uo pipefail
cd "$(dirname "$0")/.."
rounds=20
if [ "${1:-}" = --rounds ]; then rounds=$2; shift 2; fi
[ $# -gt 0 ] || set -- cpp python

loops=()
for _ in $(seq "$(nproc)"); do
  (while :; do :; done) &
  loops+=($!)
done
trap 'kill "${loops[@]}" 2>/dev/null' EXIT

logs=build/stress
mkdir -p "$logs"
failures=0
for round in $(seq "$rounds"); do
  log=$logs/$round.log
  if PYTEST_ARGS="--random-order" GTEST_RANDOM_SEED=$round tools/test.sh "$@" > "$log" 2>&1; then
    echo "round $round: passes"
  else
    failures=$((failures + 1))
    echo "round $round: FAILS ($log)"
    grep -hE '^FAILED |\[  FAILED  \]|\*\*\*' "$log" | sort -u | head -20
  fi
done
echo "$failures of $rounds rounds failed"
[ "$failures" -eq 0 ]
