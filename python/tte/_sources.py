"""What a value that is an image, or the path of a video, holds: strings, open files, arrays, tensors."""

from __future__ import annotations

import base64
import binascii
import copy
import io
import os
import re
import stat
import sys
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from tte import _fetch, _files, _text, _tte
from tte._media_limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from PIL import Image as PILImage
    from typing_extensions import TypeIs

MAX_FILE_BYTES = 1 << 30
"""Most bytes that are read from a file handed in open: the engine's own limit for files by path."""
MAX_ITEM_BYTES = DEFAULT_LIMITS.max_item_bytes
"""Most bytes of the images that an item holds in memory, where the model has no limits of its own."""
MOST_NAMED = 200
"""Most letters of what an item is called in errors."""
MAX_ITEM_LETTERS = 64 << 20
"""Most letters of all texts of an item: more than any model reads."""

IMAGE_SUFFIXES = frozenset(_tte.image_suffixes())
VIDEO_SUFFIXES = frozenset(
    {".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv"}
)

_SUFFIXES = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)

_LONGEST_PATH = 4095
_CHANNELS = (1, 3, 4)


class Sources:
    """Reads what one item names or holds; `name` stands for the item in errors, all of which are `InputError`."""

    def __init__(self, name: str, allow_urls: bool, most_bytes: int = MAX_ITEM_BYTES) -> None:
        self.name = _files.shown(name, MOST_NAMED)
        self.allow_urls = allow_urls
        self._most_bytes = most_bytes
        self._held = {"bytes": 0, "letters": 0}
        """What is handed over in memory; one count for an item, however deep a part of it lies."""

    def within(self, name: str) -> Self:
        """The same walk, where a part of the item is meant by errors."""
        inner = copy.copy(self)
        inner.name = name
        return inner

    @property
    def held(self) -> int:
        """Bytes of the item's images that are in memory."""
        return self._held["bytes"]

    def hold(self, count: int) -> None:
        """Count the bytes of an image before they are copied: arrays may be views that are far larger than memory."""
        self._held["bytes"] += count
        if self._held["bytes"] > self._most_bytes:
            self.fail(
                f" makes it {self._held['bytes']} bytes of images in memory, over the limit of {self._most_bytes} "
                "(max_item_bytes): give fewer or smaller images, or raise max_item_bytes of MediaLimits."
            )

    def hold_text(self, text: str) -> None:
        """Count the letters of a text before they are copied: one text may be handed over many times."""
        self._held["letters"] += len(text)
        if self._held["letters"] > MAX_ITEM_LETTERS:
            self.fail(
                f" has texts of {self._held['letters']} letters together, over the limit of {MAX_ITEM_LETTERS}: cut "
                "them into several items."
            )

    def fail(self, why: str) -> NoReturn:
        raise _tte.InputError(f"{self.name}{why}")

    def from_string(self, text: str) -> Path | bytes:
        """An image that a string names or holds."""
        if not text:
            self.fail(": the image has an empty path: give the path of a file, or leave it out.")
        start = text[:8].lower()
        if start.startswith(("http://", "https://")):
            return self.download(text)
        if start.startswith("data:"):
            return self.data_uri(text)
        if start.startswith("file:"):
            return self.path(_file_uri(text), "image")
        if _looks_like_base64(text):
            return self.base64(text)
        if len(text) > _LONGEST_PATH:
            self.fail(
                f": the image {_text.shown(text)} ({len(text)} letters) is longer than any path: give a local path, a "
                "file:// or data: URI, or an image file's base64."
            )
        if "://" in text[:24]:
            self.fail(f": the image {_text.shown(text)} is none of a local path, file:// or data: URI, base64.")
        return self.path(Path(text), "image")

    def download(self, url: str) -> bytes:
        if not self.allow_urls:
            self.fail(
                f": tte does not download {_text.shown(_fetch.without_secrets(url))} unless allow_urls=True "
                "(--allow-urls) is given: say so, or save it to a file first."
            )
        return _fetch.fetch(url, self.name)

    def data_uri(self, uri: str) -> bytes:
        head, comma, body = uri.partition(",")
        kind, *flags = head[len("data:") :].split(";")
        if not comma or (kind.split("/")[0].lower() not in ("image", "", "application")):
            self.fail(f": {_text.shown(head, 60)} is not the beginning of an image's data URI.")
        if any(flag.strip().lower() == "base64" for flag in flags):
            return self.base64(body)
        return urllib.parse.unquote_to_bytes(body)

    def base64(self, text: Any) -> bytes:
        if isinstance(text, (bytes, bytearray)):
            text = bytes(text).decode("latin-1")
        if not isinstance(text, str):
            self.fail(f": base64 is text, not a {type(text).__name__}.")
        try:
            data = (urllib.parse.unquote(text) if "%" in text else text).translate(_BASE64).rstrip("=")
            return base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
        except (ValueError, binascii.Error):
            self.fail(f": {_text.shown(text, 40)} ({len(text)} characters) is not base64: encode the file's bytes.")

    def path(self, path: Path, kind: str) -> Path:
        """The path, where it can be one of such a thing; what cannot be told by its name the engine will tell."""
        path = _text.expanded(path, f"{self.name}: the {kind}'s path")
        if kind == "image":
            suffix = path.suffix.lower()
            if suffix in VIDEO_SUFFIXES or os.path.isdir(path):
                what = "a video" if suffix in VIDEO_SUFFIXES else "a folder"
                self.fail(f': {_text.shown_path(path)} is {what}, not an image: use {{"video": ...}}.')
            if suffix == ".pdf":
                self.fail(f": {_text.shown_path(path)} is a document: tte.pages(...) makes an image of each page.")
        return path

    def video_path(self, text: str) -> Path:
        if not text:
            self.fail(": the video has an empty path: give the path of a file, or leave it out.")
        start = text[:8].lower()
        if start.startswith(("http://", "https://")):
            shown = _text.shown(_fetch.without_secrets(text))
            self.fail(f": tte does not download videos: save {shown} to a file first.")
        if start.startswith("data:"):
            self.fail(": a video cannot be a data: URI: save it to a file and give its path.")
        return self.path(_file_uri(text) if start.startswith("file:") else Path(text), "video")

    def from_file(self, file: Any) -> bytes:
        """The bytes of an image file that is handed in open; where it stood it stands again."""
        if isinstance(file, io.TextIOBase):
            self.fail(" is a file that is open for text: open it with mode 'rb'.")
        with_descriptor = _descriptor(file)
        if with_descriptor is not None and not stat.S_ISREG(os.fstat(with_descriptor).st_mode):
            self.fail(" is an open pipe, socket or device, not a regular file: hand over the bytes that it gives.")
        position = file.tell() if _can_seek(file) else None
        if position is not None:
            file.seek(0)
        data = file.read(MAX_FILE_BYTES + 1)
        if position is not None:
            file.seek(position)
        if not isinstance(data, (bytes, bytearray, memoryview)):
            self.fail(f" is a file whose read() gives a {type(data).__name__}: open it with mode 'rb'.")
        if len(data) > MAX_FILE_BYTES:
            self.fail(f" is an open file of over {MAX_FILE_BYTES} bytes: shrink it.")
        return bytes(data)

    def pixels(self, source: Any) -> NDArray[np.uint8]:
        """Pixels as [H, W] or [H, W, C]."""
        array = to_array(source, self.name)
        shape = list(array.shape)
        if array.dtype != np.uint8:
            self.fail(
                f": an image array must be uint8, but this one is {array.dtype} of shape {shape}: scale it to 0..255 "
                'and convert it with .astype("uint8").'
            )
        if array.ndim == 4 and array.shape[0] == 1:
            array = array[0]
        if array.ndim == 4:
            self.several_images(array.shape)
        if array.ndim == 3:
            # Channels first are torch's way; where four come first in another's array, it is more likely a small image.
            first = array.shape[0] in (_CHANNELS if is_tensor(source) else _CHANNELS[:2])
            last = array.shape[2] in _CHANNELS
            if first and last and is_tensor(source):
                self.fail(
                    f": an image tensor of shape {shape} may have its channels first or last: give the array "
                    "[H, W, C], .permute(1, 2, 0).numpy() if they are first."
                )
            if first and not last:
                array = array.transpose(1, 2, 0)
        if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in _CHANNELS):
            self.fail(
                f": an image array must be [height, width], or [height, width, channels] with 1, 3 or 4 channels, but "
                f"its shape is {shape}."
            )
        if array.size == 0:
            self.fail(f": an image of shape {shape} has no pixels: there is nothing to see.")
        if array.shape[0] * array.shape[1] > _tte.MAX_IMAGE_PIXELS:  # Before anything copies it.
            self.fail(f": an image of shape {shape} is over the limit of {_tte.MAX_IMAGE_PIXELS} pixels: shrink it.")
        return array

    def several_images(self, shape: Sequence[int]) -> NoReturn:
        self.fail(
            f" is an array of shape {list(shape)}: give list(array) for {shape[0]} images, "
            '{"images": array} for one item with all of them, or {"video": array} for one video.'
        )


