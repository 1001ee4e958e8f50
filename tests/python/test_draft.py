"""A small reasoner that guesses for a larger one: no token is another, whatever it guesses."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tte
from checkpoints import SHAPES, Shape
from references import noise
from safetensors.torch import load_file, save_file

GetFolder = Callable[[Shape], Path]
NAMED = {shape.name: shape for shape in SHAPES}
TARGET = Shape("draft-target", hidden=128, heads=4, kv_heads=2, layers=4, mrope=(4, 6, 6))
SMALL, OTHER_FAMILY, RECURRENT = NAMED["tied-gqa"], NAMED["qwen2.5-vl"], NAMED["qwen3.5"]
ITEMS: list[Any] = ["look at the cat", [noise(70, 84), "describe the red square"], "a", "1234 " * 30]
ON = {"ignore_eos": True, "max_new_tokens": 40, "progress": False}


def backend(**options: Any) -> tte.Backend:
    return tte.Backend("cpu", prompt_lookup_tokens=0, **options)


def ids(reasoner: tte.Reasoner, items: list[Any], **decoding: Any) -> list[list[int]]:
    return [trace.token_ids for trace in reasoner.think(items, **{**ON, **decoding})]


@pytest.mark.parametrize("decoding", [{}, {"temperature": 0.8, "seed": 5}, {"repetition_penalty": 1.1}], ids=str)
@pytest.mark.parametrize("small", [SMALL, OTHER_FAMILY, TARGET], ids=lambda shape: shape.name)
def test_no_token_is_another(small: Shape, decoding: dict[str, Any], checkpoint: GetFolder) -> None:
    plain = ids(tte.Reasoner(checkpoint(TARGET), backend=backend()), ITEMS, **decoding)
    drafted = tte.Reasoner(checkpoint(TARGET), backend=backend(max_running=31), draft=checkpoint(small))
    before = drafted.backend.stats
    assert ids(drafted, ITEMS, **decoding) == plain
    for few in (slice(0, 1), slice(1, 3)):
        assert ids(drafted, ITEMS[few], **decoding) == plain[few]
    stats = drafted.backend.stats
    assert stats.drafted_tokens > before.drafted_tokens
    if small is TARGET and not decoding:  # It guesses what it says itself, but for the item with the image.
        assert stats.right_drafts - before.right_drafts > 80


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_a_reasoner_is_a_draft_with_its_settings(bits: str, checkpoint: GetFolder) -> None:
    shared = backend(max_running=32)
    small = tte.Reasoner(checkpoint(TARGET), backend=shared, quantization=bits)
    drafted = tte.Reasoner(checkpoint(TARGET), backend=shared, draft=small)
    before = shared.stats
    assert ids(drafted, ITEMS) == ids(tte.Reasoner(checkpoint(TARGET), backend=backend()), ITEMS)
    assert shared.stats.right_drafts > before.right_drafts
    again = pickle.loads(pickle.dumps(drafted))
    before = again.backend.stats
    assert ids(again, ITEMS[:1]) == ids(drafted, ITEMS[:1])
    assert again.backend.stats.drafted_tokens > before.drafted_tokens


def test_vectors_behind_drafted_traces_are_the_same(checkpoint: GetFolder) -> None:
    vectors = []
    for number, draft in ((33, None), (34, checkpoint(SMALL))):
        shared = backend(threads=1, max_running=number)
        reasoner = tte.Reasoner(checkpoint(TARGET), backend=shared, dtype="float32", draft=draft)
        embedder = tte.Embedder(checkpoint(TARGET), backend=shared, dtype="float32")
        vectors.append(tte.think_then_embed(ITEMS, reasoner=reasoner, embedder=embedder, **ON).embeddings)
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_little_room_is_the_targets(checkpoint: GetFolder) -> None:
    plain = ids(tte.Reasoner(checkpoint(TARGET), backend=backend(max_running=35)), ITEMS)
    for state_bytes in (1 << 20, 1 << 21, 1 << 22):
        few = backend(max_running=36, state_bytes=state_bytes)
        drafted = tte.Reasoner(checkpoint(TARGET), backend=few, draft=checkpoint(SMALL))
        assert ids(drafted, ITEMS) == plain


def test_models_that_cannot_guess_are_refused(checkpoint: GetFolder, tmp_path: Path) -> None:
    target = checkpoint(TARGET)
    for first, second in ((target, checkpoint(RECURRENT)), (checkpoint(RECURRENT), target)):
        with pytest.raises(
            tte.ModelError, match=r"^.*The draft .* (other tokens|has recurrent layers \(qwen3_5).*"
        ) as error:
            tte.Reasoner(first, device="cpu", draft=second)
        assert len(str(error.value)) < 500
    renamed = shutil.copytree(checkpoint(SMALL), tmp_path / "renamed")
    tokenizer = json.loads((renamed / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    first, second = list(vocabulary)[40:42]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (renamed / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(tte.ModelError, match=r"has other tokens than .*: give a model with the same tokenizer"):
        tte.Reasoner(target, device="cpu", draft=renamed)
    headless = shutil.copytree(checkpoint(NAMED["untied-mha"]), tmp_path / "headless")
    tensors = load_file(headless / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, headless / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(tte.ModelError, match="no lm_head"):
        tte.Reasoner(target, device="cpu", draft=headless)
    with pytest.raises(tte.InputError, match="draft is for reasoners"):
        tte.Embedder(target, device="cpu", draft=checkpoint(SMALL))
    with pytest.raises(tte.ModelError, match="folder"):
        tte.Reasoner(target, device="cpu", draft=tmp_path / "nothing")


def test_a_recurrent_draft_is_refused_for_its_own_kind(checkpoint: GetFolder) -> None:
    with pytest.raises(tte.ModelError, match=r"has recurrent layers \(qwen3_5"):
        tte.Reasoner(checkpoint(RECURRENT), device="cpu", draft=checkpoint(RECURRENT))
