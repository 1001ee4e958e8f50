"""PDF documents: an image item for each page."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from tte import _extras, _files, _options, _text, _tte
from tte._keywords import named
from tte._pickled import refuse
from tte._sources import MAX_FILE_BYTES

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_MOST_DPI = 1200
_MOST_SECONDS = 20
"""Seconds of computing that opening a document may take, or a page besides its pixels."""
_MOST_BYTES = 1 << 30
"""Bytes of memory that a document and a page may take besides the file and the page's pixels."""
_MOST_PROCESSES = 8
"""Documents that keep their process until the next page is asked for; others start one again."""


class _Document:
    """A document, open in a process of its own: the limits of a page are that process's, and it may be killed.

    When it ends, the next page is another one's.
    """

    def __init__(self, data: bytes, password: str | None) -> None:
        self._data, self._password = data, password
        self.lock = threading.Lock()
        self._process: tuple[subprocess.Popen[bytes], Connection[Any, Any]] | None = None
        self._end: weakref.finalize[..., Any] | None = None
        self._used = 0.0
        _documents[id(self)] = self

    def ask(self, name: str, number: int = 0, dpi: float = 0) -> tuple[str, bytes]:
        """What the process says about a page, or (0) about the document: a letter, and what it stands for."""
        with self.lock:
            is_new = self._process is None
            kind, rest = self._answer(name, number, dpi)
            if kind == "M" and not is_new:  # What the pages before it have left behind may fill the process.
                kind, rest = self._answer(name, number, dpi)
        if kind == "T":
            raise _tte.InputError(f"{name} takes over {_MOST_SECONDS} s of computing besides its pixels: leave it out.")
        if kind == "M":
            raise _tte.InputError(
                f"{name} takes over {_MOST_BYTES >> 20} MiB of memory besides its pixels, or breaks PDFium "
                f"({rest.decode()}): leave it out."
            )
        return kind, rest

    def _answer(self, name: str, number: int, dpi: float) -> tuple[str, bytes]:
        self._used = time.monotonic()
        is_new = self._process is None
        try:
            process, connection = self._process or self._start()
        except OSError as error:
            reason = _files.reason(error)
            raise _tte.InputError(f"{name} needs a process, and none can be started ({reason}): end others.") from error
        try:
            if is_new:
                connection.send_bytes(json.dumps(self._settings()).encode())
                connection.send_bytes(self._data)
            connection.send_bytes(json.dumps([number, dpi]).encode())
            while not connection.poll(1):  # No end of file, if what another thread has forked holds the other end too.
                if process.poll() is not None:
                    raise EOFError
            answer = connection.recv_bytes()
        except (EOFError, OSError):
            self.stop()
            if process.returncode == -signal.SIGXCPU:
                return "T", b""
            return "M", f"its process ended with {process.returncode}".encode()
        except BaseException:  # Ctrl-C.
            self.stop()
            raise
        if answer[:1] == b"M":
            self.stop()
        return answer[:1].decode(), answer[1:]

    def _start(self) -> tuple[subprocess.Popen[bytes], Connection[Any, Any]]:
        running = sorted((d for r in _documents.valuerefs() if (d := r()) and d._process), key=lambda d: d._used)
        for other in running[: max(0, len(running) + 1 - _MOST_PROCESSES)]:
            if other.lock.acquire(blocking=False):
                try:
                    other.stop()
                finally:
                    other.lock.release()
        from multiprocessing import Pipe  # And more that takes its time, for documents alone.

        ours, theirs = Pipe()
        with theirs:
            # -I -S: what it imports is on the path that it is told. Its own group: Ctrl-C is for this process.
            process = subprocess.Popen(
                [sys.executable or "python3", "-I", "-S", Path(__file__).with_name("_pdf_worker.py")],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
        self._end = weakref.finalize(self, _end, os.getpid(), process, ours)
        self._process = process, ours
        return self._process

    def _settings(self) -> dict[str, Any]:
        return {
            "path": [folder for folder in sys.path if isinstance(folder, str)],
            "seconds": _MOST_SECONDS,
            "bytes": _MOST_BYTES,
            "pixels": _tte.MAX_IMAGE_PIXELS,
            "password": self._password,
        }

    def stop(self) -> None:
        """End the process."""
        if self._end:
            self._end()
        self._process = self._end = None


def _end(owner: int, process: subprocess.Popen[bytes], connection: Connection[Any, Any]) -> None:
    connection.close()
    if os.getpid() == owner:
        process.kill()
        process.wait()
    else:
        process.returncode = 0  # Not this process's child, which was forked since: there is nothing to wait for.


_documents: weakref.WeakValueDictionary[int, _Document] = weakref.WeakValueDictionary()


def _let_go() -> None:
    """In a forked process: have no part in the other's processes, nor in locks that its threads hold."""
    for reference in _documents.valuerefs():
        if document := reference():
            document.lock = threading.Lock()
            document.stop()


os.register_at_fork(after_in_child=_let_go)


class Pages(Sequence[dict[str, Any]]):
    """The pages of a PDF document as items; each is rendered when it is asked for. :func:`tte.pages` makes it."""

    _document: _Document
    _name: str
    _dpi: float
    _numbers: Sequence[int]

    def __init__(self, *_: object, **__: object) -> None:
        """Raise `InputError`: only :func:`tte.pages` makes one."""
        raise _tte.InputError("tte.Pages is not made by calling it: call tte.pages(document).")

    @classmethod
    def _of(cls, document: _Document, name: str, dpi: float, numbers: Sequence[int]) -> Pages:
        made = cls.__new__(cls)
        made._document, made._name, made._dpi, made._numbers = document, name, dpi, numbers
        return made

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Pages: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | Pages:
        at = _options.position(index, len(self))
        if isinstance(at, slice):
            return self._of(self._document, self._name, self._dpi, self._numbers[at])
        number = self._numbers[at]
        name = f"{self._name}#page={number}"
        return {"image": _render(self._document, number, self._dpi, name), "name": name}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.__getitem__, range(len(self)))  # No generator, which would end with the first page that fails.

    def _or_errors(self) -> Iterator[dict[str, Any] | _tte.Input]:
        """The items; in place of a page that cannot be rendered an `Input` that fails where it is used."""
        for index, number in enumerate(self._numbers):
            try:
                yield self[index]
            except _tte.InputError as error:
                yield _tte.Input(name=f"{self._name}#page={number}", error=str(error))

    def __repr__(self) -> str:
        return f"Pages({self._name!r}, {len(self)} pages, dpi={self._dpi:g})"


