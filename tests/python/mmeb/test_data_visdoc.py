"""Document tasks: pools, grades, ids, files of pages."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import tte.mmeb
from make_tree import LONG_ID, VISDOC, parquet, png_bytes, write_image
from tte.mmeb.data.visdoc import page_name


def beir(root: Path, repo: str, queries: list[dict], qrels: list[dict], corpus: list[dict]) -> Path:  # type: ignore[type-arg]
    base = root / VISDOC / "data" / repo
    for config, rows in (("queries", queries), ("qrels", qrels), ("corpus", corpus)):
        parquet(base / config / "test-00000-of-00001.parquet", rows)
    return base


def test_pages_that_answer_come_first_in_the_order_of_the_queries(tree: Path) -> None:
    data = tte.mmeb.load("ViDoRe_docvqa", tree)
    first, second = data.queries()
    assert (first.labels, first.relevance, first.candidates) == (("1",), (1.0,), None)
    assert second.labels == ("2",)
    assert first.extra == {"query_id": "5", "integer_ids": True}
    entries = list(data.candidates())
    assert [entry.name for entry in entries] == ["1", "2", "0"]
    assert entries[0].images == (tree / VISDOC / "ViDoRe_docvqa/1.png",)
    assert (data.num_queries, data.num_candidates) == (2, 3)


def test_grades_keep_the_best_score_and_the_first_place(tree: Path) -> None:
    data = tte.mmeb.load("ViDoRe_biomedical_lectures_v2_multilingual", tree)
    assert [(query.labels, query.relevance) for query in data.queries()] == [
        (("7", "4"), (2.0, 2.0)),
        (("7",), (2.0,)),
        (("9",), (2.0,)),
    ]
    english = tte.mmeb.load("ViDoRe_biomedical_lectures_v2", tree)
    assert [query.entry.text for query in english.queries()] == ["What?", "Why?"]
    assert [query.entry.name for query in english.queries()] == ["0", "1"]
    assert english.num_queries == 2
    assert not english.task.scored
    assert tte.mmeb.load("ViDoRe_biomedical_lectures_v2", tree, limit=1).num_queries == 1


def test_pages_of_the_corpus_table_are_written_once(tree: Path) -> None:
    data = tte.mmeb.load("ViDoRe_biomedical_lectures_v2_multilingual", tree)
    entries = {entry.name: entry for entry in data.candidates()}
    assert list(entries) == ["7", "4", "9", "1"]
    folder = tree / VISDOC / "images"
    assert entries["7"].images == (folder / "biomedical_lectures_v2_multilingual/7.png",)
    stored = entries["9"].images[0]
    assert stored.parent.parent == folder / ".pages"
    assert stored.name == "9.png"
    assert stored.read_bytes() == png_bytes(0)
    before = os.stat(stored).st_mtime_ns
    again = {entry.name: entry for entry in data.candidates()}
    assert again["9"].images == (stored,)
    assert os.stat(stored).st_mtime_ns == before


def test_pages_of_another_corpus_do_not_mix(tmp_path: Path) -> None:
    queries = [{"query-id": 0, "query": "q"}]
    qrels = [{"query-id": 0, "corpus-id": 1, "score": 1}]
    found = []
    for shade in (10, 20):
        beir(tmp_path, "vidore/docvqa_test_subsampled_beir", queries, qrels,
             [{"corpus-id": 1, "image": {"bytes": png_bytes(shade), "path": None}}])  # fmt: skip
        entry = next(tte.mmeb.load("ViDoRe_docvqa", tmp_path).candidates())
        assert entry.images[0].read_bytes() == png_bytes(shade)
        found.append(entry.images[0])
    assert found[0] != found[1]


def test_names_of_page_files() -> None:
    assert page_name("17", "vidore") == "17.png"
    assert page_name("b.png", "visrag") == "b_0a7b8575.png"  # md5 of "b.png", with its suffix.
    digest = hashlib.md5(LONG_ID.encode()).hexdigest()[:8]
    assert page_name(LONG_ID, "visrag") == f"{LONG_ID[:50]}_{digest}.jpg"


def test_string_ids(tree: Path) -> None:
    data = tte.mmeb.load("VisRAG_ArxivQA", tree)
    query = next(data.queries())
    assert query.labels == (LONG_ID,)
    assert query.extra == {"query_id": "q1", "integer_ids": False}
    entries = list(data.candidates())
    assert [entry.name for entry in entries] == [LONG_ID, "b.png"]
    assert all(entry.images[0].is_file() for entry in entries)
    assert entries[0].images[0].parent == tree / VISDOC / "images/VisRAG_ArxivQA"


def test_fixed_page_sets(tree: Path, tmp_path: Path) -> None:
    data = tte.mmeb.load("ViDoSeek-page-fixed", tree)
    assert data.task.name == "ViDoSeek-page"
    assert [query.relevance for query in data.queries()] == [(3.0, 3.0)]
    beir(tmp_path, "VLM2Vec/ViDoSeek-page", [{"query-id": 0, "query": "q"}],
         [{"query-id": 0, "corpus-id": 1, "score": 3}], [{"corpus-id": 1}])  # fmt: skip
    with pytest.raises(tte.InputError, match=r"ViDoSeek-page is there, but its pages are off by one: it is not used"):
        tte.mmeb.load("ViDoSeek-page", tmp_path)


def test_a_page_without_file_and_image_is_an_error_of_the_entry(tmp_path: Path) -> None:
    beir(tmp_path, "vidore/docvqa_test_subsampled_beir", [{"query-id": 0, "query": "q"}],
         [{"query-id": 0, "corpus-id": 1, "score": 1}], [{"corpus-id": 1}, {"corpus-id": 2}])  # fmt: skip
    write_image(tmp_path / VISDOC / "ViDoRe_docvqa/2.png")
    missing, there = tte.mmeb.load("ViDoRe_docvqa", tmp_path).candidates()
    page = tmp_path / VISDOC / "ViDoRe_docvqa/1.png"
    assert missing.error.startswith(f"ViDoRe_docvqa: the page {page} is missing, and the corpus table has no image")
    assert there.error == ""


def test_a_query_without_pages_means_that_tables_do_not_fit(tmp_path: Path) -> None:
    base = beir(tmp_path, "vidore/docvqa_test_subsampled_beir", [{"query-id": "x", "query": "q"}],
                [{"query-id": "x", "corpus-id": "1", "score": 0}], [{"corpus-id": "1"}])  # fmt: skip
    with pytest.raises(
        tte.InputError, match=r"^ViDoRe_docvqa: query 'x' of .*queries.* has no page with a score above 0"
    ):
        list(tte.mmeb.load("ViDoRe_docvqa", tmp_path).queries())
    assert base.is_dir()
