"""Train the nano pair: ``python models/nano/train.py all`` (or reasoner | embedder | embedder-no-think | head).

Resumable: state is saved in --work every few minutes; the same command goes on where it stopped. One thread.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import eval as evaluation
import model as nano_model
import numpy as np
import torch
import torch.nn.functional as F
from data import FOLDER, SP, SPECIAL, STOP, collate, sequence
from nano import LABELS, PAIRS, Item, Rng, Thing, draft, generate, tasks  # found through data.py
from nano.world import COLOURS, KINDS, NUMBERS
from optim import optimizers
from safetensors.torch import save_file
from torch import Tensor
from use import Head, conclusion, head_vectors, load, pooled, vectors, write_traces

TARGET_TASKS = ("image_ret", "image_vg", "video_ret", "video_mret", "visdoc")
STREAMS = (*tasks(), *(f"{t}/target" for t in TARGET_TASKS))
# Share of each stream in a batch: perception first, then reasoning.
EARLY = dict(
    zip(STREAMS, (0.12, 0.08, 0.02, 0.04, 0.08, 0.06, 0.03, 0.04, 0.01, 0.22, 0.03, 0.12, 0.06, 0.11), strict=True)
)
LATE = dict(
    zip(STREAMS, (0.05, 0.16, 0.14, 0.13, 0.09, 0.10, 0.05, 0.10, 0.01, 0.07, 0.02, 0.06, 0.03, 0.06), strict=True)
)


def items_of(stream: str, rng: Rng, split: Any, more: int = 0) -> list[Item]:
    """A fresh input of a stream with its gold trace, and up to more queries about the same picture."""
    d = draft(stream.split("/", maxsplit=1)[0], split, rng, 0, more)
    return [d.target] if "/" in stream else [d.query, *d.more]


def lr_at(step: int, total: int, peak: float, hold: float) -> float:
    """Warm up over 30 steps, hold, then fall linearly to 2 % of the peak."""
    after = max(0.0, (step - hold * total) / ((1 - hold) * total))
    return peak * min(1.0, (step + 1) / 30) * max(0.02, 1 - after)


def save_checkpoint(model: Any, folder: Path) -> None:
    """Write the model in bf16 as transformers does, beside the tokenizer and processor files."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    model.to(torch.float32)
    model.load_state_dict(state)
    (folder / "generation_config.json").write_text(
        json.dumps({"do_sample": False, "eos_token_id": STOP, "pad_token_id": 0, "max_new_tokens": 64}, indent=2) + "\n"
    )
    for path in (FOLDER / "reasoner").iterdir():
        if (
            path.name.startswith(("tokenizer", "preprocessor", "video_", "chat_"))
            and folder.resolve() != path.parent.resolve()
        ):
            shutil.copy(path, folder)


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


def reasoner_accuracy(model: Any, split: Any, n: int, seed: str) -> dict[str, float]:
    """Share of generated traces whose conclusion is the gold one, for each stream."""
    items = []
    for stream in STREAMS:
        rng = Rng(f"tte-nano/check/{stream}/{split}/{seed}")
        items += [items_of(stream, rng, split)[0] for _ in range(n)]
    traces = write_traces(model, items, 256)
    right = [conclusion(t) == conclusion(i.trace or "") for t, i in zip(traces, items, strict=True)]
    return {stream: float(np.mean(right[i * n : i * n + n])) for i, stream in enumerate(STREAMS)}


COLOUR_IDS = torch.zeros(SP.get_piece_size(), dtype=torch.bool)
KIND_IDS = torch.zeros(SP.get_piece_size(), dtype=torch.bool)
UNSEEN = torch.zeros(SP.get_piece_size(), SP.get_piece_size(), dtype=torch.bool)
"""[colour word, kind word]: pairs that training never shows."""
for _colour in COLOURS:
    COLOUR_IDS[SP.piece_to_id("▁" + _colour)] = True
    for _kind in KINDS:
        KIND_IDS[SP.piece_to_id("▁" + _kind)] = True
        UNSEEN[SP.piece_to_id("▁" + _colour), SP.piece_to_id("▁" + _kind)] = Thing(_colour, _kind) not in PAIRS["train"]


