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
# Its own configuration: clang cannot read GCC's precompiled headers, and the ATen headers that each file needs are
# far fewer than those.
cmake -S . -B build/lint -G Ninja -DTTE_PCH=OFF -DTTE_CUDA=OFF -DTTE_BUILD_TESTS=OFF > build/lint.log
mapfile -t tidy < <(git ls-files 'src/*.cpp' 'python/bindings/*.cpp' ':!src/kernels/cuda')
echo "clang-tidy: ${#tidy[@]} files"
printf '%s\n' "${tidy[@]}" | xargs -P "$(nproc)" -n 4 clang-tidy --quiet -p build/lint 2> build/lint-tidy.log
echo "lint: everything passes"
