"""The Qwen2-VL architecture at nano size, and a fast CPU forward pass over its parameters.

The parameters live in a stock ``Qwen2VLForConditionalGeneration`` (so saving and loading is transformers' own);
`forward` computes the same function on a ragged batch: tokens of all sequences packed for the linear layers, padded
only inside attention. check.py compares it with transformers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD, MLP = 192, 4, 6, 2, 32, 384
VISION, VISION_DEPTH, VISION_HEADS = 96, 2, 3
SECTION = [4, 6, 6]
THETA = 10000.0


def build(vocab: int, ids: dict[str, int], seed: int = 0) -> Any:
    """A randomly initialised model; ids maps the special tokens to their ids."""
    torch.manual_seed(seed)
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": vocab, "hidden_size": HIDDEN, "intermediate_size": MLP, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-6, "use_sliding_window": False, "tie_word_embeddings": True, "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<pad>"],
            "rope_parameters": {"rope_type": "default", "rope_theta": THETA, "mrope_section": SECTION},
        },
        vision_config={
            "embed_dim": VISION, "hidden_size": HIDDEN, "depth": VISION_DEPTH, "num_heads": VISION_HEADS,
            "mlp_ratio": 4, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
            "hidden_act": "quick_gelu",
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True, eos_token_id=ids["<|im_end|>"], pad_token_id=ids["<pad>"],
    )  # fmt: skip
    model = Qwen2VLForConditionalGeneration(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name or "ln_q" in name:
                p.fill_(0.0 if name.endswith("bias") else 1.0)
            elif p.dim() == 1:
                p.zero_()
            elif "embed_tokens" in name:
                p.normal_(0, 0.05)
            elif "patch_embed" in name:
                p.normal_(0, 0.5 / math.sqrt(1176))
            else:
                p.normal_(0, 0.02 if "language_model" in name else 1.0 / math.sqrt(p.shape[1]) * 0.5)
    return model


@dataclass
class Batch:
    """A ragged batch. Sequences come sorted by length; chunks are ranges of sequences that share a padded length.

    Sequences about the same picture may share the packed tokens up to the end of the picture (training only).
    """

    ids: Tensor  # [N]
    cos: Tensor  # [N, 32]
    sin: Tensor  # [N, 32]
    lengths: list[int]
    chunks: list[tuple[Tensor, Tensor, int, int]]  # pad index [B*T] into packed (+1 zero row), unpad index, B, T
    pixels: list[tuple[Tensor, int, int]]  # (patches [n*g, 588], rows, columns) for each frame size
    slots: Tensor  # packed positions of the visual tokens, in the order of the concatenated pixels
    order: list[int]  # caller's index of each sequence
    row: Tensor  # [N] which sequence a packed token belongs to
    column: Tensor  # [N] its index in that sequence


_FREQ = 1.0 / (THETA ** (torch.arange(0, HEAD, 2).float() / HEAD))
_WHICH = torch.tensor([i for i, n in enumerate(SECTION) for _ in range(n)] * 2)


def rotary(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine [N, head] of Qwen2-VL's three-part positions [3, N]."""
    angle = positions[:, :, None].float() * _FREQ  # [3, N, 16]
    angle = torch.cat([angle, angle], -1)  # [3, N, 32]
    picked = angle.gather(0, _WHICH.expand(1, angle.shape[1], HEAD))[0]
    return picked.cos(), picked.sin()


_VISION_ROPE: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}


