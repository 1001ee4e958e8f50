"""Sparse vectors: what their files may hold, items that fail, and types. The parity test is `test_uembed`."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tte
from checkpoints import SHAPES, Shape
from references import states

HEADS = 3


@pytest.fixture
def where(checkpoint: Callable[[Shape], Path], tmp_path: Path) -> Path:
    """Return a checkpoint that lacks the file of its heads."""
    base = checkpoint(next(shape for shape in SHAPES if shape.name == "tied-gqa"))
    return with_sparse_recipe(base, tmp_path / "sparse")


def with_sparse_recipe(base: Path, folder: Path) -> Path:
    """Copy a checkpoint, whose recipe then reads the last three tokens of a prompt with heads of their own."""
    shutil.copytree(base, folder)
    recipe = {
        "name": "sparse", "trace": {"suffix": "<|vision_pad|>" * HEADS}, "pooling_offset": HEADS,
        "sparse": {"file": "heads.pt", "weights": "w", "biases": "b"},
    }  # fmt: skip
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder


def hidden_of(folder: Path) -> int:
    return json.loads((folder / "config.json").read_text())["text_config"]["hidden_size"]


def heads_of(folder: Path, dtype: torch.dtype = torch.float32) -> dict[str, list[torch.Tensor]]:
    torch.manual_seed(3)
    return {
        "w": [torch.randn(4 + i, hidden_of(folder)).to(dtype) for i in range(HEADS)],
        "b": [torch.randn(4 + i).to(dtype) for i in range(HEADS)],
    }


def expected(heads: dict[str, Any], rows: np.ndarray, dtype: torch.dtype = torch.float32) -> np.ndarray:
    logits = [
        w.to(dtype) @ torch.from_numpy(row).to(dtype) + b.to(dtype)
        for w, b, row in zip(heads["w"], heads["b"], rows[-HEADS:], strict=True)
    ]
    return torch.log1p(torch.relu(torch.cat(logits))).float().detach().numpy()


def found(folder: Path, **options: Any) -> np.ndarray:
    sparse = tte.Embedder(folder, device="cpu", **options).embed_sparse("the cat", progress=False)
    out = np.zeros(sparse.dim, np.float32)
    out[sparse.indices] = sparse.values
    return out


def test_what_torch_save_writes_is_read(where: Path) -> None:
    heads = heads_of(where)
    rows = states(tte.Embedder(where, device="cpu"), "the cat")
    wide = [torch.cat([w, w], dim=1) for w in heads["w"]]
    variants: list[Any] = [
        heads,
        OrderedDict(heads, b=tuple(heads["b"]), steps=7, note="x" * 300, more=[1.5, None, True, -(10**12)]),
        {**heads, "w": [torch.nn.Parameter(w) for w in heads["w"]]},
        {**heads, "w": [w.t().contiguous().t() for w in heads["w"]]},  # Views: of another order,
        {**heads, "w": [w[:, : w.shape[1] // 2] for w in wide]},  # and of a part of their storage.
    ]
    for protocol in (2, 4):
        for variant in variants:
            torch.save(variant, where / "heads.pt", pickle_protocol=protocol)
            np.testing.assert_allclose(found(where), expected(heads, rows), atol=1e-5)


@pytest.mark.parametrize(
    ("stored", "model"), [("float32", "bfloat16"), ("bfloat16", "float32"), ("float16", "float32")]
)
def test_heads_compute_in_the_models_type(where: Path, stored: str, model: str) -> None:
    heads = heads_of(where, getattr(torch, stored))
    torch.save(heads, where / "heads.pt")
    embedder = tte.Embedder(where, device="cpu", dtype=model)
    wanted = expected(heads, states(embedder, "the cat"), getattr(torch, model))
    np.testing.assert_allclose(found(where, dtype=model), wanted, atol=1e-5 if model == "float32" else 0.02)


def test_without_biases(where: Path) -> None:
    recipe = json.loads((where / "recipe.json").read_text())
    del recipe["sparse"]["biases"]
    (where / "recipe.json").write_text(json.dumps(recipe))
    heads = heads_of(where)
    torch.save({"w": heads["w"]}, where / "heads.pt")
    rows = states(tte.Embedder(where, device="cpu"), "the cat")
    none = {**heads, "b": [torch.zeros_like(b) for b in heads["b"]]}
    np.testing.assert_allclose(found(where), expected(none, rows), atol=1e-5)


def test_items_that_fail_and_traces(where: Path) -> None:
    heads = heads_of(where)
    torch.save(heads, where / "heads.pt")
    embedder = tte.Embedder(where, device="cpu")
    sparse = embedder.embed_sparse(["cat", Path("none.png"), "dog"], on_error="skip", progress=False)
    assert len(sparse) == 3
    assert len(sparse[1][0]) == 0
    assert np.isnan(sparse.pooled[1]).all()
    np.testing.assert_array_equal(sparse.pooled[[0, 2]], embedder.embed(["cat", "dog"], progress=False))
    assert sparse.dot(sparse).shape == (3, 3)
    assert sparse.dot(sparse)[1].tolist() == [0, 0, 0]
    with pytest.raises(tte.InputError, match="item 1"):
        embedder.embed_sparse(["cat", Path("none.png")], progress=False)
    thought = embedder.embed_sparse("cat", "<think>dog</think> cat", progress=False)
    rows = embedder.embed_tokens(
        "cat", "<think>dog</think> cat", keep="all", normalize=False, dtype="float32", progress=False
    )[0]
    dense = np.zeros(thought.dim, np.float32)
    dense[thought.indices] = thought.values
    np.testing.assert_allclose(dense, expected(heads, rows), atol=1e-5)
    assert not np.array_equal(dense[thought.indices], sparse[0][1])
    with pytest.raises(tte.InputError, match="top_k"):
        embedder.embed_sparse("cat", top_k=0)
    with pytest.raises(tte.InputError, match="SparseEmbeddings of"):
        sparse.dot(np.zeros(3))  # type: ignore[arg-type]


def test_a_recipe_without_sparse_vector(embedder: tte.Embedder) -> None:
    assert embedder.sparse_dim == 0
    with pytest.raises(tte.InputError, match='The recipe "raw" has no sparse vector'):
        embedder.embed_sparse("cat")


def saved(folder: Path, what: Any) -> None:
    torch.save(what, folder / "heads.pt")


def test_heads_that_do_not_fit_are_refused(where: Path) -> None:
    heads, hidden = heads_of(where), hidden_of(where)
    cases: list[tuple[Any, str]] = [
        ({**heads, "w": heads["w"][:2]}, r'"w" has 2 tensors, .* 3 behind it'),
        ({"w": heads["w"]}, r'"b" has 0 tensors'),
        (
            {**heads, "w": [w[:, 1:].clone() for w in heads["w"]]},
            rf"shape \[4, {hidden - 1}\], but must have \[4, {hidden}\]",
        ),
        ({**heads, "b": [torch.zeros(9)] * HEADS}, r'tensor 0 of "b" has the shape \[9\]'),
        ({**heads, "w": [torch.tensor(1.0)] * HEADS}, r"has the shape \[\]"),
        (heads["w"], "no dictionary"),
        ({**heads, "w": [w.double() for w in heads["w"]]}, "another type than float32"),
        (
            {**heads, "w": [w.to_sparse() for w in heads["w"]]},
            r"has an object of torch\.serialization\._get_layout",
        ),
        ({**heads, "x": torch.nn.Linear(2, 2)}, "has an object of|uses the pickle operation"),
        ({**heads, "w": [torch.zeros(0, hidden)] * HEADS}, "is empty"),
    ]
    for what, message in cases:
        saved(where, what)
        with pytest.raises(tte.ModelError, match=message) as raised:
            tte.Embedder(where, device="cpu")
        assert "heads.pt" in str(raised.value)
        assert len(str(raised.value)) < 500
    torch.save(heads, where / "heads.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(tte.ModelError, match=r"no file of torch\.save"):
        tte.Embedder(where, device="cpu")
    saved(where, {**heads, "b": [torch.full_like(b, float("inf")) for b in heads["b"]]})
    with pytest.raises(tte.ModelError, match="is not finite"):
        tte.Embedder(where, device="cpu").embed_sparse("cat", progress=False)


def test_a_damaged_file_is_an_error(where: Path) -> None:
    """Cut anywhere, or with any byte of its structure changed: refused or read, and nothing else."""
    saved(where, heads_of(where))
    path = where / "heads.pt"
    whole = path.read_bytes()
    for end in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:end])
        with pytest.raises(tte.ModelError):
            tte.Embedder(where, device="cpu")
    with zipfile.ZipFile(path.with_suffix(".whole"), "w") as archive:
        archive.writestr("heads/data.pkl", b"\x80\x02}.")  # A dictionary without anything.
    path.with_suffix(".whole").replace(path)
    with pytest.raises(tte.ModelError, match="has 0 tensors"):
        tte.Embedder(where, device="cpu")
    begin = whole.index(b"\x80\x02")
    table = whole.index(b"PK\x01\x02")
    places = [*range(begin, begin + 430, 11), *range(table, len(whole), 17)]
    for at in places:
        for bit in (1, 0x80):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
            with suppress(tte.ModelError):
                tte.Embedder(where, device="cpu")


def test_a_pickle_that_would_run_code_runs_none(where: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    saved(where, {**heads_of(where), "x": Evil()})
    with pytest.raises(tte.ModelError, match="has an object of"):
        tte.Embedder(where, device="cpu")
    assert not (tmp_path / "ran").exists()


def test_arrays_that_do_not_fit_each_other() -> None:
    good: dict[str, Any] = {
        "values": np.ones(4, np.float32), "indices": np.array([1, 3, 0, 2], np.int32),
        "indptr": np.array([0, 2, 2, 4]), "dim": 4, "pooled": np.ones((3, 2), np.float32),
    }  # fmt: skip
    assert tte.SparseEmbeddings(**good).shape == (3, 4)
    cases: dict[str, Any] = {
        "values": np.ones(3, np.float32), "indices": np.array([3, 1, 0, 2], np.int32), "indptr": np.array([0, 4, 2, 4]),
        "dim": 3, "pooled": np.ones((2, 2), np.float32),
    }  # fmt: skip
    for name, value in cases.items():
        with pytest.raises(tte.InputError, match="SparseEmbeddings"):
            tte.SparseEmbeddings(**{**good, name: value})