def is_tensor(value: object) -> bool:
    return hasattr(value, "detach") and hasattr(value, "numpy")


def is_pillow(value: object) -> TypeIs[PILImage.Image]:
    """Whether a value is an image of Pillow, which takes its time to import: whoever has one did it."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(value, pillow.Image)


def is_array(value: object) -> bool:
    """Whether it holds numbers in a shape: numpy's, torch's, JAX's arrays; not columns of tables."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind not in "OSUT"
    return is_tensor(value) or (hasattr(value, "__array__") and hasattr(value, "shape") and not _is_column(value))


def _is_column(value: object) -> bool:
    return hasattr(value, "to_pylist") or type(value).__module__.partition(".")[0] in ("pandas", "polars")


def to_array(value: Any, name: str) -> NDArray[Any]:
    if not is_tensor(value):
        return np.asarray(value)
    if not str(value.dtype).endswith("uint8"):
        raise _tte.InputError(
            f"{name}: an image tensor must be uint8, but this one is {value.dtype} of shape {list(value.shape)}: scale "
            "it to 0..255 and convert it with .to(torch.uint8)."
        )
    return np.asarray(value.detach().cpu().numpy())


def _descriptor(file: Any) -> int | None:
    try:
        return int(file.fileno())
    except (AttributeError, OSError, ValueError, TypeError):
        return None


