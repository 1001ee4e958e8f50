"""Says clearly what is wrong when the extension module cannot find the libtorch it was built with."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path


def _built_with() -> str:
    return (Path(__file__).parent / "_torch_version.txt").read_text().strip()


def _check() -> None:
    spec = importlib.util.find_spec("torch")
    if spec is None:
        raise ImportError("tte needs libtorch, which comes with torch: pip install torch")
    # Its own file: importlib.metadata takes longer to import than all other checks.
    file = Path(spec.origin or "").with_name("version.py")
    found = re.search(r"^__version__ = '(.+)'", file.read_text() if file.exists() else "", re.MULTILINE)
    if found is None:
        return  # A torch of another make: the loader will tell.
    installed, wanted = found[1], _built_with()
    if [*re.split(r"[.+]", installed)[:2]] != [*re.split(r"[.+]", wanted)[:2]]:
        raise ImportError(
            f"tte was built with torch {wanted}, but torch {installed} is installed: libtorch's binary interface "
            f"differs between releases, so install torch {wanted}, or build tte again with the torch that is here."
        )


_check()
