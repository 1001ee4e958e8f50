"""The nano models in use: loaded, writing traces, embedding."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import model as nano_model
import torch
import torch.nn.functional as F
from data import SP, STOP, collate, sequence
from nano import Item  # found through data.py
from torch import Tensor


def load(folder: Path) -> Any:
    """A checkpoint in fp32."""
    from transformers import Qwen2VLForConditionalGeneration

    return Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)


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
    return trace.rsplit("</think>", maxsplit=1)[-1].strip()


def pooled(states: Tensor, batch: nano_model.Batch) -> Tensor:
    """L2-normalised states of the last tokens, in the caller's order."""
    last = states[torch.tensor(batch.lengths).cumsum(0) - 1]
    back = torch.empty(len(last), dtype=torch.long)
    back[torch.tensor(batch.order)] = torch.arange(len(last))
    return F.normalize(last[back], dim=-1)


def vectors(model: Any, items: list[Item], traces: list[str | None], chunk: int = 32) -> Tensor:
    """L2-normalised final states of the last token, in the caller's order."""
    batch = collate([sequence(i, t) for i, t in zip(items, traces, strict=True)], chunk)
    return pooled(nano_model.forward(model, batch), batch)


class Head(torch.nn.Module):
    """An embedding head: a copy of the last `count` layers and of the final norm of a trained model."""

    def __init__(self, source: Any, count: int) -> None:
        super().__init__()
        text = source.model.language_model
        self.layers = copy.deepcopy(text.layers[-count:])
        self.norm = copy.deepcopy(text.norm)


def head_vectors(base: Any, head: Head, batch: nano_model.Batch) -> Tensor:
    """As `vectors`, of a head that reads the states below the last layers of its frozen base."""
    with torch.no_grad():
        below = base.model.language_model.layers[: -len(head.layers)]
        states = nano_model.run_layers(below, nano_model.embed(base, batch), batch, None)
    states = nano_model.run_layers(head.layers, states, batch, None)
    return pooled(nano_model.norm(states, head.norm.weight), batch)
