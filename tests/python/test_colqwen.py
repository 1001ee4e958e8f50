"""ColBERT-style checkpoints against transformers: a model of a known family and a projection of its states."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import tte
from checkpoints import SHAPES, Shape
from PIL import Image
from references import Reference, noise, states
from safetensors.torch import load_file, save_file
from transformers import ColQwen2Config, ColQwen2ForRetrieval, ColQwen2Processor

QUERIES = ["the cat", "what is left of the red circle ?"]


@pytest.fixture(scope="module", params=["tied-gqa", "untied-mha", "qwen2.5-vl"])
def theirs(
    request: pytest.FixtureRequest, checkpoint: Callable[[Shape], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ColQwen2ForRetrieval, ColQwen2Processor]:
    base = Reference(checkpoint(next(shape for shape in SHAPES if shape.name == request.param)))
    torch.manual_seed(1)
    model = ColQwen2ForRetrieval(ColQwen2Config(vlm_config=base.model.config, embedding_dim=24)).eval()
    model.vlm.load_state_dict(base.model.model.state_dict())
    torch.nn.init.normal_(model.embedding_proj_layer.weight)
    torch.nn.init.normal_(model.embedding_proj_layer.bias)
    folder = tmp_path_factory.mktemp("colqwen")
    model.save_pretrained(folder)
    processor = ColQwen2Processor(base.processor.image_processor, base.processor.tokenizer)
    processor.save_pretrained(folder)
    return folder, model, processor


def test_vectors_and_scores_are_transformers(
    theirs: tuple[Path, ColQwen2ForRetrieval, ColQwen2Processor], tmp_path: Path
) -> None:
    folder, model, processor = theirs
    pages = [Image.fromarray(noise(84, 112, seed)) for seed in range(2)]
    with torch.inference_mode():
        texts = [model(**processor.process_queries([query])).embeddings[0] for query in QUERIES]
        images = [model(**processor.process_images([page])).embeddings[0] for page in pages]
    embedder = tte.Embedder(folder, recipe="colqwen2", device="cpu")
    assert embedder.dim == 24
    queries = embedder.embed_tokens(QUERIES, dtype="float32", progress=False)
    documents = embedder.embed_tokens(pages, dtype="float32", progress=False)
    for found, expected in zip([*queries, *documents], [*texts, *images], strict=True):
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5, rtol=0)
    scores = processor.score_retrieval(texts, images).numpy()
    np.testing.assert_allclose(tte.maxsim(queries, documents), scores, atol=1e-4)
    half = embedder.embed_tokens(pages, progress=False)
    np.testing.assert_allclose(half[0], documents[0], atol=1e-3)
    words = embedder.embed_tokens(QUERIES, keep="text", progress=False)
    assert len(words.vectors) < len(queries.vectors)
    with pytest.raises(tte.InputError, match="embed_tokens"):
        embedder.embed(QUERIES)
    with pytest.raises(tte.ModelError, match="projects its hidden states to 24 dimensions"):
        tte.Reasoner(folder, recipe="colqwen2", device="cpu")


def test_a_projection_under_its_other_name(checkpoint: Callable[[Shape], Path], tmp_path: Path) -> None:
    base = checkpoint(next(shape for shape in SHAPES if shape.name == "tied-gqa"))
    folder = tmp_path / "projected"
    shutil.copytree(base, folder)
    tensors = load_file(folder / "model.safetensors")
    hidden = json.loads((folder / "config.json").read_text())["text_config"]["hidden_size"]
    weight, bias = torch.randn(16, hidden), torch.randn(16)
    save_file(
        {**tensors, "custom_text_proj.weight": weight, "custom_text_proj.bias": bias}, folder / "model.safetensors"
    )
    plain = states(tte.Embedder(base, device="cpu"), "the cat")
    projected = states(tte.Embedder(folder, device="cpu"), "the cat")
    np.testing.assert_allclose(projected, plain @ weight.numpy().T + bias.numpy(), atol=1e-4)
    save_file({**tensors, "custom_text_proj.weight": weight[:, :-1].contiguous()}, folder / "model.safetensors")
    with pytest.raises(tte.ModelError, match=r"custom_text_proj\.weight"):
        tte.Embedder(folder, device="cpu")


@pytest.mark.parametrize("named", ["custom_text_proj", "embedding_proj_layer"])
@pytest.mark.parametrize(("family", "dim"), [("qwen3-vl", 128), ("qwen3.5", 320), ("qwen3-vl", 4096)])
def test_colqwen3(family: str, dim: int, named: str, checkpoint: Callable[[Shape], Path], tmp_path: Path) -> None:
    """As colpali-engine has them: the family's model without a head, and a linear layer for every state."""
    base = Reference(checkpoint(next(shape for shape in SHAPES if shape.name == family)))
    model = base.model.model
    torch.manual_seed(2)
    hidden = base.model.config.text_config.hidden_size
    project = torch.nn.Linear(hidden, dim)
    torch.nn.init.normal_(project.weight)
    folder = tmp_path / f"colqwen3-{family}"
    shutil.copytree(base.folder, folder)
    own = {f"{named}.{name}": tensor for name, tensor in project.state_dict().items()}
    if named == "embedding_proj_layer":  # As TomoroAI's: the whole model below a name, and a type of its own.
        tensors = {f"vlm.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
        config = json.loads((folder / "config.json").read_text())
        if family == "qwen3-vl":
            (folder / "config.json").write_text(json.dumps({**config, "model_type": "colqwen3", "embed_dim": dim}))
    else:
        tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file({**tensors, **own}, folder / "model.safetensors", metadata={"format": "pt"})

    def vectors(text: str, images: list[Image.Image] | None = None) -> np.ndarray:
        inputs = base.processor(text=[text], images=images, return_tensors="pt")
        model.rope_deltas = None
        with torch.inference_mode():
            rows = project(model(**inputs).last_hidden_state[0])
        return torch.nn.functional.normalize(rows, dim=-1).numpy()

    page = Image.fromarray(noise(96, 128, 1))
    document = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Describe the image.<|im_end|><|endoftext|>"
    expected = [vectors(f"Query: {QUERIES[1]}" + "<|endoftext|>" * 10), vectors(document, [page])]
    embedder = tte.Embedder(folder, device="cpu")
    assert json.loads(embedder.model.recipe)["name"] == "colqwen3"
    assert embedder.dim == dim
    found = embedder.embed_tokens([QUERIES[1], page], dtype="float32", progress=False)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    with pytest.raises(tte.ModelError, match=f"projects its hidden states to {dim} dimensions"):
        tte.Reasoner(folder, device="cpu")
