"""Folders of sentence-transformers: the recipe that is derived gives what the library itself gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tte
from checkpoints import Shape, make_checkpoint
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from test_systems import qwen3_embedding  # noqa: F401
from tte._inspect import info

TEXTS = ["the cat and dog", "look at the red circle left of blue square", "東京 Grüße 1234"]
PROMPTS = {"query": "Find: ", "document": "", "topic": "think about "}


def written(base: Path, folder: Path, pooling: str, *more: Any, **options: Any) -> SentenceTransformer:
    transformer = Transformer(str(base), **options)
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), pooling), *more]
    model = SentenceTransformer(modules=modules, prompts=PROMPTS, device="cpu")
    model.save_pretrained(str(folder))
    return SentenceTransformer(str(folder), device="cpu")


@pytest.mark.parametrize("pooling", ["lasttoken", "mean"])
@pytest.mark.parametrize("normalised", [True, False])
def test_a_text_model(qwen3_embedding: Path, tmp_path: Path, pooling: str, normalised: bool) -> None:  # noqa: F811
    text = {"modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}}
    theirs = written(
        qwen3_embedding, tmp_path / "st", pooling, *[Normalize()] * normalised, **text,
        module_output_name="token_embeddings", max_seq_length=12,
    )  # fmt: skip
    embedder = tte.Embedder(tmp_path / "st", device="cpu")
    assert "sentence-transformers" in embedder.model.recipe_reason
    texts = [*TEXTS, " ".join(TEXTS * 3), ""]  # One that is cut, and one that is the tokenizer's end alone.
    for task, side, name in (
        (None, "query", None), ("retrieval", "query", "query"), ("retrieval", "target", "document"),
        ("topic", "query", "topic"),
    ):  # fmt: skip
        expected = theirs.encode(texts, prompt_name=name)
        ours = embedder.embed(texts, task=task, side=side, progress=False)
        np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=0, err_msg=f"{task} {side}")


def test_messages_are_written_with_the_chat_template(tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base", Shape("st", family="qwen2_vl"))
    entry = {"method": "forward", "method_output_name": "last_hidden_state"}
    theirs = written(
        base, tmp_path / "st", "lasttoken", Normalize(),
        modality_config={"text": entry, "message": {**entry, "format": "structured"}},
        module_output_name="token_embeddings", processing_kwargs={"chat_template": {"add_generation_prompt": True}},
    )  # fmt: skip
    embedder = tte.Embedder(tmp_path / "st", device="cpu")
    assert "sentence-transformers" in embedder.model.recipe_reason
    for task, name in ((None, None), ("topic", "topic")):
        expected = theirs.encode(TEXTS, prompt_name=name)
        np.testing.assert_allclose(embedder.embed(TEXTS, task=task, progress=False), expected, atol=1e-5, rtol=0)


TEXT_MODEL = {
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}
DENSE = {
    "tanh": [Dense(64, 32)],
    "linear": [Dense(64, 48, bias=False, activation_function=None)],
    "two": [Dense(64, 96, activation_function=torch.nn.GELU()), Dense(96, 20, activation_function=torch.nn.Sigmoid())],
    "residual": [Dense(64, 64, activation_function=torch.nn.ReLU(), use_residual=True)],
    "projected residual": [Dense(64, 40, activation_function=torch.nn.SiLU(), use_residual=True)],
}


@pytest.mark.parametrize("pooling", ["lasttoken", "mean"])
@pytest.mark.parametrize("which", DENSE)
def test_dense_modules(qwen3_embedding: Path, tmp_path: Path, which: str, pooling: str) -> None:  # noqa: F811
    torch.manual_seed(1)
    for module in DENSE[which]:
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    normalised = [Normalize()] * (pooling == "mean")
    theirs = written(qwen3_embedding, tmp_path / "st", pooling, *DENSE[which], *normalised, **TEXT_MODEL)
    embedder = tte.Embedder(tmp_path / "st", device="cpu")
    expected = theirs.encode(TEXTS)
    assert embedder.dim == expected.shape[1]
    assert info(tmp_path / "st")["vector"]["dimensions"] == expected.shape[1]
    scale = max(1, np.abs(expected).max())
    rows = embedder.embed(TEXTS, progress=False)
    np.testing.assert_allclose(rows, expected, atol=1e-5 * scale, rtol=0)
    np.testing.assert_array_equal(rows[1], embedder.embed(TEXTS[1])[0])
    half = embedder.embed(TEXTS, truncate_dim=10, progress=False)
    np.testing.assert_allclose(
        half / np.linalg.norm(half, axis=1)[:, None],
        expected[:, :10] / np.linalg.norm(expected[:, :10], axis=1)[:, None],
        atol=1e-5,
        rtol=0,
    )
    with pytest.raises(tte.InputError, match=f"between 1 and the model's {expected.shape[1]} dimensions"):
        embedder.embed(TEXTS, truncate_dim=97)
    # Vectors of tokens are projected, too.
    tokens = embedder.embed_tokens(TEXTS[:1], keep="all", dtype="float32", normalize=normalised != [], progress=False)
    np.testing.assert_allclose(
        tokens.pooled[0], embedder.embed(TEXTS[0], normalize=normalised != [])[0], atol=1e-5 * scale, rtol=0
    )
    if pooling == "lasttoken":
        np.testing.assert_allclose(tokens[0][-1], tokens.pooled[0], atol=1e-5 * scale, rtol=0)
    assert tokens[0].shape[1] == expected.shape[1]


def test_damaged_dense_modules(qwen3_embedding: Path, tmp_path: Path) -> None:  # noqa: F811
    written(qwen3_embedding, tmp_path / "st", "lasttoken", Dense(64, 32), **TEXT_MODEL)
    file = tmp_path / "st" / "2_Dense" / "model.safetensors"
    tensors = load_file(file)
    weight, bias = tensors["linear.weight"], tensors["linear.bias"]
    for wrong, says in (
        ({"linear.bias": bias}, "linear.weight"),
        ({"linear.weight": weight[:, :60].clone(), "linear.bias": bias}, "linear.weight"),
        ({"linear.weight": weight, "linear.bias": bias[:9].clone()}, "linear.bias"),
        ({"linear.weight": weight, "linear.bias": bias, "linear.more": bias.clone()}, "linear.more"),
    ):
        save_file(wrong, file)
        with pytest.raises(tte.ModelError, match=says):
            tte.Embedder(tmp_path / "st", device="cpu")
    file.unlink()
    with pytest.raises(tte.ModelError, match="2_Dense"):
        tte.Embedder(tmp_path / "st", device="cpu")


def test_what_tte_does_not_have_is_refused_by_name(qwen3_embedding: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "st"
    written(qwen3_embedding, folder, "lasttoken", Normalize(), **TEXT_MODEL)
    modules = json.loads((folder / "modules.json").read_text())
    more = {"idx": 3, "name": "3", "path": "3_Dropout", "type": "sentence_transformers.models.Dropout"}
    (folder / "modules.json").write_text(json.dumps([*modules, more]))
    with pytest.raises(tte.ModelError, match=r"modules.json asks for the module Dropout, which tte does not have"):
        tte.Embedder(folder, device="cpu")
    assert tte.Embedder(folder, device="cpu", recipe="plain").dim == 64
    (folder / "modules.json").write_text(json.dumps(modules[:2]))
    assert tte.Embedder(folder, device="cpu").dim == 64
