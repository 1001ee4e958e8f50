"""Packages that only some commands need, with a plain sentence where one is absent."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tte import _tte


def _modules(need: str, package: str, *within: str) -> list[Any]:
    """A package and modules within it."""
    try:
        return [import_module(name) for name in (package, *within)]
    except ImportError as error:
        raise _tte.InputError(f"{need} needs {package}, which is not installed: pip install {package}") from error


def pyarrow() -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`."""
    package, parquet = _modules("reading and writing parquet", "pyarrow", "pyarrow.parquet")
    return package, parquet


def jinja2() -> Any:
    """The module `jinja2`."""
    return _modules("writing the report", "jinja2")[0]


def matplotlib() -> Any:
    """The module `matplotlib`, with `matplotlib.figure`."""
    return _modules("drawing the report", "matplotlib", "matplotlib.figure")[0]


def pypdfium2() -> Any:
    """The module `pypdfium2`."""
    return _modules("reading PDF documents", "pypdfium2")[0]
