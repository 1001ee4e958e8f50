"""Qwen2-VL-2B's shape with random bf16 weights: tte and transformers in turn, same weights, same threads.

    python benchmarks/qwen2_vl_2b.py --dir /big/disk/qwen2-vl-2b-random

Reports medians of: encode (448x448 image + 100 tokens of text, to one vector), prefill (the same prompt, to the first
token; texts of 100 tokens together; one of 2,000), decode (tokens a second at batch 1, 8 and 32), think then embed (12
such items whose traces have 8 to 160 tokens, or 16 with 16 to 256; one checkpoint is both halves; the peer generates in
one batch, then reads each prompt with its trace), load time (one model; reasoner and embedder), and peak memory; of tte
as the checkpoint is, and in 8 and 4 bits. Each side runs in a process of its own, and they take turns, so that all see
the same machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "tests" / "data" / "templates" / "qwen2_vl.jinja"
# Tokens of the traces of so many items.
TRACES = {12: [8 + round(152 * i / 11) for i in range(12)], 16: [16 * (i + 1) for i in range(16)]}
SIDES = ("tte", "tte int8", "tte int4", "transformers")


def test_image() -> np.ndarray:
    """A 448x448 image with structure at every scale."""
    y, x = np.mgrid[0:448, 0:448].astype(np.float32)
    planes = [np.sin(x / (3 + 4 * c)) * np.cos(y / (5 + 3 * c)) for c in range(3)]
    return ((np.stack(planes, -1) + 1) * 127).astype(np.uint8)


def peak_memory() -> int:
    """Most bytes of memory that this program has had: ru_maxrss begins with what the process before exec had."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))


def make_checkpoint(folder: Path) -> None:
    """Write the random checkpoint once, in a process whose memory is free again before anything is measured."""
    if (folder / "config.json").exists():
        return
    child = multiprocessing.get_context("spawn").Process(target=_write_checkpoint, args=(folder,))
    child.start()
    child.join()
    if child.exitcode != 0:
        raise SystemExit(f"the checkpoint could not be written to {folder}: see the message above")
    os.sync()  # Else it is still being written while the first side loads.


def _write_checkpoint(folder: Path) -> None:
    import torch
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    sys.path.insert(0, str(ROOT / "tests" / "python"))
    from checkpoints import make_tokenizer
    from transformers import Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor

    tokenizer = make_tokenizer()
    ids = {t: tokenizer.convert_tokens_to_ids(t) for t in tokenizer.all_special_tokens}
    config = Qwen2VLConfig(
        text_config={
            "hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
            "intermediate_size": 8960, "vocab_size": 151936, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        vision_config={"embed_dim": 1280, "depth": 32, "num_heads": 16, "hidden_size": 1536, "mlp_ratio": 4},
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True, dtype=torch.bfloat16,
    )  # fmt: skip
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    model = Qwen2VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    folder.mkdir(parents=True, exist_ok=True)
    Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(), video_processor=Qwen2VLVideoProcessor(),
        tokenizer=tokenizer, chat_template=TEMPLATE.read_text(encoding="utf-8"),
    ).save_pretrained(folder)  # fmt: skip
    model.save_pretrained(folder)


class Transformers:
    """The peer: `generate` and a plain forward."""

    def __init__(self, folder: Path, threads: int) -> None:
        import torch
        from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

        self.torch = torch
        torch.set_num_threads(threads)
        start = time.perf_counter()
        self.model = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16).eval()
        self.load_seconds = [time.perf_counter() - start] * 2
        self.processor = AutoProcessor.from_pretrained(folder)

    def _batch(self, count: int, image: bool, words: int = 100) -> Any:
        from PIL import Image

        content: list[dict[str, Any]] = [{"type": "text", "text": "word " * words}]
        if image:
            content.insert(0, {"type": "image", "image": Image.fromarray(test_image())})
        messages = [[{"role": "user", "content": content}]] * count
        return self.processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )

    def encode(self) -> Any:
        with self.torch.inference_mode():
            out = self.model.model(**self._batch(1, True)).last_hidden_state[0, -1].float()
        return out / out.norm()

    def generate(self, count: int, tokens: int, image: bool, words: int) -> int:
        batch = self._batch(count, image, words)
        with self.torch.inference_mode():
            out = self.model.generate(
                **batch, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, repetition_penalty=1.0
            )
        return count * (out.shape[1] - batch["input_ids"].shape[1])

    def pipeline(self, items: int) -> None:
        batch = self._batch(items, True)
        length, patches = batch["input_ids"].shape[1], batch["pixel_values"].shape[0] // items
        with self.torch.inference_mode():
            most = max(TRACES[items])
            out = self.model.generate(
                **batch, max_new_tokens=most, min_new_tokens=most, do_sample=False, repetition_penalty=1.0
            )
            for row, tokens in enumerate(TRACES[items]):
                self.model.model.rope_deltas = None
                states = self.model.model(
                    input_ids=out[row : row + 1, : length + tokens],
                    attention_mask=self.torch.ones(1, length + tokens, dtype=self.torch.int64),
                    mm_token_type_ids=self.torch.nn.functional.pad(
                        batch["mm_token_type_ids"][row : row + 1], (0, tokens)
                    ),
                    pixel_values=batch["pixel_values"][row * patches : (row + 1) * patches],
                    image_grid_thw=batch["image_grid_thw"][row : row + 1],
                ).last_hidden_state[0, -1].float()  # fmt: skip
                states / states.norm()


