"""Boxes and key frames that a trace names are read as further images, as Embed-RL's embedder was trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tte
from chat_server import chat_server, remote, stream
from checkpoints import Shape, make_checkpoint
from PIL import Image
from systems import IMAGE, TEXT, System, chat, check, first_resized, unit

ASK = "Summarize the above content in one word:"
DEFAULT = "Represent the user's input."  # What this family's template of the tests says by itself.
REST = "<rethink>dog</rethink><answer>cat</answer>"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> System:
    shape = Shape("embed_rl", family="qwen3_vl", tokens=("<emb>",), vision_depth=3)
    return System(make_checkpoint(tmp_path_factory.mktemp("evidence") / "Embed-RL-2B", shape, seed=13))


@pytest.fixture(scope="module")
def embedder(theirs: System) -> tte.Embedder:
    return tte.Embedder(theirs.folder, device="cpu")


def image_of(height: int, width: int, seed: int) -> Image.Image:
    """Waves: where they are enlarged, Pillow and torchvision agree within a level, which they do not of noise."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (20 + seed)), np.cos(y / (25 + seed)), np.sin((x + y) / 30 + seed)]
    return Image.fromarray((128 + 100 * np.stack(waves, axis=-1)).astype(np.uint8))


def trace_of(**pointed: Any) -> str:
    return f"<thinking>It shows: {json.dumps({'text_keywords': ['cat'], **pointed})} so.</thinking>\n {REST}\n"


def thinking(trace: str) -> str:
    return trace[: trace.index("</thinking>")] + "</thinking>\n"


def crops(image: Image.Image, boxes: list[list[float]]) -> list[Image.Image]:
    """As the authors' code: thousandths of both sides, cut at the image's sides, none smaller than 10 pixels."""
    out = []
    for box in boxes:
        ends = [int(place * side / 1000) for place, side in zip(box, image.size * 2, strict=True)]
        x1, y1, x2, y2 = (max(0, min(end, side)) for end, side in zip(ends, image.size * 2, strict=True))
        if min(x2 - x1, y2 - y1) >= 10 and max(x2 - x1, y2 - y1) <= 50 * min(x2 - x1, y2 - y1):
            out.append(image.crop((x1, y1, x2, y2)))
    return out


def expected(theirs: System, image: Image.Image, trace: str, pointed: list[Image.Image]) -> np.ndarray:
    prompt = chat(f"{IMAGE}{TEXT}{thinking(trace)}{IMAGE * len(pointed)}{REST}{ASK}", DEFAULT) + "<emb>"
    return unit(theirs.states(prompt, [first_resized(each, 32, 128, 768) for each in [image, *pointed]])[-1])


BOXES: list[Any] = [[100, 200, 600.7, 900], [-500, 0, 500, 2000], [333, 333, 999, 999]]


def test_boxes_are_cut_out(theirs: System, embedder: tte.Embedder) -> None:
    image = image_of(300, 420, 3)
    item, trace = [image, TEXT], trace_of(bbox_2d=BOXES)
    pointed = crops(image, BOXES)
    assert len(pointed) == 3
    alone = embedder.embed([item], [trace], progress=False)
    check(alone, [expected(theirs, image, trace, pointed)])
    # In a batch with others, among them one that points at nothing: the same bits.
    plain = trace_of()
    rows = embedder.embed([item, TEXT, item], [trace, None, plain], progress=False)
    np.testing.assert_array_equal(rows[0], alone[0])
    check(rows[2:], [expected(theirs, image, plain, [])])
    # An item without an image has none to cut.
    text = unit(theirs.states(chat(f"{TEXT}{thinking(trace)}{REST}{ASK}", DEFAULT) + "<emb>")[-1])
    check(embedder.embed([TEXT], [trace], progress=False), [text])


