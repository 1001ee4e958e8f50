"""Models are pickled as what they were made with: another process loads them again."""

from __future__ import annotations

import copyreg
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NoReturn

from tte import _tte


def given_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a model was made with, so that another process can make it again."""
    arguments = {name: value for name, value in given.items() if name != "self"}
    for name, is_there in (
        ("path_or_id", os.path.isdir), ("adapter", os.path.isdir), ("draft", os.path.isdir), ("recipe", os.path.isfile),
    ):  # fmt: skip
        path = arguments.get(name)
        with suppress(Exception):  # What is no path is refused where the model is loaded.
            if isinstance(path, (str, os.PathLike)) and is_there(path):
                arguments[name] = os.path.abspath(path)
    return arguments


def again(kind: Callable[..., Any], keywords: Mapping[str, Any]) -> Any:
    """Make an object again in the process that unpickles it."""
    return kind(**keywords)


def refuse(kind: type, remedy: str) -> None:
    """Let pickle and copy refuse objects of a kind in one sentence."""

    def refused(_: object) -> NoReturn:
        raise _tte.InputError(f"A {kind.__name__} can be neither pickled nor copied: {remedy}.")

    copyreg.pickle(kind, refused)


refuse(_tte.CancelToken, "make one in the process whose call it stops")
refuse(_tte.ModelDescription, "hand over the model, which is loaded again, or the values of it that are needed")
for _numbers in (_tte.BackendStats, _tte.DeviceInfo):
    refuse(_numbers, "hand over the numbers that are needed")