class Tte:
    """Ours, through the public Python calls."""

    def __init__(self, folder: Path, threads: int, quantization: str | None) -> None:
        import tte

        # Random weights repeat themselves: guesses would be right more often than of a trained model.
        backend = tte.Backend("cpu", threads=threads, prompt_lookup_tokens=0)
        start = time.perf_counter()
        self.reasoner = tte.Reasoner(folder, backend=backend, quantization=quantization)
        self.load_seconds = [time.perf_counter() - start]
        self.embedder = tte.Embedder(folder, backend=backend, quantization=quantization)
        self.load_seconds.append(time.perf_counter() - start)
        self.round = 0

    def _items(self, count: int, image: bool, words: int = 100) -> list[Any]:
        # Another first word every time: a prompt that was seen before would be reused, which the peer cannot do.
        self.round += 1
        items: list[Any] = []
        for index in range(count):
            pixels = test_image()
            pixels[0, 0] = [self.round % 256, index, 0]
            text = "word " * words
            items.append(
                [{"type": "image", "image": pixels}, {"type": "text", "text": text}]
                if image
                else [{"type": "text", "text": f"{self.round} {index} {text}"}]
            )
        return items

    def encode(self) -> Any:
        return self.embedder.embed(self._items(1, True), progress=False)[0]

    def generate(self, count: int, tokens: int, image: bool, words: int) -> int:
        items = self._items(count, image, words)
        traces = self.reasoner.think(items, max_new_tokens=tokens, ignore_eos=True, progress=False)
        return sum(len(t.token_ids) for t in traces)

    def pipeline(self, items: int) -> None:
        import tte

        tte.think_then_embed(
            self._items(items, True), reasoner=self.reasoner, embedder=self.embedder, max_new_tokens=TRACES[items],
            ignore_eos=True, progress=False,
        )  # fmt: skip


