"""The folder of one data set's results: what it is of, blocks as they come in, whole files at the end.

    DIR/<modality>/<data set>/
      manifest.json        what was run on what; another model, recipe, setting or data revision is refused
      parts/               finished blocks while the run goes on
      queries.npy          float32 [N, D]; the row of a query that failed is NaN
      queries.parquet      id, candidates, labels, relevance, trace, tokens, seconds, error, ...
      candidates.npy       float32 [M, D]
      candidates.parquet   name, trace, tokens, seconds, error, ...
      predictions.jsonl    rankings
      score.json           the benchmark's metrics

Every file appears whole or not at all: it is written under another name, brought to disk and renamed.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tte._tte import InputError

FORMAT = 1
Side = Literal["candidates", "queries"]
SIDES: tuple[Side, ...] = ("candidates", "queries")
"""The two sides, in the order in which they are run."""

_PART = re.compile(r"(candidates|queries)-(\d{7})\.part")
_MAGIC = b"TTEPART1"


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file so that it appears whole or not at all, even if the machine goes down."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _create(path: Path, data: bytes) -> None:
    """Write a file unless there is one: of two processes that start together one makes it, the other finds it."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # A file system without hard links.
            if not path.exists():
                temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_json(path: Path, value: Any, *, indent: int | None = 4) -> None:
    """Write a JSON file, whole or not at all."""
    with replacing(path) as file:
        file.write((json.dumps(value, ensure_ascii=False, indent=indent) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises `InputError` naming the file.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): remove its folder and run again.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a JSON object: remove its folder and run again.")
    return found


@dataclass(frozen=True, slots=True)
class Part:
    """One finished block."""

    vectors: NDArray[np.float32]
    """[rows, D]; NaN where the row's item failed."""
    rows: list[dict[str, Any]]
    """What was recorded of each item."""
    names: list[str] = field(default_factory=list)
    """Names of candidates that rows refer to by their number, each once: pools repeat them from row to row."""


class ResultFolder:
    """The results of one data set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts = path / "parts"

    @property
    def manifest_path(self) -> Path:
        """File of the manifest."""
        return self.path / "manifest.json"

    def manifest(self) -> dict[str, Any]:
        """Read the manifest.

        Raises `InputError` if there is none, or of another format.
        """
        found = read_json(self.manifest_path)
        if found.get("format") != FORMAT:
            raise InputError(
                f"{self.manifest_path} has format {found.get('format')!r}, this version reads {FORMAT}: give another "
                "folder."
            )
        return found

    def claim(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Make the folder's manifest, or check that the one that is there is of the same run.

        Args:
            manifest: what would be written. Its `identity` must be equal to that of the folder.

        Returns:
            The manifest in force: the folder's own if there is one.

        Raises:
            InputError: the folder's results are of another model, recipe, setting or data revision.

        """
        self.parts.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**manifest, "format": FORMAT}, ensure_ascii=False, indent=4) + "\n"
        _create(self.manifest_path, text.encode())
        found = self.manifest()
        check_identity(found.get("identity", {}), manifest["identity"], self.path)
        return found

    def update(self, **values: Any) -> dict[str, Any]:
        """Change keys of the manifest."""
        manifest = {**self.manifest(), **values}
        write_json(self.manifest_path, manifest)
        return manifest

    @contextmanager
    def locked(self, *, shared: bool) -> Iterator[None]:
        """Hold the folder: alone, or (shards) together with others that share it. The lock goes with the process."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("wb") as file:
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"{self.path} is in use by another run: wait for it, or divide the work with --shard i/n."
                ) from None
            yield

    def clean(self) -> None:
        """Remove what a killed process left half-written; only for who holds the folder alone."""
        for folder in (self.path, self.parts):
            for leftover in folder.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)

    def part_path(self, side: Side, block: int) -> Path:
        """File of one block."""
        return self.parts / f"{side}-{block:07d}.part"

    def part_numbers(self, side: Side) -> set[int]:
        """Blocks that are finished."""
        names = (_PART.fullmatch(entry.name) for entry in os.scandir(self.parts)) if self.parts.is_dir() else ()
        return {int(match[2]) for match in names if match and match[1] == side}

    def write_part(self, side: Side, block: int, part: Part) -> None:
        """Write one block: vectors and rows in one file, so that one never is there without the other."""
        vectors = np.ascontiguousarray(part.vectors, dtype="<f4")
        record = {"names": part.names, "rows": part.rows}
        rows = zlib.compress(json.dumps(record, ensure_ascii=False).encode(), 1)
        with replacing(self.part_path(side, block)) as file:
            file.write(_MAGIC)
            file.write(np.array([*vectors.shape, len(rows)], "<i8").tobytes())
            file.write(rows)
            file.write(vectors.tobytes())

    def read_part(self, side: Side, block: int) -> Part:
        """Read one block.

        Raises `InputError` naming the file if it is damaged.
        """
        path = self.part_path(side, block)
        try:
            data = path.read_bytes()
            if data[:8] != _MAGIC:
                raise ValueError("it does not begin as a block does")
            count, dim, size = (int(value) for value in np.frombuffer(data, "<i8", 3, offset=8))
            record = json.loads(zlib.decompress(data[32 : 32 + size]))
            rows = record["rows"]
            vectors = np.frombuffer(data, "<f4", offset=32 + size).reshape(count, dim)
            if len(rows) != count:
                raise ValueError(f"{len(rows)} rows beside {count} vectors")
        except (OSError, ValueError, zlib.error) as error:
            raise InputError(f"{path} is damaged ({error}): remove it and run again.") from error
        return Part(vectors, rows, record["names"])

    def remove_parts(self) -> None:
        """Remove the blocks, once the whole files are there."""
        if self.parts.is_dir():
            for entry in os.scandir(self.parts):
                if _PART.fullmatch(entry.name) or entry.name.endswith(".tmp"):
                    os.unlink(entry.path)
            if not any(os.scandir(self.parts)):
                self.parts.rmdir()


_REMEDY = "give another --out folder, or remove this one"


def check_identity(found: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Raise `InputError` naming what differs between the run of a folder and the run that is wanted."""
    theirs, ours = _flat(found), _flat(wanted)
    differing = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    if differing:
        listed = "; ".join(f"{key} {_shown(theirs.get(key))}, now {_shown(ours.get(key))}" for key in differing[:4])
        more = f"; and {len(differing) - 4} more" if len(differing) > 4 else ""
        raise InputError(f"{folder} holds results of another run ({listed}{more}): {_REMEDY}.")


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, entry in value.items():
        if isinstance(entry, Mapping):
            out |= _flat(entry, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = entry
    return out


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:20]}..."