@named
def pages(
    document: str | os.PathLike[str] | bytes,
    *,
    dpi: float = 144,
    pages: int | Iterable[int] | None = None,
    password: str | None = None,
) -> Pages:
    """Open a PDF document: a sequence with one image item for each page.

    A page is rendered, over white, when its item is asked for, and handed on as the bytes of a PNG file, so that one
    page's pixels are in memory at a time. A process of its own does it, which Ctrl-C ends. A page that takes over 20
    seconds of computing, or over 1 GiB of memory, besides what its pixels take is given up; the other pages still come.
    Items name themselves, as in ``report.pdf#page=3``. Needs the package pypdfium2 (``pip install pypdfium2``).

    Args:
        document: the path of a PDF file, or its bytes.
        dpi: dots per inch, from 1 to 1200; a page of A4 at 144 is 1190 x 1684 pixels. Of a page with a /UserUnit,
            which PDFium does not look at, dots per 72 of its units.
        pages: the number of a page, or numbers of pages, from 1; default: all pages.
        password: of an encrypted document.

    Raises:
        InputError: the document cannot be read, is damaged, encrypted, empty or over 1 GiB, takes over 20 seconds or
            1 GiB of memory to open, has no such page, or (when the page is asked for) a page does, or is over the limit
            of pixels that every image has.

    Example:
        >>> import tte
        >>> corpus = tte.think_then_embed(tte.pages("report.pdf"), side="target", think=False)  # doctest: +SKIP

    """
    dpi = _options.positive(dpi, "dpi")
    if not 1 <= dpi <= _MOST_DPI:
        raise _tte.InputError(f"dpi is {dpi:g}: it must be from 1 to {_MOST_DPI}.")
    password = _options.text(password, "password")
    name = "document.pdf" if isinstance(document, (bytes, bytearray, memoryview)) else _name_of(document)
    opened, count = _open(document, name, password)
    return Pages._of(opened, name, dpi, range(1, count + 1) if pages is None else _numbers(pages, count, name))


