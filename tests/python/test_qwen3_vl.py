"""What only Qwen3-VL does, against transformers: frames sampled by time, timestamps, sizes of whole clips."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tte
from checkpoints import SHAPES, Shape
from references import Reference, noise
from test_videos import write_video

SHAPE = next(shape for shape in SHAPES if shape.family == "qwen3_vl")
GetReference = Callable[[Shape], Reference]


def expected(theirs: Reference, video: Any, **options: Any) -> dict[str, torch.Tensor]:
    """What transformers makes of a video and a question."""
    messages = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "what moves"}]}]
    text = theirs.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return theirs.processor(text=[text], videos=[video], videos_kwargs=options, return_tensors="pt")


def check(theirs: Reference, video: Any, ours: dict[str, Any], processor: tte.Processor, **options: Any) -> None:
    """The ids (with their timestamps), the grid and the pixels are the reference's."""
    wanted = expected(theirs, video, **options)
    found = processor([{"type": "video", **ours}, "what moves"])
    tokenizer = theirs.processor.tokenizer
    ids = found["input_ids"][0].tolist()
    assert tokenizer.decode(ids) == tokenizer.decode(wanted["input_ids"][0])
    assert ids == wanted["input_ids"][0].tolist()
    np.testing.assert_array_equal(found["video_grid_thw"], wanted["video_grid_thw"].numpy())
    np.testing.assert_array_equal(found["pixel_values_videos"], wanted["pixel_values_videos"].numpy())


@pytest.mark.parametrize("frames", [2, 3, 4, 5, 15, 31, 64])
def test_files_are_sampled_by_time(frames: int, tmp_path: Path, reference: GetReference) -> None:
    theirs = reference(SHAPE)
    processor = tte.Processor(theirs.folder)
    path = write_video(tmp_path / "clip.mkv", (96, 64), frames=frames)
    check(theirs, str(path), {"video": path}, processor)
    check(theirs, str(path), {"video": path, "fps": 3.5}, processor, fps=3.5)
    for count in (2, 3, frames - 1 or 1, frames):
        if count > 1:
            check(theirs, str(path), {"video": path, "num_frames": count}, processor, num_frames=count, fps=None)


@pytest.mark.parametrize("rate", [5, 7, 10, 12, 15, 20, 24, 25, 30, 60, Fraction(30000, 1001)], ids=str)
def test_times_are_rounded_alike(rate: Fraction | int, tmp_path: Path, reference: GetReference) -> None:
    theirs = reference(SHAPE)
    processor = tte.Processor(theirs.folder)
    for frames in (9, 14, 17, 34, 51):
        path = write_video(tmp_path / f"{frames}.mp4", (32, 32), frames=frames, rate=rate)
        check(theirs, str(path), {"video": path}, processor)


@pytest.mark.parametrize("frames", [2, 3, 5, 6, 13, 50])
@pytest.mark.parametrize("size", [(64, 96), (31, 33), (20, 300), (700, 500)])
def test_arrays_are_sampled_as_24_frames_a_second(frames: int, size: tuple[int, int], reference: GetReference) -> None:
    theirs = reference(SHAPE)
    array = np.stack([noise(*size, k) for k in range(frames)])
    processor = tte.Processor(theirs.folder)
    check(theirs, array, {"video": array}, processor)
    check(theirs, array, {"video": array, "source_fps": 3.0}, processor, video_metadata=[
        {"fps": 3.0, "total_num_frames": frames, "frames_indices": list(range(frames))}
    ])  # fmt: skip


@pytest.mark.parametrize(
    "keys",
    [
        {"fps": 1},
        {"min_frames": 6, "max_frames": 7},
        {"do_sample_frames": False},
        {"fps": None},
        {"fps": None, "num_frames": 5},
        {"cap_pixels_per_frame": True, "max_video_tokens": 4},
        {"size": {"shortest_edge": 200_000, "longest_edge": 900_000}},
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.9, 0.8, 0.7]},
    ],
    ids=str,
)
def test_the_checkpoints_own_rules(keys: dict[str, Any], tmp_path: Path, reference: GetReference) -> None:
    source = reference(SHAPE).folder
    folder = tmp_path / "checkpoint"
    shutil.copytree(source, folder)
    config = json.loads((folder / "processor_config.json").read_text())
    config["video_processor"].update(keys)
    (folder / "processor_config.json").write_text(json.dumps(config))
    theirs = Reference(folder)
    array = np.stack([noise(70, 90, k) for k in range(9)])
    check(theirs, array, {"video": array}, tte.Processor(folder))


def test_a_token_that_a_user_writes_is_no_video(reference: GetReference) -> None:
    theirs = reference(SHAPE)
    array = np.stack([noise(64, 64, k) for k in range(4)])
    ids = tte.Processor(theirs.folder)(
        ["<|video_pad|> ", {"type": "video", "video": array}, " <|vision_start|><|video_pad|>"]
    )
    pad = theirs.processor.video_token_id
    tokens = int(ids["video_grid_thw"].prod()) // 4
    assert (ids["input_ids"] == pad).sum() == tokens == (ids["mm_token_type_ids"] == 2).sum()


def test_a_clip_of_one_frame_is_refused(reference: GetReference) -> None:
    theirs = reference(SHAPE)
    frame = noise(64, 64)[None]
    with pytest.raises(ValueError, match="temporal_factor"):
        expected(theirs, frame)
    with pytest.raises(tte.InputError, match=r"item 0: a video of which 1 frame is taken.*give it as an image"):
        tte.Processor(theirs.folder)({"video": frame})


def test_outer_tokens_are_the_recipes_choice(tmp_path: Path, reference: GetReference) -> None:
    theirs = reference(SHAPE)
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"video": {"outer_tokens": False}}))
    array = np.stack([noise(64, 64, k) for k in range(4)])
    decode = theirs.processor.tokenizer.decode
    outer, bare = (
        decode(
            tte.Processor(theirs.folder, **options)([{"type": "video", "video": array}, "x"])["input_ids"][0].tolist()
        )
        for options in ({}, {"recipe": str(recipe)})
    )
    assert "<|vision_start|><0.0 seconds><|vision_start|>" in outer
    inner = outer.replace("<|vision_start|><0.0", "<0.0")
    assert bare == inner.replace("<|vision_end|><|vision_end|>", "<|vision_end|>")
