"""Packages that only some commands need, with a plain sentence where one is absent."""

from __future__ import annotations

from typing import Any

from tte import _tte


def pyarrow() -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise _tte.InputError(
            "pyarrow is not installed, which reads and writes parquet: pip install pyarrow"
        ) from error
    return pyarrow, pyarrow.parquet


def jinja2() -> Any:
    """The module `jinja2`."""
    try:
        import jinja2
    except ImportError as error:
        raise _tte.InputError("jinja2 is not installed, which writes the report: pip install jinja2") from error
    return jinja2


def matplotlib() -> Any:
    """The module `matplotlib`, with `matplotlib.figure`."""
    try:
        import matplotlib.figure
    except ImportError as error:
        raise _tte.InputError("matplotlib is not installed, which draws the report: pip install matplotlib") from error
    return matplotlib


def pypdfium2() -> Any:
    """The module `pypdfium2`."""
    try:
        import pypdfium2
    except ImportError as error:
        raise _tte.InputError("pypdfium2 is not installed, which reads PDF documents: pip install pypdfium2") from error
    return pypdfium2
