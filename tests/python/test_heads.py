"""TTE-u: embedding heads that go on from the hidden states of a frozen base, against PyTorch."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tte
from checkpoints import SHAPES, Shape
from conversations import conversations
from families import FAMILIES
from heads import LATENTS, LAYERS, QUERIES, LayersHead, PoolerHead
from references import Reference, states
from safetensors.torch import load_file, save_file

GetReference = Callable[[Shape], Reference]
Head = LayersHead | PoolerHead
Talks = dict[str, list[dict[str, Any]]]

BY_NAME = {shape.name: shape for shape in SHAPES}
MADE: dict[str, Callable[[Reference, Path], Head]] = {
    "layers": lambda theirs, folder: LayersHead(theirs, folder),
    "layers-mean-projected": lambda theirs, folder: LayersHead(theirs, folder, pooling="mean", dim=24),
    "queries": lambda theirs, folder: PoolerHead(theirs, folder, QUERIES, 1),
    "queries-last-layer": lambda theirs, folder: PoolerHead(theirs, folder, QUERIES, 0, heads=4, rows=1, dim=24),
    "latents": lambda theirs, folder: PoolerHead(theirs, folder, LATENTS, 1, width=40),
    "latents-last-layer": lambda theirs, folder: PoolerHead(theirs, folder, LATENTS, 0, heads=4, rows=9, dim=24),
}
CASES = [
    *(("tied-gqa", made) for made in MADE), *(("qwen3-vl-untied", made) for made in MADE),
    ("untied-mha", "layers"), ("qwen2.5-vl", "layers"), ("qwen3.5", "layers"), ("qwen3.5-untied", "queries"),
    ("llava-next-llama", "layers"), ("old-layout", "layers"),
]  # fmt: skip


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Talks:
    return conversations(tmp_path_factory.mktemp("images"))


def of_family(talks: Talks, name: str) -> Talks:
    videos = FAMILIES[BY_NAME[name].family].videos
    return {key: talk for key, talk in talks.items() if videos or "video" not in key}


@pytest.fixture
def base(reference: GetReference) -> Reference:
    return reference(BY_NAME["untied-mha"])


@pytest.mark.parametrize(("name", "made"), CASES, ids=lambda value: value)
def test_vectors_are_those_of_the_reference(
    name: str, made: str, reference: GetReference, talks: Talks, tmp_path: Path
) -> None:
    head = MADE[made](reference(BY_NAME[name]), tmp_path / "head")
    embedder = tte.Embedder(head.folder, device="cpu")
    expected = {key: head.vector(talk) for key, talk in of_family(talks, name).items()}
    assert embedder.dim == len(next(iter(expected.values())))
    together = embedder.embed(list(of_family(talks, name).values()), progress=False)
    for row, (key, talk) in zip(together, of_family(talks, name).items(), strict=True):
        np.testing.assert_allclose(row, expected[key], atol=1e-5, rtol=0, err_msg=key)
        np.testing.assert_allclose(embedder.embed(talk)[0], row, atol=1e-6, rtol=0, err_msg=f"{key} alone")


def test_a_head_of_several_layers_has_states_of_all_tokens(base: Reference, talks: Talks, tmp_path: Path) -> None:
    head = LayersHead(base, tmp_path / "head", layers=2)
    embedder = tte.Embedder(head.folder, device="cpu")
    for name, talk in talks.items():
        np.testing.assert_allclose(states(embedder, talk), head.whole.hidden(talk), atol=1e-5, rtol=0, err_msg=name)
    pooler = tte.Embedder(PoolerHead(base, tmp_path / "pooler", QUERIES, 1).folder, device="cpu")
    with pytest.raises(tte.InputError, match="pools all tokens by attention"):
        pooler.embed_tokens(["the cat"])


@pytest.mark.parametrize(
    ("name", "made"),
    [*(("untied-mha", made) for made in MADE), ("qwen3-vl-untied", "layers"), ("qwen3.5", "layers"),
     ("qwen3.5-untied", "latents")],
    ids=lambda value: value,
)  # fmt: skip
def test_a_head_goes_on_from_the_states_of_the_pass_that_wrote_the_trace(
    name: str, made: str, reference: GetReference, talks: Talks, tmp_path: Path
) -> None:
    theirs = reference(BY_NAME[name])
    head = MADE[made](theirs, tmp_path / "head")
    backend = tte.Backend("cpu", max_step_tokens=64)  # Prompts and heads are run in several steps.
    reasoner = tte.Reasoner(theirs.folder, backend=backend)
    embedder = tte.Embedder(head.folder, backend=backend)
    items = list(of_family(talks, name).values())
    before = backend.stats
    found = tte.think_then_embed(
        items, reasoner=reasoner, embedder=embedder, max_new_tokens=12, ignore_eos=True, progress=False
    )
    after = backend.stats
    prompts = sum(trace.prompt_tokens for trace in found.traces)
    written = sum(trace.generated_tokens for trace in found.traces)
    # Texts of random models are not always those of their tokens: then the trace, but not the prompt, is read again.
    assert after.prefill_tokens - before.prefill_tokens <= prompts + written + len(items) < 2 * prompts
    assert 0 < after.head_tokens - before.head_tokens <= prompts + written
    # A copy that knows nothing of the pass reads prompt and trace itself.
    apart = tte.Embedder(head.folder, backend=tte.Backend("cpu"))
    again = apart.embed(items, found.traces, progress=False)
    np.testing.assert_allclose(found.embeddings, again, atol=1e-6, rtol=0)
    alone = tte.think_then_embed(
        items[-1:], reasoner=reasoner, embedder=embedder, max_new_tokens=12, ignore_eos=True, progress=False
    )
    np.testing.assert_allclose(alone.embeddings[0], found.embeddings[-1], atol=1e-6, rtol=0)


def test_who_has_no_states_reads_prompt_and_trace(base: Reference, reference: GetReference, tmp_path: Path) -> None:
    head = LayersHead(base, tmp_path / "head")
    backend = tte.Backend("cpu", max_running=200)
    embedder = tte.Embedder(head.folder, backend=backend)
    other = tte.Reasoner(reference(BY_NAME["old-layout"]).folder, backend=backend)
    own = tte.Reasoner(base.folder, backend=backend)
    items = ["the cat", "a red circle left of blue square"]
    common: dict[str, Any] = {"embedder": embedder, "max_new_tokens": 8, "progress": False}
    for reasoner, think in ((other, True), (own, False), (own, ["a trace", "another one"])):
        result = tte.think_then_embed(items, reasoner=reasoner, think=think, **common)
        expected = embedder.embed(items, result.traces, progress=False)
        np.testing.assert_allclose(result.embeddings, expected, atol=1e-6, rtol=0)
    assert backend.stats.head_tokens == 0
    tte.think_then_embed(items, reasoner=own, **common)
    assert backend.stats.head_tokens > 0


def test_traces_pause_and_share_prefixes_while_states_are_kept(base: Reference, talks: Talks, tmp_path: Path) -> None:
    head = LayersHead(base, tmp_path / "head", layers=2)
    items = [talks["image"], talks["text"], *(f"the cat and {i}" for i in range(12))]
    common: dict[str, Any] = {"max_new_tokens": 40, "ignore_eos": True, "progress": False}
    results = []
    for state_bytes in (1 << 19, 1 << 26):
        backend = tte.Backend("cpu", state_bytes=state_bytes)
        reasoner = tte.Reasoner(base.folder, backend=backend)
        reasoner.think(items[:3], max_new_tokens=2, progress=False)  # States that keep nothing.
        embedder = tte.Embedder(head.folder, backend=backend)
        results.append(tte.think_then_embed(items, reasoner=reasoner, embedder=embedder, **common).embeddings)
    np.testing.assert_allclose(results[0], results[1], atol=1e-6, rtol=0)


def test_auto_thinking_and_token_vectors_with_a_head(base: Reference, tmp_path: Path) -> None:
    head = LayersHead(base, tmp_path / "head")
    reasoner = tte.Reasoner(base.folder, device="cpu")
    embedder = tte.Embedder(head.folder, backend=tte.Backend("cpu"))
    items = ["the cat", "a dog"]
    common: dict[str, Any] = {"reasoner": reasoner, "embedder": embedder, "max_new_tokens": 6, "progress": False}
    result = tte.think_then_embed(items, think=lambda item, vector: item == 1, **common)
    assert [trace is None for trace in result.traces] == [True, False]
    np.testing.assert_allclose(result.embeddings, embedder.embed(items, result.traces), atol=1e-6, rtol=0)
    tokens = tte.think_then_embed(items, tokens=True, **common)
    assert tokens.tokens is not None
    expected = embedder.embed_tokens(items, tokens.traces, progress=False)
    np.testing.assert_array_equal(tokens.tokens.offsets, expected.offsets)
    np.testing.assert_allclose(tokens.tokens.vectors, expected.vectors, atol=1e-3)


def test_a_head_is_pickled_described_and_writes_no_text(base: Reference, tmp_path: Path) -> None:
    head = LayersHead(base, tmp_path / "head", dim=24)
    embedder = tte.Embedder(head.folder, device="cpu")
    assert (embedder.model.path, embedder.model.base) == (head.folder, base.folder)
    again = pickle.loads(pickle.dumps(embedder))
    np.testing.assert_array_equal(again.embed(["the cat"]), embedder.embed(["the cat"]))
    assert embedder.model.fingerprint != tte.Embedder(base.folder, device="cpu").model.fingerprint
    with pytest.raises(tte.ModelError, match="embedding head"):
        tte.Reasoner(head.folder, device="cpu")
    result = tte.think_then_embed(["the cat"], embedder=head.folder, max_new_tokens=4, progress=False)
    expected = embedder.embed(["the cat"], result.traces)
    np.testing.assert_allclose(result.embeddings, expected, atol=1e-6, rtol=0)


def test_the_base_is_found_from_the_heads_folder(base: Reference, tmp_path: Path) -> None:
    shutil.copytree(base.folder, tmp_path / "base")
    head = LayersHead(base, tmp_path / "heads" / "one")
    edit(head.folder, base="../../base")
    expected = tte.Embedder(base.folder, adapter=head.folder, device="cpu").embed(["the cat"])
    np.testing.assert_array_equal(tte.Embedder(head.folder, device="cpu").embed(["the cat"]), expected)
    edit(head.folder, base="nobody/has-this")
    with pytest.raises(tte.ModelError, match="nobody/has-this"):
        tte.Embedder(head.folder, device="cpu")


def edit(folder: Path, drop: str = "", **values: Any) -> None:
    file = folder / "tte_head.json"
    described = {**json.loads(file.read_text()), **values}
    described.pop(drop, None)
    file.write_text(json.dumps(described))


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "no base": ({"drop": "base"}, '"base" is missing'),
    "an empty base": ({"base": ""}, '"base" is ""'),
    "a base that is a number": ({"base": 7}, '"base" is 7'),
    "a base with a NUL": ({"base": "a\0b"}, '"base" is'),
    "a base that is the head": ({"base": "."}, '"base" is ".": it is neither'),
    "a base that is nowhere": ({"base": "../nowhere"}, "neither the folder of a model"),
    "a long base": ({"base": "x" * 100_000}, "neither the folder of a model"),
    "no kind": ({"drop": "kind"}, '"kind" is missing'),
    "another kind": ({"kind": "qformer"}, '"kind" is "qformer"'),
    "a kind of another type": ({"kind": ["layers"]}, '"kind"'),
    "no layers": ({"drop": "layers"}, '"layers" is missing'),
    "layers 0": ({"layers": 0}, '"layers" is 0'),
    "layers below 0": ({"layers": -1}, '"layers" is -1'),
    "all layers": ({"layers": 3}, '"layers" is 3.*one at least must stay'),
    "more layers": ({"layers": 99}, '"layers" is 99'),
    "far too many layers": ({"layers": 10**30}, '"layers"'),
    "half a layer": ({"layers": 1.5}, '"layers" is 1.5'),
    "true layers": ({"layers": True}, '"layers" is true'),
    "another pooling": ({"pooling": "first"}, '"pooling" is "first"'),
    "a projection that is none": ({"projection": True}, r"projection\.weight"),
    "a projection of another type": ({"projection": "yes"}, '"projection"'),
    "no size": ({"drop": "embedding_dim"}, '"embedding_dim" is missing'),
    "another size": ({"embedding_dim": 63}, '"embedding_dim" is 63.*hidden size of 64'),
    "a size of 0": ({"embedding_dim": 0}, '"embedding_dim" is 0'),
    "heads of layers": ({"attention_heads": 4}, '"attention_heads" is not for the kind'),
    "a pooler without heads": ({"kind": QUERIES, "drop": "pooling"}, '"attention_heads" is missing'),
    "heads that do not divide": (
        {"kind": QUERIES, "drop": "pooling", "attention_heads": 7}, '"attention_heads" is 7.*hidden size of 64',
    ),
    "a pooler with a pooling": ({"kind": LATENTS, "attention_heads": 4}, '"pooling" is for the kind'),
    "a pooler of other tensors": ({"kind": QUERIES, "drop": "pooling", "attention_heads": 4}, "head.safetensors"),
    "an unknown key": ({"layer": 1}, '"layer"'),
    "a revision of another type": ({"revision": 1}, '"revision"'),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_description_that_does_not_fit_is_told(case: str, base: Reference, tmp_path: Path) -> None:
    head = LayersHead(base, tmp_path / "head")
    changes, message = HOSTILE[case]
    edit(head.folder, **changes)
    with pytest.raises(tte.Error, match=f"(?s){message}") as caught:
        tte.Embedder(head.folder, device="cpu")
    assert len(str(caught.value)) < 500
    assert "tte_head.json" in str(caught.value) or "head" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, '{"base": "\\ud800"}', "\xff\xfe"])
def test_a_description_that_is_no_json_is_told(text: str, base: Reference, tmp_path: Path) -> None:
    head = LayersHead(base, tmp_path / "head")
    (head.folder / "tte_head.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(tte.ModelError, match=r"tte_head\.json") as caught:
        tte.Embedder(head.folder, device="cpu")
    assert len(str(caught.value)) < 500


def test_tensors_that_do_not_fit_are_named(base: Reference, tmp_path: Path) -> None:
    head = LayersHead(base, tmp_path / "head")
    file = head.folder / "head.safetensors"
    good = load_file(file)
    q = "layers.0.self_attn.q_proj.weight"
    for tensors, named in (
        ({k: v for k, v in good.items() if k != "norm.weight"}, r"norm\.weight"),
        ({k: v for k, v in good.items() if k != q}, re.escape(q)),
        ({**good, "layers.1.mlp.up_proj.weight": good[q].clone()}, r"layers\.1\.mlp\.up_proj"),
        ({**good, "queries": good[q].clone()}, "queries"),
        ({**good, q: good[q][:, :-1].contiguous()}, re.escape(q)),
    ):
        save_file(tensors, file)
        with pytest.raises(tte.ModelError, match=named) as caught:
            tte.Embedder(head.folder, device="cpu")
        assert "head.safetensors" in str(caught.value)
    file.unlink()
    with pytest.raises(tte.ModelError, match=r"head\.safetensors"):
        tte.Embedder(head.folder, device="cpu")


def test_a_head_of_another_base_is_refused(reference: GetReference, base: Reference, tmp_path: Path) -> None:
    head = LayersHead(base, tmp_path / "head")
    edit(head.folder, base=str(reference(BY_NAME["mqa-wide"]).folder))
    with pytest.raises(tte.ModelError, match=r"embedding_dim.*hidden size of 96"):
        tte.Embedder(head.folder, device="cpu")
    deep = reference(BY_NAME["qwen3-vl"])
    with pytest.raises(tte.ModelError, match="adds what it sees to its first 2 layers"):
        tte.Embedder(LayersHead(deep, tmp_path / "deep").folder, device="cpu")
    hybrid = reference(BY_NAME["qwen3.5"])
    with pytest.raises(tte.ModelError, match="no layer of attention"):
        tte.Embedder(PoolerHead(hybrid, tmp_path / "hybrid", QUERIES, 1).folder, device="cpu")


def test_info_tells_of_a_head(base: Reference, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tte.__main__ import main

    head = LayersHead(base, tmp_path / "head", layers=2, dim=24)
    assert main(["info", str(head.folder)]) == 0
    shown = capsys.readouterr().out
    for part in ("head", LAYERS, str(base.folder), "the last 2 of 3 layers", "24 dimensions"):
        assert part in shown
    assert main(["info", "--json", str(head.folder)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["head"].pop("bytes") == sum(tensor.numel() * 4 for tensor in head.tensors.values())
    assert found["head"] == {"kind": "layers", "layers": 2, "pooling": "last", "projection": True, "dimensions": 24}
    assert found["vector"]["dimensions"] == 24
    assert found["adapter"] is None
