"""The nano world's test tasks as files of MMEB-V2: parquet tables, image folders, frame folders, pages.

Every data set has the columns, folders and names of the benchmark's own of its kind, so the same loaders read both:

| data set | laid out as | pool |
|---|---|---|
| Mini-ImageCls, Mini-ImageQA | the label sets of MMEB | 128 names; 147 names and numbers |
| Mini-ImageRet, Mini-ImageVG | CIRR, RefCOCO | about 50 images; about 15 crops |
| Mini-VideoCls, Mini-VideoQA | SmthSmthV2, EgoSchema | 25 pairs of moves; 128 names |
| Mini-VideoRet, Mini-VideoMRet | MomentSeeker, QVHighlight | about 50 videos; 10 clips |
| Mini-VisDoc | ViDoRe, a query's pages are those of its qrels (0: not relevant) | about 50 pages |

Images and frames are PNG: what a model sees is, to the last bit, what the generator drew. Instructions are left
empty: the nano pair's recipe has those of its tasks.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image as PILImage

from tte import _extras, _files, nano
from tte._tte import InputError
from tte.mmeb.data.tasks import DATA_TASKS, MINI_TASKS

_VERSION = 1
_STAMP = "mini.json"
_WHOLE = ".whole"
"""Ends the name of an empty file beside a folder or file that is published as one."""

NAMES = {
    "image_cls": "Mini-ImageCls",
    "image_qa": "Mini-ImageQA",
    "image_ret": "Mini-ImageRet",
    "image_vg": "Mini-ImageVG",
    "video_cls": "Mini-VideoCls",
    "video_qa": "Mini-VideoQA",
    "video_ret": "Mini-VideoRet",
    "video_mret": "Mini-VideoMRet",
    "visdoc": "Mini-VisDoc",
}
"""Task of the generator: name of the data set."""


def write(
    folder: Path, *, seed: int, count: int, tasks: Iterable[str] = NAMES, progress: Callable[[str], None] | None = None
) -> None:
    """Write `count` queries of each task of the test split for this seed; what is there already is kept.

    A data set's folder appears whole or not at all, so an interrupted call is repeated. The folder's own task file
    says what the data sets are, so commands need nothing but `--data`.

    Raises:
        InputError: the folder holds the data of another seed or count, or pyarrow is not installed.

    """
    _extras.pyarrow()
    with _files.writing(folder):
        _write_missing(folder, {"version": _VERSION, "seed": seed, "count": count}, tasks, progress)


def _write_missing(
    folder: Path, stamp: dict[str, int], tasks: Iterable[str], progress: Callable[[str], None] | None
) -> None:
    _check_stamp(folder, stamp)
    for task in tasks:
        done = folder / ".mini" / f"{NAMES[task]}.json"
        if done.exists():
            continue
        if progress is not None:
            progress(NAMES[task])
        temporary = folder / ".mini" / f"{NAMES[task]}.part"
        shutil.rmtree(temporary, ignore_errors=True)
        samples = nano.generate(task, stamp["seed"], stamp["count"], split="test")
        _WRITERS[task](_Place(temporary, NAMES[task]), samples)
        digest = _publish(temporary, folder)
        done.write_text(json.dumps({**stamp, "tables": digest}) + "\n", encoding="utf-8")
        shutil.rmtree(temporary)
    _write_tasks(folder)


def _write_tasks(folder: Path) -> None:
    """Write the definitions of the data sets that are there, which may be more than those of this call."""
    content = json.loads(MINI_TASKS.read_text(encoding="utf-8"))
    content["tasks"] = [t for t in content["tasks"] if (folder / ".mini" / f"{t['name']}.json").exists()]
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    target = folder / DATA_TASKS
    if not target.is_file() or target.read_bytes() != text.encode():
        temporary = folder / ".mini" / f"{DATA_TASKS}.part"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)


def _check_stamp(folder: Path, stamp: dict[str, int]) -> None:
    path = folder / ".mini" / _STAMP
    if path.exists():
        found = _files.read_json(path, f"remove {folder} and write it again")
        if not isinstance(found, dict):
            found = {}
        if found != stamp:
            raise InputError(
                f"{folder} holds the miniature of seed {found.get('seed')} with {found.get('count')} queries a task, "
                f"not of seed {stamp['seed']} with {stamp['count']}: give another folder, or remove this one."
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stamp) + "\n", encoding="utf-8")


def _publish(temporary: Path, folder: Path) -> str:
    """Move a data set's folders and files into place; returns a digest of its tables."""
    digest = hashlib.sha256()
    for mark in sorted(temporary.rglob("*" + _WHOLE)):
        source = mark.with_name(mark.name.removesuffix(_WHOLE))
        mark.unlink()
        for table in [source] if source.is_file() else sorted(source.rglob("*.parquet")):
            digest.update(table.read_bytes())
        target = folder / source.relative_to(temporary)
        if target.is_dir():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    return digest.hexdigest()