def _name_of(document: Any) -> str:
    if not isinstance(document, (str, os.PathLike)):
        raise _tte.InputError(f"document is a {type(document).__name__}: give the path of a PDF file, or its bytes.")
    return _text.shown(os.path.basename(_text.path(document, "document")), 120)[1:-1]


def _numbers(given: Any, count: int, name: str) -> list[int]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        given = [given]
    numbers: list[int] = []
    for value in _options.iterated(given, "pages", "the number of a page, or a list of them"):
        if len(numbers) == 10 * count:
            raise _tte.InputError(f"pages names more than {len(numbers)} pages: {name} has {count}.")
        try:
            number = _options.whole(value, "pages", -_options.INT64)
        except _tte.InputError:
            raise _options.refuse("pages", value, "the number of a page, from 1, or a list of them") from None
        if not 1 <= number <= count:
            raise _tte.InputError(f"{name} has no page {number}: its pages are 1 to {count}.")
        numbers.append(number)
    return numbers


def _open(document: Any, name: str, password: str | None) -> tuple[_Document, int]:
    """The document, and how many pages it has."""
    _extras.pypdfium2()
    data = bytes(document) if isinstance(document, (bytes, bytearray, memoryview)) else _read(document)
    if not data:
        raise _tte.InputError(f"{name} is empty (0 bytes): give a PDF document.")
    opened = _Document(data, password)
    kind, rest = opened.ask(name)
    if kind == "N" and rest != b"0":
        return opened, int(rest)
    why = rest.decode(errors="replace")
    if kind == "N" or why.endswith(_NO_ERROR):
        what = "has no pages: give a document that has some"
    elif "password" in why.lower():
        what = "is encrypted: give its password" if password is None else "has another password: check it"
    elif b"%PDF" not in data[:1024]:
        what = "is not a PDF document: give one"
    else:
        what = f"is damaged ({_text.shortened(why, 120)}): repair it or export it again"
    raise _tte.InputError(f"{name} {what}.")


_NO_ERROR = "(PDFium: Success)."
"""What PDFium says of a document that is whole and that it does not open all the same, since it has no page."""


def _read(given: str | os.PathLike[str]) -> bytes:
    """The bytes of a regular file; never waits for a pipe."""
    path = _text.expanded(given, "document")
    where = _text.shown_path(path)
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _tte.InputError(f"{where} is a pipe, socket or device, not a PDF document.")
            if status.st_size > MAX_FILE_BYTES:
                raise _tte.InputError(f"{where} has {status.st_size} bytes, over the limit of {MAX_FILE_BYTES}.")
            return _files.read_bounded(file, MAX_FILE_BYTES)
    except _tte.Error:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _tte.InputError(f"{where} cannot be read ({reason}): check the path.") from error


def _render(document: _Document, number: int, dpi: float, name: str) -> bytes:
    """The bytes of a PNG file of one page."""
    kind, rest = document.ask(name, number, dpi)
    if kind == "S":
        raise _tte.InputError(
            f"{name} is {rest.decode()} pixels (width x height) at {dpi:g} dpi, over the limit of "
            f"{_tte.MAX_IMAGE_PIXELS}: give a lower dpi."
        )
    if kind == "E":
        why = _text.shortened(rest.decode(errors="replace"), 120)
        raise _tte.InputError(f"{name} cannot be rendered ({why}): leave it out.")
    return rest


refuse(Pages, "hand over the document's path, and call tte.pages() there")
