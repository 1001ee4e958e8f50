"""PDF documents: an image item for each page."""

from __future__ import annotations

import atexit
import functools
import io
import math
import os
import stat
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

from tte import _extras, _files, _options, _text, _tte
from tte._sources import MAX_FILE_BYTES

_POINTS_PER_INCH = 72
_MOST_DPI = 1200
_pdfium = threading.RLock()
"""PDFium is not thread-safe."""


def _renew() -> None:
    global _pdfium  # noqa: PLW0603
    _pdfium = threading.RLock()  # In a forked process, for a thread that is not there may hold the other one.


os.register_at_fork(after_in_child=_renew)
_opened: weakref.WeakSet[Any] = weakref.WeakSet()


@functools.cache
def _close_at_exit() -> None:
    """Close what is open when the program ends, before pypdfium2 does it and writes a line about each."""

    def close() -> None:
        if _pdfium.acquire(blocking=False):
            for document in list(_opened):
                document.close()

    atexit.register(close)


class Pages(Sequence[dict[str, Any]]):
    """The pages of a PDF document as items; each is rendered when it is asked for. :func:`tte.pages` makes it."""

    _document: Any
    _name: str
    _dpi: float
    _numbers: Sequence[int]

    def __init__(self, *_: object, **__: object) -> None:
        """Raise `InputError`: only :func:`tte.pages` makes one."""
        raise _tte.InputError("tte.Pages is not made by calling it: call tte.pages(document).")

    @classmethod
    def _of(cls, document: Any, name: str, dpi: float, numbers: Sequence[int]) -> Pages:
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
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"Pages({self._name!r}, {len(self)} pages, dpi={self._dpi:g})"


def pages(
    document: str | os.PathLike[str] | bytes,
    *,
    dpi: float = 144,
    pages: int | Iterable[int] | None = None,
    password: str | None = None,
) -> Pages:
    """Open a PDF document: a sequence with one image item for each page.

    A page is rendered, over white, when its item is asked for, and handed on as the bytes of a PNG file, so that one
    page's pixels are in memory at a time. Items name themselves, as in ``report.pdf#page=3``. Needs the package
    pypdfium2 (``pip install pypdfium2``).

    Args:
        document: the path of a PDF file, or its bytes.
        dpi: dots per inch, from 1 to 1200; a page of A4 at 144 is 1190 x 1684 pixels.
        pages: the number of a page, or numbers of pages, from 1; default: all pages.
        password: of an encrypted document.

    Raises:
        InputError: the document cannot be read, is damaged, encrypted, empty or over 1 GiB, has no such page, or (when
            the page is asked for) a page is over the limit of pixels that every image has.

    Example:
        >>> import tte
        >>> corpus = tte.think_then_embed(tte.pages("report.pdf"), side="target", think=False)  # doctest: +SKIP

    """
    dpi = _options.positive(dpi, "dpi")
    if not 1 <= dpi <= _MOST_DPI:
        raise _tte.InputError(f"dpi is {dpi:g}: it must be from 1 to {_MOST_DPI}.")
    password = _options.text(password, "password")
    name = "document.pdf" if isinstance(document, (bytes, bytearray, memoryview)) else _name_of(document)
    opened = _open(document, name, password)
    with _pdfium:
        count = len(opened)
    if count == 0:
        raise _tte.InputError(f"{name} has no pages.")
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
        number = _options.count(value, "a number in pages")
        if not 1 <= number <= count:
            raise _tte.InputError(f"{name} has no page {number}: its pages are 1 to {count}.")
        numbers.append(number)
    return numbers


def _open(document: Any, name: str, password: str | None) -> Any:
    pdfium = _extras.pypdfium2()
    data = bytes(document) if isinstance(document, (bytes, bytearray, memoryview)) else _read(document)
    if not data:
        raise _tte.InputError(f"{name} is empty (0 bytes): give a PDF document.")
    try:
        with _pdfium:
            opened = pdfium.PdfDocument(data, password=password)
            _opened.add(opened)
            _close_at_exit()
            return opened
    except pdfium.PdfiumError as error:
        why = str(error)
        if "password" in why.lower():
            what = "is encrypted: give its password" if password is None else "has another password: check it"
        elif b"%PDF" not in data[:1024]:
            what = "is not a PDF document: give one"
        else:
            what = f"is damaged ({_text.shortened(why, 120)}): repair it or export it again"
        raise _tte.InputError(f"{name} {what}.") from error


def _read(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a regular file; never waits for a pipe."""
    where = _text.shown_path(path)
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _tte.InputError(f"{where} is a pipe, socket or device, not a PDF document.")
            if status.st_size > MAX_FILE_BYTES:
                raise _tte.InputError(f"{where} has {status.st_size} bytes, over the limit of {MAX_FILE_BYTES}.")
            return _files.read_bounded(file, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _tte.InputError(f"{where} cannot be read ({reason}): check the path.") from error


def _render(document: Any, number: int, dpi: float, name: str) -> bytes:
    """The bytes of a PNG file of one page."""
    scale = dpi / _POINTS_PER_INCH
    pdfium = _extras.pypdfium2()
    try:
        with _pdfium:
            page = document[number - 1]
            try:
                width, height = (math.ceil(side * scale) for side in page.get_size())
                if width * height > _tte.MAX_IMAGE_PIXELS:
                    raise _tte.InputError(
                        f"{name} is {width}x{height} pixels (width x height) at {dpi:g} dpi, over the limit of "
                        f"{_tte.MAX_IMAGE_PIXELS}: give a lower dpi."
                    )
                bitmap = page.render(scale=scale, rev_byteorder=True)
                image = bitmap.to_pil().convert("RGB")
                bitmap.close()
            finally:
                page.close()
    except pdfium.PdfiumError as error:
        why = _text.shortened(str(error), 120)
        raise _tte.InputError(f"{name} cannot be rendered ({why}): leave it out.") from error
    except MemoryError:
        raise _tte.InputError(f"{name} needs more memory than there is: give a lower dpi.") from None
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()
