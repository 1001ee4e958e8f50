"""Kept traces as records, and the files that hold records: exports of a store, and the traces of others."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tte import _content, _extras, _files, _options, _text, _tte
from tte._keywords import named
from tte._options import PathLike

COLUMNS = (
    "key", "text", "thinking", "conclusion", "finish", "token_ids", "vocabulary", "prompt_tokens", "reused_tokens",
    "seconds", "model", "request", "created",
)  # fmt: skip
STORED = (*COLUMNS, "checksum")
"""What is kept of a trace: columns of a store's table, and fields of an export."""
KEY_BYTES = 20
_CHECKSUM_BYTES = 8
COMPLETE = ("STOP", "LENGTH", "GIVEN")
"""How traces end that are kept."""
_TEXTS = ("text", "thinking", "conclusion", "vocabulary", "model", "request")
_COUNTS = ("prompt_tokens", "reused_tokens")
_TIMES = ("seconds", "created")
EXPORT_AGAIN = "export it again"


def is_key(key: str) -> bool:
    """Whether a text is a key of a trace."""
    return re.fullmatch(rf"[0-9a-f]{{{2 * KEY_BYTES}}}", key) is not None


def key_bytes(key: object) -> bytes:
    """A key as a store has it; raises `InputError` for anything else."""
    if not isinstance(key, str) or not is_key(key):
        raise _tte.InputError(f"{_text.shown(key)} is not a key of a trace: keys are {2 * KEY_BYTES} hex digits.")
    return bytes.fromhex(key)


