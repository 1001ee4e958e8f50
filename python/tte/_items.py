"""The one walk over what callers hand in: every form of an item becomes an `Item` of texts, images and videos.

It has three users: the engine's input (:mod:`tte._inputs`), the keys of what is kept (:mod:`tte._content`) and what
people see (:mod:`tte._display`). Nothing is decoded here, and no file is opened but those handed in open.

What callers may rely on is written in the docstring of :func:`tte.think_then_embed`.
"""

from __future__ import annotations

import itertools
import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tte import _files, _options, _text, _tte
from tte._options import is_absent
from tte._sources import (
    MAX_ITEM_BYTES,
    MOST_NAMED,
    Sources,
    is_array,
    is_pillow,
    is_tensor,
    to_array,
    warn_of_file_names,
)

if TYPE_CHECKING:
    from PIL import Image as PILImage

MAX_ITEMS = 10_000_000
"""Most items of one call, so that an endless iterator ends."""
MAX_PARTS = 100_000
"""Most parts of an item, frames of a video and turns of a chat."""

_IMAGE_SOURCES = ("image", "path", "url", "bytes", "base64", "array")
_VIDEO_SOURCES = ("video", "path", "url", "frames")
_SIZE = ("min_pixels", "max_pixels", "resized_height", "resized_width")
_SAMPLING = ("fps", "num_frames", "nframes", "source_fps")
_CONTENT = ("text", "image", "images", "video", "videos")
_PARTS = {
    "text": ("text",),
    "image": (*_IMAGE_SOURCES, *_SIZE),
    "image_url": ("image_url", *_SIZE),
    "video": (*_VIDEO_SOURCES, *_SAMPLING, *_SIZE),
}
_PILLOW_BYTES = {"L": 1, "RGB": 3}
"""Bytes that a pixel of a Pillow image becomes, by its mode; 4 for the others."""
_MOST = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Size:
    """What an image or the frames of a video are resized to, where it is not what the model's files say."""

    min_pixels: int | None = None
    max_pixels: int | None = None
    height: int | None = None
    width: int | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """An image: a file, the bytes of one, uint8 [H, W] or [H, W, 1 | 3 | 4], or Pillow's."""

    source: Path | bytes | NDArray[np.uint8] | PILImage.Image
    size: Size = Size()


@dataclass(frozen=True, slots=True)
class Video:
    """A video: a file, a folder of frames, or its frames."""

    source: Path | tuple[Image, ...]
    fps: float | None = None
    num_frames: int | None = None
    source_fps: float | None = None
    size: Size = Size()


Part: TypeAlias = str | Image | Video