class _Place:
    """The folders of one data set under construction."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.name = name
        self._images: dict[int, str] = {}
        """Written images and videos by `id` of their item; the items live as long as the samples do."""

    def whole(self, relative: str) -> Path:
        """A folder that is published as one."""
        folder = self.root / relative
        folder.mkdir(parents=True, exist_ok=True)
        folder.with_name(folder.name + _WHOLE).touch()
        return folder

    def lines(self, relative: str, columns: dict[str, list[Any]]) -> None:
        """A table as JSON lines."""
        file = self.root / relative
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        file.with_name(file.name + _WHOLE).touch()

    def table(self, relative: str, columns: dict[str, list[Any]], split: str = "test") -> None:
        """One parquet shard."""
        pa, pq = _extras.pyarrow()

        folder = self.whole(relative)
        with _files.for_arrow(folder / f"{split}-00000-of-00001.parquet", "wb") as file:
            pq.write_table(pa.table(columns), file)

    def once(self, item: nano.Item, name: str, save: Callable[[nano.Item, str], None]) -> str:
        """Save an item that several queries share under the first name asked for."""
        if id(item) not in self._images:
            save(item, name)
            self._images[id(item)] = name
        return self._images[id(item)]


def _save(pixels: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PILImage.fromarray(pixels).save(path, compress_level=1)


def _image(item: nano.Item, path: Path) -> None:
    assert item.image is not None
    _save(item.image, path)


def _frames(item: nano.Item, folder: Path) -> None:
    assert item.video is not None
    for number, frame in enumerate(item.video, 1):
        _save(frame, folder / f"frame_{number:04d}.png")


def _positive_first(sample: nano.Sample) -> list[nano.Item]:
    """The pool in the benchmark's order: the right candidate, then the others."""
    right = sample.candidates[sample.label]
    return [right, *(c for c in sample.candidates if c is not right)]


def _image_table(place: _Place, samples: Sequence[nano.Sample]) -> None:
    """MMEB's six columns; images lie under image-tasks/<data set>/."""
    folder = f"image-tasks/{place.name}"
    root = place.whole(folder)
    columns: dict[str, list[Any]] = {
        k: [] for k in ("qry_inst", "qry_text", "qry_img_path", "tgt_inst", "tgt_text", "tgt_img_path")
    }

    def saved(item: nano.Item, name: str) -> str:
        if item.image is None:
            return ""
        return place.once(item, f"{place.name}/{name}.png", lambda i, n: _image(i, root.parent / n))

    for number, sample in enumerate(samples):
        pool = _positive_first(sample)
        columns["qry_inst"].append("")
        columns["qry_text"].append(sample.query.text)
        columns["qry_img_path"].append(saved(sample.query, f"query/{number:05d}"))
        columns["tgt_inst"].append("")
        columns["tgt_text"].append([c.text for c in pool])
        columns["tgt_img_path"].append([saved(c, f"target/{number:05d}_{k:02d}") for k, c in enumerate(pool)])
    place.table(f"image-tasks/data/MMEB-Mini/{place.name}", columns)


def _video_cls(place: _Place, samples: Sequence[nano.Sample]) -> None:
    """SmthSmthV2's columns, and the question, which differs from video to video."""
    root = place.whole(f"video-tasks/frames/video_cls/{place.name}")
    columns: dict[str, list[Any]] = {"video_id": [], "question": [], "pos_text": [], "neg_text": []}
    for number, sample in enumerate(samples):
        name = f"{number:05d}"
        _frames(sample.query, root / name)
        columns["video_id"].append(name)
        columns["question"].append(sample.query.text)
        columns["pos_text"].append(sample.candidates[sample.label].text)
        columns["neg_text"].append([c.text for c in sample.candidates])
    place.table(f"video-tasks/data/{place.name}", columns)


