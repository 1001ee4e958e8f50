"""Muon for the matrices and AdamW for the rest, in fp32 (torch.optim.Muon orthogonalises in bf16, slow on a CPU)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

_POLAR = (  # Polar Express (arXiv 2505.16932), first four steps, with its safety factor
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
)


def orthogonal(x: Tensor) -> Tensor:
    """Approximate polar factors of a stack of matrices [n, a, b]."""
    flip = x.shape[1] > x.shape[2]
    if flip:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) * 1.01 + 1e-7)
    for a, b, c in _POLAR:
        s = x @ x.mT
        x = a * x + (b * s + c * (s @ s)) @ x
    return x.mT if flip else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, scaled to the root mean square of an AdamW step."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, decay: float = 0.02) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    shapes[tuple(p.shape)].append(p)
            for (rows, cols), params in shapes.items():
                updates = []
                for p in params:
                    buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    buffer.lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(buffer, group["momentum"]))
                scale = 0.2 * max(rows, cols) ** 0.5 * group["lr"]
                for p, u in zip(params, orthogonal(torch.stack(updates)), strict=True):
                    p.mul_(1 - group["lr"] * group["decay"]).add_(u, alpha=-scale)


def optimizers(model: torch.nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """One Muon for matrices of the layers, one AdamW for embeddings, norms, biases and the patch projection."""
    matrices, rest = [], []
    for name, p in model.named_parameters():
        if p.requires_grad:
            (matrices if p.dim() == 2 and "embed_tokens" not in name else rest).append(p)
    return [Muon(matrices, lr), torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)]
