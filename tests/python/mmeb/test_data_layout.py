"""Every place and form in which the tables, images and frames are met."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import tte.mmeb
from make_tree import FRAMES, image_row, jsonl, parquet, write_image
from PIL import Image
from tte.mmeb.data import layout

ROWS = [{"video_id": f"v{i}", "video": f"v{i}.mp4", "caption": f"caption {i}"} for i in range(5)]


def arrow_stream(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def arrow_file(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def hub_cache(root: Path) -> None:
    base = root / "hub/datasets--VLM2Vec--MSR-VTT"
    parquet(base / "snapshots/aaa/test_1k/test-00000-of-00001.parquet", [{**ROWS[0], "caption": "old"}])
    parquet(base / "snapshots/bbb/test_1k/test-00000-of-00001.parquet", ROWS)
    (base / "refs").mkdir()
    (base / "refs/main").write_text("bbb")


def shards(root: Path, folder: str) -> None:
    for number in range(3):
        part = ROWS[2 * number : 2 * number + 2]
        parquet(root / folder / f"test-{number:05d}-of-00003.parquet", part)


WAYS: dict[str, Callable[[Path], object]] = {
    "clone of the repository": lambda r: shards(r, "video-tasks/data/VLM2Vec/MSR-VTT/test_1k"),
    "without the owner": lambda r: shards(r, "video-tasks/data/MSR-VTT/test_1k"),
    "annotation folder": lambda r: shards(r, "annotation/VLM2Vec/MSR-VTT/test_1k"),
    "beside the tasks": lambda r: shards(r, "VLM2Vec/MSR-VTT/test_1k"),
    "data folder inside": lambda r: shards(r, "data/VLM2Vec/MSR-VTT/data/test_1k"),
    "a folder for each split": lambda r: shards(r, "VLM2Vec/MSR-VTT/test_1k/test"),
    "converted branch": lambda r: parquet(r / "VLM2Vec/MSR-VTT/test_1k/test/0000.parquet", ROWS),
    "hashed names": lambda r: parquet(r / "MSR-VTT/test_1k/test-00000-of-00001-0123456789abcdef.parquet", ROWS),
    "hub cache": hub_cache,
    "cache of datasets": lambda r: arrow_stream(
        r / "datasets/VLM2Vec___msr-vtt/test_1k/0.0.0/abc/msr-vtt-test.arrow", ROWS
    ),
    "saved by datasets": lambda r: (
        arrow_stream(r / "annotation/VLM2Vec/MSR-VTT/data-00000-of-00001.arrow", ROWS),
        (r / "annotation/VLM2Vec/MSR-VTT/state.json").write_text("{}"),
    ),
    "saved with its splits": lambda r: arrow_stream(r / "VLM2Vec/MSR-VTT/test_1k/test/data-00000-of-00001.arrow", ROWS),
    "arrow file": lambda r: arrow_file(r / "VLM2Vec/MSR-VTT/test_1k/test.arrow", ROWS),
    "JSON lines of the configuration": lambda r: jsonl(r / "VLM2Vec/MSR-VTT/test_1k.jsonl", ROWS),
    "JSON lines by name": lambda r: jsonl(r / "video-tasks/data/msr_vtt.jsonl", ROWS),
    "one parquet file": lambda r: parquet(r / "video-tasks/data/MSR-VTT.parquet", ROWS),
}


@pytest.mark.parametrize("way", WAYS)
def test_tables(tmp_path: Path, way: str) -> None:
    WAYS[way](tmp_path)
    write_image(tmp_path / FRAMES / "video_ret/MSR-VTT/v0/1.jpg")
    data = tte.mmeb.load("MSR-VTT", tmp_path)
    assert [query.entry.text for query in data.queries()] == [f"caption {i}" for i in range(5)]
    assert (data.num_queries, data.num_candidates) == (5, 5)


def test_what_the_datasets_library_writes(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_list(ROWS)
    table.save_to_disk(tmp_path / "annotation/VLM2Vec/MSR-VTT", num_shards=2)
    assert tte.mmeb.load("MSR-VTT", tmp_path).num_queries == 5
    shutil.rmtree(tmp_path / "annotation")
    datasets.DatasetDict({"train": table.select([0]), "test": table}).save_to_disk(tmp_path / "MSR-VTT/test_1k")
    assert tte.mmeb.load("MSR-VTT", tmp_path).num_queries == 5


def test_other_splits_and_configurations_are_not_taken(tmp_path: Path) -> None:
    base = tmp_path / "VLM2Vec/MSR-VTT"
    parquet(base / "test_1k/train-00000-of-00001.parquet", ROWS[:1])
    parquet(base / "train_9k/test-00000-of-00001.parquet", ROWS[:2])
    with pytest.raises(
        layout.MissingError, match=r"MSR-VTT: the table 'test_1k' of VLM2Vec/MSR-VTT is missing: put it at"
    ):
        tte.mmeb.load("MSR-VTT", tmp_path)
    parquet(base / "test_1k/test-00000-of-00001.parquet", ROWS[:3])
    parquet(base / "test_1k/cache-0123.parquet", ROWS)
    assert tte.mmeb.load("MSR-VTT", tmp_path).num_queries == 3


def test_names_that_begin_alike(tmp_path: Path) -> None:
    for name in ("MSCOCO_i2t", "MSCOCO_t2i", "MSCOCO"):
        row = image_row(name, "", "a.jpg", name, ["x"], ["b.jpg"])
        jsonl(tmp_path / f"image-tasks/data/{name}.jsonl", [row])
    assert next(tte.mmeb.load("MSCOCO_i2t", tmp_path).queries()).entry.instruction == "MSCOCO_i2t"
    assert next(tte.mmeb.load("MSCOCO", tmp_path).queries()).entry.instruction == "MSCOCO"
    jsonl(tmp_path / "video-tasks/data/momentseeker_1k8.jsonl", [{"query": "q"}])
    with pytest.raises(layout.MissingError, match=r"^MomentSeeker: its table"):
        tte.mmeb.load("MomentSeeker", tmp_path)


FRAME_ROOTS = {
    "K700": ["video-tasks/frames/video_cls/K700"],
    "SmthSmthV2": ["video-tasks/frames/video_cls/SSv2", "video-tasks/frames/video_cls/SmthSmthV2"],
    "MSR-VTT": [
        "video-tasks/frames/video_ret/MSR-VTT",
        "video-tasks/frames/video_ret/data/ziyan/video_retrieval/MSR-VTT/frames",
        "video-tasks/frames/video_ret/video_ret/MSR-VTT",
    ],
    "EgoSchema": [
        "video-tasks/frames/video_qa/EgoSchema",
        "video-tasks/frames/video_qa/egoschema",
        "video-tasks/frames/video_qa/video_qa/EgoSchema",
    ],
    "Charades-STA": ["video-tasks/frames/video_mret/Charades_STA", "video-tasks/frames/video_mret/Charades-STA"],
}


@pytest.mark.parametrize(("name", "root"), [(name, root) for name, roots in FRAME_ROOTS.items() for root in roots])
def test_frame_roots(tmp_path: Path, name: str, root: str) -> None:
    (tmp_path / root).mkdir(parents=True)
    assert layout.media_root(tte.mmeb.tasks([name])[0], tmp_path, "") == tmp_path / root


def test_the_root_that_has_the_first_row_is_taken(tmp_path: Path) -> None:
    task = tte.mmeb.tasks(["EgoSchema"])[0]
    (tmp_path / FRAMES / "video_qa/EgoSchema").mkdir(parents=True)
    (tmp_path / FRAMES / "video_qa/video_qa/EgoSchema/e1").mkdir(parents=True)
    assert layout.media_root(task, tmp_path, "e1") == tmp_path / FRAMES / "video_qa/video_qa/EgoSchema"


@pytest.mark.parametrize("root", ["image-tasks", "image-tasks/MMEB", "MMEB-eval", "."])
def test_image_roots(tmp_path: Path, root: str) -> None:
    jsonl(tmp_path / "image-tasks/GQA.jsonl", [image_row("i", "t", "GQA/1.jpg", "", ["a"], [""])])
    file = write_image(tmp_path / root / "GQA/1.jpg")
    (entry,) = [query.entry for query in tte.mmeb.load("GQA", tmp_path).queries()]
    assert entry.images[0].resolve() == file.resolve()


@pytest.mark.parametrize("root", ["visdoc-tasks", "visdoc-tasks/images"])
@pytest.mark.parametrize("folder", ["esg_reports_human_labeled_v2", "ViDoRe_esg_reports_human_labeled_v2"])
def test_page_roots(tmp_path: Path, root: str, folder: str) -> None:
    base = tmp_path / "visdoc-tasks/data/esg_reports_human_labeled_v2"
    jsonl(base / "queries.jsonl", [{"query-id": "1", "query": "q"}])
    jsonl(base / "qrels.jsonl", [{"query-id": "1", "corpus-id": "7", "score": 2}])
    jsonl(base / "corpus.jsonl", [{"corpus-id": "7"}])
    file = write_image(tmp_path / root / folder / "7.png")
    (entry,) = tte.mmeb.load("ViDoRe_esg_reports_human_labeled_v2", tmp_path).candidates()
    assert entry.images == (file,)


def test_an_image_inside_of_the_image_root_is_not_a_table(tmp_path: Path) -> None:
    folder = tmp_path / "image-tasks/GQA"
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "1.jpg")
    parquet(folder / "test-00000-of-00001.parquet", [image_row("i", "t", "GQA/1.jpg", "", ["a"], [""])])
    data = tte.mmeb.load("GQA", tmp_path)
    assert data.num_queries == 1
    assert next(data.queries()).entry.images == (folder / "1.jpg",)
