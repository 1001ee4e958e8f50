"""What is no item, breaks when it is read or is too much is told in a sentence that names the item."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
import tte
from items import PIXELS, png
from PIL import Image
from tte import _content

WRONG: list[Any] = [
    5, True, 2.5, 1j, object(), {1, 2}, {"colour": 1}, range, np.zeros(3), np.zeros((9, 9)),
    np.zeros((2, 2, 2, 2)), [5], (object(),), [None], pd.DataFrame({"a": [1]}), io.StringIO("a"),
]  # fmt: skip
"""What is neither an image nor a video."""
HOLDERS: dict[str, list[Callable[[Any], Any]]] = {
    **{key: [lambda wrong, key=key: {key: wrong}] for key in ("image", "images", "video", "videos")},
    "image_url": [
        lambda wrong: [{"type": "image_url", "image_url": wrong}],
        lambda wrong: [{"type": "image_url", "image_url": {"url": wrong}}],
    ],
    "frames": [lambda wrong: [{"type": "video", "frames": wrong}], lambda wrong: {"video": {"frames": wrong}}],
}
for name in ("path", "url", "bytes", "base64", "array", "image"):
    HOLDERS.setdefault(name, []).extend(
        [lambda wrong, name=name: [{"type": "image", name: wrong}], lambda wrong, name=name: {"image": {name: wrong}}]
    )
for name in ("path", "url", "video"):
    HOLDERS[name] += [
        lambda wrong, name=name: [{"type": "video", name: wrong}],
        lambda wrong, name=name: {"video": {name: wrong}},
    ]
"""Every place of an item that has an image or a video, by its key."""


@pytest.mark.parametrize("key", HOLDERS)
def test_the_key_of_what_is_no_image_or_video_is_named(key: str) -> None:
    for holder in HOLDERS[key]:
        for wrong in WRONG:
            with pytest.raises(tte.InputError) as told:
                _content.canonical(holder(wrong))
            assert key in str(told.value).split("which is none of")[0], (wrong, str(told.value))
            assert len(str(told.value)) < 500


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"image": PIXELS, "max_pixels": 0}, "max_pixels is 0"),
        ({"image": PIXELS, "max_pixels": 1 << 40}, "max_pixels is 1099511627776"),
        ({"image": PIXELS, "max_pixels": 2.5}, "max_pixels is 2.5"),
        ({"image": PIXELS, "max_pixels": True}, "max_pixels is True"),
        ({"image": PIXELS, "max_pixels": "9"}, "max_pixels is '9'"),
        ({"image": PIXELS, "min_pixels": 900, "max_pixels": 800}, "min_pixels is 900"),
        ({"image": PIXELS, "max_pixels": 2_000_000_000}, "max_pixels is 2000000000"),
        ({"image": PIXELS, "resized_height": 50}, "go together"),
        ({"image": PIXELS, "fps": 2}, "no video"),
        ({"text": "a", "max_pixels": 9000}, "neither an image nor a video"),
        ({"video": [PIXELS] * 2, "fps": 0}, "fps is 0"),
        ({"video": [PIXELS] * 2, "fps": "2"}, "fps is '2'"),
        ({"video": [PIXELS] * 2, "nframes": 2, "num_frames": 2}, "one option"),
        ({"video": b"\0" * 9}, "bytes of a video"),
        ({"video": io.BytesIO(b"\0" * 9)}, "bytes of a video"),
        ({"video": PIXELS}, r"shape \[84, 112, 3\]: give an image as one"),
        ({"video": Image.fromarray(PIXELS)}, "not a Image: give an image as one"),
        ({"video": "https://example.org/a.mp4"}, "does not download videos"),
        ({"video": "data:video/mp4;base64,AAAA"}, "data: URI"),
        (np.stack([PIXELS, PIXELS]), r"list\(array\) for 2 images"),
        ({"image": np.zeros((2, 9, 9), np.uint8)}, r"\[2, 9, 9\]"),
        (torch.zeros(3, 40, 40), r"torch\.float32"),
        (torch.zeros(3, 40, 3, dtype=torch.uint8), "first or last"),
        (torch.zeros(3, 40, 40, dtype=torch.bfloat16), r"torch\.bfloat16"),
        (PIXELS.astype(np.uint16), "uint8"),
        (PIXELS > 3, "uint8"),
        (np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (1 << 20, 1 << 20, 3)), "over the limit"),
        (np.broadcast_to(np.zeros((1, 1), np.uint8), ((1 << 32) + 30, 30)), "over the limit"),
        (io.StringIO("text"), "open for text"),
        ([{"type": "image_url", "image_url": {"url": "data:text/plain;base64,AAAA"}}], "data URI"),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,%%%"}}], "not base64"),
        ([{"type": "image_url", "image_url": {"url": "x", "detail": "low"}}], "detail"),
        ([{"type": "image_url", "image_url": 3}], "image_url is 3"),
        ({"image": "s3://bucket/key.png"}, "s3://"),
        ({"image": "x" * 100_000}, "longer than any path"),
        ({"image": "data:" + "x" * 100_000}, "data URI"),
        ({"image": "ftp://example.org/x.png"}, "ftp://"),
        ({"image": ""}, "empty path"),
        ({"image": "a\0b.png"}, "NUL"),
        (Path("clip.mp4"), r'use \{"video"'),
        (Path("report.pdf"), r"tte\.pages"),
        (Path(__file__).parent, r'use \{"video"'),
        ({"audio": "x.wav"}, "audio"),
        ([{"type": "input_audio", "input_audio": "x"}], "transcribe"),
        ([{"role": "user", "content": "a", "tool_calls": [1]}], "tool_calls"),
        ([{"role": 3, "content": "a"}], "role must be a str"),
        ({"content": "a"}, "has a 'role'"),
        ({"images": [PIXELS, 5]}, "item 0, 'images', image 1 is 5"),
        ({"images": [None, PIXELS]}, "item 0, 'images', image 0 is None"),
        (["a", ["b"]], "item 0, part 1 is .'b'."),
        ([{"role": "user", "content": {"text": "a"}}], "content must be"),
        ([{"role": " ", "content": 5}], "item 0, nameless turn: content must be"),
        ({"messages": [{"role": "user", "content": "a"}], "text": "b"}, "both messages"),
        ({"messages": "hello"}, "messages are a list"),
        ({"videos": 3}, "list of videos"),
        ({"text": ["a", "b"]}, "must be a str"),
        (pd.NA, "NAType"),
        (object(), "of type object"),
        (Image.new("F", (9, 9)), "mode 'F'"),
        (Image.fromarray(np.full((9, 9), 70_000, np.int32)), "mode 'I'"),
    ],
    ids=lambda value: re.sub(" at 0x[0-9A-F]+", "", repr(value), flags=re.IGNORECASE)[:40],
)
def test_what_does_not_fit_is_told(processor: tte.Processor, item: Any, words: str) -> None:
    with pytest.raises(tte.InputError, match=words) as caught:
        processor([item][0])
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("item 0")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"a", "b"}, "no order"),
        (pd.DataFrame({"text": ["a"]}), "column"),
        (pl.DataFrame({"text": ["a"]}), "column"),
        (pl.LazyFrame({"text": ["a"]}), "column"),
        (pa.table({"text": ["a"]}), "column"),
        (pa.record_batch({"text": ["a"]}), "column"),
        (np.array([["a", "b"]]), "list of items"),
    ],
    ids=["set", "pandas", "polars", "lazy polars", "pyarrow", "a batch of pyarrow", "numpy"],
)
def test_what_is_no_list_is_told(embedder: tte.Embedder, inputs: Any, words: str) -> None:
    with pytest.raises(tte.InputError, match=words):
        embedder.embed(inputs, progress=False)


def test_what_a_call_copies_is_bounded(embedder: tte.Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each of them is fine as an item; that they are views of three bytes makes the caller's own memory no measure.
    view = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (100, 100, 3))
    monkeypatch.setattr(tte._inputs, "_most_held", lambda: 65_000)
    assert len(embedder.embed([view] * 2, progress=False)) == 2
    with pytest.raises(tte.InputError, match=r"^item 2 makes it 90000 bytes .* takes 65000: give paths"):
        embedder.embed([view] * 3, progress=False)
    rows = embedder.embed([view, "a", view, view, "b"], on_error="skip", progress=False)
    assert np.isnan(rows).any(axis=1).tolist() == [False, False, False, True, False]
    monkeypatch.undo()
    assert tte._inputs._most_held() >= 1 << 28


class _Breaks:
    """An object of another library that cannot be looked at."""

    shape = (3, 3)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("first line\nsecond line")


def test_objects_that_break_are_named_and_skipped(embedder: tte.Embedder) -> None:
    rows = embedder.embed(["a", _Breaks(), "b"], on_error="skip", progress=False)
    assert np.isnan(rows).any(axis=1).tolist() == [False, True, False]
    with pytest.raises(tte.InputError, match=r"item 1 cannot be read \(RuntimeError: first line second line\)"):
        embedder.embed(["a", _Breaks()], progress=False)


def test_a_list_in_itself_ends(processor: tte.Processor) -> None:
    endless: dict[str, Any] = {}
    endless["image"] = endless
    with pytest.raises(tte.InputError, match="item 0"):
        processor(endless)


def test_a_pipe_is_not_waited_for(processor: tte.Processor, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    read, write = os.pipe()
    with os.fdopen(read, "rb") as pipe, pytest.raises(tte.InputError, match="open pipe"):
        processor(pipe)
    os.close(write)
    with pytest.raises(tte.InputError, match="pipe"):
        processor(tmp_path / "pipe.png")
    with pytest.raises(tte.InputError, match="pipe"):
        _content.file_digest(tmp_path / "pipe.png")
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(60 << 30)
    with pytest.raises(tte.InputError, match="over the limit"):
        _content.file_digest(tmp_path / "sparse.png")


BAD = "page 3 \ud83d end"


def test_lone_surrogates_are_a_sentence_at_every_entrance(
    embedder: tte.Embedder, folder: Path, processor: tte.Processor, tmp_path: Path
) -> None:
    reasoner = tte.Reasoner(folder, device="cpu")
    store = tte.TraceStore(tmp_path / "traces.sqlite")
    embed: Any = embedder.embed
    calls: dict[str, Callable[[], Any]] = {
        "item": lambda: embed([BAD]),
        "instruction": lambda: embed([{"text": "a", "instruction": BAD}]),
        "name": lambda: embed([{"text": "a", "name": BAD}]),
        "content": lambda: embed([[{"role": "user", "content": BAD}]]),
        "part": lambda: embed([[{"type": "text", "text": BAD}]]),
        "role": lambda: embed([[{"role": BAD, "content": "a"}]]),
        "trace": lambda: embed(["a"], [BAD]),
        "Trace": lambda: tte.Trace(BAD),
        "think": lambda: tte.think_then_embed(["a"], reasoner=reasoner, embedder=embedder, think=[BAD]),
        "the call's instruction": lambda: embed(["a"], instruction=BAD),
        "an instruction each": lambda: embed(["a"], instruction=[BAD]),
        "stop": lambda: reasoner.think(["a"], stop=BAD),
        "stops": lambda: reasoner.think(["a"], stop=["x", BAD]),
        "task": lambda: embed(["a"], task=BAD),
        "encode": lambda: embedder.tokenizer.encode(BAD),
        "id_of": lambda: embedder.tokenizer.id_of(BAD),
        "template": lambda: embedder.tokenizer.apply_chat_template([{"role": "user", "content": BAD}]),
        "processor": lambda: processor("a", stage="embed", trace=BAD),
        "image": lambda: embed([{"image": "page\ud83d.png"}]),
        "video": lambda: embed([{"video": "clip\ud83d.mp4"}]),
        "store": lambda: store.request(reasoner, BAD),
        "store's instruction": lambda: store.request(reasoner, "a", instruction=BAD),
    }
    for name, call in calls.items():
        with pytest.raises(tte.InputError) as caught:
            call()
        assert "\n" not in str(caught.value), name
        assert len(str(caught.value)) < 400, name
        str(caught.value).encode()


def test_names_that_are_not_utf8(embedder: tte.Embedder, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(png())
    np.testing.assert_array_equal(embedder.embed(path), embedder.embed(PIXELS))
    broken = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bro\xffken.png"))
    broken.write_bytes(b"not an image")
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    bad = [broken, path.parent / "gone\udcff.png", loop, Path("x/" * 2000 + "y.png"), Path("y" * 5000)]
    for item in bad:
        for given in (item, {"image": os.fspath(item)}):
            with pytest.raises(tte.InputError, match="item 1") as caught:
                embedder.embed(["a", given], progress=False)
            str(caught.value).encode()
            assert len(str(caught.value)) < 500
    result = tte.think_then_embed(["a", *bad, path], think=False, on_error="skip", progress=False)
    assert [error.index for error in result.errors] == [1, 2, 3, 4, 5]
    assert all(error.message for error in result.errors)
    assert np.isfinite(result.embeddings[[0, 6]]).all()
    result._repr_html_().encode()


def test_items_have_names(embedder: tte.Embedder) -> None:
    with pytest.raises(tte.InputError, match=r"item 1 \(page 3\): .*encoded image"):
        embedder.embed(["a", {"image": b"no image", "name": "page 3"}], progress=False)


VIEW = np.broadcast_to(np.zeros((1, 1, 1, 3), np.uint8), (100_000, 8000, 8000, 3))


"""Views of three bytes, which would fill any memory if they were copied."""


@pytest.mark.parametrize(
    "item",
    [
        {"video": VIEW},
        {"images": VIEW},
        list(VIEW[:100]),
        [{"role": "user", "content": list(VIEW[:8])}, {"role": "user", "content": list(VIEW[:8])}],
        [Image.new("1", (12_000, 12_000))] * 4,
        [b"x" * (1 << 20)] * 3000,
    ],
    ids=["video", "images", "parts", "turns", "pillow", "bytes"],
)
def test_what_an_item_holds_is_measured_before_it_is_copied(processor: tte.Processor, item: Any) -> None:
    with pytest.raises(tte.InputError, match=r"^item 0.* over the limit of 2147483648 \(max_item_bytes\)"):
        processor(item)


def test_what_an_item_may_hold_is_the_models_limit(folder: Path) -> None:
    small = tte.Processor(folder, media_limits=tte.MediaLimits(max_item_bytes=PIXELS.size))
    with pytest.raises(tte.InputError, match=f"over the limit of {PIXELS.size} .max_item_bytes"):
        small([PIXELS, PIXELS])


@pytest.mark.parametrize("item", [["a" * (7 << 20)] * 10, [{"role": "user", "content": ["a" * (7 << 20)] * 10}]])
def test_texts_of_an_item_are_measured_before_they_are_copied(processor: tte.Processor, item: Any) -> None:
    with pytest.raises(tte.InputError, match=r"^item 0.* letters together, over the limit of 67108864: cut"):
        processor(item)


class Broken:
    def __iter__(self) -> Any:
        raise RuntimeError("no\nway")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no\nway")


class BrokenPath(os.PathLike[str]):
    def __fspath__(self) -> str:
        raise RuntimeError("no\nway")


@pytest.mark.parametrize("value", [Broken(), BrokenPath()], ids=["object", "path"])
def test_objects_that_raise_are_refused(processor: tte.Processor, value: Any) -> None:
    result = tte.think_then_embed("a", think=False, progress=False)
    for call in (
        lambda: processor(value),
        lambda: processor({"image": value}),
        lambda: processor({"video": value}),
        lambda: tte.think_then_embed(value, progress=False),
        lambda: tte.think_then_embed("a", think=value, progress=False),
        lambda: result.similarity(value),
        lambda: tte.Reasoner(value),
        lambda: tte.TraceStore(value),
    ):
        with pytest.raises(tte.Error) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_view_of_too_many_items_is_refused_before_it_is_read() -> None:
    texts = np.broadcast_to(np.array(["a"], dtype=object), (1 << 40,))
    with pytest.raises(tte.InputError, match="inputs has more than 10000000 items"):
        tte.think_then_embed(texts, think=False, progress=False)


def test_a_name_is_shown_on_one_line(processor: tte.Processor) -> None:
    with pytest.raises(tte.InputError, match=r"^item 0 \(a b\)"):
        processor({"image": b"none", "name": "a\n b"})