def test_of_several_images_the_first_is_cut(theirs: System, embedder: tte.Embedder) -> None:
    first, second = (image_of(200, 240, seed) for seed in (4, 5))
    trace = trace_of(bbox_2d=BOXES[:1])
    data = tte.Processor(theirs.folder)([first, second, TEXT], stage="embed", trace=trace)
    assert len(data["image_grid_thw"]) == 3
    only = tte.Processor(theirs.folder)(crops(first, BOXES[:1])[0])
    np.testing.assert_array_equal(data["pixel_values"][-len(only["pixel_values"]) :], only["pixel_values"])


@pytest.mark.parametrize("boxes", [
    [[900, 900, 100, 100]], [[0, 0, 5, 900]], [[500, 500, 500, 500]], [[1, 2, 3]], ["x"], "x", 7, None, {}, [], [None],
    [[1e308, 0, 1e308, 1000]], [[-1e308, -1e308, -1, -1]], [1, 2, 3, 900], [[0, 0, True, 1000]], [[[0, 0, 900, 900]]],
    [[0, 0, 1000, 15]],
], ids=repr)  # fmt: skip
def test_boxes_that_are_none_are_left_out(boxes: Any, theirs: System, embedder: tte.Embedder) -> None:
    image = image_of(700, 600, 6)
    data = tte.Processor(theirs.folder)([image, TEXT], stage="embed", trace=trace_of(bbox_2d=boxes))
    bare = tte.Processor(theirs.folder)([image, TEXT], stage="embed", trace=trace_of())
    assert len(data["image_grid_thw"]) == 1
    text = theirs.processor.tokenizer.decode(data["input_ids"][0])
    plain = theirs.processor.tokenizer.decode(bare["input_ids"][0])
    assert text.split("</thinking>")[1] == plain.split("</thinking>")[1]


@pytest.mark.parametrize("trace", [
    "cat", f"<thinking>cat</thinking>{REST}", f"<thinking>{{\"bbox_2d\": [[0, 0, NaN, 900]]}}</thinking>{REST}",
    f"<thinking>{{\"bbox_2d\": [[0, 0, 900, 900]}}</thinking>{REST}",
    f'<thinking>{{"bbox_2d": [[0, 0, 900, 900]]}}{REST}',
    f'</thinking>{{"bbox_2d": [[0, 0, 900, 900]]}}<thinking>{REST}', f"<thinking>{'[' * 100_000}</thinking>{REST}",
    f"<thinking>{'{' * 100_000}</thinking>{REST}", f"<thinking>{{{'[' * 2000}}}</thinking>{REST}",
], ids=lambda trace: trace[:40])  # fmt: skip
def test_traces_without_sound_json_are_read_as_they_are(trace: str, theirs: System) -> None:
    image = image_of(200, 240, 7)
    data = tte.Processor(theirs.folder)([image, TEXT], stage="embed", trace=trace)
    assert len(data["image_grid_thw"]) == 1
    text = theirs.processor.tokenizer.decode(data["input_ids"][0])
    assert f"{TEXT}{trace}{ASK}" in text


def test_thousands_of_boxes_are_sixteen(theirs: System) -> None:
    image = image_of(60, 60, 8)
    for boxes in ([[0, 0, 900, 900]] * 5000, [[0, 0, 1, 1]] * 5000 + [[0, 0, 900, 900]]):
        data = tte.Processor(theirs.folder)([image, TEXT], stage="embed", trace=trace_of(bbox_2d=boxes))
        assert len(data["image_grid_thw"]) == (17 if boxes[0][2] == 900 else 1)


def test_control_tokens_in_a_trace_stay_text(theirs: System) -> None:
    trace = trace_of(bbox_2d=BOXES[:1], note="<|im_end|><|image_pad|>").replace(REST, "<|im_start|><emb>")
    data = tte.Processor(theirs.folder)([image_of(90, 90, 1), TEXT], stage="embed", trace=trace)
    ids = data["input_ids"][0].tolist()
    assert len(data["image_grid_thw"]) == 2
    assert ids.count(theirs.ids("<|im_start|>")[0]) == 3
    assert ids.count(theirs.ids("<emb>")[0]) == 1
    assert data["pooled_row"] == len(ids) - 1


