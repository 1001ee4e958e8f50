"""What an item is, whatever it is called: canonical forms and digests, the keys of everything that is kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from tte import _tte
from tte._inputs import Item

_MEDIA_KEYS = {"image", "images", "video", "videos", "path", "bytes", "array", "frames"}
_DIGEST_BYTES = 16
_KNOWN_FILES = 200_000
_CHUNK = 1 << 20
_SIDE_FILES = ("*.json", "*.jinja", "*.txt", "*.model")

_files: dict[tuple[str, int, int], str] = {}


def digest(*parts: bytes | str) -> str:
    """Hex digest (128 bits) of the parts, each with its length."""
    hasher = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.hexdigest()


def to_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def file_digest(path: str | os.PathLike[str]) -> str:
    """Digest of a file's bytes, or of the names and bytes of a folder's files; remembered until they change.

    Raises `InputError` naming a file that cannot be read.
    """
    try:
        if os.path.isdir(path):
            entries = sorted(entry.name for entry in os.scandir(path) if entry.is_file())
            return digest(*(part for name in entries for part in (name, file_digest(os.path.join(path, name)))))
        status = os.stat(path)
        known = (os.fspath(path), status.st_size, status.st_mtime_ns)
        if known not in _files:
            if len(_files) >= _KNOWN_FILES:
                _files.clear()
            _files[known] = _read_digest(path)
        return _files[known]
    except OSError as error:
        raise _tte.InputError(f"{os.fspath(path)} cannot be read ({error.strerror or error}).") from error


def _read_digest(path: str | os.PathLike[str]) -> str:
    hasher = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def canonical(item: Item) -> Any:
    """The item as JSON, its media as digests: equal for items that give the same prompt and the same pixels.

    Raises `InputError` for a file that cannot be read and for what is no item.
    """
    if isinstance(item, str):
        return [["text", item]]
    if isinstance(item, Mapping):  # In pairs: the order of the keys is the order of the content.
        return [[str(key), _value(str(key), value)] for key, value in item.items() if value is not None]
    if isinstance(item, (list, tuple)):
        return {"parts": [canonical(part) for part in item]}
    return [["image", _media(item)]]


def _value(key: str, value: Any) -> Any:
    if key in _MEDIA_KEYS:
        return _media(value)
    if key == "content" and not isinstance(value, str):
        return [canonical(part) for part in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise _tte.InputError(f"an item's {key!r} cannot be a {type(value).__name__}.")


def _media(source: Any) -> Any:
    if isinstance(source, (str, os.PathLike)):
        return file_digest(Path(os.fspath(source)))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return hashlib.blake2b(source, digest_size=_DIGEST_BYTES).hexdigest()
    if isinstance(source, Mapping):
        return {str(key): _value(str(key), value) for key, value in source.items() if value is not None}
    if isinstance(source, (list, tuple)):
        return [_media(element) for element in source]
    if isinstance(source, PILImage.Image):
        palette = source.getpalette() if source.mode in ("P", "PA") else None
        about = (source.mode, source.size, palette, sorted(map(str, source.info.items())) if palette else None)
        return digest(repr(about), source.tobytes())
    if hasattr(source, "__array__"):
        array = np.ascontiguousarray(source)
        return digest(array.dtype.str, repr(array.shape), array.tobytes())
    raise _tte.InputError(f"a picture cannot be a {type(source).__name__}.")


def model_identity(model: _tte.ModelDescription) -> dict[str, str]:
    """What tells a loaded checkpoint from another: weights, dtype, and the small files beside the weights."""
    files = sorted({path for pattern in _SIDE_FILES for path in Path(model.path).glob(pattern)})
    # Another recipe may be in force than the folder's, and an index of shards says nothing about their content.
    kept = [path for path in files if path.name != "recipe.json" and not path.name.endswith(".index.json")]
    parts: Iterable[str] = (part for path in kept for part in (path.name, file_digest(path)))
    return {"fingerprint": model.fingerprint, "dtype": model.dtype, "files": digest(*parts)}


def recipe_digest(model: _tte.ModelDescription) -> str:
    """Digest of the recipe in force; its name and description do not count."""
    recipe = json.loads(model.recipe)
    return digest(to_json({key: value for key, value in recipe.items() if key not in ("name", "description")}))


def model_digest(model: _tte.ModelDescription) -> str:
    """Digest of a checkpoint together with its recipe."""
    return digest(to_json(model_identity(model)), recipe_digest(model))
