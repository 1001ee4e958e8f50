"""Embedding heads of random weights, and what PyTorch makes of them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from references import Reference
from safetensors.torch import save_file
from torch import Tensor

LAYERS, QUERIES, LATENTS = "layers", "attention_pooler", "latent_attention"


def write_head(folder: Path, base: Path | str, tensors: dict[str, Tensor], **described: Any) -> Path:
    """Write the two files of a head."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, folder / "head.safetensors")
    (folder / "tte_head.json").write_text(json.dumps({"base": str(base), **described}))
    return folder


def projection(dim: int | None, hidden: int) -> dict[str, Tensor]:
    return {} if dim is None else {"projection.weight": torch.randn(dim, hidden), "projection.bias": torch.randn(dim)}


def projected(vector: Tensor, tensors: dict[str, Tensor]) -> np.ndarray:
    """The vector of unit length behind the projection, where there is one."""
    if "projection.weight" in tensors:
        vector = F.linear(vector, tensors["projection.weight"], tensors["projection.bias"])
    return F.normalize(vector, dim=0).numpy()


class LayersHead:
    """The last layers and the final norm of a base, changed; the reference is a whole model that has them."""

    def __init__(
        self, theirs: Reference, folder: Path, layers: int = 1, pooling: str = "last", dim: int | None = None
    ) -> None:
        torch.manual_seed(layers)
        self.pooling = pooling
        self.whole = copy.copy(theirs)
        self.whole.model = copy.deepcopy(theirs.model)
        text = self.whole.model.model.language_model
        hidden = text.norm.weight.shape[0]
        with torch.no_grad():
            for module in (*text.layers[-layers:], text.norm):
                for parameter in module.parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        count = len(text.layers)
        state = {n: t for n, t in text.state_dict().items() if not n.startswith("embed_tokens")}
        kept = {f"layers.{i}.": f"layers.{i - count + layers}." for i in range(count - layers, count)}
        self.tensors = {"norm.weight": state["norm.weight"], **projection(dim, hidden)}
        for name, tensor in state.items():
            for old, new in kept.items():
                if name.startswith(old):
                    self.tensors[new + name.removeprefix(old)] = tensor
        self.folder = write_head(
            folder, theirs.folder, self.tensors, kind=LAYERS, layers=layers, pooling=pooling,
            projection=dim is not None, embedding_dim=dim or hidden,
        )  # fmt: skip

    def vector(self, messages: list[dict[str, Any]]) -> np.ndarray:
        states = torch.from_numpy(self.whole.hidden(messages))
        return projected(states[-1] if self.pooling == "last" else states.mean(0), self.tensors)


class PoolerHead:
    """A head that pools by attention what goes into one of the last layers."""

    def __init__(
        self, theirs: Reference, folder: Path, kind: str, layers: int, heads: int = 2, rows: int = 5,
        width: int | None = None, dim: int | None = None,
    ) -> None:  # fmt: skip
        torch.manual_seed(rows)
        self.theirs, self.kind, self.layers, self.heads = theirs, kind, layers, heads
        n = theirs.model.model.language_model.norm.weight.shape[0]

        def linear(name: str, outputs: int, inputs: int) -> dict[str, Tensor]:
            return {f"{name}.weight": torch.randn(outputs, inputs) * 0.3, f"{name}.bias": torch.randn(outputs) * 0.3}

        def norm(name: str, size: int) -> dict[str, Tensor]:
            return {f"{name}.weight": 1 + torch.randn(size) * 0.2, f"{name}.bias": torch.randn(size) * 0.2}

        width = width or n
        if kind == QUERIES:
            self.tensors = {
                "queries": torch.randn(rows, n), **norm("norm_in", n), **norm("norm_out", n), **linear("q_proj", n, n),
                **linear("k_proj", n, n), **linear("v_proj", n, n), **linear("out_proj", n, n),
            }  # fmt: skip
        else:
            self.tensors = {
                "latents": torch.randn(rows, width), **norm("norm_in", n), **norm("norm_latents", width),
                **norm("norm_mlp", n), **linear("q_proj", n, n), **linear("k_proj", n, width),
                **linear("v_proj", n, width), **linear("out_proj", n, n), **linear("fc1", 3 * n, n),
                **linear("fc2", n, 3 * n),
            }  # fmt: skip
        self.tensors |= projection(dim, n)
        self.folder = write_head(
            folder, theirs.folder, self.tensors, kind=kind, layers=layers, attention_heads=heads,
            projection=dim is not None, embedding_dim=dim or n,
        )  # fmt: skip

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def _attend(self, q: Tensor, context: Tensor) -> Tensor:
        k, v = self._linear("k_proj", context), self._linear("v_proj", context)
        out = []
        for part in range(self.heads):
            size = q.shape[1] // self.heads
            at = slice(part * size, part * size + size)
            out.append(torch.softmax(q[:, at] @ k[:, at].T / size**0.5, -1) @ v[:, at])
        return self._linear("out_proj", torch.cat(out, 1))

    @torch.inference_mode()
    def vector(self, messages: list[dict[str, Any]]) -> np.ndarray:
        model = self.theirs.model.model
        model.rope_deltas = None
        every = model(**self.theirs.inputs(messages), output_hidden_states=True).hidden_states
        x = every[len(every) - 1 - self.layers][0].float()
        if self.kind == QUERIES:
            q = self._linear("q_proj", self.tensors["queries"])
            return projected(self._norm("norm_out", self._attend(q, self._norm("norm_in", x))).mean(0), self.tensors)
        q = self._linear("q_proj", self._norm("norm_in", x))
        y = x + self._attend(q, self._norm("norm_latents", self.tensors["latents"]))
        hidden = F.gelu(self._linear("fc1", self._norm("norm_mlp", y)))
        return projected((y + self._linear("fc2", hidden)).mean(0), self.tensors)
