"""Vectors of files in one file: what `tte embed` writes, piece by piece, and `tte search` reads."""

from __future__ import annotations

import base64
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from tte import _content, _extras, _files, _items, _text, _tte, trace_store
from tte._inputs import to_named
from tte._pages import Pages, pages
from tte._sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from tte.trace_store import TraceStore

_TEXT_SUFFIXES = {".txt", ".jsonl"}
_CHUNK = 64  # Items that are in memory together.
_ROW_BYTES = 16 << 20  # More than a row has.
_PART, _ABOUT = ".part", "settings.json"  # Where unfinished work waits, and what says that it is ours.
_KEY = "tte"  # Key of the metadata in a parquet file.

Keep = Callable[[int, NDArray[np.float32]], None]
"""Called with the place of an item among those of a call and its vector [dim], as soon as that is there."""


class Entry(NamedTuple):
    """One row that is wanted."""

    name: str
    item: Any
    """What callers hand to tte, or a function that makes it."""
    state: str
    """What tells the content from another under the same name: sizes and times of files, digests of lines."""


Embed = Callable[[list[Entry], TraceStore | None, Keep], Mapping[int, str]]
"""Embeds items, with the traces that a store has; returns the errors by item."""


def items_of(arguments: Sequence[str], *, frames: bool = False) -> Iterator[Entry]:
    """Everything in files and folders: images, videos, pages, lines.

    A folder stands for the files in it that are known, in the order of their names, or with `frames` for one video; a
    line of a .jsonl file is an item as JSON, a line of a .txt file a text. What is wrong with a file is an item that
    fails, so that the others go on.
    """
    _document.cache_clear()  # It may have changed.
    for argument in arguments:
        path = _text.expanded(argument, "the file")
        if path.is_dir() and frames:
            yield Entry(_name_of(path), {"video": path}, _state_of(path))
        elif path.is_dir():
            inside = _inside(path)
            if not inside:
                raise _tte.InputError(f"{_text.shown_path(path)} has no image, video, .pdf, .txt or .jsonl file.")
            for file in sorted(inside):
                yield from _of_file(file) if (why := inside[file]) is None else [_failed(file, why)]
        elif path.is_file():
            yield from _of_file(path)
        else:
            raise _tte.InputError(f"{_text.shown_path(path)} is no file or folder: check the path.")


def _inside(path: Path) -> dict[Path, str | None]:
    """The files in a folder, links followed, that are known; with what is wrong with those that cannot be read."""
    found: dict[Path, str | None] = {}
    seen: set[tuple[int, int]] = set()

    def unread(error: OSError) -> None:
        found[Path(error.filename)] = f"it cannot be looked into ({_files.reason(error)}): look after its permissions."

    for name, folders, files in os.walk(path, onerror=unread, followlinks=True):
        folder, status = Path(name), os.stat(name)
        if (place := (status.st_dev, status.st_ino)) in seen or _is_part(folder):
            folders.clear()  # A link to where we have been, or a call's unfinished work.
            continue
        seen.add(place)
        for file in (folder / each for each in files):
            if _known(file):
                found[file] = None if file.is_file() else "it is a pipe, a device or a link to nothing: leave it out."
    return found


def _is_part(folder: Path) -> bool:
    """Whether a folder is a call's unfinished work."""
    return folder.suffix == _PART and (folder / _ABOUT).is_file()


def target(given: str) -> Path:
    """Where vectors shall be written, looked at before there are any.

    Raises `InputError` for another suffix, for a folder, and where the .json file beside an .npy file is another's.
    """
    out = _text.expanded(given, "--out")
    name = _text.shown_path(out)
    if out.suffix not in (".npy", ".parquet"):
        raise _tte.InputError(f"{name} ends with {_text.shown(out.suffix)}: .npy and .parquet files are written.")
    if out.is_dir():
        raise _tte.InputError(f"{name} is a folder: give the file another name.")
    if out.suffix == ".parquet":
        _extras.pyarrow()
    elif os.path.lexists(beside := out.with_suffix(".json")) and not _is_ours(beside, out):
        raise _tte.InputError(
            f"{_text.shown_path(beside)}, where the names of {name} would be written, is not as `tte embed` writes it: "
            "move it away, or give another name."
        )
    return out


