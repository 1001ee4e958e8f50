"""What callers hand in, turned into the engine's `Input`.

The rules are those of the docstring of :func:`to_inputs`; everything that does not fit is an `InputError` that names
the item, before any model work starts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image as PILImage

from tte import _tte

Item: TypeAlias = Any
"""A `str`; an image (`pathlib.Path`, `PIL.Image`, uint8 array, `bytes`); a dict; a list of parts; chat messages."""

_ITEM_KEYS = {"text", "image", "images", "video", "videos", "instruction"}
_IMAGE_KEYS = ("image", "path", "bytes", "array")
_VIDEO_KEYS = ("video", "path", "frames")
_VIDEO_OPTIONS = ("fps", "num_frames", "source_fps")
_PART_TYPES = ("text", "image", "video")


def to_inputs(inputs: Item | Sequence[Item], on_error: str = "raise") -> tuple[list[_tte.Input], bool]:
    """Convert one item or a list of items.

    With `on_error` "skip" an item that cannot be converted becomes an `Input` that fails where it is used.

    Returns the inputs and whether a single item was handed in. A list whose elements are all dicts with a ``"type"``
    is one item (ordered parts), a list whose elements are all dicts with a ``"role"`` is one item (chat messages);
    any other list or tuple is a list of items.
    """
    convert = _to_input_or_error if on_error == "skip" else to_input
    if isinstance(inputs, (list, tuple)) and not _is_parts(inputs) and not _is_messages(inputs):
        return [convert(item, f"item {index}") for index, item in enumerate(inputs)], False
    return [convert(inputs, "item 0")], True


def _to_input_or_error(item: Item, name: str) -> _tte.Input:
    try:
        return to_input(item, name)
    except (_tte.InputError, TypeError, ValueError) as error:
        message = str(error) if str(error).startswith(name) else f"{name}: {error}"
        return _tte.Input(name=name, error=message)


def to_input(item: Item, name: str) -> _tte.Input:
    """Convert one item; `name` stands for it in errors. One that is converted already keeps its own name."""
    if isinstance(item, _tte.Input):
        return item
    if _is_messages(item):
        return _tte.Input(messages=to_messages(item, name), name=name)
    if isinstance(item, Mapping):
        return _from_dict(item, name)
    if isinstance(item, (list, tuple)):
        if not item:
            raise _tte.InputError(f"{name} is an empty list: give it at least one part.")
        return _tte.Input(parts=[_part(part, name) for part in item], name=name)
    return _tte.Input(parts=[_text(item, name) if isinstance(item, str) else to_image(item, name)], name=name)


def to_image(source: object, name: str) -> _tte.Image:
    """Convert one picture: a path, `PIL.Image`, HWC or HW uint8 array, or the bytes of an image file."""
    if isinstance(source, _tte.Image):
        return source
    if isinstance(source, PILImage.Image):
        return _from_pil(source, name)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _tte.Image.from_bytes(bytes(source))
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        if isinstance(text, str) and text.startswith(("http://", "https://")):
            raise _tte.InputError(f"{name}: tte does not download pictures: save {text} to a file first.")
        return _tte.Image.from_path(Path(text) if isinstance(text, str) else Path(os.fsdecode(text)))
    if hasattr(source, "__array__") or isinstance(source, np.ndarray):
        try:
            return _tte.Image.from_array(np.asarray(source))
        except _tte.InputError as error:
            raise _tte.InputError(f"{name}: {error}") from None
    raise _tte.InputError(
        f"{name} is a {type(source).__name__}, which is none of text, path, PIL.Image, uint8 array, bytes, "
        "dict, list of parts, chat messages."
    )


def _from_pil(image: PILImage.Image, name: str) -> _tte.Image:
    """Pixels of a PIL image; transparency is composited over white, as transformers does."""
    try:
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        if image.mode in ("LA", "PA", "La", "RGBa"):
            image = image.convert("RGBA")
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
            return _tte.Image.from_array((np.asarray(image).astype(np.uint32) * 255 // 65535).astype(np.uint8))
        if image.mode not in ("L", "RGB", "RGBA"):
            image = image.convert("RGB")
        return _tte.Image.from_array(np.asarray(image), _tte.Alpha.OVER_WHITE)
    except (OSError, ValueError) as error:
        raise _tte.InputError(f"{name}: Pillow cannot read this picture ({error}).") from error


def _to_video(part: Mapping[str, Any], source: object, name: str) -> _tte.Video:
    options = {key: part.get(key) for key in _VIDEO_OPTIONS}
    if isinstance(source, (str, os.PathLike)):
        return _tte.Video(Path(os.fspath(source)), **options)
    if isinstance(source, np.ndarray) and source.ndim == 4:
        source = list(source)
    if isinstance(source, (list, tuple)):
        if not source:
            raise _tte.InputError(f"{name}: the video has no frames.")
        return _tte.Video([to_image(f, f"{name}, frame {i}") for i, f in enumerate(source)], **options)
    raise _tte.InputError(
        f"{name}: a video is a file, a folder of frames or a list of frames, not a {type(source).__name__}."
    )


def _first(part: Mapping[str, Any], keys: Sequence[str], kind: str, name: str) -> Any:
    found = [key for key in keys if part.get(key) is not None]
    if len(found) != 1:
        raise _tte.InputError(
            f"{name}: a part of type {kind!r} needs exactly one of {', '.join(keys)}, but has "
            f"{', '.join(sorted(part)) or 'nothing'}."
        )
    return part[found[0]]


def _part(part: object, name: str) -> Any:
    if isinstance(part, str):
        return _text(part, name)
    if not isinstance(part, Mapping):
        return to_image(part, name)
    kind = part.get("type")
    if kind not in _PART_TYPES:
        raise _tte.InputError(f"{name}: the part's type is {kind!r}; it must be one of {', '.join(_PART_TYPES)}.")
    allowed = {"text": {"text"}, "image": set(_IMAGE_KEYS), "video": {*_VIDEO_KEYS, *_VIDEO_OPTIONS}}[kind]
    unknown = set(part) - allowed - {"type"}
    if unknown:
        raise _tte.InputError(
            f"{name}: unknown key {sorted(unknown)[0]!r} in a part of type {kind!r}; known are "
            f"{', '.join(sorted(allowed))}."
        )
    if kind == "text":
        return _text(part.get("text"), name)
    if kind == "image":
        return to_image(_first(part, _IMAGE_KEYS, kind, name), name)
    return _to_video(part, _first(part, _VIDEO_KEYS, kind, name), name)


def _from_dict(item: Mapping[str, Any], name: str) -> _tte.Input:
    if "type" in item:
        return _tte.Input(parts=[_part(item, name)], name=name)
    unknown = set(item) - _ITEM_KEYS
    if unknown:
        raise _tte.InputError(
            f"{name}: unknown key {sorted(unknown)[0]!r}; an item's keys are {', '.join(sorted(_ITEM_KEYS))}."
        )
    instruction = item.get("instruction")
    parts: list[Any] = []
    # The order of the keys is the order of the content, as in sentence-transformers.
    for key, value in item.items():
        if value is None or key == "instruction":
            continue
        if key == "text":
            parts.append(_text(value, name))
        elif key in ("image", "images"):
            images = value if isinstance(value, (list, tuple)) else [value]
            parts += [to_image(image, name) for image in images]
        elif key == "video":
            parts.append(_video_value(value, name))
        else:
            parts += [_video_value(video, name) for video in value]
    if not parts and instruction is None:
        raise _tte.InputError(f"{name} is empty: give it text, an image or a video.")
    return _tte.Input(parts=parts, instruction=None if instruction is None else _text(instruction, name), name=name)


def _video_value(value: object, name: str) -> _tte.Video:
    if isinstance(value, Mapping):
        video = _part({"type": "video", **value}, name)
        assert isinstance(video, _tte.Video)
        return video
    return _to_video({}, value, name)


def to_messages(messages: Sequence[Mapping[str, Any]], name: str) -> list[_tte.Message]:
    """Convert chat messages: dicts with a role and a content that is text or a list of parts."""
    if not _is_messages(messages):
        raise _tte.InputError(f"{name}: chat messages are a non-empty list of dicts with a 'role'.")
    return [_message(message, name) for message in messages]


def _message(message: Mapping[str, Any], name: str) -> _tte.Message:
    role, content = message["role"], message.get("content")
    where = f"{name}, {role} turn"
    if isinstance(content, str):
        return _tte.Message(str(role), [_text(content, where)])
    if not isinstance(content, (list, tuple)):
        raise _tte.InputError(f"{where}: content must be a string or a list of parts, not {content!r}.")
    return _tte.Message(str(role), [_part(part, where) for part in content])


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise _tte.InputError(f"{name}: text must be a str, not a {type(value).__name__}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _tte.InputError(f"{name}: the text cannot be written as UTF-8 ({error.reason}): remove it.") from None
    return value


def _is_parts(value: object) -> bool:
    return _all_dicts_with(value, "type")


def _is_messages(value: object) -> bool:
    return _all_dicts_with(value, "role")


def _all_dicts_with(value: object, key: str) -> bool:
    return (
        isinstance(value, (list, tuple))
        and bool(value)
        and all(isinstance(element, Mapping) and key in element for element in value)
    )
