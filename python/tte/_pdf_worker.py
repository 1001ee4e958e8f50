"""The program that opens a PDF document and renders its pages, in a process of its own: a hostile one may end it.

:mod:`tte._pages` starts it by its path, so that nothing else of tte is imported. They talk over file descriptor 0:
first come the settings and the document, then requests, each of which has one answer: a letter, and what belongs to it.
"""

from __future__ import annotations

import io
import json
import math
import resource
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

_POINTS_PER_INCH = 72
_PIXELS_PER_SECOND = 5_000_000
"""Least that are drawn and written as PNG."""
_BYTES_PER_PIXEL = 16
"""Of a bitmap, Pillow's copy of it, and a PNG file with its copy."""


class _Limits:
    """What an answer may cost."""

    def __init__(self, seconds: int, most_bytes: int) -> None:
        self._given = {kind: resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_CPU, resource.RLIMIT_AS)}
        self._seconds, self._bytes, self._before = seconds, most_bytes, _peak()
        self._most = self._until = 0
        self._set(resource.RLIMIT_CORE, 0)
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGXCPU})

    def start(self) -> None:
        """Begin to count the seconds anew."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._until = math.ceil(usage.ru_utime + usage.ru_stime) + self._seconds
        self.allow(0)

    def allow(self, pixels: int) -> None:
        """Let an image have its time and memory, beside the seconds and bytes that everything may take.

        Over the seconds, or over twice the bytes, the process ends.
        PDFium leaves out an image for which it gets no memory. So it gets more than it may take, and `check` tells.
        """
        self._set(resource.RLIMIT_CPU, self._until + pixels // _PIXELS_PER_SECOND)
        self._most = self._before + self._bytes + pixels * _BYTES_PER_PIXEL
        self._set(resource.RLIMIT_AS, self._most + self._bytes)

    def check(self) -> None:
        """Raise MemoryError if more was taken."""
        if _peak() > self._most:
            raise MemoryError

    def _set(self, kind: int, most: int) -> None:
        given = self._given.get(kind, resource.RLIM_INFINITY)
        soft = most if given == resource.RLIM_INFINITY else min(most, given)
        resource.setrlimit(kind, (soft, resource.getrlimit(kind)[1]))


def _peak() -> int:
    """Most bytes of address space that the process has had."""
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmPeak:")) << 10


def _render(document: Any, number: int, dpi: float, most_pixels: int, limits: _Limits) -> bytes:
    scale = dpi / _POINTS_PER_INCH
    page = document[number - 1]
    try:
        width, height = (math.ceil(side * scale) for side in page.get_size())
        if width * height > most_pixels:
            return b"S%dx%d" % (width, height)
        limits.allow(width * height)
        bitmap = page.render(scale=scale, rev_byteorder=True)
        limits.check()
        image = bitmap.to_pil().convert("RGB")
        bitmap.close()
    finally:
        page.close()
    out = io.BytesIO()
    out.write(b"P")
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _serve(connection: Connection[Any, Any]) -> None:
    settings = json.loads(connection.recv_bytes())
    data = connection.recv_bytes()
    sys.path += settings["path"]
    document: Any = None
    limits: _Limits | None = None
    while True:
        number, dpi = json.loads(connection.recv_bytes())
        try:
            import PIL.PngImagePlugin  # noqa: F401
            import pypdfium2

            limits = limits or _Limits(settings["seconds"], settings["bytes"])
            limits.start()
            document = document or pypdfium2.PdfDocument(data, password=settings["password"])
            answer = _render(document, number, dpi, settings["pixels"], limits) if number else b"N%d" % len(document)
        except MemoryError:
            answer = b"MMemoryError"
        except Exception as error:  # PDFium's, and whatever else a document can do.
            answer = b"E" + str(error)[:1000].encode(errors="replace")
        connection.send_bytes(answer)


if __name__ == "__main__":
    with suppress(EOFError):  # Nobody asks any more.
        _serve(Connection(0))
