"""The document tasks: queries, a corpus of pages, and which pages answer a query, as three tables (BEIR).

A page is a file of the page folder: ``<id>.png`` (vidore), or ``<first 50 characters of the id without its
suffix>_<first 8 hex digits of the id's md5><suffix>`` (visrag). A page that has no file there is taken from the corpus
table, which holds the images as well: it is written once, to ``.pages/`` in the page folder's parent (or to the
cache folder of the user, where that cannot be written), under the digest of the corpus, so a newer revision of the
corpus never meets pages of an older one.

The pool is in the benchmark's order: the pages that answer the queries, as the queries come, then the corpus. A task
with pools of its own for each query (none of the benchmark's) ranks the pages of the query's qrels, score 0 included.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tte._tte import InputError
from tte.mmeb.data import layout, prompts, tables
from tte.mmeb.data.base import Settings, TableDataset
from tte.mmeb.data.tables import Row, Table
from tte.mmeb.data.tasks import Task
from tte.mmeb.data.types import Entry, Query

PARSERS = ("vidore", "visrag")


class VisdocDataset(TableDataset):
    """One document task."""

    def __init__(self, task: Task, data_dir: Path, settings: Settings) -> None:
        super().__init__(task, data_dir, settings)
        columns = ["query-id", "query", *(["language"] if task.language else [])]
        self.table = Table(layout.find_tables(task, data_dir, "queries"), task.name, columns)
        self.qrels = Table(layout.find_tables(task, data_dir, "qrels"), task.name, ["query-id", "corpus-id", "score"])
        self.corpus = Table(layout.find_tables(task, data_dir, "corpus"), task.name, ["corpus-id"])

    @property
    def tables(self) -> Sequence[Table]:
        """Queries, relevance, corpus."""
        return [self.table, self.qrels, self.corpus]

    def rows(self, columns: Any = None) -> Iterator[tuple[int, Row]]:
        """Rows of the queries in the task's language with their numbers."""
        number = 0
        for row in self.table.rows(columns):
            if self.limit is not None and number >= self.limit:
                return
            if not self.task.language or row.get("language") == self.task.language:
                yield number, row
                number += 1

    @cached_property
    def num_queries(self) -> int:
        """Number of queries."""
        return sum(1 for _ in self.rows()) if self.task.language else super().num_queries

    @cached_property
    def num_candidates(self) -> int:
        """Number of pages."""
        return len(self._pool)

    def queries(self) -> Iterator[Query]:
        """Iterate over the queries in evaluation order."""
        for number, row in self.rows():
            where = f"{self.task.name}: {self.table.files[0]}, query {number}"
            query_id = tables.text(row, "query-id", where)
            words = prompts.query(self.style, self.task.query_instruction, tables.text(row, "query", where), "")
            relevant = self._relevant(query_id)
            pool = tuple(self._judged[query_id]) if self.task.local else None
            extra = {"query_id": query_id, "integer_ids": self._integer_ids}
            yield Query(
                self.entry(str(number), words), pool, tuple(relevant), tuple(map(float, relevant.values())), extra
            )

    def candidates(self) -> Iterator[Entry]:
        """Iterate over the pages; those that are only in the corpus table are written to files first."""
        words = prompts.target(self.style, self.task.target_instruction, "image")
        absent = {name for name in self._pool if not self.page_file(name).is_file()}
        stored = self._store(absent) if absent else {}
        for name in self._pool:
            path = stored.get(name) or self.page_file(name)
            error = ""
            if name in absent and name not in stored:
                error = (
                    f"{self.task.name}: the page {path} is missing, and the corpus table has no image of it: "
                    f"unpack {layout.archive_of(self.task)} again."
                )
            yield self.entry(name, words, images=() if error else (path,), error=error)

    @cached_property
    def root(self) -> Path:
        """Folder of the pages; it need not exist where the corpus table holds them."""
        roots = layout.media_roots(self.task, self.data_dir)
        if not roots:
            return layout.expected_root(self.task, self.data_dir)
        first = next(iter(self._pool), "")
        probe = page_name(first, self.task.parser) if first else ""
        return next((root for root in roots if probe and (root / probe).exists()), roots[0])

    def page_file(self, name: str) -> Path:
        """Where a page's file is, if it is there."""
        return layout.inside(self.root, page_name(name, self.task.parser), f"{self.task.name}: {self.corpus.files[0]}")

    def media(self) -> Iterator[tuple[Path, Sequence[Path] | None]]:
        """Every page with its file; None where only the corpus table holds it."""
        stored: set[str] = set()
        if self.corpus.has("image"):
            stored = {tables.text(row, "corpus-id", self.task.name) for row in self.corpus.rows()}
        for name in self._pool:
            file = self.page_file(name)
            yield file, [file] if file.is_file() else None if name in stored else []

    @cached_property
    def _integer_ids(self) -> bool:
        row = next(self.qrels.rows(["corpus-id"]), {})
        return isinstance(row.get("corpus-id"), int)

    @cached_property
    def _judged(self) -> dict[str, dict[str, None]]:
        """Pages of each query in the order of the table, whatever their score."""
        found: dict[str, dict[str, None]] = {}
        where = f"{self.task.name}: {self.qrels.files[0]}"
        for row in self.qrels.rows():
            found.setdefault(tables.text(row, "query-id", where), {})[tables.text(row, "corpus-id", where)] = None
        return found

    @cached_property
    def _relevance(self) -> dict[str, dict[str, float]]:
        """Pages and grades of each query in the order of the table; the best grade counts, others than > 0 do not."""
        found: dict[str, dict[str, float]] = {}
        where = f"{self.task.name}: {self.qrels.files[0]}"
        for row in self.qrels.rows():
            score = row.get("score")
            if not isinstance(score, (int, float)) or math.isnan(score):
                raise InputError(f"{where}: a score is {score!r:.40}; it must be a number.")
            if score > 0:
                pages = found.setdefault(tables.text(row, "query-id", where), {})
                page = tables.text(row, "corpus-id", where)
                pages[page] = max(score, pages.get(page, 0))
        return found

    def _relevant(self, query_id: str) -> dict[str, float]:
        if query_id not in self._relevance:
            raise InputError(
                f"{self.task.name}: query {query_id!r} of {self.table.files[0]} has no page with a score above 0 in "
                f"{self.qrels.files[0]}: the tables are of different versions."
            )
        return self._relevance[query_id]

    @cached_property
    def _pool(self) -> dict[str, None]:
        names: dict[str, None] = {}
        where = f"{self.task.name}: {self.table.files[0]}"
        for _, row in self.rows():
            names.update(dict.fromkeys(self._relevant(tables.text(row, "query-id", where))))
        where = f"{self.task.name}: {self.corpus.files[0]}"
        for row in self.corpus.rows():
            names.setdefault(tables.text(row, "corpus-id", where))
        return names

    def _store(self, absent: set[str]) -> dict[str, Path]:
        """Write pages of the corpus table to files; returns where they are."""
        if not self.corpus.has("image"):
            return {}
        folder = _page_cache(self.root) / f"{self.task.name}-{self.corpus.digest()[:16]}"
        where = f"{self.task.name}: {self.corpus.files[0]}"
        files = {name: layout.inside(folder, page_name(name, self.task.parser), where) for name in absent}
        if all(file.is_file() for file in files.values()):
            return files
        stored: dict[str, Path] = {}
        for row in self.corpus.rows(["corpus-id", "image"], batch_rows=4):
            name = tables.text(row, "corpus-id", where)
            if name in files and name not in stored and (content := _bytes(row.get("image"))):
                if not files[name].is_file():
                    _write(files[name], content)
                stored[name] = files[name]
        return stored


def page_name(corpus_id: str, parser: str) -> str:
    """File name of a page in the page folder."""
    if parser == "vidore":
        return f"{corpus_id}.png"
    base, suffix = os.path.splitext(corpus_id)
    return f"{base[:50]}_{hashlib.md5(corpus_id.encode(), usedforsecurity=False).hexdigest()[:8]}{suffix}"


def _bytes(value: Any) -> bytes | None:
    content = value.get("bytes") if isinstance(value, dict) else value
    return content if isinstance(content, bytes) and content else None


def _page_cache(root: Path) -> Path:
    parent = root.parent
    if os.access(parent, os.W_OK):
        return parent / ".pages"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tte" / "pages"


def _write(file: Path, content: bytes) -> None:
    """Write a file whole or not at all; others may write the same one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".page")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
