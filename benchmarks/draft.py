"""What a draft is worth: the same traces, written with and without a small model's guesses, in turn.

    python benchmarks/draft.py --checkpoint /big/disk/qwen2-vl-2b --draft /big/disk/qwen2-vl-small
    python benchmarks/draft.py --layers 2

Without --checkpoint, the nano reasoner thinks about queries of its tasks, with itself in 8 bits as its draft: nearly
all guesses are right, and each costs about as much as the token that it saves. --layers N cuts a draft out of
--checkpoint (or nano): its first N layers, its embedding and its head, as random weights have no smaller model that
says what they say. Prompt lookup is off on both sides. The same tokens come either way, which is checked.

    speed-up   decode seconds without the draft / with, median of the rounds (least to most)
    right      part of the guesses that were right
    a step     tokens written for each time that the large model's weights were read
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import tte
from prompt_lookup import ROOT, compare
from safetensors.torch import load_file, save_file
from tte.nano import generate, tasks


def cut_out(checkpoint: Path, layers: int, folder: Path) -> Path:
    """Write the first layers of a checkpoint of one file as a model of its own."""
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((checkpoint / "config.json").read_text())
    text = config.get("text_config", config)
    last = text["num_hidden_layers"]
    text["num_hidden_layers"] = layers
    text.pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config))
    dropped = [f"layers.{i}." for i in range(layers, last)]
    tensors = load_file(checkpoint / "model.safetensors")
    kept = {
        name: tensor for name, tensor in tensors.items()
        if "visual" in name or not any(part in name for part in dropped)
    }  # fmt: skip
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def sides_of(path: Path, draft: Any, **load: Any) -> tuple[tte.Reasoner, tte.Reasoner]:
    """A reasoner without a draft, and one with it."""
    plain, drafted = (
        tte.Reasoner(
            path, backend=tte.Backend("cpu", prompt_lookup_tokens=0, max_running=number), draft=guesses, **load
        )
        for number, guesses in ((61, None), (62, draft))  # Backends of equal options are one.
    )
    return plain, drafted


def main() -> None:
    """Measure the checkpoint that is given, or the nano reasoner."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="folder of a reasoner; default: the nano reasoner")
    parser.add_argument("--draft", type=Path, help="folder of a smaller one; default: the reasoner itself in 8 bits")
    parser.add_argument("--layers", type=int, help="the draft is the reasoner's first N layers")
    parser.add_argument("--tokens", type=int, default=96, help="length of the checkpoint's traces")
    parser.add_argument("--queries", type=int, default=4, help="of each nano task")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    nano = ROOT / "models" / "nano" / "reasoner"
    path = arguments.checkpoint or nano
    with tempfile.TemporaryDirectory() as scratch:
        draft: Any = arguments.draft
        if arguments.layers is not None:
            draft = cut_out(path, arguments.layers, Path(scratch) / "draft")
        load = {} if arguments.checkpoint is None else {"recipe": "raw"}
        if draft is None:
            draft = tte.Reasoner(path, device="cpu", quantization="int8", **load)
        print(f"{'traces':34} {'seq':>3} {'speed-up':>21} {'right':>7} {'a step':>7}")
        if arguments.checkpoint is None:
            for task in tasks():
                items = [{"text": sample.query.text} for sample in generate(task, 5, arguments.queries)]
                compare(f"nano, {task}", sides_of(path, draft, **load), items, 1, arguments.rounds, max_new_tokens=64)
            return
        question = "what is left of the red circle, and what is above the blue square ?"
        for together in (1, 4):
            items = [f"{i} {question}" for i in range(together)]
            compare(
                "random weights", sides_of(path, draft, **load), items, together, arguments.rounds,
                max_new_tokens=arguments.tokens, ignore_eos=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
