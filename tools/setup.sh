#!/usr/bin/env bash
# Prepares a Debian 12 machine and the virtual environment ./.venv.
#   tools/setup.sh run     what tte itself needs (without an NVIDIA GPU of torch only the libraries that tte is linked to)
#   tools/setup.sh eval    also what `python -m tte.mmeb` reads tables and draws its page with
#   tools/setup.sh test    also what the tests compare with: transformers and the whole of torch
#   tools/setup.sh lint    also clang-format, clang-tidy, ruff, vulture, mypy
#   tools/setup.sh fuzz    as run, and Clang with libFuzzer
# Does nothing that is already done, so it is cheap to call again.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-run}
venv=${TTE_VENV:-.venv}

apt_packages=$(grep -v '^#' tools/debian-packages.txt)
# ffmpeg: with the libraries that torchcodec loads, through which mteb reads videos.
case $what in test|lint) apt_packages="$apt_packages ffmpeg" ;; esac
[ "$what" = lint ] && apt_packages="$apt_packages clang clang-format libomp-dev"
[ "$what" = fuzz ] && apt_packages="$apt_packages clang libclang-rt-dev libomp-dev"
missing=()
for package in $apt_packages; do
  dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "setup: installing ${#missing[@]} Debian packages: ${missing[*]}"
  sudo=""
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "setup: these packages need root: apt-get install ${missing[*]}" >&2; exit 1; }
    sudo=sudo
  fi
  $sudo apt-get update -qq
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if [ ! -x "$venv/bin/python" ]; then
  echo "setup: creating the virtual environment $venv"
  python3 -m venv "$venv"
fi
[ "$what" = fuzz ] && what=run
exec "$venv/bin/python" tools/setup_python.py "$what"