@dataclass(frozen=True, slots=True)
class Turn:
    """A chat message; its content is a text or parts, as the caller had it."""

    role: str
    content: str | tuple[Part, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """The content as parts."""
        return (self.content,) if isinstance(self.content, str) else self.content


@dataclass(frozen=True, slots=True)
class Item:
    """One item: parts in order with an instruction, or a chat."""

    parts: tuple[Part, ...] = ()
    instruction: str | None = None
    turns: tuple[Turn, ...] = ()
    name: str | None = None
    """What the caller calls it."""
    held: int = 0
    """Bytes of its images that are in memory, as files' bytes or pixels."""


def named(position: str, name: str | None) -> str:
    """What an item is called in errors: its position in the call, and its own name if it has one.

    Both may be anything: a message takes one line, and the engine UTF-8.
    """
    position = _files.shown(position, MOST_NAMED)
    return position if name is None else f"{position} ({_files.shown(name, 120)})"


def split(inputs: Any, skip: bool = False) -> tuple[Iterator[Any], bool]:
    """The items of what was handed in, and whether it is a single one.

    A list whose elements are all dicts with a ``"type"`` is one item (ordered parts), a list whose elements are all
    dicts with a ``"role"`` is one item (chat messages); any other list, tuple, column or iterator is a list of items.

    With `skip`, items that are made when they are asked for (by a type with `_or_errors`, such as :class:`tte.Pages`)
    come as an `Input` that fails where it is used if they cannot be made.
    """
    try:
        if skip and hasattr(type(inputs), "_or_errors"):
            inputs = inputs._or_errors()
        found = None if _all_have(inputs, "type") or _all_have(inputs, "role") else _elements(inputs, "inputs")
        sized = found if isinstance(found, Sized) else inputs  # An array's elements are read in pieces.
        size = len(sized) if found is not None and isinstance(sized, Sized) else 0
        items = None if found is None else iter(found)
    except (_tte.Error, MemoryError):
        raise
    except Exception as error:  # Objects of other libraries may do anything when they are looked at.
        raise _options.refuse("inputs", inputs, "an item, or a list of items") from error
    if size > MAX_ITEMS:
        raise _too_many_items()
    return (iter([inputs]), True) if items is None else (_bounded(items), False)


def _bounded(items: Iterable[Any]) -> Iterator[Any]:
    for count, item in enumerate(items):
        if count == MAX_ITEMS:
            raise _too_many_items()
        yield item


def _too_many_items() -> _tte.InputError:
    return _tte.InputError(f"inputs has more than {MAX_ITEMS} items: hand them over in several calls.")


def read(item: object, name: str, allow_urls: bool = False, most_bytes: int = MAX_ITEM_BYTES) -> Item:
    """Walk over one item; `name` stands for it in errors, all of which are `InputError`.

    Its images may hold `most_bytes` of memory together, as files' bytes or pixels.
    """
    return Walk(name, allow_urls, most_bytes).read(item)


@contextmanager
def looking_at(name: str) -> Iterator[None]:
    """Turn whatever an item's values do when they are looked at into an `InputError`; `name` stands for the item."""
    try:
        yield
    except _tte.Error:
        raise
    except MemoryError:
        raise _tte.InputError(f"{name} needs more memory than there is: make it smaller.") from None
    except Exception as error:  # What objects of other libraries raise when they are looked at.
        why = _text.shortened(f"{type(error).__name__}: {error}".replace("\n", " "), 200)
        raise _tte.InputError(f"{name} cannot be read ({why}): hand over plain values.") from error


def read_turns(messages: object, name: str) -> tuple[Turn, ...]:
    """Walk over chat messages alone."""
    try:
        fine = _all_have(messages, "role")
    except Exception:
        fine = False
    if not fine:
        raise _tte.InputError(f"{name}: chat messages are a non-empty list of dicts with a 'role'.")
    return read(messages, name).turns


class Walk(Sources):
    """The walk over one item; what takes further forms of its parts is derived from it."""

    def read(self, item: object) -> Item:
        """Walk over the whole item."""
        if isinstance(item, Item):
            return item
        with looking_at(self.name):
            return replace(self.item(item), held=self.held)

    def item(self, item: Any) -> Item:
        if isinstance(item, str):
            warn_of_file_names(item)
            return Item((self.text(item),))
        if isinstance(item, Mapping):
            return self.from_dict(item)
        if _all_have(item, "role"):
            return Item(turns=self.turns(item))
        if isinstance(item, (np.ndarray, np.void)) and item.dtype.names:
            fields = _text.shown(list(item.dtype.names))
            self.fail(f" is a numpy record array with the fields {fields}: give one of its columns, or a dict per row.")
        if isinstance(item, np.ndarray) and item.ndim == 4 and item.shape[0] != 1:
            self.several_images(item.shape)
        found = None if is_array(item) else _elements(item, self.name)
        if found is None:
            return Item((self.image(item),))
        parts = tuple(self.at("part", i).part(part) for i, part in enumerate(self.bounded(found)))
        if not parts:
            self.fail(" is an empty list: give it at least one part.")
        return Item(parts)

    def from_dict(self, item: Mapping[str, Any]) -> Item:
        if "type" in item:
            return Item((self.part(item),))
        if "role" in item:
            return Item(turns=self.turns([item]))
        known = (*_CONTENT, "instruction", "messages", "name", *_SAMPLING, *_SIZE)
        given = self.known(item, known, "an item's keys are")
        name = self.text(given.pop("name"), "the name") if "name" in given else None
        if name is not None:
            self.name = named(self.name, name)
        if "messages" in given:
            if len(given) > 1:
                self.fail(" has both messages and other keys: whole messages say everything themselves.")
            return Item(turns=self.turns(given["messages"]), name=name)
        size, sampling = self.size(given), self.sampling(given)
        kinds = {key.rstrip("s") for key in given if key in _CONTENT}
        if size != Size() and not kinds & {"image", "video"}:
            self.fail(f" has {_first_of(given, _SIZE)!r}, but neither an image nor a video that it could be for.")
        if sampling and "video" not in kinds:
            self.fail(f" has {_first_of(given, _SAMPLING)!r}, but no video that it could be for.")
        parts: list[Part] = []
        # The order of the keys is the order of the content, as in sentence-transformers.
        for key, value in given.items():
            if key == "text":
                parts += self.texts(value)
            elif key in ("image", "images"):
                parts += self.under(key).images(value, size)
            elif key == "video":
                parts.append(self.under(key).video(value, sampling, size))
            elif key == "videos":
                parts += self.under(key).videos(value, sampling, size)
        instruction = given.get("instruction")
        if not parts and instruction is None:
            self.fail(" is empty: give it text, an image or a video.")
        own = None if instruction is None else self.text(instruction, "the instruction")
        return Item(tuple(parts), own, name=name)

    def turns(self, messages: Any) -> tuple[Turn, ...]:
        found = _elements(messages, self.name)
        if found is None or isinstance(messages, str):
            self.fail(f": messages are a list of dicts with a 'role', not a {type(messages).__name__}.")
        return tuple(self.turn(message) for message in self.bounded(found))

    def turn(self, message: Any) -> Turn:
        if not isinstance(message, Mapping) or "role" not in message:
            self.fail(f": {_text.shown(message)} is no message: each is a dict with 'role' and 'content'.")
        role = self.text(message["role"], "the role")
        shown = " ".join(_text.shortened(role, 40).split()) or "nameless"
        where = self.within(f"{self.name}, {shown} turn")
        where.known(message, ("role", "content"), "a message has")
        content = message.get("content")
        if isinstance(content, str):
            return Turn(role, where.text(content))
        parts = None if isinstance(content, Mapping) or is_array(content) else _elements(content, where.name)
        if parts is None:
            where.fail(f": content must be a string or a list of parts, not {_text.shown(content)}.")
        return Turn(role, tuple(where.part(part) for part in where.bounded(parts)))

    def part(self, part: Any) -> Part:
        if isinstance(part, str):
            return self.text(part)
        if isinstance(part, (Image, Video)):
            return part
        if not isinstance(part, Mapping):
            return self.image(part)
        kind = part.get("type")
        if not isinstance(kind, str) or kind not in _PARTS:
            hint = " tte's models cannot hear: transcribe it to text." if kind in ("audio", "input_audio") else ""
            self.fail(f": the part's type is {_text.shown(kind)}; it must be one of {', '.join(_PARTS)}.{hint}")
        given = self.known(part, ("type", *_PARTS[kind]), f"a part of type {kind!r} has")
        if kind == "text":
            return self.text(part.get("text"))
        if kind == "image_url":
            return self.under(kind).image(self.openai_url(given.get("image_url")), self.size(given))
        if kind == "image":
            return self.image_of(given, self.size(given))
        key = self.only(given, _VIDEO_SOURCES, kind)
        return self.under(key).video(given[key], self.sampling(given), self.size(given))

    def openai_url(self, value: Any) -> Any:
        """The address in OpenAI's ``"image_url": {"url": ...}``."""
        if isinstance(value, Mapping):
            given = self.known(value, ("url", "detail"), "an image_url has")
            if given.get("detail", "auto") != "auto":
                self.fail(f": detail is {_text.shown(given['detail'])}: say how large with min_pixels and max_pixels.")
            value = given.get("url")
        if not isinstance(value, str):
            self.fail(f": image_url is {_text.shown(value)}: give its 'url', a data: URI or an address.")
        return value

    def image_of(self, given: Mapping[str, Any], size: Size) -> Image:
        """The image that a dict has under one of several keys."""
        key = self.only(given, _IMAGE_SOURCES, "image")
        walk = self.under(key)
        return walk.image(walk.base64(given[key]) if key == "base64" else given[key], size)

    def images(self, value: Any, size: Size) -> list[Image]:
        if isinstance(value, Mapping) or (is_array(value) and to_array(value, self.name).ndim != 4):
            return [self.image(value, size)]
        if is_array(value):
            return self.image_list(to_array(value, self.name), size)
        found = None if isinstance(value, str) else _elements(value, self.name)
        return [self.image(value, size)] if found is None else self.image_list(found, size)

    def image_list(self, values: Iterable[Any], size: Size) -> list[Image]:
        return [self.at("image", i).image(value, size) for i, value in enumerate(self.bounded(values))]

    def image(self, source: Any, size: Size = Size()) -> Image:
        if isinstance(source, Image):
            return source if size == Size() else replace(source, size=size)
        if isinstance(source, Path):
            return Image(self.path(source, "image"), size)
        if is_pillow(source):
            self.hold(source.width * source.height * _PILLOW_BYTES.get(source.mode, 4))
            return Image(source, size)
        if isinstance(source, Mapping):  # With options of its own, or undecoded as Hugging Face's data sets have it.
            given = self.known(source, (*_IMAGE_SOURCES, *_SIZE), "an image has")
            if given.keys() == {"bytes", "path"}:
                given.pop("path")
            return self.image_of(given, _or(self.size(given), size))
        if isinstance(source, (bytes, bytearray, memoryview)):
            return self.encoded(source, size)
        if isinstance(source, str):
            found = self.from_string(source)
            return Image(found, size) if isinstance(found, Path) else self.encoded(found, size)
        if isinstance(source, os.PathLike):
            return Image(self.path(Path(os.fsdecode(source)), "image"), size)
        if hasattr(source, "read"):
            return self.encoded(self.from_file(source), size)
        if is_absent(source):
            self.fail(
                f" is {source} of type {type(source).__name__}: there is nothing to see or read, so leave it out."
            )
        if is_array(source):
            pixels = self.pixels(source)
            self.hold(pixels.size)
            return Image(pixels, size)
        self.fail(
            f" is {_text.shown(source, 40)} of type {type(source).__name__}, which is none of text, path, PIL.Image, "
            "uint8 array, bytes, open file, dict, list of parts, chat messages."
        )

    def encoded(self, data: bytes | bytearray | memoryview, size: Size) -> Image:
        """An image of a file's bytes."""
        self.hold(data.nbytes if isinstance(data, memoryview) else len(data))
        return Image(bytes(data), size)

    def videos(self, value: Any, sampling: Mapping[str, Any], size: Size) -> list[Video]:
        found = _elements(value, self.name)
        if found is None:
            self.fail(f" is {_text.shown(value)}, not a list of videos: use 'video' for one.")
        return [self.at("video", i).video(video, sampling, size) for i, video in enumerate(self.bounded(found))]

    def video(self, source: Any, sampling: Mapping[str, Any], size: Size) -> Video:
        if isinstance(source, Video):
            return source
        if isinstance(source, Mapping):
            given = self.known(source, ("type", *_PARTS["video"]), "a video has")
            key = self.only(given, _VIDEO_SOURCES, "video")
            own = {**sampling, **self.sampling(given)}
            return self.under(key).video(given[key], own, _or(self.size(given), size))
        if isinstance(source, str):
            return Video(self.video_path(source), size=size, **sampling)
        if isinstance(source, os.PathLike):
            return Video(self.path(Path(os.fsdecode(source)), "video"), size=size, **sampling)
        if isinstance(source, (bytes, bytearray, memoryview)) or hasattr(source, "read"):
            self.fail(": the bytes of a video cannot be used: save them to a file and give its path.")
        frames = to_array(source, self.name) if is_array(source) else _elements(source, self.name)
        if frames is None or getattr(frames, "ndim", 4) != 4:
            shape = f" of shape {list(source.shape)}" if hasattr(source, "shape") else ""
            still = is_pillow(source) or isinstance(source, Image) or getattr(frames, "ndim", 0) in (2, 3)
            self.fail(
                f": a video is a file, a folder of frames, a list of frames or frames [N, H, W, C] in one array, not "
                f"a {type(source).__name__}{shape}{': give an image as one, under image' if still else ''}."
            )
        images = tuple(self.at("frame", i).image(frame) for i, frame in enumerate(self.bounded(frames)))
        if not images:
            self.fail(": the video has no frames.")
        return Video(images, size=size, **sampling)

    def at(self, kind: str, index: int) -> Walk:
        """The walk over one of several things in the item."""
        return self.within(f"{self.name}, {kind} {index}")

    def under(self, key: str) -> Walk:
        """The walk over what the item has under a key, which errors name."""
        return self.within(f"{self.name}, {key!r}")

    def text(self, value: Any, what: str = "") -> str:
        if isinstance(value, str):
            self.hold_text(value)
        return _text.utf8(value, f"{self.name}: {what or 'the text'}")

    def texts(self, value: Any) -> list[str]:
        """What an item has under "text"."""
        return [self.text(value)]

    def known(self, given: Mapping[Any, Any], known: Sequence[str], rule: str) -> dict[str, Any]:
        """Those of the keys that have a value; one that is not known is refused, unless a table filled it with None."""
        for key, value in given.items():
            if key not in known and not is_absent(value):
                names = ", ".join(name for name in known if name != "type")
                if key == "content":
                    self.fail(": a chat message has a 'role' beside its 'content': add it, such as \"role\": \"user\".")
                if key in ("audio", "audios"):
                    self.fail(" has audio, which tte's models cannot hear: leave it out, or transcribe it to text.")
                self.fail(f": unknown key {_text.shown(key)}; {rule} {names}.")
        return {key: value for key, value in given.items() if not is_absent(value)}

    def only(self, given: Mapping[str, Any], keys: Sequence[str], kind: str) -> str:
        found = [key for key in keys if key in given]
        if len(found) != 1:
            has = ", ".join(sorted(given)) or "nothing"
            self.fail(f": a part of type {kind!r} needs exactly one of {', '.join(keys)}, but has {has}.")
        return found[0]

    def bounded(self, values: Iterable[Any]) -> Iterator[Any]:
        for count, value in enumerate(values):
            if count == MAX_PARTS:
                self.fail(f" has more than {MAX_PARTS} parts, frames or turns: split it.")
            yield value

    def size(self, given: Mapping[str, Any]) -> Size:
        values = {key: self.whole(given[key], key) for key in _SIZE if key in given}
        height, width = values.pop("resized_height", None), values.pop("resized_width", None)
        if (height is None) != (width is None):
            self.fail(": resized_height and resized_width go together: give both, or max_pixels alone.")
        return Size(**values, height=height, width=width)

    def sampling(self, given: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key in _SAMPLING:
            if key in given:
                counted = key in ("num_frames", "nframes")
                name = "num_frames" if counted else key
                if name in found:
                    self.fail(": num_frames and nframes are one option: give one of them.")
                value = given[key]
                found[name] = self.whole(value, key) if counted else _options.positive(value, f"{self.name}: {key}")
        return found

    def whole(self, value: Any, key: str) -> int:
        try:
            # A column of whole numbers with gaps is one of floats in pandas.
            integral = isinstance(value, (float, np.floating)) and float(value).is_integer()
            found = operator.index(int(value) if integral else value)
        except TypeError:
            found = 0
        if isinstance(value, (bool, np.bool_)) or not 1 <= found <= _MOST:
            self.fail(f": {key} is {_text.shown(value)}: it must be a whole number from 1 to {_MOST}.")
        return found


def _or(first: Size, second: Size) -> Size:
    return second if first == Size() else first


def _first_of(given: Mapping[str, Any], keys: Sequence[str]) -> str:
    return next(key for key in keys if key in given)


def _all_have(value: object, key: str) -> bool:
    """Whether it is a non-empty list of dicts that all have the key."""
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(element, Mapping) and key in element for element in value)
    )


