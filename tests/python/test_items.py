"""Every form of an item gives what its plain form gives, and what is none is told in a sentence."""

from __future__ import annotations

import base64
import http.server
import io
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
import tte
from checkpoints import SHAPES, Shape
from PIL import Image
from references import picture
from tte import _content, _fetch

PIXELS = picture(84, 112, 1)


def png(pixels: np.ndarray = PIXELS) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


BASE64 = base64.b64encode(png()).decode()


@pytest.fixture(scope="module")
def folder(checkpoint: Callable[[Shape], Path]) -> Path:
    return checkpoint(SHAPES[0])


@pytest.fixture(scope="module")
def processor(folder: Path) -> tte.Processor:
    return tte.Processor(folder)


@pytest.fixture(scope="module")
def embedder(folder: Path) -> tte.Embedder:
    return tte.Embedder(folder, device="cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("items")
    (made / "an image#1%20.png").write_bytes(png())
    (made / "frames").mkdir()
    for i in range(4):
        (made / "frames" / f"{i}.png").write_bytes(png(picture(56, 56, i)))
    return made


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[k], second[k]) for k in first)


PART: dict[str, Callable[[Path], Any]] = {
    "path": lambda f: {"type": "image", "path": str(f)},
    "url": lambda f: {"type": "image", "url": str(f)},
    "Path": lambda f: {"type": "image", "image": f},
    "file URI": lambda f: {"type": "image", "image": f"file://{f}"},
    "file URI, encoded": lambda f: {"type": "image", "image": f.as_uri()},
    "file URI, localhost": lambda f: {"type": "image", "image": f"file://localhost{f}"},
    "data URI": lambda f: {"type": "image", "image": f"data:image/png;base64,{BASE64}"},
    "data URI without subtype": lambda f: {"type": "image", "image": f"data:image;base64,{BASE64}"},
    "data URI, DATA": lambda f: {"type": "image", "url": f"DATA:image/png;BASE64,{BASE64}"},
    "data URI, per cent": lambda f: {"type": "image", "image": "data:image/png," + "".join(f"%{b:02x}" for b in png())},
    "base64 among paths": lambda f: {"type": "image", "image": BASE64},
    "base64": lambda f: {"type": "image", "base64": BASE64},
    "base64 in lines": lambda f: {"type": "image", "base64": base64.encodebytes(png()).decode()},
    "base64 for addresses": lambda f: {"type": "image", "base64": base64.urlsafe_b64encode(png()).decode().rstrip("=")},
    "image_url": lambda f: {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BASE64}"}},
    "image_url, detail": lambda f: {"type": "image_url", "image_url": {"url": f.as_uri(), "detail": "auto"}},
    "image_url, text": lambda f: {"type": "image_url", "image_url": f"data:image/png;base64,{BASE64}"},
    "bytes": lambda f: {"type": "image", "bytes": png()},
    "BytesIO": lambda f: io.BytesIO(png()),
    "open file": lambda f: f.open("rb"),
    "undecoded column": lambda f: {"type": "image", "image": {"bytes": png(), "path": "elsewhere.png"}},
    "undecoded column, path": lambda f: {"type": "image", "image": {"bytes": None, "path": str(f)}},
    "array": lambda f: PIXELS,
    "batch of one": lambda f: PIXELS[None],
    "channels first": lambda f: PIXELS.transpose(2, 0, 1),
    "tensor, channels first": lambda f: torch.from_numpy(PIXELS).permute(2, 0, 1),
    "tensor, channels last": lambda f: torch.from_numpy(PIXELS),
    "tensor with a gradient's shape": lambda f: torch.from_numpy(PIXELS).permute(2, 0, 1)[None],
    "Pillow": lambda f: Image.fromarray(PIXELS),
    "filled with None": lambda f: {"type": "image", "image": str(f), "text": None, "video": float("nan")},
}