def trace_loss(model: Any, items: list[Item], blank: float, noise: torch.Generator) -> Tensor:
    """Cross entropy of the gold traces.

    Two measures let the model read pairs that it has never seen. A share of the colour words read is blanked, so that
    the kind is taken from the picture and not from the colour's name; and where a kind follows a colour, kinds that
    training never shows in that colour are left out of the softmax: an absent pair is no evidence against the pair.
    """
    sequences = [sequence(i, i.trace) for i in items]
    batch = collate(sequences, 24, share=True)
    starts = torch.tensor([sequences[i].start for i in batch.order])
    row, column = batch.row, batch.column
    target = (column >= starts[row]).nonzero()[:, 0]
    gold, before = batch.ids[target], batch.ids[target - 1]
    out = UNSEEN[before] & KIND_IDS[gold][:, None]
    if blank:
        hide = COLOUR_IDS[batch.ids] & (column >= starts[row]) & (torch.rand(len(batch.ids), generator=noise) < blank)
        batch.ids = batch.ids.masked_fill(hide, 1)
    states = nano_model.forward(model, batch)
    return F.cross_entropy(nano_model.logits(model, states[target - 1]).masked_fill(out, -1e4), gold)


def train_reasoner(args: argparse.Namespace) -> None:
    model = nano_model.build(SP.get_piece_size(), SPECIAL, args.seed)
    run = Run("reasoner", model, args.lr, args)
    accuracy: dict[str, float] = run.extra.get("accuracy", {})
    losses: list[float] = []
    while run.step < args.steps:
        rng = Rng(f"tte-nano/train/reasoner/{args.seed}/{run.step}")
        mix = min(1.0, max(0.0, (run.step - 150) / 250))
        share = np.array(
            [(1 - mix) * EARLY[s] + mix * LATE[s] * (0.35 + 1.3 * (1 - accuracy.get(s, 0.5))) for s in STREAMS]
        )
        ends = np.cumsum(share / share.sum())
        offset = rng.below(1000) / 1000
        picks = np.searchsorted(ends, (np.arange(args.batch) + offset) / args.batch)
        items = [i for k in picks for i in items_of(STREAMS[min(int(k), len(STREAMS) - 1)], rng, "train", 2)]
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


# ---------------------------------------------------------------- embedders


def meaning(item: Item) -> str:
    """What a candidate is: its text, or the conclusion of its gold trace."""
    return conclusion(item.trace) if item.trace else item.text


Embed = Callable[[list[Item]], Tensor]
"""L2-normalised vectors of items."""


def contrast(
    embed: Embed, rng: Rng, sizes: dict[str, tuple[int, int]], teacher: Embed | None = None
) -> tuple[dict[str, tuple[Tensor, float]], Tensor, Tensor]:
    """InfoNCE of each task in sizes (task -> queries, near-duplicates a query); loss and accuracy per task.

    The labels of text tasks are all training names of the task. Only names of training pairs occur. Then, both 0
    without a teacher, the mean cosine distance to its vectors of the same items, and how far the softmax over each
    query's candidates is from the teacher's (KL divergence, mean over tasks).
    """
    items: list[Item] = []
    plan: dict[str, tuple[int, int, list[int], list[str]]] = {}
    where: dict[str, int] = {}

    def text_item(text: str) -> int:
        if text not in where:
            where[text] = len(items)
            items.append(Item(text))
        return where[text]

    for task, (queries, hard) in sizes.items():
        drafts = [draft(task, "train", rng, hard) for _ in range(queries)]
        start = len(items)
        items += [d.query for d in drafts]
        golds = [meaning(d.target) for d in drafts]
        if task in TRAIN_LABELS:
            names = sorted(set(rng.sample(TRAIN_LABELS[task], min(40, len(TRAIN_LABELS[task])))) | set(golds))
            plan[task] = (start, queries, [text_item(n) for n in names], [*names, *golds])
        else:
            pool = [i for d in drafts for i in (d.target, *d.hard)]
            first = len(items)
            items += pool
            plan[task] = (start, queries, list(range(first, first + len(pool))), [meaning(i) for i in pool] + golds)
    v = embed(items)
    taught = None if teacher is None else teacher(items)
    unlike: list[Tensor] = []
    result = {}
    for task, (start, queries, targets, names) in plan.items():
        candidates, golds = names[: len(targets)], names[len(targets) :]
        first_of = {n: i for i, n in reversed(list(enumerate(candidates)))}
        duplicate = torch.tensor([first_of[n] != i for i, n in enumerate(candidates)])
        gold = torch.tensor([first_of[g] for g in golds])

        def scores(v: Tensor, rows: slice, targets: list[int], duplicate: Tensor) -> Tensor:
            return (v[rows] @ v[targets].T / 0.03).masked_fill(duplicate[None], -1e4)

        at = slice(start, start + queries), targets, duplicate
        score = scores(v, *at)
        if taught is not None:
            theirs = F.log_softmax(scores(taught, *at), -1)
            unlike.append(F.kl_div(F.log_softmax(score, -1), theirs, reduction="batchmean", log_target=True))
        result[task] = (F.cross_entropy(score, gold), float((score.argmax(1) == gold).float().mean()))
    if taught is None:
        return result, v.new_zeros(()), v.new_zeros(())
    return result, 1 - (v * taught).sum(-1).mean(), torch.stack(unlike).mean()