def clip(count: int) -> list[Image.Image]:
    return [image_of(360, 400, seed) for seed in range(count)]


def key_frames(theirs: System, frames: Any, video: dict[str, Any]) -> tuple[dict[str, Any], str]:
    data = tte.Processor(theirs.folder)([TEXT, video], stage="embed", trace=trace_of(key_frames=frames))
    return data, theirs.processor.tokenizer.decode(data["input_ids"][0])


def test_key_frames_are_read_again_as_images(theirs: System, embedder: tte.Embedder) -> None:
    # Of 16 frames 8 are taken: 0, 2, 4, 6, 9, 11, 13, 15. Places are among these.
    images = clip(16)
    video = {"type": "video", "video": images}
    data, text = key_frames(theirs, [3, 0, 3], video)
    taken = np.linspace(0, 15, 8).round().astype(int)
    shown = [first_resized(images[taken[place]], 32, 128, 300) for place in (3, 0, 3)]
    pixels = theirs.processor.image_processor(images=shown, return_tensors="pt")
    np.testing.assert_array_equal(data["image_grid_thw"], pixels["image_grid_thw"].numpy())
    np.testing.assert_allclose(data["pixel_values"], pixels["pixel_values"].numpy(), atol=1.01 / 127.5)
    behind = text.split("</thinking>")[1]
    assert behind.startswith("\n<|vision_start|><|image_pad|>")
    assert behind.count("<|vision_start|>") == 3
    assert text.index("<|video_pad|>") < text.index("<thinking>")
    # What the model of transformers makes of these tokens and pixels.
    names = ["input_ids", "pixel_values", "pixel_values_videos", "image_grid_thw", "video_grid_thw"]
    names.append("mm_token_type_ids")
    with torch.inference_mode():
        theirs.model.model.rope_deltas = None
        states = theirs.model.model(**{name: torch.as_tensor(np.array(data[name])) for name in names}).last_hidden_state
    row = embedder.embed([[TEXT, video]], [trace_of(key_frames=[3, 0, 3])], progress=False)
    check(row, [unit(states[0, -1].numpy())])


@pytest.mark.parametrize("frames", [[8], [-1], [1e30], [0.5], ["0"], [True], [None], None, 3, [[0]], []], ids=repr)
def test_key_frames_that_do_not_exist_are_left_out(frames: Any, theirs: System) -> None:
    data, text = key_frames(theirs, frames, {"type": "video", "video": clip(9)})
    assert "image_grid_thw" not in data
    assert text.split("</thinking>")[1].startswith("\n<rethink>")


def test_thousands_of_key_frames_are_sixteen_and_boxes_come_first(theirs: System) -> None:
    video = {"type": "video", "video": clip(3)}
    data, _ = key_frames(theirs, [0, 1] * 4000, video)
    assert len(data["image_grid_thw"]) == 16
    trace = trace_of(key_frames=[0], bbox_2d=BOXES[:1])
    data = tte.Processor(theirs.folder)([TEXT, video], stage="embed", trace=trace)
    assert "image_grid_thw" not in data  # A video has no image to cut.


def test_traces_that_a_reasoner_writes(embedder: tte.Embedder) -> None:
    """The images are read once the trace is there; also where the vector without a trace is made before."""
    image, trace = image_of(150, 200, 9), trace_of(bbox_2d=BOXES)
    item = [image, TEXT]
    wanted = embedder.embed([item, TEXT], [trace, trace], progress=False)
    plain = embedder.embed([item, TEXT], progress=False)
    with chat_server() as server:
        reasoner = remote(server)
        for without_trace in (False, True):
            server.then(stream(trace), stream(trace))
            result = tte.think_then_embed(
                [item, TEXT], reasoner=reasoner, embedder=embedder, without_trace=without_trace, progress=False
            )
            np.testing.assert_allclose(result.embeddings, wanted, atol=1e-6)
            if without_trace:
                np.testing.assert_allclose(result.without_trace, plain, atol=1e-6)
        given = tte.think_then_embed(
            [item, TEXT], reasoner=reasoner, embedder=embedder, think=[trace, False], without_trace=True, progress=False
        )
    np.testing.assert_allclose(given.embeddings, np.stack([wanted[0], plain[1]]), atol=1e-6)
    np.testing.assert_allclose(given.without_trace, plain, atol=1e-6)


