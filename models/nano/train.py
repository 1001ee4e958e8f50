"""Train the nano pair: ``python models/nano/train.py all`` (or reasoner | embedder | embedder-no-think).

Resumable: state is saved in --work every few minutes; the same command goes on where it stopped. One thread.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import data
import model as nano_model
import numpy as np
import torch
import torch.nn.functional as F
from data import FOLDER, SP, SPECIAL, STOP, collate, sequence
from optim import optimizers
from torch import Tensor

from nano import Item, Rng, draft, tasks  # found through data.py

TARGET_TASKS = ("image_ret", "image_vg", "video_ret", "video_mret", "visdoc")
STREAMS = (*tasks(), *(f"{t}/target" for t in TARGET_TASKS))
# Share of each stream in a batch: perception first, then reasoning.
EARLY = dict(zip(STREAMS, (0.12, 0.08, 0.02, 0.04, 0.08, 0.06, 0.03, 0.04, 0.01, 0.22, 0.03, 0.12, 0.06, 0.11), strict=True))
LATE = dict(zip(STREAMS, (0.05, 0.16, 0.14, 0.13, 0.09, 0.10, 0.05, 0.10, 0.01, 0.07, 0.02, 0.06, 0.03, 0.06), strict=True))


def item_of(stream: str, rng: Rng, split: Any) -> Item:
    """A fresh input of a stream, with its gold trace."""
    d = draft(stream.split("/")[0], split, rng, hard=0)
    return d.target if "/" in stream else d.query


def lr_at(step: int, total: int, peak: float, hold: float) -> float:
    """Warm up over 30 steps, hold, then fall linearly to 2 % of the peak."""
    after = max(0.0, (step - hold * total) / ((1 - hold) * total))
    return peak * min(1.0, (step + 1) / 30) * max(0.02, 1 - after)


def save_checkpoint(model: Any, folder: Path) -> None:
    """Write the model in bf16 as transformers does, beside the tokenizer and processor files."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    model.to(torch.bfloat16).save_pretrained(folder)
    model.to(torch.float32)
    model.load_state_dict(state)
    (folder / "generation_config.json").write_text(
        json.dumps({"do_sample": False, "eos_token_id": STOP, "pad_token_id": 0, "max_new_tokens": 64}, indent=2) + "\n"
    )
    for path in (FOLDER / "reasoner").iterdir():
        if path.name.startswith(("tokenizer", "preprocessor", "video_", "chat_")) and folder.resolve() != path.parent.resolve():
            shutil.copy(path, folder)


def load(folder: Path) -> Any:
    """A checkpoint in fp32."""
    from transformers import Qwen2VLForConditionalGeneration

    return Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)


class Run:
    """A resumable training run: model, optimisers, step, log."""

    def __init__(self, name: str, model: Any, peak: float, args: argparse.Namespace) -> None:
        self.name, self.model, self.peak, self.args = name, model, peak, args
        self.opts = optimizers(model, peak)
        self.step, self.seconds = 0, 0.0
        self.path = Path(args.work) / f"{name}.pt"
        self.log_path = FOLDER / "logs" / f"{name}.jsonl"
        self.extra: dict[str, Any] = {}
        if self.path.exists():
            state = torch.load(self.path, weights_only=False)
            model.load_state_dict(state["model"])
            for opt, s in zip(self.opts, state["opts"], strict=True):
                opt.load_state_dict(s)
            self.step, self.seconds, self.extra = state["step"], state["seconds"], state["extra"]
            print(f"{name}: resumed at step {self.step}", flush=True)
        self.started = time.time()

    def save(self) -> None:
        now = time.time()
        self.seconds, self.started = self.seconds + now - self.started, now
        state = {
            "model": self.model.state_dict(), "opts": [o.state_dict() for o in self.opts],
            "step": self.step, "seconds": self.seconds, "extra": self.extra,
        }  # fmt: skip
        torch.save(state, self.path.with_suffix(".tmp"))
        os.replace(self.path.with_suffix(".tmp"), self.path)

    def update(self, loss: Tensor, total: int, hold: float) -> float:
        loss.backward()
        size = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for opt in self.opts:
            for group in opt.param_groups:
                group["lr"] = lr_at(self.step, total, self.peak, hold)
            opt.step()
        self.model.zero_grad(set_to_none=True)
        self.step += 1
        return float(size)

    def log(self, **values: Any) -> None:
        elapsed = self.seconds + time.time() - self.started
        record = {"step": self.step, "seconds": round(elapsed), **values}
        self.log_path.parent.mkdir(exist_ok=True)
        with self.log_path.open("a") as f:
            f.write(json.dumps(record) + "\n")
        print(self.name, json.dumps(record), flush=True)


# ---------------------------------------------------------------- reasoner