@pytest.mark.parametrize("form", PART)
def test_an_image_is_the_same_in_every_form(processor: tte.Processor, files: Path, form: str) -> None:
    text = {"type": "text", "text": "a cat"}
    path = files / "an image#1%20.png"
    expected = processor([{"type": "image", "image": PIXELS}, text])
    part = PART[form](path)
    assert same(processor([[part, text]][0]), expected)
    assert same(
        processor([{"role": "user", "content": [PART[form](path), text]}]),
        processor([{"role": "user", "content": [PIXELS, text]}]),
    )


def test_an_open_file_stands_where_it_stood(processor: tte.Processor) -> None:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")  # Leaves it at its end.
    position = file.tell()
    assert same(processor(file), processor(PIXELS))
    assert file.tell() == position


COLUMNS: dict[str, Callable[[list[str]], Any]] = {
    "tuple": tuple,
    "generator": lambda t: (x for x in t),
    "iterator": iter,
    "map": lambda t: map(str, t),
    "dict's values": lambda t: dict(enumerate(t)).values(),
    "pandas": pd.Series,
    "pandas, strings": lambda t: pd.Series(t, dtype="string"),
    "pandas, categories": lambda t: pd.Series(t, dtype="category"),
    "pandas index": pd.Index,
    "polars": pl.Series,
    "pyarrow": pa.array,
    "pyarrow, chunks": lambda t: pa.chunked_array([t[:1], t[1:]]),
    "numpy": np.array,
    "numpy, objects": lambda t: np.array(t, object),
    "numpy, strings": lambda t: np.array(t, np.dtypes.StringDType()),
    "rows of pandas": lambda t: pd.DataFrame({"text": t, "image": [None] * len(t)}).to_dict("records"),
    "rows of pyarrow": lambda t: pa.table({"text": t}).to_pylist(),
}


@pytest.mark.parametrize("form", COLUMNS)
def test_a_column_is_a_list_of_items(embedder: tte.Embedder, form: str) -> None:
    texts = ["the cat", "a dog", "red"]
    vectors = embedder.embed(COLUMNS[form](texts), progress=False)
    np.testing.assert_array_equal(vectors, embedder.embed(texts, progress=False))


@pytest.mark.parametrize("absent", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT], ids=repr)
def test_what_a_table_has_not_is_absent(processor: tte.Processor, absent: Any) -> None:
    row = {"text": "the cat", "image": absent, "images": absent, "video": absent, "instruction": absent, "fps": absent}
    assert same(processor(row), processor("the cat"))
    with pytest.raises(tte.InputError, match="item 0 is empty"):
        processor({"text": absent})


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u2003"])
def test_blank_text_is_text(processor: tte.Processor, text: str) -> None:
    expected = processor([{"role": "user", "content": text}])
    for form in (text, {"text": text}, [{"type": "text", "text": text}]):
        assert same(processor(form), expected)


def test_videos_in_every_form(processor: tte.Processor, files: Path) -> None:
    frames = [picture(56, 56, i) for i in range(4)]
    array = np.stack(frames)
    expected = processor({"video": frames, "text": "a"})
    first = torch.from_numpy(array).permute(0, 3, 1, 2)
    for video in (array, first, tuple(frames), files / "frames", str(files / "frames"), (files / "frames").as_uri()):
        assert same(processor({"video": video, "text": "a"}), expected)
    assert same(processor({"video": [f"file://{files}/frames/{i}.png" for i in range(4)], "text": "a"}), expected)
    two = processor({"video": frames[::2], "text": "a"})["pixel_values_videos"]
    for options in ({"nframes": 2}, {"num_frames": np.int64(2)}, {"nframes": 2.0}):
        for item in (
            {"video": frames, **options},
            {"video": {"video": frames, **options}},
            [{"type": "video", "video": frames, **options}],
        ):
            np.testing.assert_array_equal(processor(item)["pixel_values_videos"], two)
    with_rate = [{"type": "video", "video": array, "fps": 1.0, "source_fps": 1.0}]
    assert same(processor({"video": array, "fps": 1, "source_fps": 1.0}), processor(with_rate))


