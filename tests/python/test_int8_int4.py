"""Models whose linear layers are rounded to 8 and 4 bits, against transformers with the same numbers."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tte
from checkpoints import Shape
from references import Reference, noise, states
from torch.nn import functional

GetFolder = Callable[[Shape], Path]

# Layers of at least 64 inputs and outputs, which are rounded, and some that are not.
WIDE = [
    Shape("wide-qwen2-vl", hidden=128, heads=4, kv_heads=2, ffn=200, mrope=(4, 6, 6), vision_embed=96, vision_heads=3),
    Shape("wide-qwen3.5", family="qwen3_5", hidden=128, layers=4, mrope=(2, 1, 1), scale=2.0),
]
BITS = ("int8", "int4")
GROUP = 128
TALK = [{"role": "user", "content": [{"type": "text", "text": "look at the cat and the red circle"}]}]
ITEMS = ["look at the cat", [noise(70, 84), "describe the red square"], "a", [noise(56, 56, seed=3)]]


def grouped(x: torch.Tensor, group: int) -> torch.Tensor:
    """Rows in groups, the last one filled up with zeros: [rows, groups, group]."""
    return functional.pad(x, (0, -x.shape[-1] % group)).unflatten(-1, (-1, group))


def rounded_inputs(x: torch.Tensor, group: int) -> torch.Tensor:
    """Rows as they are multiplied: 127 steps to the greatest magnitude of each group."""
    groups = grouped(x, group)
    most = groups.abs().amax(-1, keepdim=True).clamp_min(1e-30)
    return ((groups * (127 / most)).round() * (most / 127)).flatten(-2)[..., : x.shape[-1]]


def rounded_weight(weight: torch.Tensor, bits: str) -> torch.Tensor:
    """A weight as include/tte/options.h says that it is kept."""
    if bits == "int8":
        scale = weight.abs().amax(1, keepdim=True) / 127
        return (weight / scale).round() * scale
    blocks = grouped(weight, GROUP).unflatten(-1, (-1, 32))
    most = blocks.abs().amax(-1, keepdim=True)
    sign = torch.where((blocks == -most).any(-1, keepdim=True), 1.0, -1.0)
    tried = []
    for steps in (8.0, 7.2):
        step = most.amax(-2, keepdim=True) / (steps * 15)
        middle = (most / (8.3 * step) + 0.5).floor()
        multiples = []
        for factor in (sign * (middle + i).clamp(0, 15) for i in (-1, 0, 1, 2)):
            scale = factor * step
            codes = torch.where(factor == 0, 0, (blocks / scale).round().clamp(-8, 7))
            multiples.append(((blocks - codes * scale).square().sum(-1, keepdim=True), codes * factor))
        errors, found = (torch.stack(each) for each in zip(*multiples, strict=True))
        best = errors.argmin(0, keepdim=True)
        tried.append((errors.amin(0).sum(-2), found.gather(0, best.expand(1, *blocks.shape))[0]))
    is_second = tried[1][0] < tried[0][0]
    codes = torch.where(is_second.unsqueeze(-1), tried[1][1], tried[0][1])
    step = (blocks * codes).sum((-2, -1), keepdim=True) / codes.square().sum((-2, -1), keepdim=True)
    return (codes * step).flatten(-3)[:, : weight.shape[1]]


@contextmanager
def rounded(model: torch.nn.Module, bits: str) -> Iterator[None]:
    """Multiply as tte does, in all linear layers that are large enough."""
    hooks, before = [], []
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and min(module.weight.shape) >= 64:
            before.append((module, module.weight))
            # A tied head's weight is the embedding, which stays as it is.
            module.weight = torch.nn.Parameter(rounded_weight(module.weight.detach(), bits))
            hooks.append(module.register_forward_pre_hook(lambda _, args: (rounded_inputs(args[0], GROUP),)))
    assert len(hooks) > 8
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module, weight in before:
            module.weight = weight


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", WIDE, ids=lambda shape: shape.name)
def test_states_are_those_of_the_rounded_numbers(
    shape: Shape, bits: str, checkpoint: GetFolder, reference: Callable[[Shape], Reference]
) -> None:
    embedder = tte.Embedder(checkpoint(shape), device="cpu", dtype="float32", quantization=bits)
    talk = [{"role": "user", "content": [{"type": "image", "image": noise(70, 84)}, *TALK[0]["content"]]}]
    plain = reference(shape).hidden(talk)
    with rounded(reference(shape).model, bits):
        right = reference(shape).hidden(talk)
    ours = states(embedder, talk)
    # A value that lies between two steps falls to either side by an error of the last digit, and what follows from it
    # differs by as much as a step is; other steps or scales differ as much as no rounding does.
    assert cosine(ours, right).min() > 0.9995
    assert np.median(np.abs(ours - right)) < 0.1 * np.median(np.abs(plain - right)), "another rounding"


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", WIDE, ids=lambda shape: shape.name)
def test_text_is_that_of_the_rounded_numbers(
    shape: Shape, bits: str, checkpoint: GetFolder, reference: Callable[[Shape], Reference]
) -> None:
    reasoner = tte.Reasoner(checkpoint(shape), device="cpu", dtype="float32", quantization=bits)
    with rounded(reference(shape).model, bits):
        right = reference(shape).greedy(TALK, 12)
    trace = reasoner.think([TALK], max_new_tokens=12, ignore_eos=True, progress=False)[0]
    assert trace.token_ids == right


@pytest.mark.parametrize("bits", BITS)
def test_items_do_not_depend_on_each_other(bits: str, checkpoint: GetFolder) -> None:
    embedder = tte.Embedder(checkpoint(WIDE[0]), device="cpu", quantization=bits)
    together = embedder.embed(ITEMS, progress=False)
    for row, item in zip(together, ITEMS, strict=True):
        assert np.array_equal(embedder.embed([item], progress=False)[0], row)


def test_eight_bits_come_close(checkpoint: GetFolder) -> None:
    folder = checkpoint(WIDE[0])
    plain = tte.Embedder(folder, device="cpu").embed(ITEMS, progress=False)
    for bits, least in (("int8", 0.999), ("int4", 0.9)):
        few = tte.Embedder(folder, device="cpu", quantization=bits).embed(ITEMS, progress=False)
        assert cosine(plain, few).min() > least
        assert not np.array_equal(plain, few)


def test_models_of_other_bits_are_others(checkpoint: GetFolder) -> None:
    backend = tte.Backend("cpu")
    folder = checkpoint(WIDE[0])
    models = [tte.Embedder(folder, backend=backend, quantization=bits).model for bits in (None, "int8", "int4", "int8")]
    assert [model.quantization for model in models] == ["none", "int8", "int4", "int8"]
    assert len({model.fingerprint for model in models}) == 3
    assert len({model.vision_fingerprint for model in models}) == 3
    assert models[1].fingerprint == models[3].fingerprint


def test_a_pair_shares_the_work_on_an_image(checkpoint: GetFolder) -> None:
    # Backends of equal options are one, whoever made them.
    backend = tte.Backend("cpu", max_running=61)
    folder = checkpoint(WIDE[0])
    pair = {name: kind(folder, backend=backend, quantization="int8")
            for name, kind in (("reasoner", tte.Reasoner), ("embedder", tte.Embedder))}  # fmt: skip
    one = tte.think_then_embed([ITEMS[1]], **pair, max_new_tokens=4, progress=False)
    assert backend.stats.vision_encoded == 1
    reasoner = tte.Reasoner(folder, backend=tte.Backend("cpu", max_running=62), quantization="int8")
    embedder = tte.Embedder(folder, backend=tte.Backend("cpu", max_running=63), quantization="int8")
    traces = reasoner.think([ITEMS[1]], max_new_tokens=4, progress=False)
    assert np.array_equal(one.embeddings, embedder.embed([ITEMS[1]], traces, progress=False)), "apart"


@pytest.mark.parametrize("value", ["int3", "INT8", "", 8, True, b"int8", "x" * 1000])
def test_other_values_are_refused(value: Any, folder: Path) -> None:
    with pytest.raises(tte.InputError, match=r'^quantization is .*: it must be "int8" or "int4", or None\.$') as error:
        tte.Embedder(folder, device="cpu", quantization=value)
    assert len(str(error.value)) < 500


def test_it_is_found_again_in_another_process(checkpoint: GetFolder) -> None:
    embedder = tte.Embedder(checkpoint(WIDE[0]), device="cpu", quantization="int4")
    again = pickle.loads(pickle.dumps(embedder))
    assert again.model.fingerprint == embedder.model.fingerprint
    assert "quantization='int4'" in repr(embedder)