def _elements(value: Any, name: str) -> Iterable[Any] | None:
    """The elements of a list, a column of a table or an iterator; None for what is one thing.

    Raises `InputError` for what has elements, but not such.
    """
    if isinstance(value, (list, tuple)):
        return value
    if is_pillow(value) or isinstance(
        value, (str, bytes, bytearray, memoryview, Mapping, os.PathLike, Item, _tte.Input)
    ):
        return None
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "OUT":
        # In pieces: an array may be a view of few rows that are many.
        return itertools.chain.from_iterable(value[i : i + 1024].tolist() for i in range(0, len(value), 1024))
    if isinstance(value, np.ndarray) and value.dtype.kind in "OSUT":
        raise _tte.InputError(
            f"{name} is an array of {value.dtype} of shape {list(value.shape)}: give a list of items."
        )
    if is_tensor(value) or isinstance(value, np.ndarray) or hasattr(value, "read"):
        return None
    if isinstance(value, (set, frozenset)):
        raise _tte.InputError(f"{name} is a {type(value).__name__}, which has no order: give a list.")
    # Tables of pandas, polars and DuckDB; in pyarrow tables have a schema and columns have none.
    kind = type(value)  # A frame that is not computed yet may say its columns at a price.
    if hasattr(kind, "columns") and (hasattr(kind, "dtypes") or hasattr(kind, "schema")):
        raise _tte.InputError(f'{name} is a table: give a column of it (table["text"]) or its rows as dicts.')
    if hasattr(value, "to_pylist"):
        return list(value.to_pylist())
    return value if isinstance(value, Iterable) else None
