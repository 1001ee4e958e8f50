"""The nano models in use: loaded, writing traces, embedding."""

from __future__ import annotations

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


def vectors(model: Any, items: list[Item], traces: list[str | None], chunk: int = 32) -> Tensor:
    """L2-normalised final states of the last token, in the caller's order."""
    batch = collate([sequence(i, t) for i, t in zip(items, traces, strict=True)], chunk)
    last = torch.tensor(batch.lengths).cumsum(0) - 1
    states = nano_model.forward(model, batch)[last]
    back = torch.empty(len(items), dtype=torch.long)
    back[torch.tensor(batch.order)] = torch.arange(len(items))
    return F.normalize(states[back], dim=-1)