def _is_ours(file: Path, out: Path) -> bool:
    """Whether a file is what was written beside `out`; one that was cut off or has lost a letter is, too."""
    with suppress(_tte.InputError):
        about = _files.read_json(file, _REMEDY)
        return isinstance(about, dict) and about.keys() - {"errors"} == {"settings", "names"}
    with suppress(OSError, ValueError), _files.open_regular(file, 1 << 62) as opened:
        start = opened.read(len(_ABOUT_BEGINS))
        return out.is_file() and _ABOUT_BEGINS.startswith(start)
    return False


def write(
    out: Path,
    items: Sequence[Entry],
    settings: Mapping[str, Any],
    dim: int,
    embed: Embed,
    advance: Callable[[int], object] = lambda count: None,
) -> dict[int, str]:
    """Embed what `out` (a :func:`target`) does not have yet; returns the errors by item.

    A call that was stopped goes on where it was: vectors of `dim` numbers and traces wait in a folder beside `out`,
    each written as soon as it is there, until all are. `advance` is called with how many more are done. Beside an
    .npy file a .json file holds names, errors and settings. Where every item failed, nothing is written.
    Raises `InputError` for rows of other settings.
    """
    with _part(out, settings, dim) as kept:
        each = {_key(entry): entry for entry in items}  # What is given twice is embedded once.
        missing = [entry for key, entry in each.items() if key not in kept.done]
        advance(len(items) - len(missing))
        errors: dict[_Key, str] = {}
        for begin in range(0, len(missing), _CHUNK):
            errors |= _add(kept, missing[begin : begin + _CHUNK], embed, advance)
        failed = {index: errors[_key(entry)] for index, entry in enumerate(items) if _key(entry) in errors}
        if len(failed) < len(items):
            _save(out, [entry.name for entry in items], kept.vectors(items), failed, settings)
    return failed


def _add(kept: _Part, chunk: list[Entry], embed: Embed, advance: Callable[[int], object]) -> dict[_Key, str]:
    def keep(row: int, vector: NDArray[np.float32]) -> None:
        kept.add(_key(chunk[row]), vector)
        advance(1)

    errors = embed(chunk, kept.traces, keep)
    advance(len(errors))
    return {_key(chunk[row]): message for row, message in errors.items()}


def made(entry: Entry, allow_urls: bool = False) -> _tte.Input:
    """An item as the engine takes it, with its name; one that fails where it cannot be made."""
    shown = _text.shown_path(entry.name)
    try:
        return to_named(entry.item() if callable(entry.item) else entry.item, shown, allow_urls)
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
        for name in _TEXTS:
            if not isinstance(given := settings.get(name), str | None):
                raise ValueError(f"the {name} of its vectors is {_text.shown(given, 60)}, which is no text")
    return names, vectors, settings


_TEXTS = ("embedder", "reasoner", "task", "recipe", "adapter", "reasoner_recipe", "reasoner_adapter", "reasoner_model")
_REMEDY = "give the .npy or .parquet file that `tte embed` wrote"
_ABOUT_BEGINS = b'{\n "settings": {\n  "task": '
_MOVE = "move it away"


def _read_parquet(path: Path) -> tuple[Any, NDArray[Any], Any]:
    _, parquet = _extras.pyarrow()
    with _files.for_arrow(path) as file:
        table = parquet.read_table(file)
    settings = json.loads((table.schema.metadata or {})[_KEY.encode()])
    return table["name"].to_pylist(), np.array(table["vector"].to_pylist(), np.float32), settings


def _read_npy(path: Path) -> tuple[Any, NDArray[Any], Any]:
    vectors = _files.read_npy(path)
    about = _files.read_json(path.with_suffix(".json"), _REMEDY)
    return about["names"], vectors, about["settings"]


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


_Key = tuple[str, str]


def _key(entry: Entry) -> _Key:
    return entry.name, entry.state


