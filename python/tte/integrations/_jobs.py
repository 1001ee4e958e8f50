"""The folder of a bulk job: what it was made with, its shards, which ids are finished.

    job.json                      fingerprint and settings
    part-0001-3f….parquet         rows of the first run: id, embedding, trace, error, ...
    part-0002-9a….parquet         rows of the second run: new ids, and those that had failed

A shard is written under another name, flushed, and renamed, so that one that is there is whole. Its name depends on
its ids alone, so that a batch that is computed twice is written once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

import tte
from tte import _files, _text

FORMAT = 1
MAX_TRIES = 5
"""How often a shard is begun in one run before its rows are held to be what kills the workers."""
_MANIFEST = "job.json"
_MOST_RUNS = 1 << 31


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Hash of everything that the vectors depend on."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def read_manifest(path: Path) -> dict[str, Any]:
    """Read what a job's folder was made with. Raises InputError for what is no such file."""
    document: dict[str, Any] = {}
    wanted = {"format": int, "fingerprint": str, "settings": dict, "runs": int, "id_column": str}
    with _files.reading(path, "give another folder"):
        document = _files.read_json(path, "give another folder")
        if not isinstance(document, dict) or not all(type(document[key]) is kind for key, kind in wanted.items()):
            raise ValueError("it is not what a job writes")
        if document["format"] != FORMAT:
            raise ValueError(f"it is of format {_text.shown(document['format'])}, this version reads {FORMAT}")
        if not 0 <= document["runs"] < _MOST_RUNS:
            raise ValueError(f"its runs are {_text.shown(document['runs'])}")
    return document