def _can_seek(file: Any) -> bool:
    return bool(file.seekable()) if hasattr(file, "seekable") else hasattr(file, "seek") and hasattr(file, "tell")


def _file_uri(uri: str) -> Path:
    """The path of a file: URI: as it stands where there is such a file, as qwen-vl-utils reads it, else decoded."""
    rest = uri[len("file:") :]
    if rest.startswith("//"):
        rest = rest[2:]
        if not rest.startswith("/") and rest.lower().startswith("localhost/"):
            rest = rest[len("localhost") :]
    return Path(rest) if _exists(rest) else Path(urllib.parse.unquote(rest))


def _exists(path: str) -> bool:
    try:
        return os.path.exists(os.path.expanduser(path))
    except (OSError, ValueError):
        return False


_BASE64 = {ord("-"): "+", ord("_"): "/", **dict.fromkeys(map(ord, " \t\n\r\f\v"))}
"""The two alphabets made one, white space left out; without a list of what is between it."""
_BASE64_MAGIC = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR", "Qk", "SUkq", "SUkr", "TU0A")
"""How the base64 of the files that tte decodes begins."""
_BASE64_LEAST = 40


def _looks_like_base64(text: str) -> bool:
    if len(text) < _BASE64_LEAST or not text[:16].translate(_BASE64).startswith(_BASE64_MAGIC):
        return False
    return re.fullmatch(r"[A-Za-z0-9+/_=\s-]*", text) is not None and not _exists(text)


_told: set[str] = set()
_MOST_TOLD = 20


def warn_of_file_names(text: str) -> None:
    """Say, once, that a text which is the name of an image file, or an image as a data URI, is taken as text."""
    if len(text) > 4096:
        if not text.startswith("data:image/"):
            return
        key = "data:image/"
    else:
        if not text.lower().endswith(_SUFFIXES) or "\n" in text or not _exists(text):
            return
        key = text
    if key in _told or len(_told) >= _MOST_TOLD:
        return
    _told.add(key)
    _text.warn(
        f"{_text.shown(text)} is embedded as text, though it names or holds an image or a video: give "
        'pathlib.Path(...), {"image": ...} or {"video": ...} for what is in the file.'
    )