def vision_rotary(rows: int, cols: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine [rows*cols, head] of the patches in merge order."""
    if (rows, cols) not in _VISION_ROPE:
        dim = VISION // VISION_HEADS // 2
        inv = 1.0 / (10000.0 ** (torch.arange(0, dim, 2).float() / dim))
        h = (
            torch.arange(rows)[:, None]
            .expand(rows, cols)
            .reshape(rows // 2, 2, cols // 2, 2)
            .permute(0, 2, 1, 3)
            .flatten()
        )
        w = (
            torch.arange(cols)[None]
            .expand(rows, cols)
            .reshape(rows // 2, 2, cols // 2, 2)
            .permute(0, 2, 1, 3)
            .flatten()
        )
        angle = torch.cat([h[:, None] * inv, w[:, None] * inv], -1)
        angle = torch.cat([angle, angle], -1)
        _VISION_ROPE[rows, cols] = (angle.cos(), angle.sin())
    return _VISION_ROPE[rows, cols]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def see(model: Any, pixels: list[tuple[Tensor, int, int]]) -> Tensor:
    """Vision tower: merged visual tokens [n, hidden]; every frame of a pair is the same picture (pixels hold one)."""
    visual = model.model.visual
    weight = visual.patch_embed.proj.weight.sum(2).reshape(VISION, -1)
    x = torch.cat([p for p, _, _ in pixels]) @ weight.T
    ropes = [(p.shape[0] // (r * c), r * c, *vision_rotary(r, c)) for p, r, c in pixels]
    for block in visual.blocks:
        y = F.layer_norm(x, (VISION,), block.norm1.weight, block.norm1.bias, 1e-6)
        qkv = F.linear(y, block.attn.qkv.weight, block.attn.qkv.bias)
        out, at = [], 0
        for n, size, cos, sin in ropes:
            part = qkv[at : at + n * size].view(n, size, 3, VISION_HEADS, HEAD)
            at += n * size
            q, k, v = part.permute(2, 0, 3, 1, 4)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            out.append(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n * size, VISION))
        x = x + F.linear(torch.cat(out) if len(out) > 1 else out[0], block.attn.proj.weight, block.attn.proj.bias)
        y = F.layer_norm(x, (VISION,), block.norm2.weight, block.norm2.bias, 1e-6)
        y = F.linear(y, block.mlp.fc1.weight, block.mlp.fc1.bias)
        x = x + F.linear(y * torch.sigmoid(1.702 * y), block.mlp.fc2.weight, block.mlp.fc2.bias)
    merger = visual.merger
    x = F.layer_norm(x, (VISION,), merger.ln_q.weight, merger.ln_q.bias, 1e-6).view(-1, 4 * VISION)
    return F.linear(
        F.gelu(F.linear(x, merger.mlp[0].weight, merger.mlp[0].bias)), merger.mlp[2].weight, merger.mlp[2].bias
    )


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight, 1e-6)


def embed(model: Any, batch: Batch) -> Tensor:
    """Input states [N, hidden]: token embeddings with the visual tokens in their places."""
    x = F.embedding(batch.ids, model.model.language_model.embed_tokens.weight)
    if batch.pixels:
        x = x.index_put((batch.slots,), see(model, batch.pixels))
    return x


def run_layers(layers: Iterable[Any], x: Tensor, batch: Batch, keep: list[tuple[Tensor, Tensor]] | None) -> Tensor:
    """Decoder layers over states [N, hidden]; keep receives every layer's packed keys and values."""
    n = x.shape[0]
    cos, sin = batch.cos[:, None], batch.sin[:, None]
    for layer in layers:
        attn = layer.self_attn
        y = norm(x, layer.input_layernorm.weight)
        weight = torch.cat([attn.q_proj.weight, attn.k_proj.weight, attn.v_proj.weight])
        bias = torch.cat([attn.q_proj.bias, attn.k_proj.bias, attn.v_proj.bias])
        qkv = F.linear(y, weight, bias).view(n, HEADS + 2 * KV_HEADS, HEAD)
        qk = rotate(qkv[:, : HEADS + KV_HEADS], cos, sin)
        if keep is not None:
            keep.append((qk[:, HEADS:], qkv[:, HEADS + KV_HEADS :]))
        both = torch.cat([qk, qkv[:, HEADS + KV_HEADS :]], 1)
        both = torch.cat([both, both.new_zeros(1, *both.shape[1:])])
        out = []
        for pad, unpad, b, t in batch.chunks:
            part = both.index_select(0, pad).view(b, t, HEADS + 2 * KV_HEADS, HEAD).transpose(1, 2)
            q = part[:, :HEADS]
            k = part[:, HEADS : HEADS + KV_HEADS].repeat_interleave(HEADS // KV_HEADS, 1)
            v = part[:, HEADS + KV_HEADS :].repeat_interleave(HEADS // KV_HEADS, 1)
            o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            out.append(o.transpose(1, 2).reshape(b * t, HIDDEN).index_select(0, unpad))
        x = x + F.linear(torch.cat(out) if len(out) > 1 else out[0], attn.o_proj.weight)
        y = norm(x, layer.post_attention_layernorm.weight)
        gate, up = F.linear(y, torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight])).chunk(2, -1)
        x = x + F.linear(F.silu(gate) * up, layer.mlp.down_proj.weight)
    return x


def forward(model: Any, batch: Batch, keep: list[tuple[Tensor, Tensor]] | None = None) -> Tensor:
    """Final hidden states [N, hidden] (after the last norm); keep is run_layers'."""
    text = model.model.language_model
    return norm(run_layers(text.layers, embed(model, batch), batch, keep), text.norm.weight)


def logits(model: Any, states: Tensor) -> Tensor:
    return F.linear(states, model.model.language_model.embed_tokens.weight)


@torch.no_grad()
def decode(model: Any, batch: Batch, next_position: list[int], stop: int, limit: int = 48) -> list[list[int]]:
    """Greedy continuation of every sequence until stop (included) or limit tokens; in the caller's order."""
    kept: list[tuple[Tensor, Tensor]] = []
    states = forward(model, batch, kept)
    lengths = torch.tensor(batch.lengths)
    b, top = len(batch.lengths), max(batch.lengths) + limit
    ends = lengths.cumsum(0)
    row, col = batch.row, batch.column
    caches = []
    for k, v in kept:
        ck, cv = k.new_zeros(b, top, KV_HEADS, HEAD), v.new_zeros(b, top, KV_HEADS, HEAD)
        ck[row, col], cv[row, col] = k, v
        caches.append((ck, cv))
    text = model.model.language_model
    token = logits(model, states[ends - 1]).argmax(-1)
    position = torch.tensor([next_position[i] for i in batch.order])
    result: list[list[int]] = [[] for _ in range(b)]
    alive = torch.ones(b, dtype=torch.bool)
    everyone = torch.arange(b)
    for step in range(limit):
        for i in alive.nonzero()[:, 0].tolist():
            result[i].append(int(token[i]))
        alive &= token != stop
        if not alive.any() or step == limit - 1:
            break
        x = F.embedding(token, text.embed_tokens.weight)
        cos, sin = rotary((position + step).expand(3, b))
        at = lengths + step
        mask = (torch.arange(top)[None] <= at[:, None])[:, None, None]
        for layer, (ck, cv) in zip(text.layers, caches, strict=True):
            attn = layer.self_attn
            y = norm(x, layer.input_layernorm.weight)
            q = F.linear(y, attn.q_proj.weight, attn.q_proj.bias).view(b, HEADS, HEAD)
            k = F.linear(y, attn.k_proj.weight, attn.k_proj.bias).view(b, KV_HEADS, HEAD)
            ck[everyone, at] = rotate(k, cos[:, None], sin[:, None])
            cv[everyone, at] = F.linear(y, attn.v_proj.weight, attn.v_proj.bias).view(b, KV_HEADS, HEAD)
            q = rotate(q, cos[:, None], sin[:, None]).view(b, KV_HEADS, HEADS // KV_HEADS, HEAD)
            score = (q @ ck.permute(0, 2, 3, 1)) / math.sqrt(HEAD)
            weights = score.masked_fill(~mask, float("-inf")).softmax(-1)
            x = x + F.linear((weights @ cv.transpose(1, 2)).reshape(b, HIDDEN), attn.o_proj.weight)
            y = norm(x, layer.post_attention_layernorm.weight)
            x = x + F.linear(
                F.silu(F.linear(y, layer.mlp.gate_proj.weight)) * F.linear(y, layer.mlp.up_proj.weight),
                layer.mlp.down_proj.weight,
            )
        token = logits(model, norm(x, text.norm.weight)).argmax(-1)
    ordered: list[list[int]] = [[] for _ in range(b)]
    for i, original in enumerate(batch.order):
        ordered[original] = result[i]
    return ordered
