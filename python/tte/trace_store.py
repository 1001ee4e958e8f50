"""Reasoning traces that are kept: written once, embedded often."""

from __future__ import annotations

import hashlib
import itertools
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

from tte import _content, _decoding, _files, _items, _options, _text, _tte
from tte._inputs import Inputs, Item, prepare
from tte._keywords import named
from tte._media_limits import DEFAULT_LIMITS
from tte._models import Embedder, Reasoner
from tte._options import PathLike
from tte._pickled import again
from tte._trace_files import (
    COMPLETE,
    EXPORT_AGAIN,
    KEY_BYTES,
    READERS,
    STORED,
    WRITERS,
    check_export,
    check_record,
    is_key,
    key_bytes,
    row_of,
    token_ids_of,
    trace_of,
)

_APPLICATION_ID = 0x54544554  # "TTET"
_FORMAT = 2
_SCHEMA = """
CREATE TABLE traces (
  id INTEGER PRIMARY KEY,
  key BLOB NOT NULL UNIQUE,
  text TEXT NOT NULL,
  thinking TEXT NOT NULL,
  conclusion TEXT NOT NULL,
  finish TEXT NOT NULL,
  token_ids BLOB NOT NULL,
  vocabulary TEXT NOT NULL,
  prompt_tokens INTEGER NOT NULL,
  reused_tokens INTEGER NOT NULL,
  seconds REAL NOT NULL,
  model TEXT NOT NULL,
  request TEXT NOT NULL,
  created REAL NOT NULL,
  checksum BLOB NOT NULL
)
"""
_INSERT = f"INSERT INTO traces ({', '.join(STORED)}) VALUES ({', '.join('?' * len(STORED))}) ON CONFLICT DO NOTHING"
_SELECT = f"SELECT id, {', '.join(STORED)} FROM traces"
_MOST_BYTES = 64 << 20  # The longest text of a trace: a damaged file may claim a longer one.
_WAIT_SECONDS = 120.0  # For other processes that write to a store.
_SLICE_SECONDS = 0.2  # Of SQLite's own waiting: between two of them Ctrl-C stops it.
_QUIET_SECONDS = 1.0  # Of waiting that nobody is told of.
_SQLITE_RAISES = (sqlite3.Error, UnicodeError, OverflowError, MemoryError)
"""What a damaged file can raise: SQLite's own words about it may quote bytes that are not UTF-8."""


class _Patient(sqlite3.Connection):
    """A connection that waits for locks of others so that it can be stopped, and says that it waits."""

    def execute(self, *given: Any) -> sqlite3.Cursor:
        return self._wait(super().execute, *given)

    def executemany(self, *given: Any) -> sqlite3.Cursor:
        return self._wait(super().executemany, *given)

    def _wait(self, call: Callable[..., sqlite3.Cursor], *given: Any) -> sqlite3.Cursor:
        begin, told = time.monotonic(), False
        while True:
            try:
                return call(*given)
            except sqlite3.OperationalError as error:
                waited = time.monotonic() - begin
                if not _is_locked(error) or waited > _WAIT_SECONDS:
                    raise
            if waited > _QUIET_SECONDS and not told:
                told = True
                _text.warn(
                    f"A trace store is locked by another process: waiting for it up to {_WAIT_SECONDS:.0f} seconds."
                )
            # While a file changes to write-ahead mode SQLite does not wait for others that open it.
            time.sleep(0.01)


def _is_locked(error: sqlite3.Error) -> bool:
    return "locked" in str(error)


class Described(Protocol):
    """What a key needs of a reasoner: its `model`, as :class:`tte.Reasoner` has it."""

    @property
    def model(self) -> _tte.ModelDescription:
        """Path, dtype, fingerprint, recipe."""


@dataclass(frozen=True, slots=True)
class Request:
    """One trace that is wanted: its key, and what the key was made of (JSON, media as digests)."""

    key: str
    """Hex digest, 40 characters."""
    content: str
    """Canonical JSON of prompt and decoding settings."""
    model: str
    """Digest of the reasoner and its recipe."""

    def __repr__(self) -> str:
        """One line; the content has a text of any length."""
        return f"Request(key={self.key!r}, content={_text.shortened(self.content, 120)!r}, model={self.model!r})"


@dataclass(frozen=True, slots=True)
class StoredTrace:
    """A trace as it was kept."""

    trace: _tte.Trace
    seconds: float
    """What it took when it was written: media, prefill and decode."""
    created: float
    """Unix time."""


