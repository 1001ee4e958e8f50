"""tte inside other people's tools. Each module needs its tool, and `import tte` needs none of them.

* `tte.integrations.ray`: bulk embedding, as a callable for batches and as a job with resume
* `tte.integrations.mteb`: a model for `mteb.evaluate`
* `tte.integrations.sentence_transformers`: a module for `SentenceTransformer(modules=[...])`

What to install is in `_PACKAGES`; an import without it says so.
"""

from __future__ import annotations

import importlib.util

_PACKAGES = {
    "ray": '"ray[data]" pyarrow aiohttp',
    "mteb": "mteb torchvision torchcodec",
    "sentence-transformers": "sentence-transformers torchvision",
}
"""What pip installs for each tool: the extras of pyproject.toml of these names."""


def missing_extra(module: str, extra: str, error: ImportError) -> ImportError:
    """Build the error that a module raises when its tool is not installed."""
    name = error.name or extra
    # libtorch alone is enough for tte, so a torch may be here that has the library but not the package.
    if name.partition(".")[0] in ("torch", "_C") and importlib.util.find_spec("torch") is not None:
        return ImportError(
            f"{module} needs the whole of torch, but the torch that is here cannot be imported ({error}): install "
            f"the complete wheel of torch, and then {_PACKAGES[extra]}.",
            name=error.name,
        )
    return ImportError(
        f"{module} needs {name}, which is not installed: pip install {_PACKAGES[extra]}", name=error.name
    )
