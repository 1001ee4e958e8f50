"""Items as the engine takes them: what :mod:`tte._items` read, turned into the engine's `Input`."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from tte import _items, _options, _text, _tte
from tte._media_limits import DEFAULT_LIMITS, MediaLimits

if TYPE_CHECKING:
    from PIL import Image as PILImage

Item: TypeAlias = Any
"""One item, in any of the forms that :func:`tte.think_then_embed` lists."""


_AnInput = TypeVar("_AnInput", bound=_tte.Input)


@dataclass(frozen=True)
class Inputs:
    """What a call was handed."""

    given: list[Item]
    """The items as they were handed in."""
    read: list[_items.Item | None]
    """The items as they were read; None for one that is skipped, and for an `Input` that does not know its item."""
    native: list[_tte.Input]
    """The items as the engine takes them; one that is skipped fails where it is used, in its own words."""
    instruction: str | None
    """The call's instruction, where it is one for all."""

    def fail(self, index: int, why: object, on_error: Literal["raise", "skip"]) -> None:
        """Raise `InputError` of an item that was read, or with `on_error` "skip" let it fail where it is used."""
        given, read = self.native[index], self.read[index]
        assert read is not None
        name = given.name if isinstance(given, NamedInput) else _items.named(f"item {index}", read.name)
        error = f"{name}: {why}"
        if on_error == "raise":
            raise _tte.InputError(error)
        self.native[index] = _tte.Input(name=name, error=error)


class NamedInput(_tte.Input):
    """An item that was read and converted under a name that stands alone in errors; what is kept of it has a key."""

    item: _items.Item
    name: str


def prepare(
    inputs: Item | Iterable[Item],
    instruction: str | Iterable[str | None] | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    allow_urls: bool = False,
    limits: MediaLimits = DEFAULT_LIMITS,
) -> Inputs:
    """Read and convert one item or a list of items.

    Of `limits`, only what images in memory can break is looked at here, before they are copied for the engine.

    With `on_error` "skip" an item that cannot be used becomes an `Input` that fails where it is used. Instructions
    that are given one an item become the items' own, where these have none.

    Raises `InputError` naming the item.
    """
    _options.flag(allow_urls, "allow_urls")
    skip = _options.on_error(on_error) == _tte.OnError.SKIP
    source: Iterable[Any] = _items.split(inputs, skip)[0]
    each = None
    if isinstance(instruction, (Mapping, Set)):
        raise _options.refuse("instruction", instruction, "a str, None, or a list with one per item")
    if isinstance(instruction, Iterable) and not isinstance(instruction, (str, bytes)):
        source = listed = list(source)
        each = _options.one_each(instruction, len(listed), "instruction")
    most_held = _most_held()
    held = 0
    given: list[Any] = []
    read: list[_items.Item | None] = []
    native: list[_tte.Input] = []
    for index, item in enumerate(source):  # Not listed first: an endless one fails at its first bad item.
        given.append(item)
        name = f"item {index}"
        if isinstance(item, _tte.Input):
            native.append(item)
            read.append(item.item if isinstance(item, NamedInput) else None)
            continue
        try:
            found = _items.read(item, name, allow_urls, limits.max_item_bytes)
            if each is not None and found.instruction is None:
                own = None if _options.is_absent(each[index]) else each[index]
                found = replace(found, instruction=_options.text(own, f"{name}: instruction"))
            if held + found.held > most_held:
                raise _tte.InputError(
                    f"{_items.named(name, found.name)} makes it {held + found.held} bytes of images in memory in "
                    f"one call, of which tte holds copies, and this machine takes {most_held}: give paths of "
                    "files, or hand the items over in several calls."
                )
            held += found.held
            native.append(to_native(found, name))
        except _tte.InputError as error:
            if not skip:
                raise
            native.append(_tte.Input(name=name, error=str(error)))
            read.append(None)
        else:
            read.append(found)
    return Inputs(given, read, native, None if each is not None else _options.text(instruction, "instruction"))


@functools.cache
def _most_held() -> int:
    """Most bytes of images that a call copies: half of the memory that the process may have."""
    return next(device for device in _tte.Backend.devices() if device.name == "cpu").memory_bytes // 2


def to_input(item: Item, name: str, allow_urls: bool = False, limits: MediaLimits = DEFAULT_LIMITS) -> _tte.Input:
    """Read and convert one item; `name` stands for it in errors. One that is converted already keeps its own name."""
    if isinstance(item, _tte.Input):
        return item
    return to_native(_items.read(item, name, allow_urls, limits.max_item_bytes), name)