class JobFolder:
    """A folder of results that belongs to one fingerprint.

    Args:
        path: the folder, on a file system that all workers see; made if it does not exist.
        id_column: name of the column with the ids.

    """

    def __init__(self, path: str | os.PathLike[str], id_column: str) -> None:
        self.path = _text.expanded(path, "the folder of results").absolute()
        self.id_column = id_column
        self._name = _text.shown_path(self.path)

    def open(self, settings: Mapping[str, Any]) -> int:
        """Claim the folder for these settings and return the number of this run, from 1.

        Raises:
            InputError: the folder holds another job's results, or files that are no job's.

        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise tte.InputError(
                f"{self._name} cannot be made ({_files.reason(error)}): give another folder of results."
            ) from None
        manifest = self.path / _MANIFEST
        runs = 0
        if manifest.exists():
            before = read_manifest(manifest)
            self._check(before, settings)
            runs = int(before["runs"])
        elif any(self.path.glob("*.parquet")):
            raise tte.InputError(f"{self._name} has parquet files but no {_MANIFEST}: give an empty folder.")
        for pattern in (".*.tmp", ".*.tries"):
            for leftover in self.path.glob(pattern):
                leftover.unlink(missing_ok=True)
        document = {
            "format": FORMAT,
            "fingerprint": fingerprint(settings),
            "tte": tte.__version__,
            "id_column": self.id_column,
            "runs": runs + 1,
            "settings": dict(settings),
        }
        with _files.replacing(manifest) as file:
            file.write(json.dumps(document, indent=2, ensure_ascii=False).encode())
        return runs + 1

    def _check(self, before: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        if before["id_column"] != self.id_column:
            raise tte.InputError(
                f"{self._name} was filled by a job whose ids are in {_text.shown(before['id_column'])}, not "
                f"{_text.shown(self.id_column)}: give another folder, or the job's own id_column."
            )
        if before["fingerprint"] == fingerprint(settings):
            return
        key, there, here = next(_differences(before["settings"], settings), ("the fingerprint", "another", "this"))
        raise tte.InputError(
            f"{self._name} holds the results of another job ({_files.shown(key)} is {there} there and {here} here), "
            "whose vectors cannot be compared with this one's: give another folder, or the job's own settings."
        )

    def shards(self) -> list[Path]:
        """Finished shards, those of earlier runs first."""
        return sorted(self.path.glob("part-*.parquet"))

    def finished(self) -> pa.Array:
        """Ids that need not be computed again, as strings."""
        columns = [
            pc.cast(table[self.id_column].filter(pc.is_null(table["error"])), pa.string())
            for table in (self._read(shard, [self.id_column, "error"]) for shard in self.shards())
        ]
        chunks = [chunk for column in columns for chunk in column.chunks]
        return pa.concat_arrays(chunks).unique() if chunks else pa.array([], pa.string())

    def write(self, run: int, rows: pa.Table) -> Path:
        """Write one shard, whole or not at all."""
        path = self._shard(run, rows[self.id_column].to_pylist())
        with _files.replacing(path) as file:
            pq.write_table(rows, file, compression="zstd")
        self._tries(path).unlink(missing_ok=True)
        return path

    def begin(self, run: int, ids: Sequence[Any]) -> None:
        """Note that a shard is tried, before work on it starts.

        Raises:
            Error: it was begun `MAX_TRIES` times without being written, because its worker died every time.

        """
        tries = self._tries(self._shard(run, ids))
        try:
            with _files.open_regular(tries, 16) as count:
                before = max(0, int(count.read()))
        except (OSError, ValueError):  # There is none yet; or it is damaged, and its rows are counted again.
            before = 0
        if before >= MAX_TRIES:
            raise tte.Error(
                f"the worker died {before} times over the {len(ids)} rows from {_files.shown(self.id_column)} "
                f"{_text.shown(ids[0])} on: look into its log; if memory is short, take fewer rows_per_shard."
            )
        with _files.replacing(tries) as file:
            file.write(str(before + 1).encode())

    def _shard(self, run: int, ids: Sequence[Any]) -> Path:
        digest = hashlib.sha256("\0".join(str(i) for i in ids).encode(errors="surrogatepass")).hexdigest()
        return self.path / f"part-{run:04d}-{digest[:24]}.parquet"

    @staticmethod
    def _tries(shard: Path) -> Path:
        return shard.with_name(f".{shard.stem}.tries")

    def read(self) -> pa.Table:
        """All rows, one per id: the first success, else the latest error. An empty table before the first shard."""
        shards = self.shards()
        if not shards:
            return pa.table({})
        tables = [self._read(shard) for shard in shards]
        with _files.reading(self.path, "remove the shards whose columns are of other types, and run the job again"):
            table = pa.concat_tables(tables, promote_options="permissive")
        rows = pa.table(
            {
                "id": pc.cast(table[self.id_column], pa.string()),
                "row": pa.array(np.arange(len(table))),
                "failed": pc.is_valid(table["error"]),
            }
        )
        best = rows.filter(pc.invert(rows["failed"])).group_by("id").aggregate([("row", "min")])
        failed = rows.filter(rows["failed"])
        failed = failed.filter(pc.invert(pc.is_in(failed["id"], value_set=best["id"].combine_chunks())))
        failed = failed.group_by("id").aggregate([("row", "max")])
        kept = np.concatenate([best["row_min"].to_numpy(), failed["row_max"].to_numpy()])
        return table.take(pa.array(np.sort(kept)))

    def _read(self, shard: Path, columns: list[str] | None = None) -> pa.Table:
        """A shard, once it is known to have ids and errors."""
        again = "remove it and run the job again"
        with _files.reading(shard, again), _files.for_arrow(shard) as raw, pq.ParquetFile(raw) as file:
            for name, fine in ((self.id_column, _are_ids), ("error", _are_errors)):
                at = file.schema_arrow.get_field_index(name)
                if at < 0:
                    raise ValueError(f"it has not one column {_text.shown(name)}")
                kind = file.schema_arrow.field(at).type
                if not fine(kind):
                    raise ValueError(f"its {_text.shown(name)} is of type {_files.shown(kind)}")
            table = file.read(columns)
            table.validate(full=True)
            if table[self.id_column].null_count:
                raise ValueError(f"{table[self.id_column].null_count} of its rows have no id")
        return table


def _are_ids(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _are_errors(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def check_ids(ids: pa.ChunkedArray, column: str) -> pa.Array:
    """Return the ids as strings, once they are known to be there and unique."""
    name = _text.shown(column)
    if not _are_ids(ids.type):
        raise tte.InputError(f"the ids in {name} are of type {_files.shown(ids.type)}: they must be integers or text.")
    if ids.null_count:
        raise tte.InputError(f"{ids.null_count} rows have no id in {name}: give every row its own.")
    try:
        ids.validate(full=True)
    except pa.ArrowInvalid as error:
        raise tte.InputError(f"the ids in {name} are damaged ({_files.reason(error)}): write them again.") from None
    strings = pc.cast(ids, pa.string()).combine_chunks()
    strings = pa.concat_arrays(strings.chunks) if isinstance(strings, pa.ChunkedArray) else strings
    if pc.count_distinct(strings).as_py() != len(strings):
        counts = strings.value_counts()
        repeated = counts.filter(pc.greater(counts.field("counts"), 1))
        first = repeated[0].as_py()
        raise tte.InputError(
            f"{len(repeated)} ids in {name} are not unique, such as {_text.shown(first['values'])} "
            f"({first['counts']} rows): results are matched by id, so give every row its own."
        )
    return strings


def embedding_array(vectors: NDArray[Any], failed: Sequence[bool]) -> pa.Array:
    """FixedSizeList of float32 or float16 [N, dim] with nulls where there is no vector."""
    count, dim = vectors.shape
    values = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(values, dim, mask=pa.array(np.asarray(failed, bool).reshape(count)))


def _differences(there: Any, here: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for key in sorted({*there, *here}):
            yield from _differences(there.get(key), here.get(key), f"{path}.{key}" if path else key)
    elif there != here:
        yield path, _short(there), _short(here)


def _short(value: Any) -> str:
    try:
        return "not set" if value is None else _files.shown(json.dumps(value, ensure_ascii=False), 60)
    except RecursionError:  # Of a damaged file.
        return "something else"