TRAIN_LABELS: dict[str, tuple[str, ...]] = {
    "image_cls": tuple(t.name for t in PAIRS["train"]),
    "image_qa": tuple(t.name for t in PAIRS["train"]) + NUMBERS,
    "video_cls": LABELS["video_cls"],
    "video_qa": tuple(t.name for t in PAIRS["train"]),
}
HALVES: tuple[dict[str, tuple[int, int]], ...] = (
    {"image_cls": (6, 0), "image_qa": (16, 0), "image_ret": (7, 3), "video_cls": (10, 0), "visdoc": (6, 3)},
    {"image_vg": (10, 3), "video_qa": (12, 0), "video_ret": (6, 2), "video_mret": (6, 4)},
)
"""Every step trains one half of the tasks: queries and near-duplicates a query."""
FOCUS: dict[str, tuple[int, int]] = {"image_cls": (10, 0), "image_ret": (10, 4), "video_mret": (8, 9)}
"""What every second step of the head trains from --focus-from on: the tasks in which it is behind its teacher."""
DISTANCE = 10.0
"""Weight of the distance to a teacher's vectors beside InfoNCE."""


def focuses(run: Run) -> bool:
    """Whether a step with a teacher trains FOCUS."""
    return run.step >= run.args.focus_from and run.step % 2 == 0


def exchanges(run: Run) -> bool:
    """Whether a step with a teacher exchanges words: from --focus-from on, a third of the steps does."""
    if run.step >= run.args.focus_from:
        return run.step // 2 % 3 == 2
    return run.step >= run.args.exchange_from and run.step // 2 % run.args.plain != 0


@torch.no_grad()
def quick_hits(embed: Embed, n: int, split: Any = "val") -> dict[str, float]:
    """hit@1 on n held-out queries a task (a watch during training, not the evaluation)."""
    out = {}
    for task in tasks():
        samples = generate(task, 7, n, split)
        pool: dict[int, Item] = {id(c): c for s in samples for c in s.candidates}
        items = [s.query for s in samples] + list(pool.values())
        v = torch.cat([embed(items[a : a + 128]) for a in range(0, len(items), 128)])
        at = {key: i + len(samples) for i, key in enumerate(pool)}
        hits = [int((v[i] @ v[[at[id(c)] for c in s.candidates]].T).argmax()) == s.label for i, s in enumerate(samples)]
        out[task] = float(np.mean(hits))
    return out


