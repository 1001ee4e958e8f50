"""Video files of every kind of pixels and size: tte's decoder against torchcodec, transformers' default."""

from __future__ import annotations

import resource
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import tte
from PIL import Image as PILImage
from torchcodec.decoders import VideoDecoder

NANO = Path(__file__).parents[2] / "models" / "nano" / "reasoner"
FORMATS = [
    "yuv420p", "yuvj420p", "yuva420p", "yuv422p", "yuvj422p", "yuv444p", "yuv411p", "yuv410p", "nv12",
    "yuv420p10le", "yuv422p10le", "yuv444p10le", "gray", "gray10le", "bgr0", "rgb48le",
]  # fmt: skip
BT601, BT709, BT2020 = 6, 1, 9
LIMITED, FULL = 1, 2


def write_video(
    path: Path,
    size: tuple[int, int],
    pixels: str = "yuv420p",
    frames: int = 2,
    space: int | None = None,
    levels: int | None = None,
    rate: Fraction | int = 10,
) -> Path:
    """A video of noise over waves; `size` is width, height, `space` and `levels` are FFmpeg's numbers."""
    width, height = size
    rng = np.random.default_rng(width * 1000 + height)
    y, x = np.mgrid[0:height, 0:width]
    codec = {"nv12": "rawvideo", "yuvj420p": "mjpeg", "yuvj422p": "mjpeg"}.get(pixels, "ffv1")
    if path.suffix == ".mp4":
        codec = "mpeg4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        context = stream.codec_context
        context.thread_count = 1
        if codec == "ffv1":
            context.options = {"level": "1"}  # Later ones cannot hold frames of a few pixels.
        if space is not None:
            context.colorspace = space
        if levels is not None:
            context.color_range = levels
        for k in range(frames):
            waves = np.stack([(x * 3 + k * 20) % 256, (y * 5 + x) % 256, (x * y + k * 7) % 256], -1)
            noisy = (waves + rng.integers(0, 40, waves.shape)).clip(0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(noisy, format="rgb24").reformat(format=pixels)
            frame.pts = k
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def processor() -> tte.Processor:
    return tte.Processor(NANO)


def check(processor: tte.Processor, path: Path) -> None:
    """What the model sees of the file is what it sees of torchcodec's frames."""
    frames = VideoDecoder(str(path), dimension_order="NHWC")[:].numpy()
    ours = processor({"video": path})
    expected = processor({"video": {"frames": list(frames)}})
    np.testing.assert_array_equal(ours["video_grid_thw"], expected["video_grid_thw"], err_msg=path.name)
    np.testing.assert_array_equal(ours["pixel_values_videos"], expected["pixel_values_videos"], err_msg=path.name)


@pytest.mark.parametrize("height", [8, 9])
def test_every_width(processor: tte.Processor, tmp_path: Path, height: int) -> None:
    for width in range(1, 129):
        check(processor, write_video(tmp_path / f"{width}x{height}.mkv", (width, height)))


@pytest.mark.parametrize("size", [(360, 640), (600, 400), (1080, 1920), (56, 56), (568, 320), (854, 480)])
def test_common_sizes(processor: tte.Processor, tmp_path: Path, size: tuple[int, int]) -> None:
    check(processor, write_video(tmp_path / "common.mkv", size))


@pytest.mark.parametrize("pixels", FORMATS)
def test_every_pixel_format(processor: tte.Processor, tmp_path: Path, pixels: str) -> None:
    for size in [(1, 2), (7, 9), (16, 17), (24, 16), (31, 8), (40, 40), (64, 48), (104, 20)]:
        check(processor, write_video(tmp_path / f"{size[0]}x{size[1]}.mkv", size, pixels))


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv444p", "yuv420p10le", "gray", "gray10le"])
def test_colour_spaces_and_ranges(processor: tte.Processor, tmp_path: Path, pixels: str) -> None:
    for space in (None, BT601, BT709, BT2020):
        for levels in (None, LIMITED, FULL):
            for size in [(56, 18), (64, 18), (33, 7)]:
                path = tmp_path / f"{space}-{levels}-{size[0]}.mkv"
                check(processor, write_video(path, size, pixels, 1, space, levels))


@pytest.mark.parametrize("turned", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)])
def test_turned_frames(processor: tte.Processor, tmp_path: Path, turned: tuple[int, ...]) -> None:
    for size in [(56, 40), (360, 640), (24, 18), (17, 33)]:
        path = write_video(tmp_path / f"{size[0]}.mp4", size)
        data = bytearray(path.read_bytes())
        # A track header says after 40 bytes how its frames are turned: three rows of three numbers.
        at = data.index(b"tkhd") + 4 + 40
        a, b, c, d = (n << 16 for n in turned)
        data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        path.write_bytes(data)
        check(processor, path)


