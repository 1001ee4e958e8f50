"""Vectors of files in one file: what `tte embed` writes, piece by piece, and `tte search` reads."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tte import _extras, _files, _text, _tte, trace_store
from tte._inputs import to_named
from tte._pages import Pages, pages
from tte._sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from tte.trace_store import TraceStore

_TEXT_SUFFIXES = {".txt", ".jsonl"}
_CHUNK = 64  # Items that are in memory together.
_PART, _ABOUT = ".part", "settings.json"  # Where unfinished work waits, and what says that it is ours.
_KEY = "tte"  # Key of the metadata in a parquet file.

Keep = Callable[[int, NDArray[np.float32]], None]
"""Called with the place of an item among those of a call and its vector [dim], as soon as that is there."""
Embed = Callable[[list[tuple[str, Any]], TraceStore | None, Keep], Mapping[int, str]]
"""Embeds items with their names, with the traces that a store has; returns the errors by item."""


def items_of(arguments: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Name and item (or a function that makes it) of everything in files and folders: images, videos, pages, lines.

    A folder stands for the files in it that are known, in the order of their names; a line of a .jsonl file is an item
    as JSON, a line of a .txt file a text. What is wrong with a file is an item that fails, so that the others go on.
    """
    _document.cache_clear()  # It may have changed.
    for argument in arguments:
        path = Path(_text.path(argument, "the file"))
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file() and _known(file) and not _is_part(file))
            if not inside:
                raise _tte.InputError(f"{_text.shown_path(path)} has no image, video, .pdf, .txt or .jsonl file.")
            for file in inside:
                yield from _of_file(file)
        elif path.is_file():
            yield from _of_file(path)
        else:
            raise _tte.InputError(f"{_text.shown_path(path)} is no file or folder: check the path.")


def _is_part(file: Path) -> bool:
    """Whether a file is a call's unfinished work."""
    return file.parent.suffix == _PART and (file.parent / _ABOUT).is_file()


def target(given: str) -> Path:
    """Where vectors shall be written, looked at before there are any.

    Raises `InputError` for another suffix, for a folder, and where the .json file beside an .npy file is another's.
    """
    out = Path(_text.path(given, "--out"))
    name = _text.shown_path(out)
    if out.suffix not in (".npy", ".parquet"):
        raise _tte.InputError(f"{name} ends with {_text.shown(out.suffix)}: .npy and .parquet files are written.")
    if out.is_dir():
        raise _tte.InputError(f"{name} is a folder: give the file another name.")
    if out.suffix == ".parquet":
        _extras.pyarrow()
    elif os.path.lexists(beside := out.with_suffix(".json")) and not _is_ours(beside):
        raise _tte.InputError(
            f"{_text.shown_path(beside)}, where the names of {name} would be written, is another's: name it otherwise."
        )
    return out


def _is_ours(file: Path) -> bool:
    with suppress(_tte.InputError):
        about = _files.read_json(file, _REMEDY)
        return isinstance(about, dict) and about.keys() == {"settings", "names"}
    return False


def write(
    out: Path,
    items: Sequence[tuple[str, Any]],
    settings: Mapping[str, Any],
    dim: int,
    embed: Embed,
    advance: Callable[[int], object] = lambda count: None,
) -> list[str]:
    """Embed what `out` (a :func:`target`) does not have yet; returns the errors, one for each item that failed.

    A call that was stopped goes on where it was: vectors of `dim` numbers and traces wait in a folder beside `out`,
    each written as soon as it is there, until all are. `advance` is called with how many more are done. Beside an
    .npy file a .json file holds names and settings. Where every item failed, nothing is written.
    Raises `InputError` for rows of other settings.
    """
    names = [name for name, _ in items]
    with _part(out, settings, dim) as kept:
        missing = [index for index, name in enumerate(names) if (index, name) not in kept.done]
        advance(len(items) - len(missing))
        for begin in range(0, len(missing), _CHUNK):
            _add(kept, items, missing[begin : begin + _CHUNK], embed, advance)
        vectors, failed = kept.all(names)
        if len(failed) < len(names):
            _save(out, names, vectors, settings)
    return failed


