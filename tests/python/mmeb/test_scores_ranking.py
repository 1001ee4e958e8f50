"""Ranking and scoring against brute force: ties, repeated names, failed items, blocks of any size."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import tte
from tte.mmeb.run import scores
from tte.mmeb.score import metrics, ranking
from tte.mmeb.score.scoring import Row, score


def unit(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    vectors = rng.standard_normal((rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute_force(queries: np.ndarray, rows: list[Row], candidates: np.ndarray, names: list[str]) -> list[list[str]]:
    out = []
    for query, row in zip(queries, rows, strict=True):
        pool = list(dict.fromkeys(names if row.candidates is None else row.candidates))
        dots = [float(np.dot(candidates[names.index(n)].astype(np.float64), query.astype(np.float64))) for n in pool]
        out.append([pool[i] for i in sorted(range(len(pool)), key=lambda i: (-dots[i], i))])
    return out


@pytest.fixture(params=["whole", "small blocks"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "small blocks":
        monkeypatch.setattr(ranking, "_SCORE_BYTES", 8 * 100)
        monkeypatch.setattr(ranking, "_COLUMN_BYTES", 8 * 16 * 7)


def run(queries: Any, rows: list[Row], candidates: Any, names: list[str], **options: Any) -> tuple[Any, list[Any]]:
    file = io.BytesIO()
    found = score(queries, rows, candidates, names, predictions=file, **options)
    return found, [json.loads(line) for line in file.getvalue().splitlines()]


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("local", [False, True])
def test_rankings_and_means_are_those_of_brute_force(local: bool) -> None:
    rng = np.random.default_rng(0)
    candidates, queries = unit(rng, 60, 16), unit(rng, 25, 16)
    names = [f"c{i}" for i in range(60)]
    rows = []
    for i in range(25):
        pool = [names[j] for j in rng.permutation(60)[: int(rng.integers(1, 20))]] if local else None
        labels = [(pool or names)[int(j)] for j in rng.permutation(len(pool or names))[:3]]
        rows.append(Row(str(i), pool, labels, [float(g) for g in rng.integers(1, 4, len(labels))]))
    found, predictions = run(queries, rows, candidates, names, top=0)
    expected = brute_force(queries, rows, candidates, names)
    assert [p["prediction"] for p in predictions] == expected
    want = metrics.mean(metrics.query_scores(e, r.labels, r.relevance) for e, r in zip(expected, rows, strict=True))
    assert {k: found.scores[k] for k in metrics.KEYS} == want
    assert list(found.scores) == [*metrics.KEYS, "num_pred", "num_data"]
    assert found.scores["num_pred"] == found.scores["num_data"] == 25
    assert [p["rank"] for p in predictions] == [
        1 + min(e.index(label) for label in r.labels) for e, r in zip(expected, rows, strict=True)
    ]


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("local", [False, True])
def test_equal_vectors_tie_exactly_and_fall_by_their_place(local: bool) -> None:
    rng = np.random.default_rng(1)
    distinct = unit(rng, 40, 16)
    which = np.concatenate([np.arange(40), rng.integers(0, 40, 60)])
    candidates, queries = distinct[which], unit(rng, 10, 16)
    names = [f"c{i}" for i in range(100)]
    rows = [Row(str(i), list(reversed(names)) if local else None, [names[90]], None) for i in range(10)]
    found, predictions = run(queries, rows, candidates, names, top=0)
    for p in predictions:
        order = [int(name[1:]) for name in p["prediction"]]
        groups = [which[i] for i in order]
        assert all((groups[i] == groups[i + 1]) or groups[i] not in groups[i + 1 :] for i in range(99))
        for group in set(groups):
            places = [i for i, g in zip(order, groups, strict=True) if g == group]
            assert places == sorted(places, reverse=local)
    assert found.details["ties"]["queries"] == 10


def test_ties_are_reported_both_ways() -> None:
    candidates = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
    query = np.array([[1, 0]], np.float32)
    found, _ = run(query, [Row("0", None, ["b"], None)], candidates, list("abcd"))
    ties = found.details["ties"]
    assert found.scores["hit@1"] == 0
    assert found.scores["mrr@5"] == 1 / 2
    assert ties["queries"] == 1
    assert (ties["optimistic"]["hit@1"], ties["pessimistic"]["hit@1"]) == (1, 0)
    assert (ties["optimistic"]["mrr@5"], ties["pessimistic"]["mrr@5"]) == (1, 1 / 3)


def test_labels_of_different_grades_that_tie() -> None:
    candidates = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    query = np.array([[1, 0]], np.float32)
    found, _ = run(query, [Row("0", None, ["a", "b"], [1, 3])], candidates, list("abc"))
    best = 3 + 1 / np.log2(3)
    assert found.scores["ndcg_linear@5"] == pytest.approx((1 + 3 / np.log2(3)) / best)
    assert found.details["ties"]["optimistic"]["ndcg_linear@5"] == pytest.approx(1)
    assert found.details["ties"]["pessimistic"]["ndcg_linear@5"] == found.scores["ndcg_linear@5"]
    plain, _ = run(query, [Row("0", None, ["a", "b"], None)], candidates, list("abc"))
    assert plain.details["ties"]["queries"] == 0


def test_failed_items_are_misses_and_are_counted() -> None:
    candidates = np.array([[1, 0], [np.nan, np.nan], [0.5, 0]], np.float32)
    queries = np.array([[1, 0], [np.nan, np.nan], [1, 0]], np.float32)
    rows = [Row("0", None, ["a"], None), Row("1", None, ["a"], None, "broken"), Row("2", None, ["b"], None)]
    found, predictions = run(queries, rows, candidates, list("abc"))
    assert [p["prediction"] for p in predictions] == [["a", "c", "b"], [], ["a", "c", "b"]]
    assert found.scores["hit@1"] == pytest.approx(1 / 3)
    assert found.scores["num_data"] == 3
    assert (found.details["failed_queries"], found.details["failed_candidates"]) == (1, 1)
    assert predictions[2]["rank"] is None


def test_names_that_a_pool_repeats_count_once_but_twice_for_the_reference() -> None:
    candidates = np.eye(3, dtype=np.float32)
    query = np.array([[3, 2, 1]], np.float32)
    found, predictions = run(query, [Row("0", ["a", "b", "a"], ["a"], None)], candidates, list("abc"))
    assert predictions[0]["prediction"] == ["a", "b"]
    assert found.scores["ndcg_linear@5"] == 1
    assert found.details["reference"]["ndcg_linear@5"] == pytest.approx(1 + 1 / np.log2(3))


def test_grades_of_the_reference() -> None:
    candidates = np.diag([3, 2, 1]).astype(np.float32)
    names, query = ["9", "16", "4"], np.ones((1, 3), np.float32)
    row = Row("0", None, ["9", "16"], [1, 3])
    right = 1 + 3 / np.log2(3)
    crossed = 3 + 1 / np.log2(3)
    order = list(set([9, 16]))
    correct, _ = run(query, [row], candidates, names)
    reference, _ = run(query, [row], candidates, names, relevance="reference")
    assert correct.scores["ndcg_linear@5"] == pytest.approx(right / crossed)
    assert order == [16, 9]
    assert reference.scores["ndcg_linear@5"] == pytest.approx(1)
    assert correct.details["reference"] == {k: reference.scores[k] for k in metrics.KEYS}


def test_labels_that_are_no_candidates_are_counted() -> None:
    found, _ = run(np.ones((1, 2)), [Row("0", None, ["a", "z"], None)], np.eye(2, dtype=np.float32), ["a", "b"])
    assert found.details["labels_without_candidate"] == 1
    assert found.scores["recall@5"] == 0.5


def test_errors_say_what_does_not_fit() -> None:
    with pytest.raises(tte.InputError, match=r"query 7: its candidate 'z' is not among"):
        run(np.ones((1, 2)), [Row("7", ["z"], ["a"], None)], np.eye(2, dtype=np.float32), ["a", "b"])
    with pytest.raises(tte.InputError, match="do not fit together"):
        run(np.ones((1, 3)), [Row("7", None, ["a"], None)], np.eye(2, dtype=np.float32), ["a", "b"])
    with pytest.raises(tte.InputError, match="relevance is 'x'"):
        run(np.ones((1, 2)), [Row("7", None, ["a"], None)], np.eye(2, dtype=np.float32), ["a", "b"], relevance="x")


def test_the_best_of_many_is_that_of_a_full_sort() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        values = rng.integers(0, 30, 400).astype(np.float64)
        for count in (1, 10, 99):
            expected = np.argsort(-values, kind="stable")[:count]
            np.testing.assert_array_equal(ranking._best(values, count), expected)


def test_a_pool_of_many_stays_within_its_memory(tmp_path: Any) -> None:
    """100,000 candidates from a memory map; 40 queries, of which some are known to be right."""
    rng = np.random.default_rng(3)
    path = tmp_path / "candidates.npy"
    np.save(path, unit(rng, 100_000, 8))
    candidates = np.load(path, mmap_mode="r")
    picks = rng.integers(0, 100_000, 40)
    names = [f"c{i}" for i in range(100_000)]
    rows = [Row(str(i), None, [names[p]], None) for i, p in enumerate(picks)]
    found, predictions = run(np.asarray(candidates[picks]), rows, candidates, names)
    assert found.scores["hit@1"] == 1
    assert all(len(p["prediction"]) == scores.TOP for p in predictions)
