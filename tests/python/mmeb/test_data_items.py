"""What the models are given: the token ids of an item are those of its prompt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tte
import tte.mmeb
from checkpoints import SHAPES, Shape
from tte.mmeb.data import prompts

RECIPE = Path(__file__).parents[3] / "models" / "recipes" / "qwen2_vl_vlm2vec.json"
NAMES = [
    "ImageNet-1K", "OK-VQA", "VisDial", "CIRR", "WebQA", "RefCOCO-Matching", "ImageNet-A", "EDIS", "K700", "Breakfast",
    "MSR-VTT", "QVHighlight", "MomentSeeker", "NExTQA", "EgoSchema", "ViDoRe_docvqa",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(checkpoint: Callable[[Shape], Path]) -> Path:
    return checkpoint(SHAPES[0])


@pytest.fixture(scope="module")
def exact(folder: Path) -> tte.Processor:
    """Processor with the recipe of VLM2Vec."""
    return tte.Processor(folder, recipe=RECIPE)


def collapsed(ids: list[int], tokens: list[int]) -> list[int]:
    """Ids with each run of a media token as one."""
    return [t for i, t in enumerate(ids) if i == 0 or t not in tokens or ids[i - 1] != t]


@pytest.mark.parametrize("name", NAMES)
def test_vlm2vec_is_read_to_the_letter(tree: Path, exact: tte.Processor, name: str) -> None:
    data = tte.mmeb.load(name, tree, style="vlm2vec", num_frames=2, stray_tokens=False)
    media = [exact.tokenizer.id_of(prompts.IMAGE), exact.tokenizer.id_of(prompts.VIDEO)]
    entries = [*(query.entry for query in data.queries()), *list(data.candidates())[:4]]
    for entry in entries:
        if entry.prompt:
            ids = exact(entry.item(), stage="embed")["input_ids"][0]
            assert collapsed(list(ids), media) == exact.tokenizer.encode(entry.prompt), entry


@pytest.mark.parametrize("name", [*NAMES, "Video-MME"])
def test_qwen3_vl_embedding_is_read_to_the_letter(tree: Path, folder: Path, name: str) -> None:
    processor = tte.Processor(folder)
    data = tte.mmeb.load(name, tree, style="qwen3_vl_embedding", num_frames=2)
    media = [processor.tokenizer.id_of(prompts.IMAGE), processor.tokenizer.id_of(prompts.VIDEO)]
    for entry in [*(query.entry for query in data.queries()), *list(data.candidates())[:4]]:
        ids = processor(entry.item())["input_ids"][0]
        assert collapsed(list(ids), media) == processor.tokenizer.encode(entry.prompt), entry


def test_plain_items_leave_everything_to_the_recipe(tree: Path) -> None:
    def items(name: str, **options: Any) -> tuple[object, object]:
        data = tte.mmeb.load(name, tree, **options)
        return next(data.queries()).entry.item(), next(data.candidates()).item()

    root = tree / "image-tasks"
    assert items("OK-VQA") == (
        {
            "image": root / "OK-VQA/0.jpg",
            "text": "Represent the given image with the following question: What is it?",
        },
        {"text": "pony tail"},
    )
    query, target = items("MSR-VTT", num_frames=1)
    assert query == {"text": "Find a video that contains the following visual content: a woman makes a bowl"}
    frame = tree / "video-tasks/frames/video_ret/MSR-VTT/video7020/frame_0001.jpg"
    assert target == {"video": [frame], "text": "Understand the content of the provided video."}


def test_blank_candidates_are_items_too(tree: Path, folder: Path) -> None:
    blank = next(entry for entry in tte.mmeb.load("OK-VQA", tree).candidates() if not entry.prompt)
    assert blank.item() == {"text": ""}
    assert len(tte.Processor(folder)(blank.item())["input_ids"]) > 0


def test_a_token_in_the_middle_keeps_its_place() -> None:
    entry = tte.mmeb.Entry("0", "", "", (Path("a.jpg"),), (), f"Look: {prompts.IMAGE} here", "vlm2vec")
    assert entry.item() == [
        {"type": "text", "text": "Look: "},
        {"type": "image", "image": Path("a.jpg")},
        {"type": "text", "text": " here"},
    ]
