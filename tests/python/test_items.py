"""Every form of an item gives what its plain form gives."""

from __future__ import annotations

import base64
import http.server
import io
import json
import struct
import threading
import urllib.parse
import warnings
import zlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
import tte
from command_line import run
from items import BASE64, PIXELS, png, same
from PIL import Image, ImageOps
from references import noise
from transformers import AutoProcessor
from transformers.image_utils import load_image
from tte import _content, _fetch, _items


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("items")
    (made / "an image#1%20.png").write_bytes(png())
    (made / "frames").mkdir()
    for i in range(4):
        (made / "frames" / f"{i}.png").write_bytes(png(noise(56, 56, i)))
    return made


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    """Return what transformers reads items of `folder` with."""
    return AutoProcessor.from_pretrained(folder)


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


def test_paths_begin_in_the_home_folder(
    processor: tte.Processor, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(files))
    image, frames = "an image#1%20.png", [f"~/frames/{i}.png" for i in range(4)]
    expected, video = processor(files / image), processor({"video": files / "frames"})
    path = f"~/{image}"
    for item in (
        Path(path), {"image": path}, {"images": [path]}, {"image": {"path": path}}, [{"type": "image", "url": path}],
        {"image": f"file:{path}"}, [{"role": "user", "content": [{"type": "image", "image": path}]}],
    ):  # fmt: skip
        assert same(processor(item), expected)
    for frames_of in ("~/frames", Path("~/frames"), frames, [Path(frame) for frame in frames]):
        assert same(processor({"video": frames_of}), video)
    with pytest.raises(tte.InputError, match=r"^item 0, 'video': the video's path ~nobody-is-called-so/a.mp4 begins"):
        processor({"video": "~nobody-is-called-so/a.mp4"})
    monkeypatch.chdir(tmp_path)  # Where a file is called so.
    Path("~a.png").write_bytes((files / image).read_bytes())
    assert same(processor(Path("~a.png")), expected)


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
    frames = [noise(56, 56, i) for i in range(4)]
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
    large = noise(560, 840, 2)
    assert grid(processor, {"image": large, "max_pixels": 56 * 84}) == [1, 4, 6]
    assert grid(processor, [{"type": "image", "image": large, "max_pixels": 56 * 84}]) == [1, 4, 6]
    assert grid(processor, {"image": {"image": large, "max_pixels": 56 * 84}}) == [1, 4, 6]
    assert grid(processor, {"image": large, "resized_height": 84, "resized_width": 140}) == [1, 6, 10]
    assert grid(processor, {"image": noise(28, 28), "min_pixels": 280 * 280, "max_pixels": 300 * 300}) == [1, 20, 20]
    frames = [noise(112, 112, i) for i in range(2)]
    assert grid(processor, {"video": frames, "max_pixels": 56 * 56}) == [1, 4, 4]
    assert grid(processor, {"video": frames, "resized_height": 56, "resized_width": 112}) == [1, 4, 8]
    # One limit alone: the model's other one gives way.
    assert grid(processor, {"image": large, "max_pixels": 28 * 28}) == [1, 2, 2]


