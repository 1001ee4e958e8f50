"""Canonical JSON and digests of items: the keys under which traces, vectors and results are kept."""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tte import _files, _items, _sources, _tte
from tte._inputs import Item, pillow_pixels

_DIGEST_BYTES = 16
_KNOWN_FILES = 200_000
_SIDE_FILES = ("*.json", "*.jinja", "*.txt", "*.model")

_digests: dict[tuple[str, int, int], str] = {}


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
    """Digest of a file's bytes, or of the names and bytes of a folder's frames; remembered until they change.

    Raises `InputError` naming what cannot be read, is not a regular file or is over the engine's limit of bytes.
    """
    with _files.reading(path, "check the path"):
        if os.path.isdir(path):
            names = sorted(e.name for e in os.scandir(path) if is_frame(e.name))
            return digest(*(part for n in names for part in (os.fsencode(n), file_digest(os.path.join(path, n)))))
        status = os.stat(path)
        known = (os.fspath(path), status.st_size, status.st_mtime_ns)
        if known not in _digests:
            if len(_digests) >= _KNOWN_FILES:
                _digests.clear()
            _digests[known] = _read_digest(path)
        return _digests[known]


def forget_files() -> None:
    """Forget the digests of files, so that content is read again where size and time are the same."""
    _digests.clear()


def is_frame(name: str) -> bool:
    """Whether a file of a folder of frames is one of its frames, by its name."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in _sources.IMAGE_SUFFIXES


def _read_digest(path: str | os.PathLike[str]) -> str:
    hasher = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    with _files.open_regular(path, _sources.MAX_FILE_BYTES) as file:
        for piece in _files.pieces(file, _sources.MAX_FILE_BYTES):
            hasher.update(piece)
    return hasher.hexdigest()


def canonical(item: Item) -> Any:
    """The item as JSON, its media as digests: equal for items that give the same prompt and the same pixels.

    Raises `InputError` for a file that cannot be read and for what is no item.
    """
    read = _items.read(item, "the item")
    if read.turns:
        return {"messages": [[turn.role, _content_of(turn.content)] for turn in read.turns]}
    parts = [_part(part) for part in read.parts]
    return {"parts": parts} if read.instruction is None else {"parts": parts, "instruction": read.instruction}


def _content_of(content: str | tuple[_items.Part, ...]) -> Any:
    return content if isinstance(content, str) else [_part(part) for part in content]


def _part(part: _items.Part) -> Any:
    if isinstance(part, str):
        return ["text", part]
    size = {key: value for key, value in asdict(part.size).items() if value is not None}
    if isinstance(part, _items.Image):
        return ["image", _image(part), size]
    frames = part.source
    source = [_image(frame, is_frame=True) for frame in frames] if isinstance(frames, tuple) else file_digest(frames)
    return ["video", source, [part.fps, part.num_frames, part.source_fps], size]


def _image(image: _items.Image, is_frame: bool = False) -> str:
    source = image.source
    if isinstance(source, Path):
        return file_digest(source)
    if isinstance(source, bytes):
        return hashlib.blake2b(source, digest_size=_DIGEST_BYTES).hexdigest()
    pixels = source if isinstance(source, np.ndarray) else pillow_pixels(source, "the item", is_frame)
    alpha = "over white" if pixels.shape[2:] == (4,) else ""
    return digest(alpha, repr(pixels.shape), np.ascontiguousarray(pixels).tobytes())


def model_identity(model: _tte.ModelDescription) -> dict[str, str]:
    """What tells a loaded checkpoint from another: weights, dtype, the small files beside the weights, how it reads.

    Of a model behind a server: its name and the server's address, whose files nobody sees. Files count as they were
    when this was asked for the first time, which loading does.
    """
    if getattr(model, "server", ""):  # Who describes a folder may leave it out.
        return {"fingerprint": model.fingerprint, "dtype": "", "files": ""}
    if not isinstance(model, _tte.ModelDescription):
        return _identity(model)
    if model not in _identities:
        _identities[model] = _identity(model)
    return _identities[model]


_identities: weakref.WeakKeyDictionary[_tte.ModelDescription, dict[str, str]] = weakref.WeakKeyDictionary()


def _identity(model: _tte.ModelDescription) -> dict[str, str]:
    folders = [Path(folder) for folder in (model.path, model.base) if folder is not None]
    files = [path for f in folders for path in sorted({path for p in _SIDE_FILES for path in f.glob(p)})]
    # Another recipe may be in force than the folder's, and an index of shards says nothing about their content.
    kept = [path for path in files if path.name != "recipe.json" and not path.name.endswith(".index.json")]
    parts: Iterable[str] = (part for path in kept for part in (path.name, file_digest(path)))
    found = {"fingerprint": model.fingerprint, "dtype": model.dtype, "files": digest(*parts)}
    return {**found, "control_tokens": "parsed"} if getattr(model, "parse_control_tokens", False) else found


def recipe_digest(model: _tte.ModelDescription) -> str:
    """Digest of the recipe in force; its name and description do not count."""
    recipe = json.loads(model.recipe)
    return digest(to_json({key: value for key, value in recipe.items() if key not in ("name", "description")}))


def run_identity(model: _tte.ModelDescription) -> dict[str, str]:
    """What a run notes of a model: its identity and recipe, and first what it was rounded to, which people can read."""
    rounded = getattr(model, "quantization", "") or "none"
    found = {} if rounded == "none" else {"quantization": rounded}
    return {**found, **model_identity(model), "recipe": recipe_digest(model)}


def model_digest(model: _tte.ModelDescription) -> str:
    """Digest of a checkpoint together with its recipe."""
    return digest(to_json(model_identity(model)), recipe_digest(model))