def to_named(item: Item, name: str, allow_urls: bool = False) -> _tte.Input:
    """Read and convert one item as `to_input` does; what it becomes knows the item that it was made of."""
    if isinstance(item, _tte.Input):
        return item
    read = _items.read(item, name, allow_urls)
    made = _made(NamedInput, read, name)
    made.item, made.name = read, _items.named(name, read.name)
    return made


def to_native(item: _items.Item, name: str) -> _tte.Input:
    """The engine's input of an item that was read."""
    return _made(_tte.Input, item, name)


def _made(kind: type[_AnInput], item: _items.Item, name: str) -> _AnInput:
    name = _items.named(name, item.name)
    try:
        return kind(
            parts=[native_part(part, name) for part in item.parts],
            instruction=item.instruction,
            messages=[_message(turn, name) for turn in item.turns],
            name=name,
        )
    except MemoryError:
        raise _tte.InputError(f"{name} needs more memory than there is: make it smaller.") from None


def to_messages(messages: Any, name: str) -> list[_tte.Message]:
    """Read and convert chat messages."""
    return [_message(turn, name) for turn in _items.read_turns(messages, name)]


def _message(turn: _items.Turn, name: str) -> _tte.Message:
    parts = [native_part(part, f"{name}, {turn.role} turn") for part in turn.parts]
    return _tte.Message(turn.role, parts, plain=isinstance(turn.content, str))


def native_part(part: _items.Part, name: str) -> str | _tte.Image | _tte.Video:
    """The engine's part of one that was read."""
    if isinstance(part, str):
        return part
    if isinstance(part, _items.Image):
        return _image(part, name)
    source = part.source
    frames = (
        [_image(frame, f"{name}, frame {i}", is_frame=True) for i, frame in enumerate(source)]
        if isinstance(source, tuple)
        else source
    )
    return _tte.Video(
        frames, fps=part.fps, num_frames=part.num_frames, source_fps=part.source_fps, resize=_resize(part.size)
    )


def _resize(size: _items.Size) -> _tte.Resize:
    return _tte.Resize(size.min_pixels, size.max_pixels, size.height, size.width)


def _image(image: _items.Image, name: str, is_frame: bool = False) -> _tte.Image:
    source, resize = image.source, _resize(image.size)
    if isinstance(source, bytes):
        return _tte.Image.from_bytes(source, resize=resize)
    if isinstance(source, Path):
        return _tte.Image.from_path(source, resize=resize)
    pixels = source if isinstance(source, np.ndarray) else pillow_pixels(source, name, is_frame)
    return _tte.Image.from_array(pixels, _tte.Alpha.OVER_WHITE, resize)  # As transformers lays both.


def pillow_pixels(image: PILImage.Image, name: str, is_frame: bool = False) -> NDArray[np.uint8]:
    """Pixels of a Pillow image: uint8 [H, W], [H, W, 3] or, with transparency, [H, W, 4].

    Transparency is what the image says, in its bands or beside them, as transformers sees it (which then composites
    it over white), which of a video's RGB frame takes the bands alone. Sixteen bits a channel are rounded to eight, as
    the engine does with files.
    """
    if image.width * image.height == 0:
        raise _tte.InputError(f"{name}: the image has no pixels: there is nothing to see.")
    if image.width * image.height > _tte.MAX_IMAGE_PIXELS:
        raise _tte.InputError(
            f"{name}: the image of {image.width}x{image.height} (width x height) is over the limit of "
            f"{_tte.MAX_IMAGE_PIXELS} pixels: shrink it."
        )
    try:
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
            return _sixteen_bits(image)
        if image.mode == "F" or (image.mode == "I" and not _fits_eight_bits(image)):
            raise _tte.InputError(
                f"{name}: the Pillow image is of mode {image.mode!r}, whose range is not known: scale it to 0..255 and "
                "convert it to 'L' or 'RGB'."
            )
        if image.mode == "La":
            image = image.convert("LA")
        clear = image.info.get("transparency") is not None and not (is_frame and image.mode == "RGB")
        if clear or image.mode in ("LA", "PA", "RGBa"):
            return np.asarray(image.convert("RGBA"))
        return np.asarray(image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB"))
    except _tte.InputError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever they meet.
        why = _text.shortened(str(error).replace("\n", " ") or type(error).__name__, 160)
        raise _tte.InputError(f"{name}: Pillow cannot read this image ({why}).") from error


def _fits_eight_bits(image: PILImage.Image) -> bool:
    low, high = image.getextrema()
    return bool(low >= 0 and high <= 255)  # type: ignore[operator]


def _sixteen_bits(image: PILImage.Image) -> NDArray[np.uint8]:
    values = np.asarray(image).astype(np.uint32)
    grey = ((values + 128) // 257).astype(np.uint8)
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return grey
    alpha = np.where(values == clear, 0, 255).astype(np.uint8)
    return np.stack([grey, grey, grey, alpha], axis=-1)