def worker(side: str, folder: Path, threads: int, clock: Callable[[], float]) -> None:
    """Serve measurements over standard input and output, one JSON a line."""
    name, _, bits = side.partition(" ")
    engine: Transformers | Tte = Tte(folder, threads, bits or None) if name == "tte" else Transformers(folder, threads)
    print(json.dumps({"load": engine.load_seconds}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        start = clock()
        tokens = 0
        if job["what"] == "encode":
            engine.encode()
        elif job["what"] == "pipeline":
            engine.pipeline(job["items"])
        else:
            tokens = engine.generate(job["count"], job["tokens"], job["image"], job.get("words", 100))
        seconds = clock() - start
        print(json.dumps({"seconds": seconds, "tokens": tokens, "peak": peak_memory()}), flush=True)


def report(
    arguments: argparse.Namespace,
    loads: dict[str, list[float]],
    seconds: dict[str, dict[str, list[float]]],
    peak: dict[str, float],
) -> None:
    """Print a table: the median of each side, and how many times faster than transformers it is."""
    n, sides = arguments.tokens, list(arguments.sides)
    median = {name: {s: statistics.median(v) for s, v in each.items()} for name, each in seconds.items()}
    rows: list[tuple[str, dict[str, float], bool]] = [
        (name, {side: loads[side][i] for side in sides}, True) for i, name in enumerate(("load one, s", "load both, s"))
    ]
    rows += [(f"{name}, s", values, True) for name, values in median.items() if "decode" not in name]
    for name, first, batch in (
        ("decode 1", "prefill", 1), ("text decode 8", "text prefill 8", 8), ("text decode 32", "text prefill 32", 32)
    ):  # fmt: skip
        if name in median and first in median:
            rate = {s: batch * n / max(median[name][s] - median[first][s], 1e-9) for s in sides}
            rows.append((f"{name}, token/s", rate, False))
    print(f"{'':24}" + "".join(f"{side:>18}" for side in sides))
    for name, values, lower_is_better in rows:
        cells = []
        for side in sides:
            peer = values.get("transformers", 0)
            ratio = peer / values[side] if lower_is_better else values[side] / (peer or 1)
            cells.append(f"{values[side]:.2f}" + (f" ({ratio:.2f}x)" if peer and side != "transformers" else ""))
        print(f"{name:24}" + "".join(f"{cell:>18}" for cell in cells))
    print(f"{'peak memory, GiB':24}" + "".join(f"{peak[side] / 2**30:18.2f}" for side in sides))
    spread = max((max(v) - min(v)) / statistics.median(v) for each in seconds.values() for v in each.values() if v)
    print(f"{sides[0]} loads one in {loads['first'][0]:.2f} s for the first time; {arguments.threads} threads")
    print(f"medians of {arguments.rounds} rounds, which differ by up to {spread:.0%}")


def main() -> None:
    """Run all sides in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, default=Path.home() / ".cache" / "tte" / "qwen2-vl-2b-random")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=16, help="tokens that the decode measurement adds")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="default: all")
    parser.add_argument(
        "--think-items", nargs="*", type=int, choices=TRACES, default=[12],
        help="items of think then embed, the longest measurements; none: they are left out",
    )  # fmt: skip
    parser.add_argument(
        "--processor-time", action="store_true",
        help="seconds of the processor, and no round that warms up: for a machine that others use; with --threads 1",
    )  # fmt: skip
    parser.add_argument("--only", nargs="+", metavar="WORD", help="measurements whose names have one of these words")
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        clock = time.process_time if arguments.processor_time else time.perf_counter
        worker(arguments.worker, arguments.dir, arguments.threads, clock)
        return
    make_checkpoint(arguments.dir)
    processes: dict[str, subprocess.Popen[str]] = {}
    loads: dict[str, list[float]] = {}
    peak = dict.fromkeys(arguments.sides, 0.0)

    def ask(side: str, job: dict[str, Any] | None) -> dict[str, Any]:
        process = processes[side]
        assert process.stdin is not None
        assert process.stdout is not None
        if job is not None:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
        reply = process.stdout.readline()
        if not reply:
            raise SystemExit(f"the {side} process ended: see its message above")
        return dict(json.loads(reply))

    # One after the other, so that they do not disturb each other's loading; the first finds the file read already.
    with (arguments.dir / "model.safetensors").open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass
    command = [sys.executable, __file__, "--dir", str(arguments.dir), "--threads", str(arguments.threads)]
    command += ["--processor-time"] * arguments.processor_time
    with tempfile.TemporaryDirectory() as cache:
        # tte hashes a checkpoint the first time it sees it and remembers the digests in the user's cache.
        for side in (arguments.sides[0], *arguments.sides):
            if side in processes:
                processes[side].terminate()
                processes[side].wait()
            processes[side] = subprocess.Popen(
                [*command, "--worker", side], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**os.environ, "XDG_CACHE_HOME": cache},
            )  # fmt: skip
            loads[side] = ask(side, None)["load"]
            loads.setdefault("first", loads[side])
    n = arguments.tokens
    jobs: dict[str, dict[str, Any]] = {
        "encode": {"what": "encode"},
        "prefill": {"what": "generate", "count": 1, "tokens": 1, "image": True},
        "decode 1": {"what": "generate", "count": 1, "tokens": 1 + n, "image": True},
        "text prefill 8": {"what": "generate", "count": 8, "tokens": 1, "image": False},
        "text decode 8": {"what": "generate", "count": 8, "tokens": 1 + n, "image": False},
        "text prefill 32": {"what": "generate", "count": 32, "tokens": 1, "image": False},
        "text decode 32": {"what": "generate", "count": 32, "tokens": 1 + n, "image": False},
        "prefill 2000": {"what": "generate", "count": 1, "tokens": 1, "image": False, "words": 2000},
    }
    for items in arguments.think_items:
        jobs[f"think then embed {items}"] = {"what": "pipeline", "items": items}
    if arguments.only:
        jobs = {name: job for name, job in jobs.items() if set(name.split()) & set(arguments.only)}
    seconds: dict[str, dict[str, list[float]]] = {name: {side: [] for side in processes} for name in jobs}
    for turn in range(int(arguments.processor_time), arguments.rounds + 1):
        for name, job in jobs.items():
            if turn == 0 and job["what"] == "pipeline":
                continue
            for side in processes:
                reply = ask(side, job)
                peak[side] = max(peak[side], reply["peak"])
                print(f"{turn}/{arguments.rounds} {name}, {side}: {reply['seconds']:.2f} s", file=sys.stderr)
                if turn:  # The first round warms all up.
                    seconds[name][side].append(reply["seconds"])
    report(arguments, loads, seconds, peak)
    for process in processes.values():
        process.terminate()


if __name__ == "__main__":
    main()