def check_record(record: Mapping[str, Any], where: str, remedy: str = EXPORT_AGAIN) -> None:
    """Check a trace as exports have it: everything is there and of its kind, and fits its checksum.

    It may have no checksum, but then nothing either that may be one under a damaged name. Raises `InputError` that
    begins with `where`.
    """
    missing = [name for name in COLUMNS if record.get(name) is None]
    if missing:
        raise _tte.InputError(f"{where} has no {missing[0]!r}: a trace has {', '.join(COLUMNS)}.")

    def whole(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63

    def duration(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")

    ids = record["token_ids"]
    right = {name: isinstance(record[name], str) and _is_utf8(record[name]) for name in _TEXTS}
    right |= {name: whole(record[name]) and record[name] >= 0 for name in _COUNTS}
    right |= {name: duration(record[name]) for name in _TIMES}
    right |= {
        "token_ids": isinstance(ids, list) and all(map(whole, ids)),
        "finish": isinstance(record["finish"], str) and record["finish"] in COMPLETE,
        "key": isinstance(record["key"], str) and is_key(record["key"]),
    }
    for name, fine in right.items():
        if not fine:
            raise _tte.InputError(f"{where}: {name} cannot be {_text.shown(record[name])}.")
    if record.get("checksum") is None:
        if strange := [name for name in record if name not in STORED]:
            raise _tte.InputError(f"{where} has no 'checksum', but {_text.shown(strange[0])}: {remedy}.")
    elif record["checksum"] != checksum_of(record):
        raise _tte.InputError(f"{where} is damaged: it does not fit its checksum; {remedy}.")


def checksum_of(record: Mapping[str, Any]) -> str:
    """Hex digest of everything that is kept of a trace."""
    values = [float(record[name]) if name in _TIMES else record[name] for name in COLUMNS]
    return hashlib.blake2b(_content.to_json(values).encode(), digest_size=_CHECKSUM_BYTES).hexdigest()


def row_of(record: Mapping[str, Any], where: str) -> tuple[Any, ...]:
    """The row of a store's table for a record, which is checked; `where` names it in errors."""
    check_record(record, where)
    key, sum_ = key_bytes(record["key"]), bytes.fromhex(checksum_of(record))
    values = {**record, "key": key, "token_ids": array("q", record["token_ids"]).tobytes(), "checksum": sum_}
    return tuple(values[name] for name in STORED)


def token_ids_of(data: bytes) -> list[int]:
    """The token ids that a row has."""
    ids = array("q")
    ids.frombytes(data)
    return ids.tolist()


def trace_of(record: Mapping[str, Any]) -> _tte.Trace:
    """The trace that was kept, equal in all that an embedder reads."""
    trace = _tte.Trace.__new__(_tte.Trace)
    trace.__setstate__((
        record["text"], record["thinking"], record["conclusion"], record["token_ids"], record["vocabulary"],
        _tte.FinishReason.__members__[record["finish"]], "", record["prompt_tokens"], record["reused_tokens"],
    ))  # fmt: skip
    return trace


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return count


def _read_jsonl(path: Path, remedy: str) -> Iterator[dict[str, Any]]:
    return _files.json_lines(path, _text.shown_path(path), remedy)


_COUNT = "tte.traces"
"""Key of a parquet export's own number of rows: a damaged footer may say that there are fewer, or none.

A file that has it was written here, with all columns, and every row has a checksum.
"""


def _write_parquet(path: Path, records: Iterator[Mapping[str, Any]]) -> int:
    pa, parquet = _extras.pyarrow()
    kinds = {name: pa.string() for name in (*_TEXTS, "key", "finish", "checksum")}
    kinds |= {"token_ids": pa.list_(pa.int64()), "prompt_tokens": pa.int64(), "reused_tokens": pa.int64()}
    kinds |= {"seconds": pa.float64(), "created": pa.float64()}
    schema = pa.schema([(name, kinds[name]) for name in STORED])
    count = 0
    with _files.for_arrow(path, "wb") as file, parquet.ParquetWriter(file, schema) as writer:
        while rows := list(itertools.islice(records, 1000)):
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            count += len(rows)
        writer.add_key_value_metadata({_COUNT: str(count)})
    return count


_UNFOLDED = 256 << 20, 200
"""Bytes that the rows of a parquet file may have, and how many more for each of the file's own."""


def _read_parquet(path: Path, remedy: str) -> Iterator[dict[str, Any]]:
    _, parquet = _extras.pyarrow()
    name = _text.shown_path(path)
    with _files.reading(path, remedy), _files.for_arrow(path) as raw, parquet.ParquetFile(raw) as file:
        told = (file.metadata.metadata or {}).get(_COUNT.encode())
        lacking = [column for column in STORED if file.schema_arrow.get_field_index(column) < 0]
        if told is not None and lacking:
            raise _tte.InputError(f"{name} is an export of a trace store without the column {lacking[0]!r}: {remedy}.")
        count = spent = 0
        most = _UNFOLDED[0] + _UNFOLDED[1] * path.stat().st_size

        def require(unfolded: int) -> None:
            if unfolded > most:
                raise _tte.InputError(
                    f"{name} unfolds into {unfolded} bytes or more, over the limit of {most} for a file of its size: "
                    "write it without so many copies of one text, or as JSON lines."
                )

        for group in range(file.num_row_groups):
            require(file.metadata.row_group(group).total_byte_size)
        # Few at a time: a small file may be the same large text again and again.
        for batch in file.iter_batches(batch_size=16):
            plain = [each.dictionary_decode() if hasattr(each, "dictionary") else each for each in batch.columns]
            spent += sum(each.nbytes for each in plain)
            require(spent)
            if told is not None and batch.column("checksum").null_count:
                raise _tte.InputError(f"{name} is an export of a trace store, but a trace has no checksum: {remedy}.")
            yield from batch.to_pylist()
            count += batch.num_rows
        if told is not None and told != str(count).encode():
            raise _tte.InputError(f"{name} is damaged: {count} of its traces can be read; {remedy}.")


WRITERS: dict[str, Callable[[Path, Iterator[Mapping[str, Any]]], int]] = {
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
READERS: dict[str, Callable[[Path, str], Iterator[dict[str, Any]]]] = {
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
"""Each takes the file, and the remedy that its errors name."""


def check_export(path: PathLike) -> Path:
    """Check the file of an export before there is anything to write.

    Raises `InputError` for a name that is neither JSONL nor parquet and for a folder that does not exist.
    """
    target = _text.expanded(path, "the export")
    name = _text.shown_path(target)
    if target.suffix not in WRITERS:
        raise _tte.InputError(f"{name} ends in neither .jsonl nor .parquet: name the export so.")
    with _files.reading(target, "export to another file"):
        if not target.parent.is_dir():
            parent = _text.shown_path(target.parent)
            raise _tte.InputError(f"{parent} is not a folder: make it, or export to another one.")
        if target.is_dir():
            raise _tte.InputError(f"{name} is a folder: give the export another name.")
    return target


@named
def read_traces(
    path: PathLike, *, key: str = "id", text: str = "trace", thinking: str | None = None
) -> dict[str, _tte.Trace]:
    """Traces that others have written, by the keys of their file; for `think` of :func:`tte.think_then_embed`.

    Args:
        path: a file of JSON lines (.jsonl), or a parquet file.
        key: the field that tells an item: a text or a whole number.
        text: the field of the trace. A row that has none there (absent, None) has no trace. Dots and numbers reach into
            objects and lists, as in ``response.body.choices.0.message.content``, which is where OpenAI's batch API has
            it (with the key ``custom_id``). Where the field is null in every row, a warning says so.
        thinking: the field of thinking that was split off, if there is one: it is put in front, between <think> and
            </think>.

    Raises:
        InputError: names the file and the row that has no key, no text of its kind, or the key of an earlier row with
            another trace; or one of a trace store's export that does not fit its checksum; or says that no row has the
            field.

    Example:
        >>> traces = tte.read_traces("made_earlier.jsonl")                                        # doctest: +SKIP
        >>> tte.think_then_embed(items, think=[traces.get(name) for name in names])               # doctest: +SKIP

    """
    source = _text.expanded(path, "the file of traces")
    name = _text.shown_path(source)
    fields = [_options.string(key, "key"), _options.string(text, "text"), _options.text(thinking, "thinking")]
    if source.suffix not in READERS:
        raise _tte.InputError(f"{name} ends in neither .jsonl nor .parquet: give a file of traces that does.")
    rows = READERS[source.suffix](source, "fetch it again")
    found: dict[str, _tte.Trace] = {}
    number = 0
    has_texts = has_thinking = False
    for number, row in enumerate(rows, start=1):
        known, words, split_off = (None if field is None else _at(row, field, None) for field in fields)
        has_text, has_split = (field is not None and _at(row, field, _ABSENT) is not _ABSENT for field in fields[1:])
        has_texts, has_thinking = has_texts or has_text or has_split, has_thinking or has_split
        where = f"{name}, row {number}"
        if row.keys() >= set(COLUMNS):
            check_record(row, where, "export it again, or keep only the fields that are read")
        if not isinstance(known, (str, int)) or isinstance(known, bool) or known == "":
            raise _tte.InputError(
                f"{where} has {_text.shown(known)} as its {_text.shown(key)}: name the field of keys."
            )
        if words is None and split_off is None:
            continue
        for field, value in ((text, words), (thinking, split_off)):
            if value is not None and not isinstance(value, str):
                raise _tte.InputError(
                    f"{where} has {_text.shown(value)} as its {_text.shown(field)}: it must be a text."
                )
        front = f"<think>{split_off}</think>" if split_off else ""
        trace = _tte.Trace(_text.utf8(front + (words or ""), where))
        if found.setdefault(str(known), trace) != trace:
            raise _tte.InputError(f"{where} has the key {_text.shown(known)} of an earlier row: keep one of them.")
    if number and not has_texts:
        raise _tte.InputError(f"{name} has no row with a {_text.shown(text)}: name the field of texts.")
    if number and thinking is not None and not has_thinking:
        raise _tte.InputError(f"{name} has no row with a {_text.shown(thinking)}: name the field of thinking.")
    if number and not found:
        _text.warn(f"{name} has no trace: the {_text.shown(text)} of all {number} rows is null.")
    return found


_ABSENT = object()


def _at(row: Any, field: str, absent: object) -> Any:
    """What a row has under a name, or, where it has none so called, where its dots lead; `absent`: nowhere.

    What is null has nothing in it, and so has what would be within it.
    """
    if isinstance(row, Mapping) and field in row:
        return row[field]
    value = row
    for part in field.split("."):
        if isinstance(value, Mapping):
            value = value.get(part, absent)
        elif isinstance(value, list) and part.isdecimal() and len(part) < 10 and int(part) < len(value):
            value = value[int(part)]
        else:
            return None if value is None else absent
    return value
