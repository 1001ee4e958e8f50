"""tte beside llama.cpp and OpenVINO GenAI: the text decoder of Qwen2-VL-2B's shape, random weights, same threads.

    python benchmarks/peers.py --dir /big/disk/qwen2-vl-2b-random

Measures prefill of one prompt of about 1,000 tokens, decode of that sequence, and decode of 8 sequences together, in
bfloat16, int8 (llama.cpp: Q8_0) and int4 (Q4_0; all of them have scales for blocks of 32 weights). Sides take turns;
a ratio is of two measurements of one round. Peers are built and installed beside the checkpoint, in an environment of
their own: llama.cpp from the sources in the package llama-cpp-python, for this very machine. What cannot be installed
is said and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FORMATS = {"bf16": "BF16", "int8": "Q8_0", "int4": "Q4_0"}  # And what GGUF calls them.
ROWS = ("prefill", "decode 1", "decode 8")
MANY, SHORT = 8, 128  # Sequences that are decoded together, and tokens of their prompts.


def run(*command: object, **options: Any) -> str:
    """Run a command; what it wrote, or a RuntimeError with its last line."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise RuntimeError(f"{Path(str(command[0])).name} ended with {done.returncode}: {lines[-1][:300]}")
    return done.stdout


class Peers:
    """What is installed beside the checkpoint."""

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        self.folder, self.checkpoint = folder, checkpoint
        self.python = folder / "venv" / "bin" / "python"
        if not self.python.exists():
            venv.create(folder / "venv", with_pip=True)
            run(self.python, "-m", "pip", "install", "--quiet", "gguf")

    def model(self, kind: str) -> Path:
        """The decoder in a format: every matrix, as tte has it, the embedding and the head too."""
        path = self.folder / f"{kind}.gguf"
        if not path.exists():
            run(self.python, HERE / "decoder_gguf.py", self.checkpoint, self.folder / "partial.gguf", kind)
            (self.folder / "partial.gguf").rename(path)
        return path

    @property
    def build(self) -> Path:
        return self.folder / "llama.cpp" / "bin"

    def llama(self) -> None:
        """Build llama.cpp for this machine."""
        if (self.build / "llama-batched-bench").exists():
            return
        sources = self.folder / "sources"
        pip = [self.python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        run(*pip, "--dest", sources, "llama-cpp-python")
        run("tar", "--extract", "--directory", sources, "--file", next(sources.glob("llama_cpp_python-*.tar.gz")))
        source = next(sources.glob("llama_cpp_python-*/vendor/llama.cpp"))
        off = ["TESTS", "EXAMPLES", "SERVER", "APP"]
        options = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_OPENSSL=OFF"]
        options.append("-DLLAMA_USE_PREBUILT_UI=OFF")  # It would be downloaded.
        options += [f"-DLLAMA_BUILD_{part}=OFF" for part in off]
        run("cmake", "-S", source, "-B", self.build.parent, *options)
        run("cmake", "--build", self.build.parent, "--parallel", os.cpu_count(), "--target", "llama-batched-bench")

    def openvino(self) -> None:
        """Install OpenVINO GenAI."""
        run(self.python, "-m", "pip", "install", "--quiet", "openvino-genai", "numpy")


class Llama:
    """llama-batched-bench, a process a measurement."""

    def __init__(self, peers: Peers, bits: str, threads: int) -> None:
        self.program, self.model, self.threads = (
            peers.build / "llama-batched-bench",
            peers.model(FORMATS[bits]),
            threads,
        )

    def measure(self, prompt: int, tokens: int) -> dict[str, float]:
        """Seconds of prefill, and token/s of one sequence and of MANY."""
        found = {}
        for count, length in ((1, prompt), (MANY, SHORT)):
            out = run(
                self.program, "-m", self.model, "-t", self.threads, "-tb", self.threads, "-npp", length, "-ntg", tokens,
                "-npl", count, "-c", count * (length + tokens) + 256, "-b", 2048, "-ub", 512,
                "--output-format", "jsonl", stdin=subprocess.DEVNULL,
            )  # fmt: skip
            line = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
            if count == 1:
                found["prefill"] = line["t_pp"]
            found[f"decode {count}"] = count * tokens / line["t_tg"]
        return found

    def close(self) -> None:
        pass


class Served:
    """A side in a process of its own, which answers JSON lines."""

    def __init__(self, *command: object) -> None:
        arguments = [str(part) for part in command]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask({})

    def ask(self, job: dict[str, int]) -> dict[str, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise RuntimeError("the process ended: see its message above")

    def measure(self, prompt: int, tokens: int) -> dict[str, float]:
        """Seconds of prefill, and token/s of one sequence and of MANY."""
        found = {}
        for count, length in ((1, prompt), (MANY, SHORT)):
            first, all_of_it = (self.ask({"count": count, "length": length, "tokens": n})["s"] for n in (1, 1 + tokens))
            if count == 1:
                found["prefill"] = first
            found[f"decode {count}"] = count * tokens / max(all_of_it - first, 1e-9)
        return found

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def worker(folder: Path, bits: str, threads: int) -> None:
    """Answer measurements of tte over standard input and output."""
    import time

    import tte

    backend = tte.Backend("cpu", threads=threads, prompt_lookup_tokens=0)
    reasoner = tte.Reasoner(folder, backend=backend, quantization=None if bits == "bf16" else bits)
    for number, line in enumerate(sys.stdin):
        job = json.loads(line)
        seconds = 0.0
        if job:
            # A word is a token. The first is another every time, so that no prompt was seen before.
            items = [f"{number} {i} " + "word " * job["length"] for i in range(job["count"])]
            start = time.perf_counter()
            reasoner.think(items, max_new_tokens=job["tokens"], ignore_eos=True, progress=False)
            seconds = time.perf_counter() - start
        print(json.dumps({"s": seconds}), flush=True)


def sides_of(peers: Peers, available: list[str], bits: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Start what is measured in a format; a peer that does not take it is said and left out."""
    threads = arguments.threads
    sides: dict[str, Any] = {
        "tte": Served(sys.executable, __file__, "--dir", peers.checkpoint, "--threads", threads, "--worker", bits)
    }
    for name in available:
        try:
            if name == "llama.cpp":
                sides[name] = Llama(peers, bits, threads)
            else:
                # It reads no bfloat16, but computes in it where the processor does.
                model = peers.model("F16" if bits == "bf16" else FORMATS[bits])
                sides[name] = Served(peers.python, HERE / "openvino_side.py", model, threads)
        except RuntimeError as error:
            print(f"{name} does not take {bits}: {error}", flush=True)
    return sides


def report(bits: str, found: dict[str, list[dict[str, float]]]) -> None:
    """Print a row a measurement: medians, and how many times faster tte is (least, median, most of the rounds)."""
    peers = [name for name in found if name != "tte"]
    for row in ROWS:
        values = {name: [each[row] for each in rounds] for name, rounds in found.items()}
        line = (
            f"{bits:6}{row + (', s' if row == 'prefill' else ', token/s'):20}{statistics.median(values['tte']):10.2f}"
        )
        for name in peers:
            pairs = zip(values["tte"], values[name], strict=True)
            ratios = sorted(b / a if row == "prefill" else a / b for a, b in pairs)
            line += f"{statistics.median(values[name]):14.2f}{'':2}"
            line += f"{ratios[0]:.2f} / {statistics.median(ratios):.2f} / {ratios[-1]:.2f}"
        print(line, flush=True)


def main() -> None:
    """Install peers, measure all sides in turn, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, default=Path.home() / ".cache" / "tte" / "qwen2-vl-2b-random")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=1024, help="tokens of the prompt of one sequence")
    parser.add_argument("--tokens", type=int, default=32, help="tokens that the decode measurement adds")
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--peers", nargs="+", choices=("llama.cpp", "openvino"), default=["llama.cpp", "openvino"])
    parser.add_argument("--worker", choices=list(FORMATS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.dir, arguments.worker, arguments.threads)
        return
    from qwen2_vl_2b import make_checkpoint

    make_checkpoint(arguments.dir)
    folder = arguments.dir.with_name(arguments.dir.name + "-peers")
    folder.mkdir(exist_ok=True)
    peers = Peers(folder, arguments.dir)
    available = []
    for name, install in (("llama.cpp", peers.llama), ("openvino", peers.openvino)):
        if name in arguments.peers:
            try:
                install()
                available.append(name)
            except RuntimeError as error:
                print(f"{name} cannot be installed here: {error}", flush=True)
    print(f"{'':26}{'tte':>10}" + "".join(f"{name:>14}{'  faster: least / median / most':}" for name in available))
    for bits in arguments.formats:
        sides = sides_of(peers, available, bits, arguments)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        for turn in range(arguments.rounds + 1):
            for name, side in sides.items():
                measured = side.measure(arguments.prompt, arguments.tokens)
                if turn:  # The first round warms all up.
                    found[name].append(measured)
        for side in sides.values():
            side.close()
        report(bits, found)
    print(f"{arguments.threads} threads, {arguments.rounds} rounds, a prompt of {arguments.prompt} tokens, "
          f"{MANY} sequences after prompts of {SHORT}, {arguments.tokens} tokens each")  # fmt: skip


if __name__ == "__main__":
    main()