def grid(processor: tte.Processor, item: Any) -> list[int]:
    found = processor(item)
    rows = found["image_grid_thw"] if "image_grid_thw" in found else found["video_grid_thw"]
    return [int(n) for n in rows[0]]


def test_an_image_has_its_own_size(processor: tte.Processor) -> None:
    large = picture(560, 840, 2)
    assert grid(processor, {"image": large, "max_pixels": 56 * 84}) == [1, 4, 6]
    assert grid(processor, [{"type": "image", "image": large, "max_pixels": 56 * 84}]) == [1, 4, 6]
    assert grid(processor, {"image": {"image": large, "max_pixels": 56 * 84}}) == [1, 4, 6]
    assert grid(processor, {"image": large, "resized_height": 84, "resized_width": 140}) == [1, 6, 10]
    assert grid(processor, {"image": picture(28, 28), "min_pixels": 280 * 280, "max_pixels": 300 * 300}) == [1, 20, 20]
    frames = [picture(112, 112, i) for i in range(2)]
    assert grid(processor, {"video": frames, "max_pixels": 56 * 56}) == [1, 4, 4]
    assert grid(processor, {"video": frames, "resized_height": 56, "resized_width": 112}) == [1, 4, 8]
    # One limit alone: the model's other one gives way.
    assert grid(processor, {"image": large, "max_pixels": 28 * 28}) == [1, 2, 2]


def test_the_size_is_as_the_processor_of_transformers_resizes(processor: tte.Processor) -> None:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    for height, width, least, most in [(300, 500, 3136, 40000), (40, 60, 50000, 90000), (500, 100, 3136, 12345)]:
        h, w = smart_resize(height, width, 28, least, most)
        item = {"image": picture(height, width), "min_pixels": least, "max_pixels": most}
        assert grid(processor, item) == [1, h // 14, w // 14]


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
        ({"images": [PIXELS, 5]}, "item 0, image 1 is 5"),
        ({"images": [None, PIXELS]}, "item 0, image 0 is None"),
        (["a", ["b"]], "item 0, part 1 is .'b'."),
        ([{"role": "user", "content": {"text": "a"}}], "content must be"),
        ({"messages": [{"role": "user", "content": "a"}], "text": "b"}, "both messages"),
        ({"messages": "hello"}, "messages are a list"),
        ({"videos": 3}, "list of videos"),
        ({"text": ["a", "b"]}, "must be a str"),
        (pd.NA, "NAType"),
        (object(), "of type object"),
        (Image.new("F", (9, 9)), "mode 'F'"),
        (Image.fromarray(np.full((9, 9), 70_000, np.int32)), "mode 'I'"),
    ],
    ids=lambda value: repr(value)[:40],
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


def test_a_text_that_names_an_image_is_told_once(processor: tte.Processor, files: Path, tmp_path: Path) -> None:
    named = tmp_path / "told.png"
    named.write_bytes(png())
    with pytest.warns(UserWarning, match="embedded as text") as told:
        processor(str(named))
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processor(str(named))
        processor("no such file.png")
        processor({"text": str(named)})


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "I;16"])
def test_transparency_beside_the_bands_is_over_white(processor: tte.Processor, mode: str) -> None:
    rgb = np.zeros((56, 56, 3), np.uint8)
    rgb[:, :28] = 200
    grey = Image.fromarray(rgb).convert("L")
    image = {
        "RGB": Image.fromarray(rgb),
        "L": grey,
        "1": grey.point(lambda v: 255 * (v > 50)).convert("1"),
        "P": Image.fromarray(rgb).quantize(4),
        "I;16": Image.fromarray(np.asarray(grey).astype(np.uint16) * 257),
    }[mode]
    clear = image.getpixel((0, 0))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=clear if mode != "1" else 1)
    opened = Image.open(io.BytesIO(buffer.getvalue()))
    assert "transparency" in opened.info
    white = rgb.copy()
    white[:, :28] = 255
    assert same(processor(opened), processor(white))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_rounded_whichever_way_they_come(processor: tte.Processor, tmp_path: Path, kind: str) -> None:
    grey = (np.arange(56 * 56, dtype=np.uint32).reshape(56, 56) * 21 % 65536).astype(np.uint16)
    path = tmp_path / f"grey.{kind.lower()}"
    Image.fromarray(grey).save(path, kind)
    rounded = np.round(grey / 257.0).astype(np.uint8)
    for item in (path, path.read_bytes(), Image.open(path)):
        assert same(processor(item), processor(rounded))


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


