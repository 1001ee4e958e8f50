"""Layers that devices share: the results of one device. All parts are on the processor here, one after the other."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tte
from adapters import make_adapter
from checkpoints import SHAPES, Shape, make_tokenizer
from compressed_tensors.quantization import QuantizationScheme
from conversations import conversations
from families import FAMILIES
from references import Reference, noise, states
from safetensors.torch import load_file, save_file
from test_plume import ITEMS as PLUME_ITEMS
from test_plume import make_plume, transition
from test_quantized import compress, is_linear, write
from test_text_models import KINDS, TEMPLATE, TEXTS, make
from tte.nano import generate

GetFolder = Callable[[Shape], Path]
NANO = Path(__file__).resolve().parents[2] / "models" / "nano"
NAMED = {shape.name: shape for shape in SHAPES}
ON: dict[str, Any] = {"ignore_eos": True, "max_new_tokens": 24, "progress": False}
ITEMS: list[Any] = ["look at the cat", [noise(70, 84), "describe the red square"], "1234 " * 30, [noise(56, 56), "a"]]
# Of rounded matrices each of two parts ends between two scales; in one layer what a row becomes is its own affair.
WIDE = Shape("shared-wide", hidden=256, heads=4, kv_heads=4, ffn=512, layers=1, mrope=(8, 12, 12))


def on(parts: int, **options: Any) -> tte.Backend:
    return tte.Backend("cpu", tensor_parallel=parts, **{"threads": 2, "media_threads": 1, **options})


def answers(folder: Path, parts: int, **options: Any) -> tuple[np.ndarray, list[list[int]]]:
    """Vectors and greedy tokens."""
    options = {"backend": on(parts), "dtype": "float32", **options}
    traces = tte.Reasoner(folder, **options).think(ITEMS, **ON)
    return tte.Embedder(folder, **options).embed(ITEMS, progress=False), [trace.token_ids for trace in traces]


def assert_same(folder: Path, parts: int, **options: Any) -> None:
    one, several = answers(folder, 1, **options), answers(folder, parts, **options)
    np.testing.assert_allclose(several[0], one[0], atol=1e-5, rtol=0)
    assert several[1] == one[1]


@pytest.mark.parametrize(
    ("name", "parts"),
    [("tied-gqa", 2), ("untied-mha", 2), ("untied-mha", 4), ("old-layout", 2), ("qwen2.5-vl", 2), ("qwen3-vl", 2),
     ("qwen3-vl-untied", 4), ("llava-next", 2), ("llava-next-llama", 4)],
)  # fmt: skip
def test_states_and_tokens_are_those_of_transformers(
    name: str, parts: int, reference: Callable[[Shape], Reference], tmp_path: Path
) -> None:
    theirs = reference(NAMED[name])
    embedder = tte.Embedder(theirs.folder, backend=on(parts))
    reasoner = tte.Reasoner(theirs.folder, backend=on(parts))
    kinds = ["turns", "two images", *(["image and video"] if FAMILIES[NAMED[name].family].videos else [])]
    talks = {kind: talk for kind, talk in conversations(tmp_path).items() if kind in kinds}
    traces = reasoner.think(list(talks.values()), **ON)
    for trace, (kind, talk) in zip(traces, talks.items(), strict=True):
        np.testing.assert_allclose(states(embedder, talk), theirs.hidden(talk), atol=1e-5, rtol=0, err_msg=kind)
        assert trace.token_ids == theirs.greedy(talk, ON["max_new_tokens"]), kind


@pytest.mark.parametrize(
    ("name", "parts"), [("llama-3.1", 2), ("llama-heads-of-8", 4), ("qwen3", 2), ("qwen2", 2), ("mistral", 2)]
)
def test_models_of_text(name: str, parts: int, tmp_path: Path) -> None:
    """Llama 3.1's has biases behind the sums of parts, too."""
    tokenizer = make_tokenizer()
    tokenizer.chat_template = TEMPLATE
    theirs = make(tmp_path, next(kind for kind in KINDS if kind.name == name), tokenizer)
    embedder = tte.Embedder(theirs.folder, backend=on(parts))
    traces = tte.Reasoner(theirs.folder, backend=on(parts)).think(TEXTS, **ON)
    for text, trace in zip(TEXTS, traces, strict=True):
        np.testing.assert_allclose(states(embedder, text), theirs.hidden(text), atol=1e-5, rtol=0, err_msg=text)
        assert trace.token_ids == theirs.greedy(text, ON["max_new_tokens"]), text


