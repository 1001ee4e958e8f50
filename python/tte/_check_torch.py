"""Says clearly what is wrong when the extension module cannot find the libtorch it was built with."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from pathlib import Path


def _built_with() -> str:
    return (Path(__file__).parent / "_torch_version.txt").read_text().strip()


def _check() -> None:
    spec = importlib.util.find_spec("torch")
    if spec is None:
        raise ImportError("tte needs libtorch, which comes with torch: pip install torch")
    try:
        installed = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return  # A torch that was not installed by pip: the loader will tell.
    wanted = _built_with()
    if [*re.split(r"[.+]", installed)[:2]] != [*re.split(r"[.+]", wanted)[:2]]:
        raise ImportError(
            f"tte was built with torch {wanted}, but torch {installed} is installed: libtorch's binary interface "
            f"differs between releases, so install torch {wanted}, or build tte again with the torch that is here."
        )


_check()