def _video_qa(place: _Place, samples: Sequence[nano.Sample]) -> None:
    """EgoSchema's columns: numbered options, the answer by its index."""
    root = place.whole(f"video-tasks/frames/video_qa/{place.name}")
    columns: dict[str, list[Any]] = {k: [] for k in ("question_idx", "video_idx", "question", "option", "answer")}
    for number, sample in enumerate(samples):
        name = f"{number:05d}"
        _frames(sample.query, root / name)
        columns["question_idx"].append(name)
        columns["video_idx"].append(name)
        columns["question"].append(sample.query.text)
        columns["option"].append([f"{k}. {c.text}" for k, c in enumerate(sample.candidates)])
        columns["answer"].append(str(sample.label))
    place.table(f"video-tasks/data/{place.name}", columns)


def _video_ret(place: _Place, samples: Sequence[nano.Sample]) -> None:
    """MomentSeeker's columns with text queries: one positive video, the others of the pool negative."""
    root = place.whole(f"video-tasks/frames/video_ret/{place.name}")
    columns: dict[str, list[Any]] = {k: [] for k in ("query", "input_frames", "positive_frames", "negative_frames")}

    def saved(item: nano.Item, name: str) -> dict[str, str]:
        path = place.once(item, f"{name}.mp4", lambda i, n: _frames(i, root / "video_frames" / n.removesuffix(".mp4")))
        return {"output_path": path}

    for number, sample in enumerate(samples):
        pool = [saved(c, f"{number:05d}_{k:02d}") for k, c in enumerate(_positive_first(sample))]
        columns["query"].append(sample.query.text)
        columns["input_frames"].append("")
        columns["positive_frames"].append(pool[:1])
        columns["negative_frames"].append(pool[1:])
    place.lines(f"video-tasks/data/{place.name}.jsonl", columns)


def _video_mret(place: _Place, samples: Sequence[nano.Sample]) -> None:
    """QVHighlight's columns; a video's folder holds its own frames and those of the clips."""
    root = place.whole(f"video-tasks/frames/video_mret/{place.name}")
    columns: dict[str, list[Any]] = {"query": [], "video_path": []}
    for number, sample in enumerate(samples):
        name = f"{number:05d}"
        _frames(sample.query, root / name / "query")
        for k, clip in enumerate(_positive_first(sample)):
            _frames(clip, root / name / (f"negative_clip_{k}" if k else "positive"))
        columns["query"].append(sample.query.text)
        columns["video_path"].append(f"videos/{name}.mp4")
    place.lines(f"video-tasks/data/{place.name}.jsonl", columns)


def _visdoc(place: _Place, samples: Sequence[nano.Sample]) -> None:
    """The BEIR triple; qrels hold a query's whole pool, with score 0 for what is not relevant."""
    root = place.whole(f"visdoc-tasks/images/{place.name}")
    numbers: dict[int, int] = {}
    corpus: dict[str, list[Any]] = {"corpus-id": [], "image": []}
    queries: dict[str, list[Any]] = {"query-id": [], "query": [], "language": []}
    qrels: dict[str, list[Any]] = {"query-id": [], "corpus-id": [], "score": []}

    def page(item: nano.Item) -> int:
        if id(item) not in numbers:
            number = numbers[id(item)] = len(numbers)
            file = root / f"{number}.png"
            _image(item, file)
            corpus["corpus-id"].append(number)
            corpus["image"].append({"bytes": file.read_bytes(), "path": file.name})
        return numbers[id(item)]

    for number, sample in enumerate(samples):
        queries["query-id"].append(number)
        queries["query"].append(sample.query.text)
        queries["language"].append("english")
        for k, candidate in enumerate(_positive_first(sample)):
            qrels["query-id"].append(number)
            qrels["corpus-id"].append(page(candidate))
            qrels["score"].append(int(k == 0))
    for config, columns in (("queries", queries), ("corpus", corpus), ("qrels", qrels)):
        place.table(f"visdoc-tasks/data/tte/{place.name}/{config}", columns)


_WRITERS: dict[str, Callable[[_Place, Sequence[nano.Sample]], None]] = {
    "image_cls": _image_table,
    "image_qa": _image_table,
    "image_ret": _image_table,
    "image_vg": _image_table,
    "video_cls": _video_cls,
    "video_qa": _video_qa,
    "video_ret": _video_ret,
    "video_mret": _video_mret,
    "visdoc": _visdoc,
}