@pytest.mark.parametrize("embedder", ["embedder", "reasoner", "head"])
def test_the_nano_pair(embedder: str) -> None:
    """Two sets of weights, one for both, and a head that goes on from hidden states; on two replicas of two parts."""
    queries = [{"text": sample.query.text, "image": sample.query.image} for sample in generate("image_qa", 3, 4)]
    queries.append({"text": "a red circle"})
    found = []
    for options in ({"parts": 1}, {"parts": 2}, {"parts": 2, "replicas": 2, "max_step_tokens": 48}):
        shared = on(**options)
        pair = {
            "reasoner": tte.Reasoner(NANO / "reasoner", backend=shared, dtype="float32"),
            "embedder": tte.Embedder(NANO / embedder, backend=shared, dtype="float32"),
        }
        found.append(tte.think_then_embed(queries, **pair, **ON))
        assert shared.stats.right_guesses > 0
        assert embedder == "embedder" or shared.stats.reused_tokens + shared.stats.head_tokens > 0
    for other in found[1:]:
        assert [trace.token_ids for trace in other.traces] == [trace.token_ids for trace in found[0].traces]
        np.testing.assert_allclose(other.embeddings, found[0].embeddings, atol=1e-5, rtol=0)


def test_beginnings_of_prompts_are_used_again(checkpoint: GetFolder) -> None:
    """Their blocks are shared, and the begun one is copied on every device."""
    long = "the cat and dog look at a red circle left of a blue square " * 12
    items = [long + end for end in ("what is it", "answer", "think about it")]
    found = []
    for parts in (1, 2):
        reasoner = tte.Reasoner(checkpoint(NAMED["tied-gqa"]), backend=on(parts, max_running=51))
        found.append([trace.token_ids for item in items for trace in reasoner.think([item], **ON)])
        assert reasoner.backend.stats.reused_tokens > 200
    assert found[1] == found[0]


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"bias": "lora_only"}], ids=str)
def test_adapters_are_merged_before_the_cut(options: dict[str, Any], checkpoint: GetFolder, tmp_path: Path) -> None:
    folder = checkpoint(NAMED["tied-gqa"])
    modules = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
    assert_same(folder, 2, adapter=make_adapter(tmp_path / "adapter", folder, target_modules=modules, **options))


def test_a_draft_changes_no_token(checkpoint: GetFolder) -> None:
    folder = checkpoint(NAMED["untied-mha"])
    plain = answers(folder, 1)[1]
    drafted = tte.Reasoner(folder, backend=on(2, prompt_lookup_tokens=0), draft=checkpoint(NAMED["tied-gqa"]))
    assert [trace.token_ids for trace in drafted.think(ITEMS, **ON)] == plain
    assert drafted.backend.stats.drafted_tokens > 0


def test_attention_in_both_directions(checkpoint: GetFolder, tmp_path: Path) -> None:
    recipe = tmp_path / "both.json"
    recipe.write_text(json.dumps({"name": "both", "bidirectional": True}))
    folder, found = checkpoint(NAMED["tied-gqa"]), []
    for parts, how in ((1, {}), (1, {"recipe": recipe}), (2, {"recipe": recipe})):
        found.append(states(tte.Embedder(folder, backend=on(parts), **how), TEXTS[2]))
    np.testing.assert_allclose(found[2], found[1], atol=1e-5, rtol=0)
    assert np.abs(found[1] - found[0]).max() > 1e-3


def test_latent_steps(tmp_path: Path) -> None:
    folder = make_plume(tmp_path / "PLUME-Qwen2-VL-2B", transition(64))
    one, two = (tte.Embedder(folder, backend=on(parts)).embed(PLUME_ITEMS, progress=False) for parts in (1, 2))
    np.testing.assert_allclose(two, one, atol=1e-5, rtol=0)


def close(one: np.ndarray, other: np.ndarray, least: float) -> None:
    assert (one * other).sum(-1).min() > least


def assert_same_but_for_flips(one: np.ndarray, other: np.ndarray) -> None:
    """Sums of another order make a value's rounding to 8 bits another one now and then: that of few rows."""
    assert np.median(np.abs(one - other).max(-1)) < 1e-5
    close(one, other, 0.999)


