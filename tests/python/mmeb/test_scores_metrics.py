"""Metrics against values worked out by hand and against what the reference harness was measured to give."""

from __future__ import annotations

import math
import random

import pytest
from tte.mmeb.score import metrics

LOG3 = math.log2(3)


def test_one_label_at_rank_three() -> None:
    got = metrics.query_scores(list("abcdefghijkl"), ["c"])
    assert got["hit@1"] == 0
    assert got["hit@5"] == got["hit@10"] == 1
    assert got["precision@5"] == pytest.approx(1 / 5)
    assert got["precision@10"] == pytest.approx(1 / 10)
    assert got["recall@5"] == 1
    assert got["f1@5"] == pytest.approx(2 * 0.2 / 1.2)
    assert got["map@5"] == got["mrr@5"] == pytest.approx(1 / 3)
    assert got["ndcg_linear@5"] == got["ndcg_exponential@5"] == pytest.approx(1 / 2)
    assert list(got) == list(metrics.KEYS)
    assert list(got)[:4] == ["hit@1", "hit@5", "hit@10", "ndcg_linear@1"]


def test_several_labels() -> None:
    got = metrics.query_scores(list("axbyc"), ["a", "b", "c", "z"])
    assert got["precision@5"] == pytest.approx(3 / 5)
    assert got["recall@5"] == pytest.approx(3 / 4)
    assert got["f1@5"] == pytest.approx(2 * 0.6 * 0.75 / 1.35)
    assert got["map@5"] == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    assert got["map@1"] == 1
    assert got["mrr@5"] == 1
    ideal = 1 + 1 / LOG3 + 1 / 2 + 1 / math.log2(5)
    assert got["ndcg_linear@5"] == pytest.approx((1 + 1 / 2 + 1 / math.log2(6)) / ideal)


def test_graded_relevance() -> None:
    got = metrics.query_scores(["b", "x", "a"], ["a", "b"], [3, 1])
    assert got["ndcg_linear@5"] == pytest.approx((1 + 3 / 2) / (3 + 1 / LOG3))
    assert got["ndcg_exponential@5"] == pytest.approx((1 + 7 / 2) / (7 + 1 / LOG3))
    assert got["ndcg_linear@1"] == pytest.approx(1 / 3)
    assert got["ndcg_exponential@1"] == pytest.approx(1 / 7)


def test_short_lists_divide_by_k() -> None:
    got = metrics.query_scores(["a"], ["a"])
    assert got["precision@10"] == pytest.approx(0.1)
    assert got["recall@10"] == 1


def test_no_labels() -> None:
    got = metrics.query_scores(["a"], [])
    assert {key: value for key, value in got.items() if value} == {f"recall@{k}": 1.0 for k in metrics.KS}


def test_zero_grades_are_no_ideal() -> None:
    assert metrics.query_scores(["a"], ["a"], [0])["ndcg_linear@5"] == 0


def test_names_twice_exceed_one_as_in_the_reference() -> None:
    got = metrics.query_scores(["a", "a"], ["a"])
    assert got["ndcg_linear@5"] == pytest.approx(1 + 1 / LOG3)
    assert got["ndcg_linear@5"] == pytest.approx(1.63, abs=0.005)
    assert got["map@5"] == pytest.approx(2.0)
    assert got["recall@5"] == 1


def test_mean_is_exact() -> None:
    rows = [dict.fromkeys(metrics.KEYS, 0.1)] * 10
    assert metrics.mean(rows)["hit@1"] == 0.1
    assert metrics.mean([])["hit@1"] == 0


def test_labels_without_repetition() -> None:
    assert metrics.unique_labels(["a", "b", "a"], [1, 2, 3]) == (["a", "b"], [3, 2])
    assert metrics.unique_labels(["a", "a"], None) == (["a"], None)


def test_set_order_is_that_of_the_interpreter() -> None:
    rng = random.Random(0)
    cases = [[rng.randrange(-(2**70), 2**70) for _ in range(rng.randrange(40))] for _ in range(200)]
    cases += [[rng.randrange(3000) for _ in range(rng.randrange(200))] for _ in range(500)]
    cases += [list(range(start, start + n)) for start in (0, 7, 500, 990) for n in (1, 5, 20, 47, 113)]
    cases += [
        [-1, -2, 2**61 - 1, 0, 2**61, -(2**61)],
        list(range(0, 4096, 32)),
        [rng.randrange(10**6) for _ in range(70000)],
    ]
    for numbers in cases:
        assert metrics.cpython_set_order(numbers) == list(set(numbers))


def test_reference_misassigns_grades_of_integer_ids() -> None:
    labels, grades = metrics.reference_labels(["33", "1"], [3, 2])
    assert (labels, grades) == ([str(i) for i in set([33, 1])], [3, 2])
    assert metrics.reference_labels(["8", "1"], [3, 2]) == (["8", "1"], [3, 2])
    assert metrics.reference_labels(["9", "16"], [3, 2]) == ([str(i) for i in set([9, 16])], [3, 2])
    assert metrics.reference_labels(["a", "b"], [1, 2]) == (["a", "b"], [1, 2])
    assert metrics.reference_labels(["01", "1"], [1, 2]) == (["01", "1"], [1, 2])
    assert metrics.reference_labels(["5", "5", "4"], [1, 2, 3]) == ([str(i) for i in set([5, 4])], [1, 2])


def test_names_may_be_digits_without_end() -> None:
    assert metrics.reference_labels(["9" * 5000, "1"], [1, 2]) == (["9" * 5000, "1"], [1, 2])
