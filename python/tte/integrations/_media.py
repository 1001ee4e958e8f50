"""Pictures and videos as other tools hand them over, turned into what tte takes.

The others' types are recognised by what they can do, so that neither torch nor torchcodec is imported here.
"""

from __future__ import annotations

import base64
import binascii
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tte

MAX_DECODER_FRAMES = 768
"""Most frames that are read from a video decoder where nobody asks for a number: what tte's recipes allow."""

_CHANNELS = (1, 3, 4)


def is_missing(value: object) -> bool:
    """Whether a cell of a table is empty: None, or the NaN that pandas writes for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_decoder(value: object) -> bool:
    """Whether it is a video decoder as torchcodec's: it counts frames and reads those that are asked for."""
    return hasattr(value, "get_frames_at") and hasattr(value, "metadata")


def to_picture(value: Any, name: str) -> Any:
    """Convert one picture to what `tte.Embedder` takes.

    Besides tte's own types: tensors and arrays with the channels first ([C, H, W] for torch, [H, W, C] for numpy
    where both would fit), ``data:`` URIs, and the ``{"bytes", "path"}`` of undecoded columns of `datasets`.
    """
    if isinstance(value, Mapping):
        return _from_struct(value, name)
    if isinstance(value, str):
        return _from_data_uri(value, name) if value.startswith("data:") else value
    array = _array(value)
    return value if array is None else _channels_last(array, name, prefer_first=_is_tensor(value))


def to_video(
    value: Any, name: str, files: ExitStack | None = None, *, max_frames: int = MAX_DECODER_FRAMES
) -> dict[str, Any]:
    """Convert one video to a part ``{"type": "video", ...}``.

    Besides tte's own types: torchcodec decoders, arrays and tensors [T, C, H, W] or [T, H, W, C],
    ``{"array", "video_metadata"}``, and encoded bytes, which are written to a file that `files` removes.
    """
    if is_decoder(value):
        return from_decoder(value, name, max_frames=max_frames)
    if isinstance(value, Mapping):
        if "array" in value:
            fps = (value.get("video_metadata") or {}).get("fps")
            return _frames(value["array"], name, None if fps is None else float(fps))
        if value.keys() <= {"bytes", "path"}:
            return to_video(_from_struct(value, name), name, files)
        return {"type": "video", **value}
    if isinstance(value, (bytes, bytearray, memoryview)):
        if files is None:
            raise tte.InputError(f"{name}: the bytes of a video cannot be used here: save them to a file first.")
        return {"type": "video", "video": _to_file(bytes(value), files)}
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        raise tte.InputError(f"{name}: tte does not download videos: save {value} to a file first.")
    if isinstance(value, (str, os.PathLike)):
        return {"type": "video", "video": value}
    return _frames(value, name, None)


def from_decoder(
    decoder: Any,
    name: str,
    choose: Callable[[int], Sequence[int]] | None = None,
    *,
    max_frames: int = MAX_DECODER_FRAMES,
) -> dict[str, Any]:
    """Read frames from a video decoder: those that `choose` picks of so many, else all, at most `max_frames`.

    The recipe's own sampling then applies to them as to any list of frames, with the rate they were read at. Where
    the file promises more frames than it has, those that are there are taken, as mteb does.
    """
    total = decoder.metadata.num_frames or 0
    for count in range(total, 0, -1):
        spread = range(count) if count <= max_frames else _spread(count, max_frames)
        indices = spread if choose is None else choose(count)
        try:
            frames = decoder.get_frames_at(list(indices)).data
        except RuntimeError as error:
            if "no more frames" in str(error):
                continue
            raise tte.InputError(f"{name}: the video cannot be decoded ({str(error).splitlines()[0]}).") from error
        rate = decoder.metadata.average_fps
        return _frames(frames, name, float(rate) * len(indices) / count if rate else None)
    raise tte.InputError(f"{name}: the video has no frames that can be decoded.")


def _spread(total: int, count: int) -> list[int]:
    return [int(i) for i in np.linspace(0, total - 1, count).round()]


def _frames(value: Any, name: str, source_fps: float | None) -> dict[str, Any]:
    array = _array(value)
    if array is not None and array.dtype != object:
        if array.ndim != 4:
            raise tte.InputError(
                f"{name}: frames of shape {list(array.shape)} are no video: give [T, H, W, C] or [T, C, H, W]."
            )
        first = _is_tensor(value)
        frames: list[Any] = [
            _channels_last(frame, f"{name}, frame {i}", prefer_first=first) for i, frame in enumerate(array)
        ]
    elif isinstance(value, (list, tuple, np.ndarray)):
        frames = [to_picture(frame, f"{name}, frame {i}") for i, frame in enumerate(value)]
    else:
        raise tte.InputError(
            f"{name}: a video is a file, a folder of frames, frames or a decoder, not a {type(value).__name__}."
        )
    return {"type": "video", "frames": frames, **({} if source_fps is None else {"source_fps": source_fps})}


def _is_tensor(value: object) -> bool:
    return hasattr(value, "detach") and hasattr(value, "numpy")


def _array(value: Any) -> NDArray[Any] | None:
    if isinstance(value, np.ndarray):
        return value
    return np.asarray(value.detach().cpu().numpy()) if _is_tensor(value) else None


def _channels_last(array: NDArray[Any], name: str, *, prefer_first: bool) -> NDArray[Any]:
    if array.dtype != np.uint8:
        raise tte.InputError(
            f"{name} holds {array.dtype} values: tte takes uint8 from 0 to 255, and does its own normalising."
        )
    if array.ndim == 3:
        first, last = array.shape[0] in _CHANNELS, array.shape[2] in _CHANNELS
        if first and (prefer_first or not last):
            array = array.transpose(1, 2, 0)
    return np.ascontiguousarray(array)


def _from_struct(value: Mapping[str, Any], name: str) -> Any:
    for key in ("bytes", "path"):
        if not is_missing(value.get(key)):
            return value[key]
    raise tte.InputError(f"{name} has neither bytes nor a path, but {', '.join(sorted(value)) or 'nothing'}.")


def _from_data_uri(value: str, name: str) -> bytes:
    head, comma, body = value.partition(",")
    try:
        if not comma or not head.endswith(";base64"):
            raise ValueError
        return base64.b64decode(body, validate=True)
    except (ValueError, binascii.Error):
        raise tte.InputError(f"{name}: {head[:40]!r} does not begin a base64 data URI.") from None


def _to_file(data: bytes, files: ExitStack) -> Path:
    folder = Path(files.enter_context(tempfile.TemporaryDirectory(prefix="tte-video-")))
    path = folder / "video"
    path.write_bytes(data)
    return path
