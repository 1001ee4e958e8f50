"""One data set's items in blocks: embedded block by block, then put together into the result files."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tte import _extras, _files, _text, _tte
from tte._tokens import TokenEmbeddings
from tte.mmeb.data.types import Dataset, Entry, Query
from tte.mmeb.run.embed import Outcome, System
from tte.mmeb.run.manifest import (
    SIDES,
    Part,
    ResultFolder,
    Side,
    again,
    checksums_of,
    embedded,
    has_tokens,
)

ROLES: dict[Side, Literal["query", "target"]] = {"candidates": "target", "queries": "query"}
"""What recipes call the sides."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A share of the blocks: the `index`-th (from 0) of `count`."""

    index: int = 0
    count: int = 1

    @staticmethod
    def parse(text: str) -> Shard:
        """Read "2/4": the second of four.

        Raises `InputError` if it is not that.
        """
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        index, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= index <= count:
            raise _tte.InputError(f"shard is {_text.shown(text)}: it must be i/n with i from 1 to n, such as 1/4.")
        return Shard(index - 1, count)

    def has(self, name: str, block: int) -> bool:
        """Whether a block of this name is of the share; small data sets begin at different shards."""
        return (block + zlib.crc32(name.encode())) % self.count == self.index


def block_count(manifest: dict[str, Any], side: Side) -> int:
    """How many blocks a side has."""
    return math.ceil(int(manifest["counts"][side]) / int(manifest["block"]))


def missing_blocks(folder: ResultFolder, manifest: dict[str, Any]) -> dict[Side, list[int]]:
    """Blocks that are missing yet."""
    return {
        side: sorted(set(range(block_count(manifest, side))) - folder.part_numbers(side))
        for side in SIDES
    }  # fmt: skip


def embed_blocks(
    dataset: Dataset,
    folder: ResultFolder,
    manifest: dict[str, Any],
    system: System,
    *,
    shard: Shard = Shard(),
    in_flight: int = 2,
    advance: Callable[[Side, int], None] | None = None,
) -> None:
    """Embed the blocks that are missing and of this share, and write each as soon as it is done.

    Args:
        dataset: what to embed.
        folder: where to.
        manifest: the folder's.
        system: with what.
        shard: which of the blocks.
        in_flight: blocks at the same time: while the last traces of one end, the next fills the batch.
        advance: called with (side, items) as items are done.

    """
    size = int(manifest["block"])
    for side, missing in missing_blocks(folder, manifest).items():
        mine = {block for block in missing if shard.has(f"{dataset.task.name}/{side}", block)}
        if not mine:
            continue
        work = _Work(dataset, folder, system, side, (lambda count: None) if advance is None else _of(advance, side))
        _each(work, _chunks(dataset, side, size, mine), in_flight)


def _of(advance: Callable[[Side, int], None], side: Side) -> Callable[[int], None]:
    return lambda count: advance(side, count)


def _chunks(dataset: Dataset, side: Side, size: int, wanted: set[int]) -> Iterator[tuple[int, list[Any]]]:
    """The wanted blocks with their entries (candidates) or queries."""
    items: Iterator[Any] = dataset.candidates() if side == "candidates" else dataset.queries()
    for block in range(max(wanted) + 1):
        chunk = list(itertools.islice(items, size))
        if block in wanted:
            yield block, chunk


class _Work:
    """Blocks of one side on their way."""

    def __init__(
        self, dataset: Dataset, folder: ResultFolder, system: System, side: Side, advance: Callable[[int], None]
    ) -> None:
        self.dataset, self.folder, self.system, self.side = dataset, folder, system, side
        self.advance = advance
        self.cancel = _tte.CancelToken()
        self._lock = threading.Lock()

    def __call__(self, block: int, items: list[Any]) -> None:
        """Embed one block and write it."""
        entries: list[Entry] = [item if isinstance(item, Entry) else item.entry for item in items]
        where = f"{self.dataset.task.name}, {ROLES[self.side] if self.side == 'queries' else 'candidate'}"
        shown = 0

        def progress(done: int, _total: int) -> None:
            nonlocal shown
            with self._lock:
                self.advance(done - shown)
            shown = done

        outcomes = self.system.run(
            entries,
            [f"{where} {entry.name[:80]!r}" for entry in entries],
            family=self.dataset.task.family,
            side=ROLES[self.side],
            progress=progress,
            cancel=self.cancel,
        )
        names: dict[str, int] = {}
        rows = [_row(item, outcome, names) for item, outcome in zip(items, outcomes, strict=True)]
        tokens = _token_sets(outcomes, self.system.dim) if self.system.tokens else None
        self.folder.write_part(self.side, block, Part(_matrix(outcomes, self.system.dim), rows, list(names), tokens))


