"""Image tasks: pools, names, labels, order."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tte.mmeb
from make_tree import IMAGE_REPO, image_row, parquet, shots


def test_text_candidates_are_named_by_their_text(tree: Path) -> None:
    data = tte.mmeb.load("ImageNet-1K", tree)
    first, second = data.queries()
    assert first.candidates == ("coucal", "indigo bunting", "brambling")
    assert first.labels == ("coucal",)
    assert second.candidates == ("indigo bunting", "coucal", "brambling")
    assert second.labels == ("indigo bunting",)
    assert first.relevance is None
    assert [entry.name for entry in data.candidates()] == ["coucal", "indigo bunting", "brambling"]
    assert (data.num_queries, data.num_candidates) == (2, 3)
    assert [query.entry.name for query in data.queries()] == ["0", "1"]


def test_shards_are_read_in_order(tree: Path) -> None:
    shards = sorted((tree / IMAGE_REPO / "ImageNet-1K").glob("*.parquet"))
    assert [pq.read_metadata(shard).num_rows for shard in shards] == [1, 1]
    images = [query.entry.images for query in tte.mmeb.load("ImageNet-1K", tree).queries()]
    assert images == [(tree / "image-tasks/ImageNet-1K/0.jpg",), (tree / "image-tasks/ImageNet-1K/1.jpg",)]


def test_blank_and_repeated_candidates_stay_in_a_row_and_are_embedded_once(tree: Path) -> None:
    data = tte.mmeb.load("OK-VQA", tree)
    first, second = data.queries()
    assert first.candidates == ("pony tail", "", "0.28", "pony tail")
    assert second.candidates == ("Gray.", "0.28", "")
    assert [entry.name for entry in data.candidates()] == ["pony tail", "", "0.28", "Gray."]
    assert data.num_candidates == 4


def test_images_are_named_by_their_path(tree: Path) -> None:
    data = tte.mmeb.load("MSCOCO_t2i", tree)
    queries = list(data.queries())
    assert [q.candidates for q in queries] == [tuple(shots("MSCOCO_t2i", 0, 1)), tuple(shots("MSCOCO_t2i", 2, 0))]
    assert queries[0].labels == ("MSCOCO_t2i/0.jpg",)
    assert queries[0].entry.images == ()
    candidates = list(data.candidates())
    assert [entry.name for entry in candidates] == shots("MSCOCO_t2i", 0, 1, 2)
    assert candidates[2].images == (tree / "image-tasks/MSCOCO_t2i/2.jpg",)


def test_one_image_holds_several_targets(tree: Path) -> None:
    data = tte.mmeb.load("RefCOCO-Matching", tree)
    query = next(data.queries())
    name = "RefCOCO-Matching"
    assert query.candidates == (f"{name}/1.jpg:left man", f"{name}/1.jpg:right man", f"{name}/2.jpg:left man")
    assert query.labels == (f"{name}/1.jpg:left man",)
    assert [entry.images[0].name for entry in data.candidates()] == ["1.jpg", "1.jpg", "2.jpg"]
    assert [entry.text for entry in data.candidates()] == ['"left man"', '"right man"', '"left man"']


def test_grounding_names_end_in_a_colon(tree: Path) -> None:
    assert next(tte.mmeb.load("MSCOCO", tree).queries()).labels == ("MSCOCO/1.jpg:",)


def test_older_tables_tell_targets_apart(tree: Path) -> None:
    data = tte.mmeb.load("Visual7W-Pointing", tree, style="vlm2vec")
    query = next(data.queries())
    assert query.candidates is not None
    assert len(set(query.candidates)) == 2
    assert query.entry.images == (tree / "image-tasks/Visual7W-Pointing/0.jpg",)
    assert data.num_candidates == 2


def test_newer_tables_win_over_older_ones(tree: Path, tmp_path: Path) -> None:
    row = {"qry_text": "old", "qry_img_path": "a.jpg", "tgt_text": ["x"], "tgt_img_path": [""]}
    parquet(tmp_path / "image-tasks/data/TIGER-Lab/MMEB-eval/GQA/test-00000-of-00001.parquet", [row])
    assert next(tte.mmeb.load("GQA", tmp_path).queries()).entry.text == "old"
    new = image_row("inst", "new", "a.jpg", "", ["x"], [""])
    parquet(tmp_path / IMAGE_REPO / "GQA/test-00000-of-00001.parquet", [new])
    assert next(tte.mmeb.load("GQA", tmp_path).queries()).entry.text == "new"


def test_limit_takes_the_first_queries_and_their_candidates(tree: Path) -> None:
    data = tte.mmeb.load("OK-VQA", tree, limit=1)
    assert (data.num_queries, data.num_candidates) == (1, 3)
    assert len(list(data.queries())) == 1


def test_fingerprint_is_of_tables_style_and_settings(tree: Path, tmp_path: Path) -> None:
    def fingerprint(folder: Path, **options: object) -> str:
        return tte.mmeb.load("ImageNet-1K", folder, **options).fingerprint  # type: ignore[arg-type]

    base = fingerprint(tree)
    assert fingerprint(tree) == base
    others = [fingerprint(tree, style="vlm2vec"), fingerprint(tree, num_frames=4), fingerprint(tree, limit=1)]
    assert len({base, *others}) == 4
    target = tmp_path / IMAGE_REPO / "ImageNet-1K"
    for shard in sorted((tree / IMAGE_REPO / "ImageNet-1K").glob("*.parquet")):
        parquet(target / shard.name, pq.read_table(shard).to_pylist())
    assert fingerprint(tmp_path) == base
    row = image_row("i", "t", "p.jpg", "", ["changed"], [""])
    parquet(target / "test-00001-of-00002.parquet", [row])
    assert fingerprint(tmp_path) != base


@pytest.mark.parametrize("sets", [tte.mmeb.tasks()])
def test_all_78(sets: list[tte.mmeb.Task]) -> None:
    assert len(sets) == len({task.name for task in sets}) == 78
    count = {m: sum(t.modality == m for t in sets) for m in ("image", "video", "visdoc")}
    assert count == {"image": 36, "video": 18, "visdoc": 24}
    assert all(task.metric == ("ndcg_linear@5" if task.modality == "visdoc" else "hit@1") for task in sets)
    assert sum(task.queries or 0 for task in sets if task.modality == "image") == 36000
    categories = {c: sum(t.category == c for t in sets) for c in dict.fromkeys(t.category for t in sets)}
    assert categories == {
        "I-CLS": 10, "I-QA": 10, "I-RET": 12, "I-VG": 4, "V-CLS": 5, "V-QA": 5, "V-RET": 5, "V-MRET": 3,
        "VDR-v1": 10, "VDR-v2": 4, "VisRAG": 6, "VDR-OOD": 4,
    }  # fmt: skip
    assert [len(task.labels) for task in tte.mmeb.tasks(["V-CLS"])] == [700, 0, 51, 101, 10]
