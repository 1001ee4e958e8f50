"""Videos as other tools hand them over, turned into what tte takes.

The others' types are recognised by what they can do, so that neither torch nor torchcodec is imported here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

import tte
from tte import _files
from tte._items import Size, Video, Walk
from tte._options import is_absent

MAX_DECODER_FRAMES = 768
"""Most frames that are read from a video decoder where nobody asks for a number: what tte's recipes allow."""


def is_decoder(value: object) -> bool:
    """Whether it is a video decoder as torchcodec's: it counts frames and reads those that are asked for."""
    return hasattr(value, "get_frames_at") and hasattr(value, "metadata")


class VideoWalk(Walk):
    """The walk over an item, with more forms of videos.

    These are torchcodec's decoders, ``{"array", "video_metadata"}``, the ``{"bytes", "path"}`` of data sets, and
    encoded bytes, which are written to a file that `files` removes.
    """

    def __init__(self, name: str, files: ExitStack | None = None, max_frames: int = MAX_DECODER_FRAMES) -> None:
        super().__init__(name, allow_urls=False)
        self._files = files
        self._max_frames = max_frames

    def video(self, source: Any, sampling: Mapping[str, Any], size: Size) -> Video:
        return super().video(self._plain(source), sampling, size)

    def _plain(self, value: Any) -> Any:
        """The video as the walk of tte takes it."""
        if is_decoder(value):
            return from_decoder(value, self.name, max_frames=self._max_frames)
        if isinstance(value, Mapping):
            if "array" in value:
                fps = (value.get("video_metadata") or {}).get("fps")
                return _frames(value["array"], None if fps is None else float(fps))
            if value.keys() <= {"bytes", "path"}:
                found = [value[key] for key in ("bytes", "path") if not is_absent(value.get(key))]
                if not found:
                    self.fail(": the video has neither bytes nor a path.")
                return self._plain(found[0])
        if isinstance(value, (bytes, bytearray, memoryview)) and self._files is not None:
            return _to_file(bytes(value), self._files)
        return value


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
            why = _files.shown(next(iter(str(error).splitlines()), type(error).__name__), 160)
            raise tte.InputError(f"{name}: the video cannot be decoded ({why}): leave it out.") from error
        rate = decoder.metadata.average_fps
        return _frames(frames, float(rate) * len(indices) / count if rate else None)
    raise tte.InputError(f"{name}: the video has no frames that can be decoded: leave it out.")


def column_names(batch: Iterable[Any]) -> str:
    """The columns of a batch as errors name them."""
    return _files.shown(", ".join(sorted(map(str, batch))), 200) or "(none)"


def _spread(total: int, count: int) -> list[int]:
    return [int(i) for i in np.linspace(0, total - 1, count).round()]


def _frames(value: Any, source_fps: float | None) -> dict[str, Any]:
    return {"type": "video", "frames": value, **({} if source_fps is None else {"source_fps": source_fps})}


def _to_file(data: bytes, files: ExitStack) -> Path:
    folder = Path(files.enter_context(tempfile.TemporaryDirectory(prefix="tte-video-")))
    path = folder / "video"
    path.write_bytes(data)
    return path
