"""Vectors of files in one file: what `tte embed` writes, piece by piece, and `tte search` reads."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tte import _extras, _files, _text, _tte
from tte._sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES

_TEXT_SUFFIXES = {".txt", ".jsonl"}
_CHUNK = 64  # Items between two savings.
_KEY = "tte"  # Key of the metadata in a parquet file.

Embed = Callable[[list[Any]], tuple[NDArray[np.float32], Mapping[int, str]]]
"""Vectors of items (a row of NaN for one that failed), and the errors by item."""


def items_of(arguments: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Name and item (or a function that makes it) of everything in files and folders: images, videos, pages, lines.

    A folder stands for the files in it that are known, in the order of their names; a line of a .jsonl file is an item
    as JSON, a line of a .txt file a text.
    """
    for argument in arguments:
        path = Path(_text.path(argument, "the file"))
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file() and _known(file))
            if not inside:
                raise _tte.InputError(f"{_text.shown_path(path)} has no image, video, .pdf, .txt or .jsonl file.")
            for file in inside:
                yield from _of_file(file)
        elif path.is_file():
            yield from _of_file(path)
        else:
            raise _tte.InputError(f"{_text.shown_path(path)} is no file or folder: check the path.")


def write(out: Path, items: Sequence[tuple[str, Any]], settings: Mapping[str, Any], embed: Embed) -> dict[str, str]:
    """Embed what `out` (.npy or .parquet) does not have yet; returns the errors by name.

    A call that was stopped goes on where it was: finished rows wait in a folder beside `out` until all are there.
    Beside an .npy file a .json file holds names and settings. Raises `InputError` for rows of other settings.
    """
    if out.suffix not in (".npy", ".parquet"):
        raise _tte.InputError(f"{_text.shown_path(out)} ends with {out.suffix!r}: .npy and .parquet files are written.")
    part = out.with_name(out.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    kept = _Part(part, settings)
    missing = [index for index, (name, _) in enumerate(items) if (index, name) not in kept.done]
    for begin in range(0, len(missing), _CHUNK):
        chunk = missing[begin : begin + _CHUNK]
        rows, errors = embed([item() if callable(item) else item for item in (items[index][1] for index in chunk)])
        kept.add([(index, items[index][0]) for index in chunk], rows, errors)
    names = [name for name, _ in items]
    vectors, failed = kept.all(names)
    _save(out, names, vectors, settings)
    kept.remove()
    return failed


def read(path: Path) -> tuple[list[str], NDArray[np.float32], dict[str, Any]]:
    """Names, vectors [N, dim] and settings of a file that `write` wrote."""
    if not path.is_file():
        raise _tte.InputError(f"{_text.shown_path(path)} is no file: {_REMEDY}.")
    with _files.reading(path, _REMEDY):
        names, vectors, settings = _read_parquet(path) if path.suffix == ".parquet" else _read_npy(path)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("its names are none")
        if vectors.ndim != 2 or vectors.dtype != np.float32 or len(vectors) != len(names):
            raise ValueError(f"it has no float32 vector for each of {len(names)} names")
        if not isinstance(settings, dict) or not settings.keys() >= {"embedder", "reasoner", "recipe", "task"}:
            raise ValueError("it does not say which model its vectors are of")
    return names, vectors, settings


_REMEDY = "give a file that `tte embed` wrote"
_BEGIN = "remove the folder to begin again"


def _read_parquet(path: Path) -> tuple[Any, NDArray[Any], Any]:
    _, parquet = _extras.pyarrow()
    with _files.for_arrow(path) as file:
        table = parquet.read_table(file)
    settings = json.loads((table.schema.metadata or {})[_KEY.encode()])
    return table["name"].to_pylist(), np.array(table["vector"].to_pylist(), np.float32), settings


def _read_npy(path: Path) -> tuple[Any, NDArray[Any], Any]:
    about = _files.read_json(path.with_suffix(".json"), _REMEDY)
    return about["names"], np.load(path), about["settings"]


class _Part:
    """Rows that are done, in a folder: a file of names and errors, and one of numbers; half a row is none."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._rows, self._names, self._about = folder / "rows.f32", folder / "rows.jsonl", folder / "settings.json"
        self.done: dict[tuple[int, str], tuple[int, str | None]] = {}
        if self._about.is_file():
            found = _files.read_json(self._about, _BEGIN)
            if found != json.loads(json.dumps(settings)):
                raise _tte.InputError(
                    f"{_text.shown_path(folder)} has rows of other settings: give those again, or remove the folder."
                )
        else:
            with _files.writing(self._about):
                self._about.write_text(json.dumps(settings))
        lines: list[str] = []
        self._dim = 0
        with _files.reading(self._names, _BEGIN):
            lines = self._names.read_text(encoding="utf-8").splitlines() if self._names.is_file() else []
            for line in lines:
                try:
                    entry = json.loads(line)
                except ValueError:
                    break  # The line that was being written when the call was stopped.
                self._dim = int(entry["dim"])
                self.done[entry["index"], entry["name"]] = (len(self.done), entry["error"])
        whole = self._rows.stat().st_size // (4 * self._dim) if self._dim and self._rows.is_file() else 0
        self.done = {key: value for key, value in self.done.items() if value[0] < whole}
        if self.done:
            os.truncate(self._rows, 4 * self._dim * len(self.done))
        with _files.writing(self._names):
            self._names.write_text("".join(line + "\n" for line in lines[: len(self.done)]), encoding="utf-8")

    def add(self, names: Sequence[tuple[int, str]], rows: NDArray[np.float32], errors: Mapping[int, str]) -> None:
        self._dim = rows.shape[1]
        with _files.writing(self._rows), self._rows.open("ab" if self.done else "wb") as file:
            file.write(np.ascontiguousarray(rows, np.float32).tobytes())
        with _files.writing(self._names), self._names.open("a", encoding="utf-8") as file:
            for row, (index, name) in enumerate(names):
                entry = {"index": index, "name": name, "error": errors.get(row), "dim": self._dim}
                file.write(json.dumps(entry) + "\n")
                self.done[index, name] = (len(self.done), errors.get(row))

    def all(self, names: Sequence[str]) -> tuple[NDArray[np.float32], dict[str, str]]:
        data = np.fromfile(self._rows, np.float32).reshape(-1, self._dim) if names else np.zeros((0, 0), np.float32)
        places = [self.done[index, name] for index, name in enumerate(names)]
        errors = {name: error for name, (_, error) in zip(names, places, strict=True) if error is not None}
        return data[[row for row, _ in places]], errors

    def remove(self) -> None:
        for file in (self._rows, self._names, self._about):
            file.unlink(missing_ok=True)
        self._about.parent.rmdir()


def _save(out: Path, names: Sequence[str], vectors: NDArray[np.float32], settings: Mapping[str, Any]) -> None:
    half = out.with_name(out.name + ".half")
    try:
        with _files.writing(out):
            if out.suffix == ".parquet":
                _write_parquet(half, names, vectors, settings)
            else:
                with half.open("wb") as file:
                    np.save(file, vectors)
                about = json.dumps({"settings": settings, "names": list(names)}, indent=1)
                out.with_suffix(".json").write_text(about)
        half.replace(out)
    finally:
        half.unlink(missing_ok=True)


def _write_parquet(path: Path, names: Sequence[str], vectors: NDArray[np.float32], settings: Mapping[str, Any]) -> None:
    arrow, parquet = _extras.pyarrow()
    column = arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.ravel()), max(1, vectors.shape[1]))
    table = arrow.table({"name": list(names), "vector": column})
    with _files.for_arrow(path, "wb") as file:
        parquet.write_table(table.replace_schema_metadata({_KEY: json.dumps(settings)}), file)


def _known(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES | _TEXT_SUFFIXES | {".pdf"}


def _of_file(file: Path) -> Iterator[tuple[str, Any]]:
    suffix, name = file.suffix.lower(), os.fsencode(file).decode("utf-8", "backslashreplace")
    if suffix == ".pdf":
        from tte._pages import pages

        document = pages(file)
        for index in range(len(document)):
            yield f"{name}#page={index + 1}", functools.partial(document.__getitem__, index)
    elif suffix == ".jsonl":
        for number, line in enumerate(_files.json_lines(file, name, "each line is an item as JSON"), start=1):
            yield f"{name}#{number}", line
    elif suffix == ".txt":
        with _files.reading(file, "write it in UTF-8, or give another one"):
            lines = file.read_text(encoding="utf-8").split("\n")
        for number, text in enumerate(lines, start=1):
            if text.strip():
                yield f"{name}#{number}", text.rstrip("\r")
    elif suffix in VIDEO_SUFFIXES:
        yield name, {"video": str(file)}
    else:
        yield name, {"image": str(file)}