def write_traces(model: Any, items: list[Item], size: int = 128) -> list[str]:
    """The traces that the reasoner itself writes, greedily."""
    out: list[str] = []
    model.eval()
    for a in range(0, len(items), size):
        prompts = [sequence(i, None, end=False) for i in items[a : a + size]]
        where = [int(s.positions.max()) + 1 for s in prompts]
        for ids in nano_model.decode(model, collate(prompts, 64), where, STOP, 64):
            out.append(SP.decode(ids[:-1] if ids and ids[-1] == STOP else ids))
    model.train()
    return out


def conclusion(trace: str) -> str:
    return trace.split("</think>")[-1].strip()


def reasoner_accuracy(model: Any, split: Any, n: int, seed: str) -> dict[str, float]:
    """Share of generated traces whose conclusion is the gold one, for each stream."""
    result = {}
    for stream in STREAMS:
        rng = Rng(f"tte-nano/check/{stream}/{split}/{seed}")
        items = [item_of(stream, rng, split) for _ in range(n)]
        traces = write_traces(model, items)
        result[stream] = float(np.mean([conclusion(t) == conclusion(i.trace or "") for t, i in zip(traces, items, strict=True)]))
    return result


COLOUR_IDS = torch.zeros(SP.get_piece_size(), dtype=torch.bool)
for _name in ("red", "green", "blue", "yellow", "purple", "cyan", "orange", "white"):
    COLOUR_IDS[SP.piece_to_id("▁" + _name)] = True


def trace_loss(model: Any, items: list[Item], blank: float, noise: torch.Generator) -> Tensor:
    """Cross entropy of the gold traces. A tenth of the colour words read is blanked, so that the kind of a thing is
    taken from the picture and not from which pairs occur together in training."""
    sequences = [sequence(i, i.trace) for i in items]
    batch = collate(sequences, 24)
    starts = torch.tensor([sequences[i].start for i in batch.order])
    lengths = torch.tensor(batch.lengths)
    ends = lengths.cumsum(0)
    row = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    column = torch.arange(len(batch.ids)) - (ends - lengths)[row]
    target = (column >= starts[row]).nonzero()[:, 0]
    gold = batch.ids[target]
    if blank:
        hide = COLOUR_IDS[batch.ids] & (column >= starts[row]) & (torch.rand(len(batch.ids), generator=noise) < blank)
        batch.ids = batch.ids.masked_fill(hide, 1)
    states = nano_model.forward(model, batch)
    return F.cross_entropy(nano_model.logits(model, states[target - 1]), gold)


def train_reasoner(args: argparse.Namespace) -> None:
    model = nano_model.build(SP.get_piece_size(), SPECIAL, args.seed)
    run = Run("reasoner", model, args.lr, args)
    accuracy: dict[str, float] = run.extra.get("accuracy", {})
    losses: list[float] = []
    while run.step < args.steps:
        rng = Rng(f"tte-nano/train/reasoner/{args.seed}/{run.step}")
        mix = min(1.0, max(0.0, (run.step - 150) / 250))
        share = np.array([(1 - mix) * EARLY[s] + mix * LATE[s] * (0.35 + 1.3 * (1 - accuracy.get(s, 0.5))) for s in STREAMS])
        ends = np.cumsum(share / share.sum())
        offset = rng.below(1000) / 1000
        picks = np.searchsorted(ends, (np.arange(args.batch) + offset) / args.batch)
        items = [item_of(STREAMS[min(int(k), len(STREAMS) - 1)], rng, "train") for k in picks]
        loss = trace_loss(model, items, args.blank, torch.Generator().manual_seed(run.step))
        run.update(loss, args.steps, args.hold)
        losses.append(float(loss.detach()))
        if run.step % 25 == 0:
            run.log(loss=round(float(np.mean(losses)), 4), lr=round(lr_at(run.step, args.steps, args.lr, args.hold), 6))
            losses = []
        if run.step % 150 == 0 or run.step == args.steps:
            accuracy = reasoner_accuracy(model, "val", 32, "watch")
            run.extra["accuracy"] = accuracy
            run.log(val={k: round(v, 3) for k, v in accuracy.items()})
            run.save()
    run.save()
    save_checkpoint(model, FOLDER / "reasoner")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("all", "init", "reasoner", "embedder", "embedder-no-think"))
    parser.add_argument("--work", default=os.environ.get("NANO_WORK", "/tmp/tte/nano"))
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--batch", type=int, default=72)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--hold", type=float, default=0.55, help="share of the steps before the learning rate falls")
    parser.add_argument("--blank", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    Path(args.work).mkdir(parents=True, exist_ok=True)
    random.seed(args.seed)
    if args.what == "init":
        for name in ("reasoner", "embedder"):
            save_checkpoint(nano_model.build(SP.get_piece_size(), SPECIAL, args.seed), FOLDER / name)
    if args.what in ("all", "reasoner"):
        train_reasoner(args)


if __name__ == "__main__":
    main()