def recipe_of(folder: Path, **evidence: Any) -> Path:
    path = folder / "own.json"
    path.write_text(json.dumps({"extends": "embed_rl", "trace": {"evidence": evidence}}))
    return path


def test_the_rule_is_data(theirs: System, tmp_path: Path) -> None:
    image, trace = image_of(100, 100, 2), trace_of(boxes=[[0.1, 0.1, 0.9, 0.9]] * 3)

    def images(**evidence: Any) -> int:
        processor = tte.Processor(theirs.folder, recipe=recipe_of(tmp_path, **evidence))
        return len(processor([image, TEXT], stage="embed", trace=trace)["image_grid_thw"]) - 1

    assert images(boxes="boxes", scale=1) == 3
    assert images(boxes="boxes", scale=1, most=2) == 2
    assert images(boxes="boxes", scale=1, min_side=81) == 0
    assert images(boxes="boxes") == 0
    assert images() == 0


@pytest.mark.parametrize(("change", "message"), [
    ({"trace": {"evidence": {"open": ""}}}, r'"trace\.evidence\.open" is missing'),
    ({"trace": {"evidence": {"most": 0}}}, r"trace\.evidence\.most"),
    ({"trace": {"evidence": {"scale": 0}}}, r"trace\.evidence\.scale"),
    ({"trace": {"evidence": {"colour": 1}}}, r"trace\.evidence\.colour"),
    ({"trace": {"evidence": {"frame": {"min_pixels": 9, "max_pixels": 8}}}}, "more than max_pixels"),
    ({"trace": {"keep": "conclusion"}}, "needs the whole trace"),
    ({"prompt": {"user": ["{trace}", "{content}"]}}, "stands behind {trace}"),
    ({"prompt": {"user": ["{content}"]}}, "no {trace}"),
], ids=str)  # fmt: skip
def test_rules_that_do_not_work_are_refused(
    change: dict[str, Any], message: str, theirs: System, tmp_path: Path
) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"extends": "embed_rl", **change}))
    with pytest.raises(tte.ModelError, match=message):
        tte.Processor(theirs.folder, recipe=path)


def test_a_damaged_image_is_told(embedder: tte.Embedder, tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    image_of(90, 90, 1).save(path)
    path.write_bytes(path.read_bytes()[:400])
    rows: Callable[..., np.ndarray] = embedder.embed
    out = rows([[path, TEXT], TEXT], [trace_of(bbox_2d=BOXES), None], on_error="skip", progress=False)
    assert np.isnan(out[0]).all()
    assert np.isfinite(out[1]).all()


def test_chat_messages_take_no_trace_that_stands_in_a_turn(embedder: tte.Embedder) -> None:
    messages = [{"role": "user", "content": "a cat"}]
    assert np.isfinite(embedder.embed(messages, progress=False)).all()
    with pytest.raises(tte.InputError, match=r"item 0: it is a list of chat messages.*\"embed_rl\"") as raised:
        embedder.embed([messages], [trace_of(bbox_2d=[])], progress=False)
    assert "give the item as parts" in str(raised.value)
    never = tte.RemoteReasoner("http://127.0.0.1:9/v1", "m")  # Nobody is asked before.
    with pytest.raises(tte.InputError, match="it is a list of chat messages"):
        tte.think_then_embed([messages], reasoner=never, embedder=embedder, progress=False)
