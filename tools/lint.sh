#!/usr/bin/env bash
# Formatting, static analysis, types, and stubs against the built module. Usage: tools/lint.sh [--format-only]
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t cpp < <(git ls-files '*.cpp' '*.h' '*.cu' '*.cuh')
echo "clang-format: ${#cpp[@]} files"
clang-format --dry-run -Werror "${cpp[@]}"
echo "ruff"
ruff check .
ruff format --check .
[ "${1:-}" = --format-only ] && { echo "lint: formatting passes"; exit 0; }
echo "vulture"
vulture
# Apart from it, so that what only tests call counts as unused there. The names belong to other libraries.
vulture tests/python --ignore-names "test_*,pytestmark,do_*,handle_*,log_message,close_connection,protocol_version,\
daemon_threads,rope_deltas,normalizer,pre_tokenizer,post_processor,pad_token_id,bos_token,_tokenizer,enable_progress_bars,pix_fmt,\
thread_count,colorspace,color_range,pts,average_fps,num_frames,get_frames_at,truncate_dim,sqlite_errorname"
echo "mypy"
mypy
echo "stubs"
tools/stubs.sh --check
configure() { cmake -S . -B "build/$1" -G Ninja -DTTE_CUDA=OFF -DTTE_BUILD_TESTS=OFF "${@:2}" > "build/$1.log"; }
# What compiles a file, or the file itself, a line each.
compiled() {
  "${TTE_VENV:-.venv}/bin/python" - "$@" <<'END'
import json, sys
for entry in json.load(open(f"build/{sys.argv[1]}/compile_commands.json")):
    if "pch" not in entry["file"]:
        print(entry["file"] if sys.argv[2] == "file" else entry["command"].split(" -o ")[0] + " -fsyntax-only " + entry["file"])
END
}
# What nobody uses and GCC does not tell. Each file alone: clang looks for it only in the file that it compiles.
configure clang -DCMAKE_CXX_COMPILER=clang++ -DTTE_WERROR=ON -DCMAKE_UNITY_BUILD=OFF
cmake --build build/clang --target CMakeFiles/tte_pch.dir/cmake_pch.hxx.pch >> build/clang.log
echo "clang: $(compiled clang file | wc -l) files"
unused=$(sed -n 's/^ExtraArgs: \[\(.*\)\]$/\1/p' .clang-tidy | tr -d ,)
[ -n "$unused" ] || { echo "lint: .clang-tidy has no ExtraArgs in one line, which name the warnings" >&2; exit 1; }
compiled clang command | xargs -d '\n' -P "$(nproc)" -I {} sh -c "{} $unused"
# A folder's files together, since most of the time goes into headers; clang cannot read GCC's precompiled ones.
configure lint -DTTE_PCH=OFF -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=64
echo "clang-tidy: $(compiled lint file | wc -l) files, a folder in each"
openmp=$(dirname "$(g++ -print-file-name=include/omp.h)")  # Clang's own is not in its wheel.
compiled lint file | xargs -P "$(nproc)" -n 1 clang-tidy --quiet -p build/lint "--extra-arg=-idirafter$openmp" \
  2> build/lint-tidy.log
echo "lint: everything passes"