def train_contrast(
    run: Run, embed: Embed, steps: int, hold: float, every: int, queries: int, teacher: Embed | None = None
) -> None:
    """Contrastive steps until `steps`, watched on `queries` validation queries a task every `every` steps."""
    losses: list[float] = []
    apart: list[float] = []
    differ: list[float] = []
    exchanged: list[float] = []
    hits: dict[str, list[float]] = {}
    while run.step < steps:
        rng = Rng(f"tte-nano/train/embedder/{run.args.seed}/{run.step}")
        late = teacher is not None and run.step >= run.args.focus_from
        sizes = FOCUS if late and focuses(run) else HALVES[(run.step // 2 if late else run.step) % 2]
        result, distance, unlike = contrast(embed, rng, sizes, teacher)
        loss = torch.stack([r[0] for r in result.values()]).mean()
        taught = DISTANCE * distance + (unlike if late else 0.0)
        if teacher is not None and exchanges(run):
            run.update(taught, steps, hold)
            exchanged.append(float(distance.detach()))
        else:
            run.update(loss + taught, steps, hold)
            losses.append(float(loss.detach()))
            apart.append(float(distance.detach()))
            differ.append(float(unlike.detach()))
            for task, (_, hit) in result.items():
                hits.setdefault(task, []).append(hit)
        if run.step % 20 == 0:
            distances = {"distance": apart, "exchanged": exchanged, "unlike": differ}
            run.log(
                loss=round(float(np.mean(losses)), 4), hits={k: round(float(np.mean(v)), 3) for k, v in hits.items()},
                **{k: round(float(np.mean(v)), 4) for k, v in distances.items() if teacher is not None and v},
            )  # fmt: skip
            losses, apart, differ, exchanged, hits = [], [], [], [], {}
        if run.step % every == 0 or run.step == steps:
            found = quick_hits(embed, queries)
            mean = round(float(np.mean(list(found.values()))), 4)
            run.log(
                val={k: round(v, 3) for k, v in found.items()}, mean=mean, queries=queries,
                lr=round(lr_at(run.step, steps, run.peak, hold), 6),
            )  # fmt: skip
            run.save()
    run.save()


def train_embedder(args: argparse.Namespace, think: bool) -> None:
    """Both embedders start from the reasoner's weights and see the same queries, targets and near-duplicates."""
    name = "embedder" if think else "embedder-no-think"
    model = load(Path(args.start) if args.start else FOLDER / "reasoner")
    run = Run(name, model, args.embed_lr, args)
    run.step = max(run.step, args.start_step)
    steps, hold = (args.embed_steps, 0.3) if think else (max(args.embed_steps, args.no_think_steps), args.no_think_hold)

    def embed(items: list[Item]) -> Tensor:
        return vectors(model, items, [i.trace if think else None for i in items])

    train_contrast(run, embed, steps, hold, *((50, 40) if think else (100, 100)))
    save_checkpoint(model, Path(args.export) if args.export else FOLDER / name)


# ---------------------------------------------------------------- head


def exchange(batch: nano_model.Batch, share: float, noise: torch.Generator, alike: bool = False) -> None:
    """Put blanks and other colours and kinds in the places of a share of the colours and kinds of a batch.

    With alike, a share of the words is exchanged wherever they stand, each for the same one: near-duplicates stay near.
    A kind that would then follow a colour in which training never shows it becomes a blank too.
    """
    words = COLOUR_IDS | KIND_IDS
    old = torch.arange(len(words)) if alike else batch.ids
    new = words.nonzero()[torch.randint(int(words.sum()), old.shape, generator=noise), 0]
    new = new.masked_fill(torch.rand(old.shape, generator=noise) < 0.5, 1)
    ids = torch.where(words[old] & (torch.rand(old.shape, generator=noise) < share), new, old)
    ids = ids[batch.ids] if alike else ids
    batch.ids = ids.masked_fill(UNSEEN[ids.roll(1), ids], 1)


def train_head(args: argparse.Namespace) -> None:
    """The embedding head of the frozen reasoner, taught by the pair's embedder, from whose last layers it starts.

    At first each step has InfoNCE and the distance to the teacher, then most have the distance alone, for inputs in
    which words have been exchanged. Else the head learns the pairs of colour and kind by heart. At last two of three
    steps have InfoNCE again, all have the teacher's softmax as well, and every second one trains FOCUS.
    """
    base = load(FOLDER / "reasoner").requires_grad_(False)
    taught = load(FOLDER / "embedder").requires_grad_(False)
    head = Head(taught, args.head_layers).requires_grad_(True)
    run = Run("head", head, args.embed_lr, args)
    latest: list[nano_model.Batch] = []

    def embed(items: list[Item]) -> Tensor:
        batch = collate([sequence(i, i.trace) for i in items], 32)
        if torch.is_grad_enabled() and exchanges(run):
            exchange(batch, args.exchange, torch.Generator().manual_seed(run.step), alike=focuses(run))
        latest[:] = [batch]
        return head_vectors(base, head, batch)

    def teacher(items: list[Item]) -> Tensor:
        return pooled(nano_model.forward(taught, latest[0]), latest[0])

    train_contrast(run, embed, args.head_steps, args.head_hold, 50, 40, teacher)
    save_head(head, FOLDER / "head")


def save_head(head: Head, folder: Path) -> None:
    """The head's tensors in bf16, and what it is (tte_head.json: models/recipes/README.md)."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in head.state_dict().items()}
    save_file(tensors, folder / "head.safetensors", metadata={"format": "pt"})
    (folder / "head.safetensors").chmod(0o644)
    described = {
        "base": "../reasoner", "kind": "layers", "layers": len(head.layers), "pooling": "last", "projection": False,
        "embedding_dim": nano_model.HIDDEN,
    }  # fmt: skip
    (folder / "tte_head.json").write_text(json.dumps(described, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "what", choices=("all", "init", "reasoner", "embedder", "embedder-no-think", "head", "evaluate")
    )
    parser.add_argument("--work", default=os.environ.get("NANO_WORK", str(FOLDER / "work")))
    parser.add_argument("--steps", type=int, default=3700)
    parser.add_argument("--batch", type=int, default=40, help="pictures a step, each with up to 3 queries")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--hold", type=float, default=0.46, help="share of the steps before the learning rate falls")
    parser.add_argument("--blank", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--embed-steps", type=int, default=450)
    parser.add_argument("--no-think-steps", type=int, default=3000)
    parser.add_argument("--no-think-hold", type=float, default=0.9, help="as --hold, for the no-think embedder")
    parser.add_argument("--head-layers", type=int, default=3, help="last layers that the head stands in for")
    parser.add_argument("--head-steps", type=int, default=2600)
    parser.add_argument("--exchange", type=float, default=0.5, help="share of words exchanged, for the head")
    parser.add_argument("--plain", type=int, default=4, help="2 steps of 2 * plain exchange no words, for the head")
    parser.add_argument("--exchange-from", type=int, default=600, help="first step that exchanges words, for the head")
    parser.add_argument("--focus-from", type=int, default=1550, help="first step that trains FOCUS, for the head")
    parser.add_argument("--head-hold", type=float, default=0.3, help="as --hold, for the head")
    parser.add_argument("--test-seeds", type=int, nargs="+", default=[0, 1, 2], help="for evaluate")
    parser.add_argument("--tasks", nargs="+", default=list(tasks()), help="for evaluate")
    parser.add_argument("--parts", nargs="+", default=["reasoner", "embedder", "embedder-no-think"])
    parser.add_argument("--export", help="write the trained embedder here instead of into its own folder")
    parser.add_argument("--embed-lr", type=float, default=2e-3)
    parser.add_argument("--start", help="go on from the weights of this embedder, with fresh optimisers")
    parser.add_argument("--start-step", type=int, default=0, help="with --start: how many steps it has had")
    args = parser.parse_args()
    torch.set_num_threads(1)
    Path(args.work).mkdir(parents=True, exist_ok=True)
    random.seed(args.seed)
    if args.what == "init":
        for name in ("reasoner", "embedder"):
            save_checkpoint(nano_model.build(SP.get_piece_size(), SPECIAL, args.seed), FOLDER / name)
    if args.what in ("all", "reasoner"):
        train_reasoner(args)
    if args.what in ("all", "embedder"):
        train_embedder(args, think=True)
    if args.what in ("all", "embedder-no-think"):
        train_embedder(args, think=False)
    if args.what in ("all", "head"):
        train_head(args)
    if args.what in ("all", "evaluate"):
        evaluation.run(seeds=args.test_seeds, names=args.tasks, parts=args.parts)


if __name__ == "__main__":
    main()