def test_keys_of_items_follow_what_the_model_sees(files: Path) -> None:
    path = files / "an image#1%20.png"
    same_key = [path, {"image": str(path)}, {"image": f"data:image/png;base64,{BASE64}"}, png(), io.BytesIO(png())]
    keys = [_content.to_json(_content.canonical(item)) for item in same_key]
    assert len(set(keys)) == 1
    arrays = [PIXELS, Image.fromarray(PIXELS), PIXELS.transpose(2, 0, 1), torch.from_numpy(PIXELS)]
    assert len({_content.to_json(_content.canonical(item)) for item in arrays}) == 1
    other = [
        {"image": PIXELS, "max_pixels": 9000},
        {"image": PIXELS, "resized_height": 56, "resized_width": 56},
        {"video": [PIXELS] * 2},
        {"video": [PIXELS] * 2, "fps": 2},
        {"video": [PIXELS] * 2, "num_frames": 2},
        {"image": PIXELS, "instruction": "a"},
        [{"role": "user", "content": [PIXELS]}],
    ]
    keys = [_content.to_json(_content.canonical(item)) for item in [PIXELS, *other]]
    assert len(set(keys)) == len(keys)


@pytest.fixture
def server() -> Iterator[str]:
    """A web server with an image, redirects, an endless body, and nothing."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/image.png":
                self.send_response(200)
                self.end_headers()
                self.wfile.write(png())
            elif self.path == "/endless":
                self.send_response(200)
                self.end_headers()
                try:
                    while True:
                        self.wfile.write(b"\0" * 65536)
                except OSError:
                    pass
            elif self.path.startswith("/to/"):
                self.send_response(302)
                self.send_header("Location", self.path[len("/to/") :])
                self.end_headers()
            else:
                self.send_error(404)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_images_from_the_web_only_where_they_are_allowed(
    processor: tte.Processor, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    url = f"{server}/image.png"
    part = [{"type": "image_url", "image_url": {"url": url}}]
    with pytest.raises(tte.InputError, match="allow_urls=True"):
        processor(part)
    assert same(processor(part, allow_urls=True), processor(PIXELS))
    assert same(processor({"image": f"{server}/to/{url}"}, allow_urls=True), processor(PIXELS))
    monkeypatch.setattr(_fetch, "MAX_BYTES", 1 << 20)
    for address, words in {
        f"{server}/gone": "Not Found",
        f"{server}/to/file:///etc/hostname": "cannot be downloaded",
        f"{server}/to/ftp://127.0.0.1/x": "cannot be downloaded",
        f"{server}/to/{server}/to/{server}/gone": "Not Found",
        f"{server}/endless": "over 1048576 bytes",
        "http://[::1": "cannot be downloaded",
        "http://user:secret@127.0.0.1:1/x?key=secret": "cannot be downloaded",
    }.items():
        with pytest.raises(tte.InputError, match=words) as caught:
            processor({"image": address}, allow_urls=True)
        assert "secret" not in str(caught.value)
        assert len(str(caught.value)) < 500


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


def test_long_base64_has_white_space_anywhere(processor: tte.Processor) -> None:
    spread = " \n".join(BASE64[i : i + 3] for i in range(0, len(BASE64), 3))
    assert same(processor({"image": "data:image/png;base64," + spread}), processor({"image": png()}))


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