class _Part:
    """What is done, in a folder: a file of rows and a store of traces; what failed is not done.

    However a call ends, the next one finds all rows that are whole: each is a line of its own with a checksum. A
    damaged one is none.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], dim: int) -> None:
        self._rows, self._about = folder / "rows.jsonl", folder / _ABOUT
        self._stored = folder / "traces.sqlite"
        self._dim = dim
        self._of = _content.digest(_content.to_json([settings, dim]))
        self._end = 0
        self.done: dict[_Key, int] = {}
        """Where the line of each begins."""
        if os.path.lexists(self._rows):
            self._read(settings)
        _replace(self._about, json.dumps(settings))  # For the message about other ones. Traces have their own.
        self.traces = None if settings["reasoner"] is None else TraceStore(self._stored)

    def _read(self, settings: Mapping[str, Any]) -> None:
        damaged, others = 0, False
        with _files.reading(self._rows, _MOVE), _files.open_regular(self._rows, 1 << 62) as file:
            while line := file.readline(_ROW_BYTES):
                if not line.endswith(b"\n"):  # It was being written when the call was stopped.
                    if len(line) == _ROW_BYTES:
                        continue
                    break
                try:
                    row = _row(line)
                except ValueError:
                    damaged += 1
                else:
                    others = others or row["of"] != self._of
                    self.done[row["name"], row["state"]] = self._end
                self._end = file.tell()
        if others:
            _refuse_other(self._about, settings)
        if damaged:
            _text.warn(f"{_text.shown_path(self._rows)} has {damaged} damaged lines: what they had is made again.")
        with _files.writing(self._rows):
            os.truncate(self._rows, self._end)

    def add(self, key: _Key, vector: NDArray[np.float32]) -> None:
        numbers = np.ascontiguousarray(vector, np.float32).tobytes()
        row = {"name": key[0], "state": key[1], "vector": base64.b64encode(numbers).decode(), "of": self._of}
        line = json.dumps({**row, "sum": _sum(row)}).encode() + b"\n"
        with _files.writing(self._rows), self._rows.open("ab") as file:
            file.write(line)
        self.done[key] = self._end
        self._end += len(line)

    def vectors(self, items: Sequence[Entry]) -> NDArray[np.float32]:
        """[N, dim], NaN for those that failed."""
        found = np.full((len(items), self._dim), np.nan, np.float32)
        with _files.reading(self._rows, "give the same again"), _files.open_regular(self._rows, 1 << 62) as file:
            for index, entry in enumerate(items):
                if (place := self.done.get(_key(entry))) is not None:
                    file.seek(place)
                    found[index] = np.frombuffer(base64.b64decode(_row(file.readline(_ROW_BYTES))["vector"]), "<f4")
        return found

    def close(self) -> None:
        if self.traces is not None:
            self.traces.close()

    def remove(self) -> None:
        # Traces last: without the other files they save the most.
        for file in (self._rows, self._about, _half(self._about)):
            file.unlink(missing_ok=True)
        trace_store.remove(self._stored)
        (self._about.parent / _files.LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # Something of the user's is in it.
            self._about.parent.rmdir()


def _row(line: bytes) -> dict[str, str]:
    """A row of a line; raises `ValueError` for one that is not as it was written."""
    try:
        row = json.loads(line)
        found = {name: str(row[name]) for name in _SUMMED}
        if row["sum"] == _sum(found):
            return found
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    raise ValueError("a line is damaged")


_SUMMED = ("name", "state", "vector", "of")


def _sum(row: Mapping[str, str]) -> str:
    return _content.digest(*(row[name].encode(errors="surrogatepass") for name in _SUMMED))


def _refuse_other(about: Path, settings: Mapping[str, Any]) -> NoReturn:
    kept: Any = {}
    with suppress(_tte.InputError):
        kept = _files.read_json(about, _MOVE)
    kept, now = kept if isinstance(kept, dict) else {}, json.loads(json.dumps(settings))
    other = "; ".join(
        f"{name} {_setting(kept.get(name))}, now {_setting(now.get(name))}"
        for name in sorted({*kept, *now})
        if kept and kept.get(name) != now.get(name)
    )
    told = f" ({_text.shortened(other, 200)})" if other else ""
    raise _tte.InputError(
        f"{_text.shown_path(about.parent)} has rows of other settings{told}: give those again, or move the folder away."
    )


def _setting(value: Any) -> str:
    return "not given" if value is None else _text.shown(value, 60)


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


def _save(
    out: Path, names: list[str], vectors: NDArray[np.float32], errors: Mapping[int, str], settings: Mapping[str, Any]
) -> None:
    half, about = _half(out), out.with_name(out.name + ".names")
    try:
        with _files.writing(out):
            if out.suffix == ".parquet":
                _write_parquet(half, names, vectors, errors, settings)
            else:
                with half.open("wb") as file:
                    _files.write_npy(file, vectors)
                about.write_text(json.dumps({"settings": settings, "names": names, "errors": errors}, indent=1))
                about.replace(out.with_suffix(".json"))
        half.replace(out)
    finally:
        half.unlink(missing_ok=True)
        about.unlink(missing_ok=True)


def _write_parquet(
    path: Path, names: list[str], vectors: NDArray[np.float32], errors: Mapping[int, str], settings: Mapping[str, Any]
) -> None:
    arrow, parquet = _extras.pyarrow()
    column = arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.ravel()), max(1, vectors.shape[1]))
    told = arrow.array([errors.get(row) for row in range(len(names))], arrow.string())
    table = arrow.table({"name": names, "vector": column, "error": told})
    with _files.for_arrow(path, "wb") as file:
        parquet.write_table(table.replace_schema_metadata({_KEY: json.dumps(settings)}), file)


def _known(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES | _TEXT_SUFFIXES | {".pdf"}


def _name_of(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _of_file(file: Path) -> Iterator[Entry]:
    name = _name_of(file)
    try:
        yield from _parts_of(file, name)
    except _tte.InputError as error:
        yield _failed(file, str(error))


def _failed(file: Path, message: str) -> Entry:
    name = _name_of(file)
    message = message if name in message else f"{_text.shown_path(name)}: {message}"
    return Entry(name, _tte.Input(name=name, error=message), _state_of(file))


def _parts_of(file: Path, name: str) -> Iterator[Entry]:
    suffix, state = file.suffix.lower(), _state_of(file)
    if suffix == ".pdf":
        for index in range(len(pages(file))):
            yield Entry(f"{name}#page={index + 1}", functools.partial(_page, file, index), state)
    elif suffix in _TEXT_SUFFIXES:
        for number, line in _files.lines(file, _text.shown_path(name), "give a file of lines of text"):
            item = functools.partial(_line, line, place := f"{name}#{number}", suffix == ".jsonl")
            # An item that names files has an "image" or a "video"; the others need not be read for it.
            names_files = suffix == ".jsonl" and any(word in line for word in (b"image", b"video", b"\\u"))
            yield Entry(place, item, _content.digest(line, *(_files_named(item) if names_files else ())))
    elif suffix in VIDEO_SUFFIXES:
        yield Entry(name, {"video": file}, state)
    else:
        yield Entry(name, {"image": file}, state)


def _state_of(path: Path) -> str:
    """Sizes and times of a file, or of the frames in a folder; "" where there is none."""
    try:
        files = sorted(each for each in path.iterdir() if _content.is_frame(each.name)) if path.is_dir() else [path]
        found = [(file.name, status.st_size, status.st_mtime_ns) for file in files for status in [file.stat()]]
    except OSError:
        return ""
    return _content.digest(repr(found))


def _files_named(item: Callable[[], Any]) -> Iterator[str]:
    """The states of the files that an item names."""
    with suppress(_tte.InputError):
        read = _items.read(item(), "the item")
        for part in (*read.parts, *(part for turn in read.turns for part in turn.parts)):
            for media in part.source if isinstance(part, _items.Video) and isinstance(part.source, tuple) else [part]:
                if not isinstance(media, str) and isinstance(media.source, Path):
                    yield _state_of(media.source)


def _page(file: Path, index: int) -> Any:
    with _files.reading(file, "leave it alone while it is embedded"):
        return {"image": _document(file)[index]["image"]}


@functools.lru_cache(maxsize=1)
def _document(file: Path) -> Pages:
    """The document whose pages are asked for: a folder of them is larger than memory."""
    return pages(file)


def _line(line: bytes, place: str, is_json: bool) -> Any:
    with _files.reading(place, "each line is an item as JSON" if is_json else "write it in UTF-8", place):
        return _files.parse_json(line) if is_json else line.decode().rstrip("\r\n")
