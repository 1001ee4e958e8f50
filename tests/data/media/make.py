"""Writes the images, the videos and goldens.json of tests/media.

What the goldens hold comes from the references: Pillow (pixels of images), transformers (patches, sizes, sampled
frames) and torchcodec (pixels of video frames). Needs pillow, numpy, torch, torchvision, transformers, torchcodec and
the ffmpeg program. Run it in this folder; the files are committed, so that the tests need none of that.
"""

import io
import json
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torchcodec.decoders import VideoDecoder, decode_image
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor, smart_resize
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.video_utils import VideoMetadata

HERE = Path(__file__).parent
IMAGES = HERE / "images"


def fnv1a(data: bytes) -> str:
    """64-bit FNV-1a, which the tests compute too."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def pattern(height: int, width: int, seed: int = 0) -> np.ndarray:
    """The test image: integer arithmetic only, so that C++ makes the same one. uint8 [height, width, 3]."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    planes = []
    for c in range(3):
        wave = (x * (3 + c) + y * (5 - c) + seed * 17) % 256
        noise = ((x * 7919 + y * 104729 + c * 1299709 + seed * 15485863) >> 3) % 64
        planes.append(np.minimum(255, wave * 3 // 4 + noise))
    return np.stack(planes, -1).astype(np.uint8)


def adam7(rgb: np.ndarray) -> bytes:
    """An interlaced PNG, which Pillow does not write."""
    raw = b""
    for x0, y0, dx, dy in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        part = rgb[y0::dy, x0::dx]
        if part.size:
            raw += b"".join(b"\0" + row.tobytes() for row in part)
    header = struct.pack(">IIBBBBB", rgb.shape[1], rgb.shape[0], 8, 2, 0, 0, 1)
    return png_file([(b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")])


def png_file(chunks: list[tuple[bytes, bytes]]) -> bytes:
    out = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        out += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return out


def png16(samples: np.ndarray, color_type: int) -> bytes:
    """A 16-bit PNG. samples: uint16 [height, width, channels]."""
    height, width = samples.shape[:2]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    return png_file([(b"IHDR", header), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b"")])


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x112] = orientation
    return block.tobytes()


def encode_images() -> dict[str, bytes]:
    rgb = Image.fromarray(pattern(11, 17))
    alpha = Image.fromarray((pattern(11, 17, 5)[..., 0] // 2 * 2).astype(np.uint8))
    grey = rgb.convert("L")
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    palette = rgb.quantize(40)
    cmyk = Image.merge("CMYK", (*rgb.split(), grey))
    files: dict[str, bytes] = {}

    def add(name: str, image: Image.Image, kind: str, **options) -> None:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        files[name] = stream.getvalue()

    add("rgb420.jpg", rgb, "JPEG", subsampling=2, quality=85)
    add("rgb422.jpg", rgb, "JPEG", subsampling=1, quality=60)
    add("rgb444_progressive.jpg", rgb, "JPEG", subsampling=0, quality=95, progressive=True)
    add("restart.jpg", rgb, "JPEG", restart_marker_blocks=1)
    add("grey.jpg", grey, "JPEG")
    add("cmyk.jpg", cmyk, "JPEG", quality=95)
    for orientation in range(1, 9):
        add(f"exif{orientation}.jpg", rgb, "JPEG", quality=50, exif=exif(orientation))
    add("xmp6.jpg", rgb, "JPEG", xmp=b'<rdf:Description tiff:Orientation="6"/>')
    add("exif6.png", rgb, "PNG", exif=exif(6))
    add("exif8.webp", rgb, "WEBP", exif=exif(8))
    add("exif5.tif", rgb, "TIFF", tiffinfo={274: 5}, compression="tiff_lzw")
    add("rgb.png", rgb, "PNG")
    add("rgba.png", rgba, "PNG")
    add("grey.png", grey, "PNG")
    add("grey_alpha.png", Image.merge("LA", (grey, alpha)), "PNG")
    add("bilevel.png", rgb.convert("1"), "PNG")
    add("palette.png", palette, "PNG")
    add("palette2.png", rgb.quantize(4), "PNG", bits=2)
    add("palette_transparent.png", palette, "PNG", transparency=bytes(range(0, 240, 6)))
    add("rgb_key.png", rgb, "PNG", transparency=tuple(int(v) for v in np.array(rgb)[3, 4]))
    files["interlaced.png"] = adam7(np.array(rgb))
    add("lossy.webp", rgb, "WEBP", quality=70)
    add("lossless.webp", rgb, "WEBP", lossless=True)
    add("rgba.webp", rgba, "WEBP", lossless=True, exact=True)
    add("rgba_lossy.webp", rgba, "WEBP", quality=80)
    add("animated.webp", rgba, "WEBP", save_all=True, append_images=[rgba.rotate(180)], lossless=True)
    add("palette.gif", palette, "GIF")
    add("transparent.gif", palette, "GIF", transparency=3)
    add("animated.gif", palette, "GIF", save_all=True, append_images=[rgb.rotate(180).quantize(16)])
    add("bilevel.bmp", rgb.convert("1"), "BMP")
    add("palette.bmp", palette, "BMP")
    add("rgb.bmp", rgb, "BMP")
    add("rgba.bmp", rgba, "BMP")
    add("raw.tif", rgb, "TIFF")
    add("rgba_deflate.tif", rgba, "TIFF", compression="tiff_deflate")
    add("group4.tif", rgb.convert("1"), "TIFF", compression="group4")
    add("palette_packbits.tif", palette, "TIFF", compression="packbits")
    add("cmyk.tif", cmyk, "TIFF")
    add("jpeg.tif", rgb, "TIFF", compression="jpeg")
    return files


def flatten(data: bytes, background: tuple[int, int, int] | None) -> np.ndarray:
    """Pillow's upright RGB, alpha dropped (None) or composited; of a GIF without alpha what torchcodec shows."""
    if background is None and data.startswith(b"GIF"):
        frames = decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        return frames.reshape(-1, *frames.shape[-3:])[0].permute(1, 2, 0).numpy()
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if background is not None and ("A" in image.getbands() or image.info.get("transparency") is not None):
        below = Image.new("RGBA", image.size, (*background, 255))
        image = Image.alpha_composite(below, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def image_goldens() -> list[dict]:
    IMAGES.mkdir(exist_ok=True)
    goldens = []
    for name, data in encode_images().items():
        (IMAGES / name).write_bytes(data)
        entry = {"file": name}
        for key, background in (("drop", None), ("white", (255, 255, 255)), ("black", (0, 0, 0))):
            pixels = flatten(data, background)
            entry[key] = fnv1a(pixels.tobytes())
        entry["height"], entry["width"] = pixels.shape[:2]
        entry["first_row"] = flatten(data, None)[0].reshape(-1).tolist()
        goldens.append(entry)
    # 16 bits a channel: no reference does it right, so the expectation is arithmetic.
    y, x = np.mgrid[0:5, 0:7]
    wide = np.stack([(x * 9001 + y * 777) % 65536, (x * 31 + y * 13007) % 65536, (65535 - x * 257 - y)], -1).astype(
        np.uint16
    )
    rounded = ((wide.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8)
    for name, samples, expected, color_type in (
        ("rgb16.png", wide, rounded, 2),
        ("grey16.png", wide[..., :1], np.repeat(rounded[..., :1], 3, -1), 0),
    ):
        data = png16(samples, color_type)
        (IMAGES / name).write_bytes(data)
        digest = fnv1a(np.ascontiguousarray(expected).tobytes())
        goldens.append(
            {
                "file": name,
                "drop": digest,
                "white": digest,
                "black": digest,
                "height": 5,
                "width": 7,
                "first_row": expected[0].reshape(-1).tolist(),
            }
        )
    stream = io.BytesIO()
    Image.fromarray(wide[..., 0].copy()).save(stream, "TIFF")
    (IMAGES / "grey16.tif").write_bytes(stream.getvalue())
    grey = np.ascontiguousarray(np.repeat(rounded[..., :1], 3, -1))
    digest = fnv1a(grey.tobytes())
    goldens.append(
        {
            "file": "grey16.tif",
            "drop": digest,
            "white": digest,
            "black": digest,
            "height": 5,
            "width": 7,
            "first_row": grey[0].reshape(-1).tolist(),
        }
    )
    return goldens


def patch_entry(
    config: dict, frames: list[tuple[int, int, int]], values: torch.Tensor, grid: list[int], video: bool
) -> dict:
    values = values.to(torch.float32).contiguous()
    flat = values.reshape(-1)
    where = torch.linspace(0, flat.numel() - 1, 24).long().tolist()
    return {
        "config": config,
        "frames": frames,
        "video": video,
        "grid": grid,
        "shape": list(values.shape),
        "digest": fnv1a(values.numpy().tobytes()),
        "samples": [[i, float(flat[i])] for i in where],
    }


def patch_goldens() -> list[dict]:
    goldens = []
    small = {"min_pixels": 28 * 28, "max_pixels": 28 * 28 * 12}
    qwen3 = {
        "patch_size": 16,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"shortest_edge": 32 * 32, "longest_edge": 32 * 32 * 10},
    }
    cases = [
        ({}, 56, 56),
        (small, 57, 91),
        (small, 200, 150),
        (small, 300, 41),
        (small, 5, 9),
        (small, 1, 150),
        (small, 84, 84),
        (qwen3, 97, 130),
        (qwen3, 33, 20),
        ({**small, "do_normalize": False}, 60, 60),
        ({**small, "do_rescale": False}, 60, 33),
        ({**small, "do_rescale": False, "do_normalize": False}, 30, 60),
        ({**small, "temporal_patch_size": 1, "merge_size": 1}, 45, 45),
        ({**small, "rescale_factor": 0.0078125}, 40, 60),
        ({"min_pixels": 10000, "max_pixels": 20000, "size": {"shortest_edge": 1, "longest_edge": 2}}, 90, 90),
    ]
    for seed, (config, height, width) in enumerate(cases):
        out = Qwen2VLImageProcessor(**config)(Image.fromarray(pattern(height, width, seed)), return_tensors="pt")
        goldens.append(
            patch_entry(config, [(height, width, seed)], out["pixel_values"], out["image_grid_thw"][0].tolist(), False)
        )
    for config, height, width, count in (
        (small, 70, 50, 4),
        (small, 57, 91, 3),
        (small, 33, 33, 1),
        ({**small, "cap_pixels_per_frame": True, "max_video_tokens": 20}, 120, 90, 4),
    ):
        frames = [(height, width, 40 + k) for k in range(count)]
        video = np.stack([pattern(*frame) for frame in frames])
        out = Qwen2VLVideoProcessor(**config)([video], return_tensors="pt")
        goldens.append(patch_entry(config, frames, out["pixel_values_videos"], out["video_grid_thw"][0].tolist(), True))
    return goldens


def resize_goldens() -> list[list[int]]:
    rows = []
    for factor, low, high in (
        (28, 56 * 56, 28 * 28 * 1280),
        (32, 65536, 16777216),
        (28, 3136, 12845056),
        (28, 784, 784),
    ):
        for height, width in (
            (1, 1),
            (1, 200),
            (13, 27),
            (14, 14),
            (42, 42),
            (70, 98),
            (56, 56),
            (223, 224),
            (480, 640),
            (1080, 1920),
            (4000, 6000),
            (28, 5600),
            (7, 1400),
            (84, 84),
            (126, 154),
        ):
            rows.append([factor, low, high, height, width, *smart_resize(height, width, factor, low, high)])
    return rows


def sampling_goldens() -> list[dict]:
    processor = Qwen2VLVideoProcessor()
    rows = []
    for total in (1, 2, 3, 4, 7, 8, 30, 100, 333, 2000):
        for source in (None, 10.0, 23.976, 29.97, 30.0):
            for fps, count in (
                (1.0, None),
                (2.0, None),
                (0.1, None),
                (100.0, None),
                (None, 1),
                (None, 2),
                (None, 3),
                (None, 5),
                (None, 8),
                (None, 64),
                (None, None),
            ):
                if source is None and fps is None:
                    source_fps = None
                else:
                    source_fps = source
                row = {"total": total, "source_fps": source_fps, "fps": fps, "num_frames": count}
                try:
                    if fps is None and count is None:
                        indices = list(range(total))
                    else:
                        metadata = VideoMetadata(total_num_frames=total, fps=source_fps)
                        indices = processor.sample_frames(metadata, fps=fps, num_frames=count).tolist()
                    if len(indices) > 16:
                        row["count"] = len(indices)
                        row["digest"] = fnv1a(np.array(indices, np.int32).tobytes())
                    else:
                        row["indices"] = indices
                except (ValueError, ZeroDivisionError):
                    row["error"] = True
                rows.append(row)
    return rows


def ffmpeg(*arguments: str) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *arguments], check=True, cwd=HERE)


def containers() -> None:
    """The same clip in whatever else is read; the test cuts them."""
    (HERE / "containers").mkdir(exist_ok=True)
    copied = {
        "moov_last.mov": (),
        "moov_first.mp4": ("-movflags", "faststart"),
        "fragments.mp4": ("-movflags", "frag_keyframe+empty_moov"),
        "fragments_without_index.mp4": ("-movflags", "frag_keyframe+empty_moov+skip_trailer"),
        "segments.mp4": ("-movflags", "dash+frag_keyframe+empty_moov"),
        "clip.mkv": (),
        "live.mkv": ("-live", "1"),
        "clip.flv": (),
        "no_metadata.flv": ("-flvflags", "no_duration_filesize"),
    }
    for name, options in copied.items():
        ffmpeg("-i", "clip.mp4", "-c", "copy", *options, f"containers/{name}")
    encoded = {
        "clip.wmv": ("-c:v", "wmv2", "-b:v", "60k"),
        "packets.asf": ("-c:v", "msmpeg4v3", "-b:v", "60k", "-packet_size", "400"),
        "clip.ogv": ("-c:v", "libtheora", "-b:v", "60k"),
        "clip.gif": ("-vf", "scale=32:24"),
        "clip.mpg": ("-c:v", "mpeg2video", "-q:v", "2", "-r", "25", "-vf", "setpts=N/25/TB"),
    }
    for name, options in encoded.items():
        ffmpeg("-i", "clip.mp4", *options, f"containers/{name}")


def video_goldens() -> list[dict]:
    source = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=1.5")
    ffmpeg(*source, "-pix_fmt", "yuv420p", "-c:v", "libx264", "-g", "5", "-bf", "2", "-crf", "30", "clip.mp4")
    ffmpeg("-i", "clip.mp4", "-c", "copy", "-metadata:s:v", "rotate=90", "rotated.mp4")
    ffmpeg("-i", "clip.mp4", "-c", "copy", "clip.ts")
    ffmpeg(
        *source,
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        "libx264",
        "-crf",
        "35",
        "-colorspace",
        "bt709",
        "-movflags",
        "+faststart",
        "bt709.mp4",
    )
    ffmpeg(*source, "-c:v", "libvpx-vp9", "-crf", "50", "-b:v", "0", "clip.webm")
    ffmpeg(*source, "-c:v", "mpeg4", "-q:v", "20", "clip.avi")
    ffmpeg(
        *source,
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        "libx264",
        "-crf",
        "35",
        "-vf",
        "select=gte(n\\,8)+not(mod(n\\,3))",
        "-vsync",
        "vfr",
        "variable.mp4",
    )
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.3", "-c:a", "aac", "sound.m4a")
    goldens = []
    for name in ("clip.mp4", "rotated.mp4", "bt709.mp4", "clip.webm", "clip.avi", "variable.mp4"):
        decoder = VideoDecoder(str(HERE / name), seek_mode="exact")
        count = decoder.metadata.num_frames
        frames = decoder.get_frames_at(list(range(count))).data.permute(0, 2, 3, 1).contiguous().numpy()
        goldens.append(
            {
                "file": name,
                "frames": count,
                "fps": float(decoder.metadata.average_fps),
                "height": frames.shape[1],
                "width": frames.shape[2],
                "digests": [fnv1a(frame.tobytes()) for frame in frames],
            }
        )
    return goldens


def main() -> None:
    goldens = {
        "images": image_goldens(),
        "patches": patch_goldens(),
        "smart_resize": resize_goldens(),
        "sampling": sampling_goldens(),
        "videos": video_goldens(),
    }
    lines = [f'"{key}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]" for key, rows in goldens.items()]
    containers()
    (HERE / "goldens.json").write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    main()