@pytest.mark.parametrize(("begin", "seconds"), [(0, 1.5), (2, 2), (1.35, 0.4), (0, 0.05)])
def test_a_video_that_was_trimmed_by_its_list_of_edits(
    processor: tte.Processor, tmp_path: Path, begin: float, seconds: float
) -> None:
    # As telephones do it: all packets stay in the file, and the list says which of them are shown.
    path = write_video(tmp_path / "trimmed.mp4", (64, 48), frames=40)
    data = bytearray(path.read_bytes())
    a_second = [struct.unpack_from(">I", data, data.index(box) + 16)[0] for box in (b"mvhd", b"mdhd")]
    at = data.index(b"elst") + 12
    struct.pack_into(">Ii", data, at, int(seconds * a_second[0]), int(begin * a_second[1]))
    path.write_bytes(data)
    check(processor, path)


def test_an_error_of_the_model_names_the_medium(processor: tte.Processor, tmp_path: Path) -> None:
    wide = np.zeros((2, 1000, 3), np.uint8)
    square = np.zeros((50, 50, 3), np.uint8)
    PILImage.fromarray(wide).save(tmp_path / "wide.png")
    for item, name in (
        ({"image": tmp_path / "wide.png"}, 'image ".*wide.png"'),
        ({"images": [square, tmp_path / "wide.png"]}, 'image ".*wide.png"'),
        ({"images": [square, wide, square]}, "image 2"),
        ({"image": wide}, "1000x2"),
        ({"video": write_video(tmp_path / "wide.mkv", (1000, 4))}, 'video ".*wide.mkv"'),
    ):
        with pytest.raises(tte.InputError, match=f"item 0: {name}.*aspect ratio"):
            processor(item)


def dotted_gif(side: int, frames: int) -> bytes:
    """An animation of one pixel a frame on a large canvas: 25 bytes for each."""
    frame = bytes.fromhex("21f904000a000000 2c 00000000 01000100 00 02 02 4401 00")
    return b"GIF89a" + struct.pack("<HH", side, side) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff" + frame * frames + b";"


def test_an_item_has_one_budget(tmp_path: Path) -> None:
    path = tmp_path / "dots.gif"
    path.write_bytes(dotted_gif(1000, 30))
    image = np.zeros((400, 400, 3), np.uint8)
    bytes_of_patches = tte.Processor(NANO)([image])["pixel_values"].nbytes
    small = tte.Processor(NANO, media_limits=tte.MediaLimits(max_item_bytes=4 * bytes_of_patches))
    small({"images": [image] * 2})
    with pytest.raises(tte.InputError, match=r"item 0: image 4: an image for the model.*max_item_bytes of MediaLimits"):
        small({"images": [image] * 4})
    lazy = tte.Processor(NANO, media_limits=tte.MediaLimits(max_item_pixels=10_000_000))
    with pytest.raises(tte.InputError, match=r"item 0: video .*dots.gif.*max_item_pixels of MediaLimits"):
        lazy({"video": path})
    flat = tte.Processor(NANO, media_limits=tte.MediaLimits(max_pixels=159_999))
    with pytest.raises(tte.InputError, match=r"400x400.*159999.*max_pixels"):
        flat(image)


@pytest.mark.parametrize("value", [0, -1, 2**40 + 1, 2**64 + 30, 1.5, True, "7", None, "x" * 1000])
def test_limits_are_whole_numbers_in_range(value: object) -> None:
    with pytest.raises(tte.InputError, match=r"max_item_bytes is .*: it must be a whole number") as raised:
        tte.MediaLimits(max_item_bytes=value)  # type: ignore[arg-type]
    assert len(str(raised.value)) < 500


def test_pixels_in_memory_are_measured_before_they_are_copied() -> None:
    """4,000 frames that are one row of memory: four gigabytes, if they were copied."""
    frame = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (600, 600, 3))
    image = PILImage.new("RGB", (600, 600))
    processor = tte.Processor(NANO)
    for item in ({"video": [frame] * 4000}, [frame] * 4000 + ["text"], [{"role": "user", "content": [image] * 4000}]):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(tte.InputError, match=r"item 0.* bytes of images in memory, over .*max_item_bytes"):
            processor(item)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # Kilobytes.
    larger = tte.Processor(NANO, media_limits=tte.MediaLimits(max_item_bytes=1000))
    with pytest.raises(tte.InputError, match=r"over the limit of 1000 \(max_item_bytes\)"):
        larger(np.zeros((20, 20, 3), np.uint8))


def test_limits_of_another_kind_are_refused() -> None:
    with pytest.raises(tte.InputError, match="media_limits is a dict"):
        tte.Processor(NANO, media_limits={"max_pixels": 1})  # type: ignore[arg-type]
    assert tte.MediaLimits(max_pixels=np.int64(7)).max_pixels == 7
