"""Tables of rows: parquet shards, arrow caches of the `datasets` library, JSON lines; read a bounded part at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from tte import _extras, _files, _text
from tte._tte import InputError

Row = dict[str, Any]
_BATCH_ROWS = 64  # A row of the image tasks has lists of 1000 strings.


def require_pyarrow() -> Any:
    """Import pyarrow.

    Raises `InputError` that says how to install it.
    """
    return _extras.pyarrow()[0]


class Table:
    """The rows of some shards, one after the other.

    Args:
        files: shards in order; all of one kind.
        dataset: name of the data set, for errors.
        columns: columns that must be there; only these and `optional` are read.
        optional: columns that may be there.
        constants: values that every row of a shard gets.

    Raises:
        InputError: a shard is broken or lacks a column; names data set and file.

    """

    def __init__(
        self,
        files: Sequence[Path],
        dataset: str,
        columns: Sequence[str] = (),
        optional: Sequence[str] = (),
        constants: Mapping[Path, Row] | None = None,
    ) -> None:
        self.files = list(files)
        self.dataset = dataset
        self._constants = dict(constants or {})
        self._columns = list(columns)
        self._optional = list(optional)
        for file in self.files:
            self._check_columns(file)

    def __repr__(self) -> str:
        return f"Table({self.dataset!r}, {[str(file) for file in self.files]})"

    @cached_property
    def num_rows(self) -> int:
        """Number of rows of all shards."""
        return sum(_count_rows(file, self.dataset) for file in self.files)

    @cached_property
    def names(self) -> list[str]:
        """Columns of the first shard."""
        return _column_names(self.files[0], self.dataset)

    def has(self, column: str) -> bool:
        """Whether the first shard has a column."""
        return column in self.names

    def rows(
        self, columns: Sequence[str] | None = None, limit: int | None = None, *, batch_rows: int = _BATCH_ROWS
    ) -> Iterator[Row]:
        """Rows in order, as dicts of `columns` (default: all that were asked for); at most `limit`.

        `batch_rows` are in memory at a time.
        """
        wanted = [*self._columns, *self._optional] if columns is None else list(columns)
        done = 0
        for file in self.files:
            for row in _read(file, self.dataset, wanted, batch_rows):
                if limit is not None and done >= limit:
                    return
                yield {**row, **self._constants.get(file, {})}
                done += 1

    def where(self, row: int) -> str:
        """Say which row this is, for errors: data set, file, row within the file."""
        left = row
        for file in self.files:
            count = _count_rows(file, self.dataset) if len(self.files) > 1 else left + 1
            if left < count:
                return f"{self.dataset}: {file}, row {left}"
            left -= count
        return f"{self.dataset}: row {row}"

    def digest(self) -> str:
        """SHA-256 over the bytes of the shards, hex."""
        return hashlib.sha256("".join(file_digest(file) for file in self.files).encode()).hexdigest()

    def _check_columns(self, file: Path) -> None:
        names = _column_names(file, self.dataset)
        names += list(self._constants.get(file, {}))
        missing = [column for column in self._columns if column not in names]
        if missing:
            found = _files.shown(", ".join(names) or "none", 200)
            raise InputError(
                f"{self.dataset}: {file} has no column {missing[0]!r}, it has {found}: this is another table, "
                "or another version of it."
            )


def shown(value: Any) -> str:
    """A cell as messages show it."""
    return _text.shown(value, 60)


def text(row: Row, column: str, where: str) -> str:
    """Text of a cell; numbers are written out.

    Raises `InputError` if it is neither.
    """
    value = row.get(column)
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise InputError(f"{where}: column {column!r} is {shown(value)}; it must be text.")


def optional_text(row: Row, column: str, where: str) -> str:
    """Text of a cell, "" if there is none.

    Raises `InputError` if it is something else.
    """
    return "" if row.get(column) is None else text(row, column, where)


def texts(row: Row, column: str, where: str) -> list[str]:
    """List of texts of a cell.

    Raises `InputError` if it is none, or empty.
    """
    value = row.get(column)
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise InputError(f"{where}: column {column!r} is {shown(value)}; it must be a list of texts, not empty.")
    return value


def index(row: Row, column: str, count: int, where: str) -> int:
    """Index in a cell, as a number or its digits, below `count`.

    Raises `InputError` if it is none.
    """
    value = row.get(column)
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 20:  # More is no index, nor read by int.
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < count:
        raise InputError(f"{where}: column {column!r} is {shown(value)}; it must be a number from 0 to {count - 1}.")
    return value


def file_digest(file: Path) -> str:
    """SHA-256 of a file, hex; kept while size and time of the file stay the same."""
    with _files.reading(file, _AGAIN):
        stat = file.stat()
    return _file_digest(file, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _file_digest(file: Path, _size: int, _time: int) -> str:
    with _files.reading(file, _AGAIN), _files.open_regular(file, 1 << 62) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# One shard.


_AGAIN = "it is broken or was copied in part, so fetch it again"


@contextmanager
def _opened(file: Path, dataset: str) -> Iterator[None]:
    """Reading a shard: whatever its damage does to a reader is an error that begins with the data set."""
    try:
        with _files.reading(file, _AGAIN):
            _files.open_regular(file, 1 << 62).close()
            yield
    except InputError as error:
        raise InputError(f"{dataset}: {str(error).removeprefix(f'{dataset}: ')}") from error


def _column_names(file: Path, dataset: str) -> list[str]:
    if file.suffix == ".jsonl":
        return list(next(_read_jsonl(file, dataset), {}))
    pyarrow = require_pyarrow()
    with _opened(file, dataset):
        if file.suffix == ".parquet":
            import pyarrow.parquet as pq

            with _files.for_arrow(file) as raw, pq.ParquetFile(raw) as parquet:
                return list(parquet.schema_arrow.names)
        with pyarrow.memory_map(os.fsencode(file)) as source:
            return list(_arrow_reader(source).schema.names)


def _count_rows(file: Path, dataset: str) -> int:
    with _opened(file, dataset):
        stat = file.stat()
    return _count_rows_kept(file, dataset, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _count_rows_kept(file: Path, dataset: str, _size: int, _time: int) -> int:
    if file.suffix == ".jsonl":
        return sum(1 for _ in _read_jsonl(file, dataset))
    pyarrow = require_pyarrow()
    with _opened(file, dataset):
        if file.suffix == ".parquet":
            import pyarrow.parquet as pq

            with _files.for_arrow(file) as raw, pq.ParquetFile(raw) as parquet:
                return int(parquet.metadata.num_rows)
        with pyarrow.memory_map(os.fsencode(file)) as source:
            return sum(batch.num_rows for batch in _arrow_batches(source))


def _read(file: Path, dataset: str, columns: Sequence[str], batch_rows: int) -> Iterator[Row]:
    if file.suffix == ".jsonl":
        for row in _read_jsonl(file, dataset):
            yield {column: row.get(column) for column in columns}
        return
    present = [name for name in _column_names(file, dataset) if name in columns]
    batches = _batches(file, present, batch_rows)
    while True:
        with _opened(file, dataset):  # Not around the yield, for what users of the rows raise is theirs.
            batch = next(batches, None)
            rows = [] if batch is None else batch.to_pylist()
        if batch is None:
            return
        yield from rows


def _batches(file: Path, columns: list[str], batch_rows: int) -> Iterator[Any]:
    pyarrow = require_pyarrow()
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        with _files.for_arrow(file) as raw, pq.ParquetFile(raw) as parquet:
            yield from parquet.iter_batches(batch_size=batch_rows, columns=columns)
        return
    with pyarrow.memory_map(os.fsencode(file)) as source:
        for batch in _arrow_batches(source):
            for start in range(0, batch.num_rows, batch_rows):
                yield batch.select(columns).slice(start, batch_rows)


def _arrow_reader(source: Any) -> Any:
    """Open the stream or file format; the caches of `datasets` are streams."""
    pyarrow = require_pyarrow()
    from pyarrow import ipc

    try:
        return ipc.open_stream(source)
    except pyarrow.ArrowInvalid:
        source.seek(0)
        return ipc.open_file(source)


def _arrow_batches(source: Any) -> Iterator[Any]:
    reader = _arrow_reader(source)
    whole = hasattr(reader, "get_batch")
    for batch in (reader.get_batch(i) for i in range(reader.num_record_batches)) if whole else reader:
        batch.validate(full=True)  # Without it a damaged offset is followed to wherever it points.
        yield batch


def _read_jsonl(file: Path, dataset: str) -> Iterator[Row]:
    return _files.json_lines(file, f"{dataset}: {file}", _AGAIN)