def _each(work: _Work, chunks: Iterator[tuple[int, list[Any]]], in_flight: int) -> None:
    """Run the blocks, a few at a time."""
    if in_flight <= 1:
        for block, items in chunks:
            work(block, items)
        return
    with ThreadPoolExecutor(in_flight) as pool:
        running: set[Future[None]] = set()
        try:
            for block, items in chunks:
                running.add(pool.submit(work, block, items))
                if len(running) >= in_flight:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
            for future in running:
                future.result()
        except BaseException:
            work.cancel.cancel()
            raise


def _matrix(outcomes: list[Outcome], dim: int) -> NDArray[np.float32]:
    vectors = np.full((len(outcomes), dim), np.nan, np.float32)
    for row, outcome in zip(vectors, outcomes, strict=True):
        if outcome.vector is not None:
            row[:] = outcome.vector
    return vectors


def _token_sets(outcomes: list[Outcome], dim: int) -> TokenEmbeddings:
    none = np.empty((0, dim), np.float16)
    sets = [none if outcome.token_vectors is None else outcome.token_vectors for outcome in outcomes]
    return TokenEmbeddings.of(sets) if sets else TokenEmbeddings(none, np.zeros(1, np.int64))


def _row(item: Query | Entry, outcome: Outcome, names: dict[str, int]) -> dict[str, Any]:
    entry = item if isinstance(item, Entry) else item.entry
    about = {
        "text": entry.text,
        "instruction": entry.instruction,
        "images": [os.path.abspath(path) for path in entry.images],
        "video_frames": [os.path.abspath(path) for path in entry.video_frames],
        **outcome.row(),
    }
    if isinstance(item, Entry):
        return {"name": entry.name, **about}
    pool = item.candidates
    return {
        "id": entry.name,
        "candidates": None if pool is None else [names.setdefault(name, len(names)) for name in pool],
        "labels": list(item.labels),
        "relevance": None if item.relevance is None else [float(grade) for grade in item.relevance],
        "extra": json.dumps(item.extra, ensure_ascii=False, sort_keys=True, default=str),
        **about,
    }


def assemble(folder: ResultFolder, manifest: dict[str, Any]) -> dict[str, Any]:
    """Put the blocks together into the result files; returns the manifest with the totals.

    Equal items get one and the same vector, that of the first of them, so that they tie exactly.

    Raises:
        InputError: blocks are missing.

    """
    missing = missing_blocks(folder, manifest)
    if any(missing.values()):
        counts = " and ".join(f"{len(blocks)} of {side}" for side, blocks in missing.items() if blocks)
        raise _tte.InputError(f"{folder.path} is not complete: blocks are missing, {counts}; run the rest of it.")
    totals = {side: _assemble_side(folder, manifest, side) for side in SIDES}
    if has_tokens(manifest):
        for side in SIDES:
            _assemble_tokens(folder, manifest, side)
    checksums = {name: checksums_of(folder.path / name, manifest) for name in embedded(manifest)}
    return folder.update(status="embedded", totals=totals, checksums=checksums)


def _assemble_side(folder: ResultFolder, manifest: dict[str, Any], side: Side) -> dict[str, Any]:
    pa, parquet = _extras.pyarrow()
    count, dim, size = int(manifest["counts"][side]), int(manifest["dim"]), int(manifest["block"])
    first: dict[str, int] = {}
    totals: dict[str, Any] = {"items": 0, "errors": 0, "traces": 0}
    sums = dict.fromkeys(("tokens", "prompt_tokens", "think_seconds", "embed_seconds"), 0.0)
    schema = _schema(pa, side)
    with (
        _files.replacing(folder.path / f"{side}.npy") as vectors_file,
        _files.replacing(folder.path / f"{side}.parquet") as table_file,
        parquet.ParquetWriter(table_file, schema, compression="zstd") as writer,
    ):
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, dim)}
        np.lib.format.write_array_header_1_0(vectors_file, header)
        for block in range(block_count(manifest, side)):
            part = folder.read_part(side, block)
            vectors = _with_equal_ones(folder, side, size, block, part, first)
            vectors_file.write(np.ascontiguousarray(vectors, "<f4").tobytes())
            writer.write_table(pa.Table.from_pylist(_named(part), schema=schema))
            totals["items"] += len(part.rows)
            totals["errors"] += sum(row["error"] is not None for row in part.rows)
            totals["traces"] += sum(row["trace"] is not None for row in part.rows)
            for key in sums:
                sums[key] += sum(row[key] or 0 for row in part.rows)
        if totals["items"] != count:
            raise _tte.InputError(
                f"{folder.path} has {totals['items']} {side} in its blocks, but its manifest says {count}: remove it "
                "and run again."
            )
    return {**totals, **{key: round(value, 3) for key, value in sums.items()}}