@named
class TraceStore:
    """Traces in one SQLite file, found by content: reasoner, recipe, prompt, media bytes, decoding settings.

    Several processes of one machine may write to it at the same time; the first trace of a key stays. Every trace is
    committed before `put` returns, so a process that is killed loses none, and has a checksum, so that one whose bytes
    changed is refused. Machines write to files of their own, which `merge` joins (SQLite's locks do not hold on network
    file systems).

    Args:
        path: the file; it is made if it does not exist, in a folder that does. "~" is the home folder.
        read_only: refuse to write, and do not make the file.

    Raises:
        InputError: the file is not a trace store; later: the store is closed, is written to and read-only, is damaged,
            or its disk is full; its folder does not exist.

    Example:
        >>> import tte
        >>> store = tte.TraceStore("traces.sqlite")                       # doctest: +SKIP
        >>> traces = store.think(reasoner, items, task="image_qa")        # doctest: +SKIP
        >>> vectors = embedder.embed(items, traces, task="image_qa")      # doctest: +SKIP

    The second time, `think` reads all of them. A store can be pickled: where it is unpickled, its file is opened again.

    """

    def __init__(self, path: PathLike, *, read_only: bool = False) -> None:
        self.path = _text.expanded(path, "the trace store's path")
        if self.path.name == ":memory:":
            raise _tte.InputError(
                "the trace store's path is ':memory:': a trace store is a file, which several processes may open; give "
                "one in a temporary folder."
            )
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._read_only = read_only = _options.flag(read_only, "read_only")
        self._name = _text.shown_path(self.path)
        self._closed = False
        self._models: dict[int, tuple[_tte.ModelDescription, str]] = {}
        with _files.reading(self.path, "give the file of a trace store"):
            there = self.path.exists()
            uri = self.path.absolute().as_uri()
        if read_only and not there:
            raise _tte.InputError(f"{self._name} does not exist: give the file of a trace store.")
        if there and not self.path.is_file():
            raise _tte.InputError(f"{self._name} is not a file: give the file of a trace store.")
        if not there and not self.path.parent.is_dir():
            parent = _text.shown_path(self.path.parent)
            raise _tte.InputError(f"{parent} is not a folder: make it, or give the trace store another one.")
        self._file = self.path.absolute()  # Whatever folder the process is in later.
        try:
            self._connect(uri, read_only)
            self._opened_file = os.stat(self._file)
        except OSError as error:
            raise self._gone() from error
        except _SQLITE_RAISES as error:
            raise self._refused(error, " as a trace store", "give another file") from error

    def __reduce__(self) -> Any:
        return again, (type(self), {"path": self._file, "read_only": self._read_only})

    def _connect(self, uri: str, read_only: bool) -> None:
        def connect(mode: str) -> None:
            self._db = sqlite3.connect(
                f"{uri}?{mode}", uri=True, timeout=_SLICE_SECONDS, isolation_level=None, check_same_thread=False,
                factory=_Patient,
            )  # fmt: skip
            try:
                self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES)
                # A text whose bytes changed is one damaged trace, and none of the file.
                self._db.text_factory = lambda text: text.decode(errors="surrogateescape")
                self._open(read_only)
            except BaseException:
                self._db.close()
                raise

        if not read_only:
            connect("mode=rwc")
            return
        try:
            connect("mode=ro")
        except sqlite3.OperationalError as error:
            # On a read-only disk SQLite cannot make the files beside it, which it needs only where others write.
            if _is_locked(error) or self.path.with_name(f"{self.path.name}-wal").exists():
                raise
            connect("mode=ro&immutable=1")

    def _open(self, read_only: bool) -> None:
        if not read_only:
            self._make()
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if application != _APPLICATION_ID or version != _FORMAT:
            kind = f"a trace store of format {version}" if application == _APPLICATION_ID else "another SQLite database"
            raise _tte.InputError(f"{self._name} is {kind}: this version reads format {_FORMAT}; give another file.")
        # A view may be endless, and a trigger does what its writer likes.
        made = self._db.execute("SELECT type, name FROM sqlite_master LIMIT 100").fetchall()
        if ("table", "traces") not in made or any(kind in ("view", "trigger") for kind, _ in made):
            raise _tte.InputError(f"{self._name} has other parts than a trace store: give a file that tte made.")

    def _make(self) -> None:
        # Readers and a writer work side by side; committed transactions outlive the process in either mode.
        self._db.execute("PRAGMA journal_mode = WAL").fetchone()
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("BEGIN IMMEDIATE")
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables == 0:
            self._db.execute(_SCHEMA)
            self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {_FORMAT}")
        self._db.execute("COMMIT")

    def request(
        self,
        reasoner: Described,
        item: Item,
        *,
        instruction: str | None = None,
        task: str | None = None,
        side: str = "query",
        content: Any = None,
        **decoding: Any,
    ) -> Request:
        """Describe the trace that :meth:`tte.Reasoner.think` would write with these arguments.

        Args:
            reasoner: who would think.
            item: one item.
            instruction: as in `think`.
            task: as in `think`.
            side: as in `think`.
            content: the item's :func:`canonical` form, where it is known already.
            decoding: decoding settings of `think`, one value each.

        Raises:
            InputError: a file of the item cannot be read, or an argument is not what `think` takes.

        """
        try:
            if isinstance(reasoner, Embedder):
                raise TypeError
            described = reasoner.model
        except Exception:
            raise _options.refuse("reasoner", reasoner, "a tte.Reasoner") from None
        _options.one_task(task, side)
        if content is not None and not isinstance(content, Mapping):
            raise _options.refuse("content", content, "an item's canonical form, as JSON has it")
        body = {
            "item": _content.canonical(item) if content is None else content,
            "instruction": _options.text(instruction, "instruction"),
            "task": "" if _options.is_absent(task) else _text.utf8(task, "task"),
            "side": side,
            "decoding": _decoding.resolved(decoding, described.recipe),
        }
        try:
            text = _content.to_json(body)
            text.encode()
        except (TypeError, ValueError, RecursionError):
            raise _options.refuse("content", content, "an item's canonical form, as JSON has it") from None
        model = self._model_digest(described)
        digest = hashlib.blake2b(f"{model}\n{text}".encode(), digest_size=KEY_BYTES)
        return Request(digest.hexdigest(), text, model)

    def _model_digest(self, model: _tte.ModelDescription) -> str:
        known = self._models.get(id(model))
        if known is None or known[0] is not model:
            known = (model, _content.model_digest(model))
            self._models[id(model)] = known
        return known[1]

    def get(self, request: Request | str) -> StoredTrace | None:
        """The trace of a request (or key), or None."""
        key = request.key if isinstance(request, Request) else request
        return self.get_many([key]).get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, StoredTrace]:
        """Those of the keys that are kept."""
        found, damaged = self._look_up(keys)
        for error in damaged.values():
            raise error
        return found

    def _look_up(self, keys: Iterable[str]) -> tuple[dict[str, StoredTrace], dict[str, _tte.InputError]]:
        """Those of the keys that are kept, and what is wrong with those that are damaged."""
        found: dict[str, StoredTrace] = {}
        damaged: dict[str, _tte.InputError] = {}
        if isinstance(keys, str) or not isinstance(keys, Iterable):
            raise _options.refuse("keys", keys, "keys of traces, in a list")
        wanted = list({key: key_bytes(key) for key in _options.iterated(keys, "keys", "keys of traces")}.values())
        for begin in range(0, len(wanted), 500):
            some = wanted[begin : begin + 500]
            query = f"{_SELECT} WHERE key IN ({', '.join('?' * len(some))})"
            with self._opened() as db:
                rows = db.execute(query, some).fetchall()
            for row in rows:
                try:
                    record = self._record(row)
                    found[record["key"]] = StoredTrace(trace_of(record), record["seconds"], record["created"])
                except _tte.InputError as error:
                    damaged[row[1].hex()] = error
        return found, damaged

    def _record(self, row: Sequence[Any]) -> dict[str, Any]:
        """A row of the table as exports have it.

        Raises `InputError` that names file and row if it is damaged.
        """
        number, *values = row
        record = dict(zip(STORED, values, strict=True))
        where = f"{self._name}, trace {number}"
        try:
            record = {
                **record,
                "key": record["key"].hex(),
                "token_ids": token_ids_of(record["token_ids"]),
                "checksum": record["checksum"].hex(),
            }
            check_record(record, where)
        except (AttributeError, TypeError, ValueError, _tte.InputError) as error:
            why = str(error).removeprefix(where).strip(" :.") if isinstance(error, _tte.InputError) else "its bytes"
            why = why.removeprefix("is damaged: ").removesuffix(f"; {EXPORT_AGAIN}")
            raise _tte.InputError(
                f"{where} is damaged ({_files.shown(why, 160)}): `python -m tte.mmeb traces --drop-damaged --traces "
                "FILE` removes such traces, and they are written again."
            ) from error
        return record

    def drop_damaged(self) -> int:
        """Remove the traces whose bytes changed since they were kept; returns how many."""
        self._require_writable()
        damaged = []
        for row in self._rows():
            try:
                self._record(row)
            except _tte.InputError:
                damaged.append(row[0])
        with self._opened() as db:
            self._require_there()
            db.executemany("DELETE FROM traces WHERE id = ?", [[number] for number in damaged])
        return len(damaged)

    def put(self, request: Request, trace: _tte.Trace, *, seconds: float | None = None) -> bool:
        """Keep a trace; returns whether it is new. What was cut short (cancelled, failed) is not kept.

        Args:
            request: from :meth:`request`.
            trace: the trace.
            seconds: what it took; default: from the trace's timings.

        """
        self._require_writable()
        if not isinstance(request, Request):
            raise _options.refuse("request", request, "what TraceStore.request returned")
        if not isinstance(trace, _tte.Trace):
            raise _options.refuse("trace", trace, "a tte.Trace")
        seconds = _options.optional(_options.real, seconds, "seconds", 0.0, sys.float_info.max)
        finish = trace.finish.name
        if finish not in COMPLETE:
            return False
        if seconds is None:
            seconds = trace.timings.media + trace.timings.prefill + trace.timings.decode
        record = {
            "key": request.key, "text": trace.text, "thinking": trace.thinking, "conclusion": trace.conclusion,
            "finish": finish, "token_ids": list(trace.token_ids), "vocabulary": trace.vocabulary,
            "prompt_tokens": trace.prompt_tokens, "reused_tokens": trace.reused_tokens, "seconds": seconds,
            "model": request.model, "request": request.content, "created": time.time(),
        }  # fmt: skip
        return self._insert([row_of(record, f"{self._name}, a new trace")]) == 1

    def _insert(self, rows: Sequence[tuple[Any, ...]]) -> int:
        with self._opened() as db:
            before = db.total_changes
            db.execute("BEGIN IMMEDIATE")
            try:
                db.executemany(_INSERT, rows)
                self._require_there()
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # A full disk has ended it already.
                    db.execute("ROLLBACK")
                raise
            return db.total_changes - before

    def _require_there(self) -> None:
        """Raise `InputError` where what is written would be lost with a file that has no name any more."""
        try:
            there = os.path.samestat(os.stat(self._file), self._opened_file)
        except OSError:
            there = False
        if not there:
            raise self._gone()

    def _gone(self) -> _tte.InputError:
        return _tte.InputError(
            f"{self._name} was deleted or replaced while it was open, and nothing more can be kept in it: open the "
            "trace store again."
        )

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time; what SQLite refuses is an `InputError` that names the file."""
        if self._process != os.getpid():  # Its lock may be held for ever, and SQLite's connections do not survive it.
            raise _tte.InputError(
                f"{self._name} was opened before this process was forked off: open the trace store again in it."
            )
        with self._lock:
            if self._closed:
                raise _tte.InputError(f"{self._name} is closed: open the trace store again.")
            try:
                yield self._db
            except _SQLITE_RAISES as error:
                raise self._refused(error, "", "give another file, in which traces are written again") from error

    def _refused(self, error: Exception, use: str, otherwise: str) -> _tte.InputError:
        """What SQLite said of the file, with what helps."""
        name, why = str(getattr(error, "sqlite_errorname", "")), _files.reason(error)
        if name.startswith("SQLITE_IOERR") and _files.is_full(self.path.parent):
            name, why = "SQLITE_FULL", "its disk is full"
        elif name.startswith("SQLITE_CANTOPEN") and not os.access(self.path.parent, os.W_OK):
            name, why = "SQLITE_READONLY", "its folder cannot be written to"
        remedy = next((remedy for code, remedy in _REMEDIES.items() if name.startswith(code)), otherwise)
        return _tte.InputError(f"{self._name} cannot be used{use} ({why}): {remedy}.")

    def _require_writable(self) -> None:
        with self._opened():
            if self._read_only:
                raise _tte.InputError(f"{self._name} is open for reading only: open it without read_only to write.")

    def think(  # noqa: PLR0913
        self,
        reasoner: Reasoner,
        inputs: Item | Iterable[Item],
        *,
        instruction: str | Sequence[str | None] | None = None,
        task: str | Sequence[str | None] | None = None,
        side: Literal["query", "target"] | Sequence[str] = "query",
        on_token: Callable[[int, str, int], bool | None] | None = None,
        on_result: Callable[[int, _tte.Trace], None] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        progress: _options.Progress = True,
        cancel: _tte.CancelToken | None = None,
        max_in_flight: int = 0,
        allow_urls: bool = False,
        **decoding: Any,
    ) -> list[_tte.Trace]:
        """Traces of the inputs, in their order: those that are kept are read, the others are written and kept.

        Arguments and errors are those of :meth:`tte.Reasoner.think`; equal inputs are reasoned about once. `on_token`
        and `on_result` are called for what is written now.

        Raises:
            InputError: also where a trace is damaged, or is not kept and the store is read-only.

        """
        if not callable(getattr(reasoner, "think", None)):
            raise _tte.InputError(f"the reasoner is of type {type(reasoner).__name__}: give a tte.Reasoner.")
        with self._opened():
            pass  # A closed store is refused even where nothing is looked up.
        what = prepare(inputs, instruction, on_error, allow_urls, getattr(reasoner, "_limits", DEFAULT_LIMITS))
        count = len(what.native)
        # Whatever is wrong with the arguments is found before anything is read or written, in think's own words.
        _decoding.generate_options(count, **decoding)
        _options.tasks(task, side, count)
        _options.on_error(on_error)
        on_token, on_result = _options.function(on_token, "on_token"), _options.function(on_result, "on_result")
        families = _options.per_item(task, count, "task")
        sides = _options.per_item(side, count, "side")
        call, settings = _split(decoding, count)
        wanted_each = requests(self, reasoner, what.read, what.instruction, families, sides, decoding)
        kept = traces_of(self, wanted_each, what, on_error)
        first = {r.key: i for i, r in reversed(list(enumerate(wanted_each))) if r and r.key not in kept}
        missing = sorted([*first.values(), *(i for i, r in enumerate(wanted_each) if r is None)])
        written: dict[int, _tte.Trace] = {}

        def finished(position: int, trace: _tte.Trace) -> None:
            index = missing[position]
            if (wanted := wanted_each[index]) is not None:
                self.put(wanted, trace)
            written[index] = trace
            if on_result is not None:
                on_result(index, trace)

        if missing:
            each: dict[str, Any] = {name: [values[i] for i in missing] for name, values in settings.items()}
            token = None if on_token is None else lambda position, *rest: on_token(missing[position], *rest)
            traces = reasoner.think(
                [what.native[i] for i in missing], instruction=what.instruction, task=[families[i] for i in missing],
                side=[sides[i] for i in missing], on_token=token, on_result=finished, on_error=on_error,
                progress=progress, cancel=cancel, max_in_flight=max_in_flight, **call, **each,
            )  # fmt: skip
            written = dict(zip(missing, traces, strict=True))
            kept |= {key: written[i] for key, i in first.items()}
        return [kept[r.key] if r else written[i] for i, r in enumerate(wanted_each)]

    def __len__(self) -> int:
        with self._opened() as db:
            return int(db.execute("SELECT count(*) FROM traces").fetchone()[0])

    def __contains__(self, key: object) -> bool:
        if isinstance(key, Request):
            key = key.key
        return isinstance(key, str) and is_key(key) and self.get(key) is not None

    def records(self) -> Iterator[dict[str, Any]]:
        """Every trace as a plain dict, in the order in which they were kept; what the exports write."""
        return map(self._record, self._rows())

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        with self._opened() as db:
            cursor = db.execute(f"{_SELECT} ORDER BY id")
        last = None
        while True:
            with self._opened():
                row = cursor.fetchone()  # One at a time: a row of a damaged file may be large.
            if row is None:
                return
            if last is not None and row[0] <= last:  # The pages of a damaged file may go round in a circle.
                raise _tte.InputError(f"{self._name} is damaged (trace {last} comes twice): give another file.")
            last = row[0]
            yield row

    def export(self, path: PathLike) -> int:
        """Write all traces as JSONL or parquet (by the file's suffix); returns how many."""
        target = check_export(path)
        temporary = _files.part(target)
        try:
            count = WRITERS[target.suffix](temporary, self.records())
            temporary.replace(target)
        except OSError as error:
            raise _tte.InputError(
                f"{_text.shown_path(target)} cannot be written ({_files.reason(error)}): export to another disk or "
                "folder."
            ) from error
        finally:
            with suppress(OSError):
                temporary.unlink()
        return count

    def merge(self, path: PathLike) -> int:
        """Take over the traces of an export (JSONL, parquet) or of another store; returns how many were new.

        Raises:
            InputError: names the file and the row that does not fit.

        """
        self._require_writable()
        source = _text.expanded(path, "the export")
        name = _text.shown_path(source)
        with _files.reading(source, "give an export (.jsonl, .parquet) or a trace store"):
            if not source.is_file():
                what = "is not a file" if source.exists() else "does not exist"
                raise _tte.InputError(f"{name} {what}: give an export (.jsonl, .parquet) or a trace store.")
        if reader := READERS.get(source.suffix):
            return self._take(reader(source, EXPORT_AGAIN), source)
        with TraceStore(source, read_only=True) as other:
            return self._take(other.records(), source)

    def _take(self, records: Iterator[Mapping[str, Any]], source: Path) -> int:
        new, number, name = 0, 0, _text.shown_path(source)
        while some := list(itertools.islice(records, 1000)):
            new += self._insert([row_of(record, f"{name}, row {number + i}") for i, record in enumerate(some, start=1)])
            number += len(some)
        return new

    def close(self) -> None:
        """Close the file; everything is on disk already."""
        if self._process != os.getpid():
            return  # It is the other process's.
        with self._lock:
            self._closed = True
            self._db.close()

    def __enter__(self) -> TraceStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"TraceStore({str(self.path)!r})"


def remove(path: Path) -> None:
    """Remove the file of a store that nobody has open; those that SQLite keeps beside it first."""
    for end in ("-wal", "-shm", ""):
        path.with_name(path.name + end).unlink(missing_ok=True)


def requests(
    store: TraceStore,
    reasoner: Described,
    items: Sequence[_items.Item | None],
    instruction: str | None,
    families: Sequence[str | None],
    sides: Sequence[str],
    decoding: Mapping[str, Any],
) -> list[Request | None]:
    """Requests of the items of one call; None where there is no item, or where a file of it cannot be read.

    Such an item is refused or skipped by the reasoner as it always is.
    """
    call, settings = _split(decoding, len(items))

    def request(i: int, item: _items.Item) -> Request | None:
        each = {name: values[i] for name, values in settings.items()}
        try:
            return store.request(
                reasoner, item, instruction=instruction, task=families[i], side=sides[i], **call, **each
            )
        except _tte.InputError:
            return None

    return [None if item is None else request(i, item) for i, item in enumerate(items)]


def traces_of(
    store: TraceStore, wanted: list[Request | None], what: Inputs, on_error: Literal["raise", "skip"]
) -> dict[str, _tte.Trace]:
    """Those of the wanted traces of a call that are kept, by key.

    An item whose trace is damaged, or absent where the store is read-only, fails: now, or with `on_error` "skip" where
    it is used, in its own words, and has no request any more.
    """
    found, damaged = store._look_up(request.key for request in wanted if request is not None)
    for index, request in enumerate(wanted):
        if request is None or request.key in found or not (store._read_only or request.key in damaged):
            continue
        why = damaged.get(request.key) or (
            f"{store._name} is open for reading only and has no trace of it: open it without read_only to write what "
            "is missing."
        )
        what.fail(index, why, on_error)
        wanted[index] = None
    return {key: stored.trace for key, stored in found.items()}


def _split(decoding: Mapping[str, Any], count: int) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Decoding settings that are for all items alike, and those that are one value an item."""
    call = {name: value for name, value in decoding.items() if name in _decoding.OF_THE_CALL}
    return call, {name: _options.per_item(v, count, name) for name, v in decoding.items() if name not in call}


_REMEDIES = {
    "SQLITE_FULL": "free some space and run the same again, what was kept is safe",
    "SQLITE_READONLY": "give a file on a disk that can be written to, or open it with read_only",
    "SQLITE_TOOBIG": f"a trace and its item have texts of at most {_MOST_BYTES} bytes, use no store for larger ones",
    "SQLITE_BUSY": "another process is writing to it, try again",
    "SQLITE_IOERR": "look after its disk, and limits of file sizes, and run the same again, what was kept is safe",
}
"""What helps, by the beginning of SQLite's name of the error."""