def test_the_size_is_as_the_processor_of_transformers_resizes(processor: tte.Processor) -> None:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    for height, width, least, most in [(300, 500, 3136, 40000), (40, 60, 50000, 90000), (500, 100, 3136, 12345)]:
        h, w = smart_resize(height, width, 28, least, most)
        item = {"image": noise(height, width), "min_pixels": least, "max_pixels": most}
        assert grid(processor, item) == [1, h // 14, w // 14]


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


def test_files_lose_their_transparency_and_pixels_are_laid_over_white(processor: tte.Processor, tmp_path: Path) -> None:
    rgba = np.dstack([noise(56, 56), np.full((56, 56), 0, np.uint8)])
    path = tmp_path / "clear.png"
    Image.fromarray(rgba).save(path)
    for item in (path, path.read_bytes()):
        assert same(processor(item), processor(rgba[..., :3].copy()))
    white = np.full((56, 56, 3), 255, np.uint8)
    for image in (Image.open(path), rgba, torch.from_numpy(rgba)):
        assert same(processor(image), processor(white))
        assert same(processor({"video": [image, image]}), processor({"video": [white, white]}))
        assert _content.canonical(image) == _content.canonical(Image.fromarray(rgba))


def png_of(header: tuple[int, int, int, int], rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of (width, height, bits, colour type); `chunks` are before its pixels."""
    header_chunk = (b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, 0))
    made = [header_chunk, *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, body) for name, body in made)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def gif_of(background: int, clear: int | None, corner: int) -> bytes:
    """A GIF whose background is `background`, whose frame begins at (corner, corner) and does not see `clear`."""
    frame = Image.fromarray(np.indices((40, 40)).sum(0).astype(np.uint8) % 4)
    frame.putpalette([0, 0, 0, 200, 10, 60, 40, 220, 90, 250, 250, 0])
    buffer = io.BytesIO()
    frame.save(buffer, "GIF", optimize=False)
    data = buffer.getvalue()
    palette_end = 13 + (6 << (data[10] & 7))
    image = data.index(b",", palette_end)
    control = b"" if clear is None else bytes((0x21, 0xF9, 4, 1, 0, 0, clear, 0))
    screen = struct.pack("<HHBB", 56, 56, data[10], background)
    place = struct.pack("<HH", corner, corner)
    return data[:6] + screen + data[12:palette_end] + control + b"," + place + data[image + 5 :]


def filtered(pixels: bytes) -> bytes:
    """56 rows, each after the byte that says that it is not filtered."""
    length = len(pixels) // 56
    return b"".join(b"\0" + pixels[i : i + length] for i in range(0, len(pixels), length))


LEVELS = bytes(range(56)) * 56
PALETTE = bytes(range(3, 3 * 56 + 3))
TRANSPARENT = {
    "palette, one": png_of((56, 56, 8, 3), filtered(LEVELS), (b"PLTE", PALETTE), (b"tRNS", b"\xff\xff\xff\0")),
    "palette, one and others": png_of((56, 56, 8, 3), filtered(LEVELS), (b"PLTE", PALETTE), (b"tRNS", b"\0\xff\x80")),
    "palette, one zero in bytes": png_of((56, 56, 8, 3), filtered(LEVELS), (b"PLTE", PALETTE), (b"tRNS", b"\xff\0\n")),
    "grey": png_of((56, 56, 8, 0), filtered(LEVELS), (b"tRNS", b"\0\7")),
    "grey of 4 bits": png_of((112, 56, 4, 0), filtered(LEVELS), (b"tRNS", b"\0\3")),
    "grey of 1 bit": png_of((448, 56, 1, 0), filtered(LEVELS), (b"tRNS", b"\0\0")),
    "grey of 16 bits": png_of((56, 56, 16, 0), filtered(LEVELS * 2), (b"tRNS", b"\2\3")),
    "RGB": png_of((56, 56, 8, 2), filtered(LEVELS * 3), (b"tRNS", b"\0\3\0\4\0\5")),
    "RGB of 16 bits": png_of((56, 56, 16, 2), filtered(LEVELS * 6), (b"tRNS", b"\6\7\x08\x09\x0a\x0b")),
    "grey and alpha": png_of((28, 56, 8, 4), filtered(LEVELS)),
    "RGBA": png_of((56, 56, 8, 6), filtered(LEVELS * 4)),
    "GIF": gif_of(1, 2, 0),
    "GIF, smaller than its screen": gif_of(3, 2, 8),
    "GIF, smaller than its screen, opaque": gif_of(1, None, 8),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparent_files_are_seen_as_transformers_reads_them(
    processor: tte.Processor, theirs: Any, tmp_path: Path, name: str
) -> None:
    """Given a path, and given the image that transformers loads of it, which it lays over white."""
    path = tmp_path / "transparent"
    path.write_bytes(TRANSPARENT[name])
    expected = theirs.image_processor(images=[str(path)], return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(processor(path)["pixel_values"], expected)
    np.testing.assert_array_equal(processor(path.read_bytes())["pixel_values"], expected)
    loaded = load_image(str(path))
    expected = theirs.image_processor(images=[loaded], return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(processor(loaded)["pixel_values"], expected)
    if loaded.width == loaded.height:
        expected = theirs.video_processor(videos=[[loaded, loaded]], return_tensors="np")["pixel_values_videos"]
        np.testing.assert_array_equal(processor({"video": [loaded, loaded]})["pixel_values_videos"], expected)


@pytest.mark.parametrize(
    ("mode", "clear"),
    [
        ("1", 0), ("1", 255), ("L", 7), ("L", None), ("L", 300), ("P", 7), ("P", b"\0\xff\x80"), ("P", None),
        ("RGB", (7, 7, 7)), ("RGB", 7), ("RGB", None), ("RGBX", (7, 7, 7)), ("CMYK", (7, 7, 7)), ("YCbCr", (7, 7, 7)),
        ("HSV", 7), ("LAB", 7), ("I", 7), ("LA", 7), ("PA", 7), ("RGBA", (7, 7, 7)),
    ],
)  # fmt: skip
def test_pillow_images_are_transparent_as_transformers_has_it(
    processor: tte.Processor, theirs: Any, mode: str, clear: object
) -> None:
    grey = Image.fromarray(np.frombuffer(LEVELS, np.uint8).reshape(56, 56).copy())
    rgb = grey.convert("RGB")
    image = rgb.convert("L").convert(mode) if mode in ("1", "I", "P", "LA") else rgb.convert(mode)
    image.info["transparency"] = clear
    expected = theirs.image_processor(images=[image.copy()], return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(processor(image)["pixel_values"], expected)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])  # Pillow itself turns TIFF files.
def test_files_are_turned_as_their_exif_says_and_pillow_images_are_not(
    processor: tte.Processor, tmp_path: Path, kind: str
) -> None:
    path, exif = tmp_path / f"turned.{kind.lower()}", Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(56, 84)).save(path, kind, exif=exif)
    pixels = np.asarray(Image.open(path))
    upright = np.rot90(pixels, -1).copy()
    for item in (path, path.read_bytes(), ImageOps.exif_transpose(Image.open(path))):
        assert same(processor(item), processor(upright))
    assert same(processor(Image.open(path)), processor(pixels))


def exif_of(*fields: tuple[int, int, bytes], order: str = "<", after: bytes = b"", tag: int = 0x0112) -> bytes:
    """EXIF of fields of one tag: type, count, and four bytes."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    body = b"".join(struct.pack(order + "HHI", tag, kind, count) + data.ljust(4, b"\0") for kind, count, data in fields)
    return b"Exif\0\0" + head + struct.pack(order + "H", len(fields)) + body + bytes(4) + after


def short(value: int) -> tuple[int, int, bytes]:
    return (3, 1, struct.pack("<H", value))


def xmp_of(text: str) -> bytes:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {text}/></x:xmpmeta>'.encode()


TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 13: "I"}
SIX = xmp_of('tiff:Orientation="6"')
EXIF = {
    **{
        f"type {kind} {order}": exif_of((kind, 1, struct.pack(order + code, 6)), order=order)
        for kind, code in TYPES.items()
        for order in "<>"
    },
    "quotient": exif_of((5, 1, struct.pack("<I", 26)), after=struct.pack("<II", 12, 2)),
    "signed quotient": exif_of((10, 1, struct.pack("<I", 26)), after=struct.pack("<ii", -12, -2)),
    "quotient of zero": exif_of((5, 1, struct.pack("<I", 26)), after=struct.pack("<II", 12, 0)),
    "double": exif_of((12, 1, struct.pack("<I", 26)), after=struct.pack("<d", 6)),
    "fraction": exif_of((11, 1, struct.pack("<f", 6.5))),
    "elsewhere": exif_of((5, 1, struct.pack("<I", 9999)), short(6)),
    "too many": exif_of((3, 9999, struct.pack("<I", 8)), short(6)),
    "no such type": exif_of((14, 1, b"\6"), short(6)),
    "text": exif_of((2, 2, b"6\0")),
    "twice": exif_of(short(6), short(3)),
    "twice, then none": exif_of(short(6), short(0)),
    "two": exif_of((3, 2, struct.pack("<HH", 6, 3))),
    "none": exif_of((3, 0, b"\6"), short(8)),
    "two heads": b"Exif\0\0" + exif_of(short(6)),
    "odd order": exif_of(short(6)).replace(b"II*\0", b"II\0*"),
    "says nothing": exif_of(short(6), tag=0x0110),
}  # fmt: skip
XMP = {
    "plain": SIX,
    "element": xmp_of("><tiff:Orientation>6</tiff:Orientation><a"),
    "apostrophes": xmp_of("tiff:Orientation='6'"),
    "blanks": xmp_of('tiff:Orientation = "6"'),
    "two": xmp_of('tiff:Orientation="1" tiff:Orientation="6"'),
    "two digits": xmp_of('tiff:Orientation="65"'),
    "nine": xmp_of('tiff:Orientation="9"'),
}
HEX = f"\nexif\n      {len(EXIF['two'])}\n{EXIF['two'].hex()}\n".encode()
PNG_TEXTS = {
    "iTXt": [(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + SIX)],
    "iTXt, compressed": [(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(SIX))],
    "iTXt, compressed and cut": [(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(SIX)[:-4])],
    "iTXt, damaged": [(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + SIX)],
    "iTXt, another compression": [(b"iTXt", b"XML:com.adobe.xmp\0\1\1\0\0" + zlib.compress(SIX))],
    "iTXt, a language": [(b"iTXt", b"XML:com.adobe.xmp\0\0\0en\0XMP\0" + SIX)],
    "iTXt, unfinished": [(b"iTXt", b"XML:com.adobe.xmp\0\0\0en")],
    "zTXt": [(b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(SIX))],
    "tEXt": [(b"tEXt", b"XML:com.adobe.xmp\0" + SIX)],
    "the last one": [(b"tEXt", b"XML:com.adobe.xmp\0" + xmp) for xmp in (SIX, xmp_of('tiff:Orientation="3"'))],
    "another keyword": [(b"tEXt", b"XMP\0" + SIX)],
    "EXIF in digits": [(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(HEX))],
    "EXIF in digits, plain": [(b"tEXt", b"Raw profile type exif\0" + HEX)],
    "EXIF in digits beside EXIF": [(b"tEXt", b"Raw profile type exif\0" + HEX), (b"eXIf", exif_of(short(3))[6:])],
    "further frames": [(b"acTL", struct.pack(">II", 1, 0)), (b"tEXt", b"XML:com.adobe.xmp\0" + SIX)],
}


def oriented_files() -> Iterator[tuple[str, bytes]]:
    image = Image.fromarray(noise(28, 56))

    def save(kind: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    for kind in ("JPEG", "PNG", "WEBP"):
        for name, exif in EXIF.items():
            yield f"{kind}, EXIF, {name}", save(kind, exif=exif)
    for kind in ("JPEG", "WEBP"):
        for name, xmp in XMP.items():
            yield f"{kind}, XMP, {name}", save(kind, xmp=xmp)
        for value in (0, 1, 3, 9):
            yield f"{kind}, XMP beside EXIF of {value}", save(kind, exif=exif_of(short(value)), xmp=SIX)
        yield f"{kind}, XMP beside EXIF without", save(kind, exif=EXIF["says nothing"], xmp=SIX)
    plain = save("PNG")
    for name, chunks in PNG_TEXTS.items():
        made = b"".join(chunk(*each) for each in chunks)
        yield f"PNG, {name}", plain[:33] + made + plain[33:]
        yield f"PNG, {name}, behind the pixels", plain[:-12] + made + plain[-12:]
    tiff = save("TIFF")
    (start,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, start)
    fields = [tiff[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(count)]
    for kind_of_value, code in TYPES.items():
        for value in (1, 6, 8, 0, 9):
            own = struct.pack("<HHI", 274, kind_of_value, 1) + struct.pack("<" + code, value).ljust(4, b"\0")
            listed = sorted([*fields, own], key=lambda field: struct.unpack_from("<H", field)[0])
            directory = struct.pack("<H", count + 1) + b"".join(listed) + bytes(4)
            head = tiff[:4] + struct.pack("<I", len(tiff))
            yield f"TIFF, type {kind_of_value}, {value}", head + tiff[8:] + directory


def test_files_are_turned_as_pillow_turns_them(processor: tte.Processor) -> None:
    turned = 0
    for name, data in oriented_files():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow tells of what it does not read.
            upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        turned += upright.height > upright.width
        assert same(processor(data), processor(np.array(upright))), name
    assert turned > 60


def test_metadata_that_inflates_without_end_is_refused(processor: tte.Processor) -> None:
    """As Pillow refuses it."""
    plain = png(noise(28, 56))
    bomb = chunk(b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(bytes((1 << 20) + 1)))
    largest = chunk(b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(SIX.ljust(1 << 20)))
    with pytest.raises(ValueError, match="Decompressed data too large"):
        Image.open(io.BytesIO(plain[:33] + bomb + plain[33:])).load()
    for data in (plain[:33] + bomb + plain[33:], plain[:-12] + bomb + plain[-12:]):
        with pytest.raises(tte.InputError, match="compressed metadata of over 1048576 bytes"):
            processor(data)
    _, rows, columns = grid(processor, plain[:33] + largest + plain[33:])
    assert rows > columns  # Turned.


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_rounded_whichever_way_they_come(processor: tte.Processor, tmp_path: Path, kind: str) -> None:
    grey = (np.arange(56 * 56, dtype=np.uint32).reshape(56, 56) * 21 % 65536).astype(np.uint16)
    path = tmp_path / f"grey.{kind.lower()}"
    Image.fromarray(grey).save(path, kind)
    rounded = np.round(grey / 257.0).astype(np.uint8)
    for item in (path, path.read_bytes(), Image.open(path)):
        assert same(processor(item), processor(rounded))


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
            elif self.path == "/strange":
                self.send_response(418, "a\x1b[31mb")
                self.end_headers()
            elif self.path == "/wild":
                self.wfile.write(b"a\x1b[31mb\rc\r\n\r\n")
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


def test_commands_take_images_from_the_web_where_they_are_allowed(
    server: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    item = json.dumps({"image": f"{server}/image.png"})
    (tmp_path / "a.jsonl").write_text(item)
    for command in (["show", "nano", item], ["think", "nano", item, "--max-new-tokens", "2"]):
        assert "--allow-urls" in run(capsys, *command, code=2)
        run(capsys, *command, "--allow-urls")
    embed = ["embed", tmp_path / "a.jsonl", "-o", tmp_path / "a.npy"]
    assert "--allow-urls" in run(capsys, *embed, code=1)
    run(capsys, *embed, "--allow-urls")
    np.testing.assert_allclose(
        np.load(tmp_path / "a.npy"), tte.Embedder("nano").embed([PIXELS], side="target", progress=False), atol=1e-6
    )
    search = ["search", tmp_path / "a.npy", item]
    assert "--allow-urls" in run(capsys, *search, code=2)
    assert "a.jsonl" in run(capsys, *search, "--allow-urls")


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
        f"{server}/gone": "cannot be downloaded \\(status 404, 'Not Found'\\): check the address",
        f"{server}/strange": r"cannot be downloaded \(status 418, 'a\\x1b\[31mb'\): check the address",
        f"{server}/to/file:///etc/hostname": "cannot be downloaded",
        f"{server}/to/ftp://127.0.0.1/x": "cannot be downloaded",
        f"{server}/to/{server}/to/{server}/gone": "Not Found",
        f"{server}/endless": r"^item 0, 'image': '\S*/endless' is over 1048576 bytes: save it",
        f"{server}/wild": r"cannot be downloaded \(a\\x1b\[31mb\\rc\): check the address",
        "http://[::1": "cannot be downloaded",
        "http://user:secret@127.0.0.1:1/x?key=secret": "user names and passwords in addresses are not taken",
        "http://user:secret/x@127.0.0.1/": "its port is no number from 0 to 65535",
        "http://127.0.0.1:99999/x": "its port is no number from 0 to 65535",
        "http:///x": "it names no host",
        f"http://{'ä' * 64}.example/x": "its host's name is none",
    }.items():
        with pytest.raises(tte.InputError, match=words) as caught:
            processor({"image": address}, allow_urls=True)
        assert "secret" not in str(caught.value)
        assert len(str(caught.value)) < 500


def test_long_base64_has_white_space_anywhere(processor: tte.Processor) -> None:
    spread = " \n".join(BASE64[i : i + 3] for i in range(0, len(BASE64), 3))
    assert same(processor({"image": "data:image/png;base64," + spread}), processor({"image": png()}))


def test_base64_is_percent_encoded_anywhere(processor: tte.Processor) -> None:
    quoted = "".join(f"%{ord(letter):02X}" for letter in BASE64[:40]) + BASE64[40:].rstrip("=")
    assert "%" not in quoted[-16:]
    for body in (quoted, urllib.parse.quote(BASE64, safe="")):
        assert same(processor({"image": "data:image/png;base64," + body}), processor({"image": png()}))


def test_bare_base64_of_a_jpeg_is_of_either_alphabet(processor: tte.Processor) -> None:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "jpeg")
    wanted = processor({"image": file.getvalue()})
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        given = encode(file.getvalue()).decode()
        assert given.startswith(("/9j/", "_9j_"))
        assert same(processor({"image": given}), wanted)


def test_addresses_have_any_letters() -> None:
    for given, sent in (
        ("http://a.example/ä b.png?q=ü x&r=%20#top", "http://a.example/%C3%A4%20b.png?q=%C3%BC%20x&r=%20"),
        ("https://bücher.example:8443/", "https://xn--bcher-kva.example:8443/"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
    ):
        assert _fetch._address(given, "item 0") == sent


@pytest.mark.parametrize(
    "absent",
    [
        None,
        float("nan"),
        Decimal("NaN"),
        np.datetime64("NaT"),
        np.timedelta64("NaT"),
        np.array(np.nan),
        np.float16("nan"),
    ],
    ids=repr,
)
def test_what_says_that_there_is_none_is_left_out(absent: Any) -> None:
    assert _items.read({"text": "a", "image": absent, "unknown": absent}, "item 0") == _items.read("a", "item 0")


def test_record_arrays_are_no_images(processor: tte.Processor) -> None:
    rows = np.array([("a", 1)], dtype=[("text", "U5"), ("n", int)])
    for given in (rows, rows.view(np.recarray), rows[0]):
        with pytest.raises(tte.InputError, match=r"is a numpy record array with the fields \['text', 'n'\]: give one"):
            processor(given)
    assert same(processor(rows["text"][0]), processor("a"))
