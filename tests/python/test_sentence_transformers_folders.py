"""Folders of sentence-transformers: the recipe that is derived gives what the library itself gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tte
from checkpoints import Shape, make_checkpoint
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from test_systems import qwen3_embedding  # noqa: F401

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
    texts = [*TEXTS, " ".join(TEXTS * 3)]  # The last is cut.
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


def test_what_tte_does_not_have_is_refused_by_name(qwen3_embedding: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "st"
    text = {"modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}}
    written(qwen3_embedding, folder, "lasttoken", Dense(64, 32), **text, module_output_name="token_embeddings")
    with pytest.raises(tte.ModelError, match=r"modules.json asks for the module Dense, which tte does not have"):
        tte.Embedder(folder, device="cpu")
    assert tte.Embedder(folder, device="cpu", recipe="plain").dim == 64
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(modules[:2]))
    assert tte.Embedder(folder, device="cpu").dim == 64