def _add(
    kept: _Part, items: Sequence[tuple[str, Any]], chunk: list[int], embed: Embed, advance: Callable[[int], object]
) -> None:
    def keep(row: int, vector: NDArray[np.float32]) -> None:
        kept.add(chunk[row], items[chunk[row]][0], vector)
        advance(1)

    errors = embed([items[index] for index in chunk], kept.traces, keep)
    for row, message in errors.items():
        kept.add(chunk[row], items[chunk[row]][0], None, message)
    advance(len(errors))


def made(name: str, item: Any) -> _tte.Input:
    """An item (or what makes it) as the engine takes it, with its name; one that fails where it cannot be made."""
    shown = _text.shown_path(name)
    try:
        return to_named(item() if callable(item) else item, shown)
    except _tte.InputError as error:
        return _tte.Input(name=shown, error=str(error))


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


@contextmanager
def _part(out: Path, settings: Mapping[str, Any], dim: int) -> Iterator[_Part]:
    folder = out.with_name(out.name + _PART)
    refused = f"{_text.shown_path(out)} is being written by another call: wait, or give another file."
    with _files.hold(folder, refused):
        kept = _Part(folder, settings, dim)
        try:
            yield kept
        finally:
            kept.close()
        kept.remove()


class _Part:
    """What is done, in a folder: a file of numbers, one of names and errors, a store of traces. Half a row is none.

    However a call ends, between two writes or within one, the next one finds all that was whole.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], dim: int) -> None:
        self._rows, self._names, self._about = folder / "rows.f32", folder / "rows.jsonl", folder / _ABOUT
        self._stored = folder / "traces.sqlite"
        self._dim = dim
        self.done: dict[tuple[int, str], tuple[int, str | None]] = {}
        if self._about.is_file():
            found = _files.read_json(self._about, _BEGIN)
            if found != json.loads(json.dumps(settings)):
                raise _tte.InputError(
                    f"{_text.shown_path(folder)} has rows of other settings: give those again, or remove the folder."
                )
        else:
            _replace(self._about, json.dumps(settings))
        self._read()
        self.traces = None if settings["reasoner"] is None else TraceStore(self._stored)

    def _read(self) -> None:
        whole = self._rows.stat().st_size // (4 * self._dim) if self._rows.is_file() else 0
        end = 0
        with _files.reading(self._names, _BEGIN):
            data = self._names.read_bytes() if self._names.is_file() else b""
            for line in data.splitlines(keepends=True):
                try:
                    entry = json.loads(line.decode())
                except json.JSONDecodeError:
                    break  # The line that was being written when the call was stopped.
                if not line.endswith(b"\n"):
                    break
                if entry["dim"] != self._dim:
                    raise ValueError("its rows are of another length")
                key, done = (entry["index"], entry["name"]), (len(self.done), entry["error"])
                if len(self.done) < whole:
                    self.done[key] = done
                    end += len(line)
        for file, size in ((self._rows, 4 * self._dim * len(self.done)), (self._names, end)):
            if file.is_file():
                os.truncate(file, size)

    def add(self, index: int, name: str, vector: NDArray[np.float32] | None, error: str | None = None) -> None:
        row = np.full(self._dim, np.nan, np.float32) if vector is None else np.ascontiguousarray(vector, np.float32)
        with _files.writing(self._rows), self._rows.open("ab") as file:
            file.write(row.tobytes())
        with _files.writing(self._names), self._names.open("ab") as file:
            file.write(json.dumps({"index": index, "name": name, "error": error, "dim": self._dim}).encode() + b"\n")
        self.done[index, name] = (len(self.done), error)

    def all(self, names: Sequence[str]) -> tuple[NDArray[np.float32], list[str]]:
        data = np.fromfile(self._rows, np.float32).reshape(-1, self._dim)
        places = [self.done[index, name] for index, name in enumerate(names)]
        return data[[row for row, _ in places]], [error for _, error in places if error is not None]

    def close(self) -> None:
        if self.traces is not None:
            self.traces.close()

    def remove(self) -> None:
        # Traces last: without the other files they save the most.
        for file in (self._names, self._rows, self._about, _half(self._about)):
            file.unlink(missing_ok=True)
        trace_store.remove(self._stored)
        (self._about.parent / _files.LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # Something of the user's is in it.
            self._about.parent.rmdir()


def _replace(file: Path, text: str) -> None:
    """Write a small file so that it is whole or as it was, wherever the process ends."""
    half = _half(file)
    try:
        with _files.writing(file):
            half.write_text(text)
            half.replace(file)
    finally:
        half.unlink(missing_ok=True)


def _half(file: Path) -> Path:
    return file.with_name(file.name + ".half")


def _save(out: Path, names: Sequence[str], vectors: NDArray[np.float32], settings: Mapping[str, Any]) -> None:
    half, about = _half(out), out.with_name(out.name + ".names")
    try:
        with _files.writing(out):
            if out.suffix == ".parquet":
                _write_parquet(half, names, vectors, settings)
            else:
                with half.open("wb") as file:
                    np.save(file, vectors)
                about.write_text(json.dumps({"settings": settings, "names": list(names)}, indent=1))
                about.replace(out.with_suffix(".json"))
        half.replace(out)
    finally:
        half.unlink(missing_ok=True)
        about.unlink(missing_ok=True)


def _write_parquet(path: Path, names: Sequence[str], vectors: NDArray[np.float32], settings: Mapping[str, Any]) -> None:
    arrow, parquet = _extras.pyarrow()
    column = arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.ravel()), max(1, vectors.shape[1]))
    table = arrow.table({"name": list(names), "vector": column})
    with _files.for_arrow(path, "wb") as file:
        parquet.write_table(table.replace_schema_metadata({_KEY: json.dumps(settings)}), file)


def _known(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES | _TEXT_SUFFIXES | {".pdf"}


def _of_file(file: Path) -> Iterator[tuple[str, Any]]:
    name = os.fsencode(file).decode("utf-8", "backslashreplace")
    try:
        yield from _parts_of(file, name)
    except _tte.InputError as error:
        message = str(error)
        yield name, _tte.Input(name=name, error=message if name in message else f"{_text.shown_path(name)}: {message}")


def _parts_of(file: Path, name: str) -> Iterator[tuple[str, Any]]:
    suffix = file.suffix.lower()
    if suffix == ".pdf":
        for index in range(len(pages(file))):
            yield f"{name}#page={index + 1}", functools.partial(_page, file, index)
    elif suffix in _TEXT_SUFFIXES:
        for number, line in _files.lines(file, _text.shown_path(name), "give a file of lines of text"):
            yield (place := f"{name}#{number}"), functools.partial(_line, line, place, suffix == ".jsonl")
    elif suffix in VIDEO_SUFFIXES:
        yield name, {"video": file}
    else:
        yield name, {"image": file}


def _page(file: Path, index: int) -> Any:
    with _files.reading(file, "leave it alone while it is embedded"):
        return {"image": _document(file)[index]["image"]}


@functools.lru_cache(maxsize=1)
def _document(file: Path) -> Pages:
    """The document whose pages are asked for: a folder of them is larger than memory."""
    return pages(file)


def _line(line: bytes, place: str, is_json: bool) -> Any:
    with _files.reading(place, "each line is an item as JSON" if is_json else "write it in UTF-8", place):
        return _files.parse_json(line) if is_json else line.decode("utf-8-sig").rstrip("\r\n")