def vectors(folder: Path, parts: int, bits: str | None = None) -> np.ndarray:
    embedder = tte.Embedder(folder, backend=on(parts), dtype="float32", quantization=bits)
    return embedder.embed([f"{word} cat" for word in ("a", "the", "red", "blue", "one", "this", "my")], progress=False)


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_matrices_are_rounded_part_by_part(bits: str, checkpoint: GetFolder) -> None:
    """Of 4 bits groups of inputs are the same; of 8 bits each part has its own scale of an output."""
    plain, one, two = (vectors(checkpoint(WIDE), *how) for how in ((1,), (1, bits), (2, bits)))
    assert np.abs(one - plain).max(-1).min() > 1e-3
    if bits == "int4":
        assert_same_but_for_flips(two, one)
    close(two, plain, 0.99 if bits == "int8" else 0.9)


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_rounded_checkpoints_are_cut_as_they_are(bits: str, checkpoint: GetFolder, tmp_path: Path) -> None:
    folder = tte.quantize(checkpoint(WIDE), tmp_path / bits, quantization=bits)
    assert_same_but_for_flips(vectors(folder, 2), vectors(folder, 1))


def test_groups_of_four_bits_are_not_cut(checkpoint: GetFolder, tmp_path: Path) -> None:
    folder = tte.quantize(checkpoint(WIDE), tmp_path / "int4", quantization="int4")
    with pytest.raises(tte.ModelError, match=r"64 of its 256 inputs.*lower tensor_parallel.*\.$") as error:
        tte.Embedder(folder, backend=on(4))
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("weights", "form"),
    [({"num_bits": 4, "strategy": "group", "group_size": 16}, "pack-quantized"),
     ({"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [16, 24]}, "float-quantized")],
    ids=["w4a16", "fp8-block"],
)  # fmt: skip
def test_published_codes_become_numbers_before_the_cut(
    weights: dict[str, Any], form: str, checkpoint: GetFolder, tmp_path: Path
) -> None:
    scheme = QuantizationScheme(targets=["Linear"], weights={"type": "int", "symmetric": True, **weights}, format=form)
    folder = shutil.copytree(checkpoint(NAMED["qwen2.5-vl"]), tmp_path / "few")
    stored: dict[str, torch.Tensor] = {}
    for key, tensor in load_file(folder / "model.safetensors").items():
        parts = compress(tensor, scheme, torch.float32) if is_linear(key) else {}
        stored |= {key.removesuffix("weight") + part: value for part, value in parts.items()} or {key: tensor}
    config = {
        "quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed",
        "config_groups": {"group_0": json.loads(scheme.model_dump_json())}, "ignore": ["lm_head", "re:.*visual.*"],
    }  # fmt: skip
    assert_same(write(folder, stored, quantization_config=config), 2)


def test_two_byte_weights(checkpoint: GetFolder) -> None:
    one, two = (
        tte.Embedder(checkpoint(WIDE), backend=on(parts), dtype="bfloat16").embed(ITEMS, progress=False)
        for parts in (1, 2)
    )
    close(one, two, 0.999)


@pytest.mark.parametrize(
    ("name", "parts", "words"),
    [
        ("qwen3.5", 2, "has recurrent layers, which are not split over devices in this version: leave tensor_parallel"),
        ("qwen3-vl-moe", 2, "has mixtures of experts, which are not split over devices in this version"),
        ("mqa-wide", 2, "has 6 heads, 1 heads of keys and values and an intermediate size of 96: .* greatest is 1"),
        ("tied-gqa", 3, "tensor_parallel is 3, but .* 4 heads, 2 heads of keys and values .* greatest is 2"),
    ],
)
def test_what_cannot_be_split_is_told_before_weights_are_read(
    name: str, parts: int, words: str, checkpoint: GetFolder, tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint(NAMED[name]), tmp_path / name)
    save_file({"nothing": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    for load in (tte.Embedder, tte.Reasoner):
        with pytest.raises(tte.ModelError, match=words) as error:
            load(folder, backend=on(parts))
        assert len(str(error.value)) < 500 + len(str(folder))


@pytest.mark.parametrize("value", [0, 9, -1, 2.5, True, "2", None])
def test_what_is_no_number_of_devices_is_told(value: Any) -> None:
    with pytest.raises(tte.InputError, match=r"^tensor_parallel is ") as error:
        tte.Backend("cpu", tensor_parallel=value)
    assert len(str(error.value)) < 500


def test_steps_of_several_devices_are_not_recorded() -> None:
    with pytest.raises(tte.InputError, match=r"^cuda_graphs is on, but tensor_parallel is 2: "):
        on(2, cuda_graphs=True)


def test_a_backend_is_pickled_and_shown() -> None:
    used = on(2, replicas=2)
    assert repr(used) == "Backend('cpu', replicas=2, tensor_parallel=2, threads=2)"
    assert repr(pickle.loads(pickle.dumps(used))) == repr(used)
    assert used.device == "cpu"
