"""Runs that compare the tokens of queries and candidates: the same rankings as numpy's, stopped or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tte
from nano_data import NanoData, system
from tte.mmeb.cli import main
from tte.mmeb.run.blocks import Shard
from tte.mmeb.run.manifest import ResultFolder
from tte.mmeb.run.run import TRACES, Options, merge, run_dataset
from tte.mmeb.run.scores import score_folder
from tte.mmeb.run.setup import System

HYBRID = Options(block=4, scoring="hybrid")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


def with_tokens(store: tte.TraceStore | None) -> System:
    return replace(system(store, "never" if store is None else "recipe"), tokens=True)


@pytest.fixture(scope="module", params=["local", "global"])
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Path]:
    out = tmp_path_factory.mktemp("whole")
    with tte.TraceStore(out / TRACES) as store:
        data = NanoData(images, local=request.param == "local")
        run_dataset(data, out, with_tokens(store), options=HYBRID, progress=False)
        yield out / "image" / data.task.name


def predictions(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def token_sets(folder: Path, side: str) -> tte.TokenEmbeddings:
    return tte.TokenEmbeddings(np.load(folder / f"{side}.tokens.npy"), np.load(folder / f"{side}.offsets.npy"))


def test_rankings_are_numpys(whole: Path) -> None:
    queries, candidates = token_sets(whole, "queries"), token_sets(whole, "candidates")
    assert queries.vectors.dtype == np.float16
    single = np.load(whole / "queries.npy") @ np.load(whole / "candidates.npy").T
    names = [f"{i}:{j}" for i, pool in enumerate(NanoData(whole).pools) for j in range(len(pool))]
    late = np.array([
        [(q.astype(np.float64) @ c.astype(np.float64).T).max(1).mean() for c in candidates] for q in queries
    ])  # fmt: skip
    for scoring, expected in (("hybrid", single + late), ("mean_maxsim", late), ("single", single)):
        score_folder(whole, scoring=scoring)  # type: ignore[arg-type]
        assert json.loads((whole / "manifest.json").read_text())["scoring"] == scoring
        for row, scores in zip(predictions(whole), expected, strict=True):
            found = dict(zip(row["prediction"], row["scores"], strict=True))
            assert list(row["scores"]) == sorted(row["scores"], reverse=True)
            assert found == pytest.approx({n: s for n, s in zip(names, scores, strict=True) if n in found}, abs=2e-5)
    score_folder(whole, scoring="maxsim")
    lengths = np.diff(queries.offsets)[:, None]
    for row, scores in zip(predictions(whole), late * lengths, strict=True):
        found = dict(zip(row["prediction"], row["scores"], strict=True))
        assert found == pytest.approx({n: s for n, s in zip(names, scores, strict=True) if n in found}, rel=1e-5)
    score_folder(whole, scoring="hybrid")


def test_traces_are_among_the_tokens(images: Path, whole: Path, tmp_path: Path) -> None:
    data = NanoData(images, local=json.loads((whole / "manifest.json").read_text())["task"]["local"])
    run_dataset(data, tmp_path, with_tokens(None), options=HYBRID, progress=False)
    without = tmp_path / "image" / data.task.name
    assert len(token_sets(whole, "queries").vectors) > len(token_sets(without, "queries").vectors) + 8 * 4


def test_shards_merge_to_the_same_scores(images: Path, whole: Path, tmp_path: Path) -> None:
    data = NanoData(images, local=json.loads((whole / "manifest.json").read_text())["task"]["local"])
    with tte.TraceStore(tmp_path / TRACES) as store:
        store.merge(whole.parents[1] / TRACES)
        for index in range(3):
            options = replace(HYBRID, shard=Shard(index, 3))
            assert run_dataset(data, tmp_path, with_tokens(store), options=options, progress=False) is None
    assert merge(tmp_path, [], replace(HYBRID, scoring=None)).exit_code == 0
    folder = tmp_path / "image" / data.task.name
    for name in ("score.json", "queries.offsets.npy", "candidates.offsets.npy"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    elsewhere = tmp_path / "elsewhere"
    assert merge(elsewhere, [tmp_path], HYBRID).exit_code == 0
    copied = elsewhere / "image" / data.task.name
    assert (copied / "candidates.tokens.npy").read_bytes() == (folder / "candidates.tokens.npy").read_bytes()


def test_equal_candidates_tie(images: Path, tmp_path: Path) -> None:
    data = NanoData(images, "image_qa", local=False)
    data.pools = [[*pool, pool[0], pool[1]] for pool in data.pools]
    run_dataset(data, tmp_path, with_tokens(None), options=replace(HYBRID, top=0), progress=False)
    for row in predictions(tmp_path / "image" / data.task.name):
        scores = dict(zip(row["prediction"], row["scores"], strict=True))
        assert all(scores[f"{i}:0"] == scores[f"{i}:{len(pool) - 2}"] for i, pool in enumerate(data.pools))


def test_what_has_no_tokens_is_not_compared_by_them(images: Path, tmp_path: Path) -> None:
    data = NanoData(images)
    run_dataset(data, tmp_path, system(None, "never"), options=Options(block=4), progress=False)
    folder = tmp_path / "image" / data.task.name
    with pytest.raises(tte.InputError, match="no vectors of tokens, which --score hybrid compares"):
        score_folder(folder, scoring="hybrid")
    with pytest.raises(tte.InputError, match="tokens none, now text"):
        run_dataset(data, tmp_path, with_tokens(None), options=HYBRID, progress=False)
    assert main(["score", str(tmp_path), "--score", "maxsim"]) == 1
    assert main(["score", str(tmp_path), "--score", "single"]) == 0


def test_damaged_tokens_are_named(whole: Path, tmp_path: Path) -> None:
    for name in ("queries.tokens.npy", "candidates.offsets.npy"):
        path = whole / name
        data = path.read_bytes()
        for wrong in (data[:-1], data[:-5] + bytes([data[-5] ^ 4]) + data[-4:], b""):
            path.write_bytes(wrong)
            with pytest.raises(tte.InputError, match=name.replace(".", r"\.")):
                score_folder(whole)
        path.write_bytes(data)
    score_folder(whole)


def test_a_block_keeps_its_tokens(tmp_path: Path) -> None:
    from tte.mmeb.run.manifest import Part

    folder = ResultFolder(tmp_path)
    folder.parts.mkdir()
    tokens = tte.TokenEmbeddings(np.arange(12, dtype=np.float16).reshape(3, 4), np.array([0, 1, 1, 3]))
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    folder.write_part("queries", 0, Part(vectors, [{"a": 1}] * 3, ["n"], tokens))
    found = folder.read_part("queries", 0)
    np.testing.assert_array_equal(found.vectors, vectors)
    assert found.tokens is not None
    np.testing.assert_array_equal(found.tokens.vectors, tokens.vectors)
    np.testing.assert_array_equal(found.tokens.offsets, tokens.offsets)
    folder.write_part("queries", 1, Part(vectors, [{"a": 1}] * 3))
    assert folder.read_part("queries", 1).tokens is None
