"""Files that may be damaged, endless or no files at all: read, or refused in one sentence that names them."""

from __future__ import annotations

import codecs
import errno
import fcntl
import io
import itertools
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from tte import _extras, _text, _tte

_JSON_BYTES = 256 << 20
_LINE_BYTES = 64 << 20
_PIECE_BYTES = 16 << 20
_SHOWN = 160
_NPY_HEADER_BYTES = 128

LOCK = ".lock"
"""The file in a folder by which :func:`hold` holds it."""


def shown(text: object, most: int = 80) -> str:
    """A text as a message shows it without quotes: on one line, not longer than `most` letters."""
    return _text.shortened(" ".join(str(text).split()), most)


def reason(error: BaseException) -> str:
    """What went wrong, in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnicodeError):
        return "its text is not UTF-8"
    if isinstance(error, KeyError):
        return f"it has no {_text.shown(error.args[0] if error.args else '', 60)}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    return shown(str(error) or type(error).__name__, _SHOWN)


@contextmanager
def reading(path: str | os.PathLike[str], remedy: str, where: str = "") -> Iterator[None]:
    """Turn whatever a damaged file does to its reader into one `InputError` with path (or `where`) and remedy."""
    try:
        yield
    except _tte.Error:
        raise
    except Exception as error:  # A damaged file can raise anything from within a reader.
        name = shown(where, 200) if where else _text.shown_path(path)
        raise _tte.InputError(f"{name} cannot be read ({reason(error)}): {remedy}.") from error


def open_regular(path: str | os.PathLike[str], most: int) -> io.BufferedReader:
    """Open a file for reading if it is a regular one of at most `most` bytes; never waits for a pipe or a device.

    Raises `OSError` or `ValueError`, for `reading` to tell.
    """
    # Looked at before it is opened, for opening a device can do something, and after it, for names can change.
    _require_regular(os.stat(path), most)
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _require_regular(os.fstat(handle), most)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def for_arrow(path: str | os.PathLike[str], mode: Literal["rb", "wb"] = "rb") -> Any:
    """Open a file for pyarrow, which takes no names that are not UTF-8; what is read never waits for a pipe."""
    if mode == "rb":
        _require_regular(os.stat(path), 1 << 62)
    return _extras.pyarrow()[0].OSFile(os.fsencode(path), mode)


def pieces(file: io.BufferedReader, most: int) -> Iterator[bytes]:
    """The bytes of a file, whatever size it says that it has: files of the kernel say 0, and some have no end.

    Raises `ValueError` for one that gives more than `most`.
    """
    left = most  # In pieces: read(most) makes room for all of them first.
    while piece := file.read(_PIECE_BYTES):
        if (left := left - len(piece)) < 0:
            raise ValueError(f"it gives over {most} bytes, the limit")
        yield piece


def read_bounded(file: io.BufferedReader, most: int) -> bytes:
    """All bytes of a file; raises `ValueError` for one that gives more than `most`."""
    return b"".join(pieces(file, most))


def _require_regular(status: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"it is {'a folder' if stat.S_ISDIR(status.st_mode) else 'a pipe, socket or device'}")
    if status.st_size > most:
        raise ValueError(f"it has {status.st_size} bytes, over the limit of {most}")


def read_npy(path: Path, *, mapped: bool = False) -> NDArray[Any]:
    """The array in a .npy file, read or mapped; never waits for a pipe.

    Raises `OSError` or `ValueError`, for `reading` to tell.
    """
    with open_regular(path, 1 << 62) as file:
        if file.peek(6)[:6] != b"\x93NUMPY":
            raise ValueError("it is no .npy file")
        try:
            return np.lib.format.open_memmap(path, mode="r") if mapped else np.load(file, allow_pickle=False)
        except (OSError, MemoryError):
            raise
        except Exception:  # What numpy says of it is for those who know its reader.
            raise ValueError("it is damaged, cut off, or holds no plain numbers") from None


def npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The beginning of a .npy file, of one length whatever the shape: for files that grow."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
    room = _NPY_HEADER_BYTES - 10
    return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + (text.ljust(room - 1) + "\n").encode()


def write_npy(file: IO[bytes], array: NDArray[Any]) -> None:
    """Write an array as np.save does, which does not say that a disk is full."""
    array = np.ascontiguousarray(array)
    file.write(npy_header(array.dtype, array.shape))
    file.write(array.data)


def read_json(path: Path, remedy: str) -> Any:
    """Read a JSON file as strictly as the standard has it.

    Raises `InputError` with path and `remedy`.
    """
    with reading(path, remedy), open_regular(path, _JSON_BYTES) as file:
        return parse_json(read_bounded(file, _JSON_BYTES).removeprefix(codecs.BOM_UTF8))


def hold(folder: Path, refused: str, *, shared: bool = False) -> BinaryIO:
    """Hold a folder, which is made where there is none: alone, or (`shared`) together with others that share it.

    It is held until the file that is returned is closed or the process ends; who holds it alone may remove it. Raises
    `InputError` with the sentence `refused` where somebody else holds it.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = (folder / LOCK).open("ab")
        except FileNotFoundError:
            continue  # Who held the folder removed it just now.
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(folder / LOCK)):
                return file
        except BlockingIOError:
            file.close()
            raise _tte.InputError(refused) from None
        except FileNotFoundError:
            pass
        file.close()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other thread or process is in here for the same folder, where its file system has locks."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def part(path: Path) -> Path:
    """Where a file is written until it is whole and gets its name: beside it, a name that no one else writes to."""
    return path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(6).hex()}.part")