def _assemble_tokens(folder: ResultFolder, manifest: dict[str, Any], side: Side) -> None:
    """Put the token vectors together; equal items get those of the first of them."""
    dim, size = int(manifest["dim"]), int(manifest["block"])
    first: dict[str, int] = {}
    ends = [0]
    with _files.replacing(folder.path / f"{side}.tokens.npy") as file:
        file.write(_files.npy_header(np.dtype("<f2"), (0, dim)))
        for block in range(block_count(manifest, side)):
            part = folder.read_part(side, block)
            for i, row in enumerate(part.rows):
                place = block * size + i if row["error"] is not None else first.setdefault(row["key"], block * size + i)
                source = part if place // size == block else folder.read_part(side, place // size)
                assert source.tokens is not None
                rows = source.tokens[place % size]
                file.write(rows.tobytes())
                ends.append(ends[-1] + len(rows))
        file.seek(0)
        file.write(_files.npy_header(np.dtype("<f2"), (ends[-1], dim)))
    with _files.replacing(folder.path / f"{side}.offsets.npy") as file:
        _files.write_npy(file, np.array(ends, np.int64))


def _named(part: Part) -> list[dict[str, Any]]:
    """Rows with the names of their pools."""
    return [
        row if row.get("candidates") is None else {**row, "candidates": [part.names[i] for i in row["candidates"]]}
        for row in part.rows
    ]


def recorded_keys(folder: ResultFolder, manifest: dict[str, Any], side: Side) -> dict[int, str]:
    """Content keys of the items of a side that are done, by number; those that failed have none."""
    if manifest["status"] == "embedding":
        size = int(manifest["block"])
        rows = ((block * size + i, row) for block in sorted(folder.part_numbers(side))
                for i, row in enumerate(folder.read_part(side, block).rows))  # fmt: skip
        return {number: row["key"] for number, row in rows if row["error"] is None}
    _, parquet = _extras.pyarrow()
    path = folder.path / f"{side}.parquet"
    with _files.reading(path, again(path)), _files.for_arrow(path) as file:
        table = parquet.read_table(file, columns=["key", "error"]).to_pylist()
    return {number: row["key"] for number, row in enumerate(table) if row["error"] is None}


def _with_equal_ones(
    folder: ResultFolder, side: Side, size: int, block: int, part: Part, first: dict[str, int]
) -> NDArray[np.float32]:
    """Vectors of a block, those of items that were there before replaced by theirs; notes the new items in `first`."""
    vectors = part.vectors.copy()
    for i, row in enumerate(part.rows):
        if row["error"] is not None:
            continue
        place = first.setdefault(row["key"], block * size + i)
        if place == block * size + i:
            continue
        earlier = vectors if place // size == block else folder.read_part(side, place // size).vectors
        vectors[i] = earlier[place % size]
    return vectors


def _schema(pa: Any, side: Side) -> Any:
    text, texts = pa.string(), pa.list_(pa.string())
    own = (
        [("name", text)]
        if side == "candidates"
        else [
            ("id", text), ("candidates", texts), ("labels", texts), ("relevance", pa.list_(pa.float64())),
            ("extra", text),
        ]
    )  # fmt: skip
    return pa.schema([
        *own, ("instruction", text), ("text", text), ("images", texts), ("video_frames", texts), ("trace", text),
        ("finish", text), ("tokens", pa.int32()), ("prompt_tokens", pa.int32()), ("seconds", pa.float64()),
        ("think_seconds", pa.float64()), ("embed_seconds", pa.float64()), ("error", text), ("key", text),
    ])  # fmt: skip
