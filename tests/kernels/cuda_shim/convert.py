"""Rewrites the launches of a CUDA source file for the shim: `k<<<grid, block, bytes, stream>>>(a);` calls launch()."""

import re
import sys
from pathlib import Path

LAUNCH = re.compile(r"(\w+(?:<[^<>;]*>)?)\s*<<<([^;]*?)>>>\s*(\([^;]*\));")


def main() -> None:
    """convert.py FILE.cu OUTPUT.cpp."""
    source, output = map(Path, sys.argv[1:])
    text, launches = LAUNCH.subn(r"::tte::kernels::cuda_shim::launch(\2, [=] { \1\3; });", source.read_text())
    if launches == 0 or "<<<" in text:
        sys.exit(f"{source}: {launches} kernel launches were understood, others are left; see tests/kernels/cuda_shim")
    output.write_text(f'#line 1 "{source}"\n{text}')


main()