def parse_json(data: bytes) -> Any:
    """JSON without NaN, infinities and lone surrogates.

    Raises `ValueError` and `RecursionError`.
    """
    found = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    if b"\\u" in data.lower():  # Where alone a surrogate can come from.
        json.dumps(found, ensure_ascii=False).encode()
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def lines(path: Path, where: str, remedy: str) -> Iterator[tuple[int, bytes]]:
    """Lines of a file with their numbers, from 1; blank ones and the mark that Windows puts in front are passed over.

    Raises `InputError` with `where` (the file, as messages name it), the line and `remedy`.
    """
    with reading(path, remedy, where):
        file = open_regular(path, 1 << 62)
    with file:
        for number in itertools.count(1):
            with reading(path, remedy, where):
                line = file.readline(_LINE_BYTES + 1)
            if not line:
                return
            if len(line) > _LINE_BYTES:
                raise _tte.InputError(f"{where}, line {number} has over {_LINE_BYTES} bytes: {remedy}.")
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield number, line


def json_lines(path: Path, where: str, remedy: str) -> Iterator[dict[str, Any]]:
    """Objects of a file of JSON lines; blank lines are passed over.

    Raises `InputError` as `lines` does.
    """
    for number, line in lines(path, where, remedy):
        try:
            found = parse_json(line)
        except UnicodeError:
            raise _tte.InputError(f"{where}, line {number} has text that is not UTF-8: {remedy}.") from None
        except (ValueError, RecursionError) as error:
            raise _tte.InputError(f"{where}, line {number} is not JSON ({reason(error)}): {remedy}.") from error
        if not isinstance(found, dict):
            raise _tte.InputError(f"{where}, line {number} is not an object: {remedy}.")
        yield found


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the file in what the system says while it is written, which it leaves out where a disk is full."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno or errno.EIO, error.strerror or shown(str(error), _SHOWN), os.fspath(path)) from error


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file so that it appears whole or not at all, even if the machine goes down."""
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Keep the names of new files in a folder even if the machine goes down."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_full(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder's disk has no room for another page or two, where a library does not say why it failed."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _LEAST_ROOM


_LEAST_ROOM = 1 << 16


def is_of_one(error: Exception) -> bool:
    """Whether an error is of one data set or file, so that others can go on: no full disk, no dead server."""
    return not isinstance(error, (_tte.CancelledError, _tte.RemoteError)) and errno_of(error) not in _FULL


def errno_of(error: BaseException) -> int | None:
    """What the system said, also where an error of ours passes it on, or SQLite's does."""
    cause = error if isinstance(error, OSError) else error.__cause__
    name = str(getattr(cause, "sqlite_errorname", ""))
    said = next((number for start, number in _SQLITE.items() if name.startswith(start)), None)
    return getattr(cause, "errno", None) if said is None else said


_SQLITE = {"SQLITE_FULL": errno.ENOSPC, "SQLITE_IOERR": errno.EIO}


_FULL = (errno.ENOSPC, errno.EDQUOT)
