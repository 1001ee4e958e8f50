"""The folder of one data set's results: what it is of, blocks as they come in, whole files at the end.

    DIR/<modality>/<data set>/
      manifest.json        what was run on what; another model, recipe, setting or data revision is refused
      parts/               finished blocks while the run goes on, each with a checksum
      queries.npy          float32 [N, D]; the row of a query that failed is NaN
      queries.parquet      id, candidates, labels, relevance, trace, tokens, seconds, error, ...
      candidates.npy       float32 [M, D]
      candidates.parquet   name, trace, tokens, seconds, error, ...
      *.tokens.npy         with --score maxsim, mean_maxsim or hybrid: float16 [rows, D], a vector of each token
      *.offsets.npy        int64 [N + 1] or [M + 1]: whose rows are whose
      predictions.jsonl    rankings
      score.json           the benchmark's metrics

Every file appears whole or not at all: it is written under another name, brought to disk and renamed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tte import _extras, _files, _text
from tte._tokens import TokenEmbeddings
from tte._tte import InputError

FORMAT = 2
Side = Literal["candidates", "queries"]
SIDES: tuple[Side, ...] = ("candidates", "queries")
"""The two sides, in the order in which they are run."""

_PART = re.compile(r"(candidates|queries)-(\d{7})\.part")
_MAGIC = b"TTEPART2"
_HEADER = 48
"""Bytes before the rows of a block: magic, checksum of all that follows, rows, dimension, bytes of the rows."""
_PART_BYTES = 1 << 40
SCORED = ("predictions.jsonl", "score.json")
"""Those that scoring adds and that have checksums."""


def again(file: Path) -> str:
    """What helps where a file of a result folder is damaged, and loses no more than that."""
    out = _text.shown_path(file.parent.parent.parent)
    if file.name in SCORED:
        return f"`python -m tte.mmeb score {out}` makes it again from the vectors"
    if file.name != "manifest.json" and any(file.parent.glob("parts/*.part")):
        return f"`python -m tte.mmeb merge {out}` makes it again from its blocks"
    return "put a copy of it back, or move its folder away and run again"


def _create(path: Path, data: bytes) -> None:
    """Write a file unless there is one: of two processes that start together one makes it, the other finds it."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with _files.writing(path), temporary.open("wb") as file:
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
    _files.sync_folder(path.parent)


def write_json(path: Path, value: Any, *, ascii_only: bool = False) -> None:
    """Write a JSON file, whole or not at all."""
    with _files.replacing(path) as file:
        file.write((json.dumps(value, ensure_ascii=ascii_only, indent=4) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises `InputError` naming the file.
    """
    found = _files.read_json(path, again(path))
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a JSON object: {again(path)}.")
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
    tokens: TokenEmbeddings | None = None
    """Vectors of the tokens of each item, float16; none of those that failed."""


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
                f"{self.manifest_path} has format {_text.shown(found.get('format'))}, this version reads {FORMAT}: "
                "give another folder."
            )
        if found != sealed(found):
            remedy = again(self.manifest_path)
            raise InputError(f"{self.manifest_path} is damaged, it does not fit its checksum: {remedy}.")
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
        self.path.mkdir(parents=True, exist_ok=True)
        text = json.dumps(sealed(manifest), ensure_ascii=False, indent=4) + "\n"
        _create(self.manifest_path, text.encode())
        found = self.manifest()
        check_identity(found.get("identity", {}), manifest["identity"], self.path)
        self.parts.mkdir(exist_ok=True)
        return found

    def update(self, **values: Any) -> dict[str, Any]:
        """Change keys of the manifest."""
        manifest = sealed({**self.manifest(), **values})
        write_json(self.manifest_path, manifest)
        return manifest

    @contextmanager
    def locked(self, *, shared: bool) -> Iterator[None]:
        """Hold the folder: alone, or (shards) together with others that share it. The lock goes with the process."""
        refused = f"{self.path} is in use by another run: wait for it, or divide the work with --shard i/n."
        with _files.hold(self.path, refused, shared=shared):
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
        record: dict[str, Any] = {"names": part.names, "rows": part.rows}
        if part.tokens is not None:
            record["token_counts"] = np.diff(part.tokens.offsets).tolist()
        rows = zlib.compress(json.dumps(record, ensure_ascii=False).encode(), 1)
        sizes, body = np.array([*vectors.shape, len(rows)], "<i8").tobytes(), vectors.tobytes()
        tokens = b"" if part.tokens is None else np.ascontiguousarray(part.tokens.vectors, "<f2").tobytes()
        with _files.replacing(self.part_path(side, block)) as file:
            for piece in (_MAGIC, _checksum(sizes, rows, body, tokens), sizes, rows, body, tokens):
                file.write(piece)

    def read_part(self, side: Side, block: int) -> Part:
        """Read one block.

        Raises `InputError` naming the file if it is damaged.
        """
        path = self.part_path(side, block)
        remedy = "remove it and run again, which does this block anew"
        with _files.reading(path, remedy):
            with _files.open_regular(path, _PART_BYTES) as file:
                data = _files.read_bounded(file, _PART_BYTES)
            if data[:8] != _MAGIC:
                raise ValueError("it does not begin as a block does")
            if data[8:24] != _checksum(data[24:]):
                raise InputError(f"{path} is damaged, block {block} of {side} does not fit its checksum: {remedy}.")
            count, dim, size = (int(value) for value in np.frombuffer(data, "<i8", 3, offset=24))
            record = json.loads(zlib.decompress(data[_HEADER : _HEADER + size]))
            vectors = np.frombuffer(data, "<f4", count * dim, offset=_HEADER + size).reshape(count, dim)
            tokens = None
            if (counts := record.get("token_counts")) is not None:
                values = np.frombuffer(data, "<f2", offset=_HEADER + size + 4 * count * dim).reshape(-1, dim)
                tokens = TokenEmbeddings(values, np.cumsum([0, *counts], dtype=np.int64))
        return Part(vectors, record["rows"], record["names"], tokens)

    def remove_parts(self) -> None:
        """Remove the blocks, once the whole files are there."""
        if self.parts.is_dir():
            for entry in os.scandir(self.parts):
                if _PART.fullmatch(entry.name) or entry.name.endswith(".tmp"):
                    os.unlink(entry.path)
            if not any(os.scandir(self.parts)):
                self.parts.rmdir()


def _checksum(*pieces: bytes) -> bytes:
    hasher = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        hasher.update(piece)
    return hasher.digest()


def file_checksums(path: Path, offset: int = 0, size: int = 0) -> list[str]:
    """Digests of the pieces of a file, `size` bytes each (0: all in one), from `offset` on."""
    found = []
    with _files.open_regular(path, _PART_BYTES) as file:
        file.seek(offset)
        if not size:
            return [hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()]
        while piece := file.read(size):
            found.append(_checksum(piece).hex())
    return found


def check_files(path: Path, manifest: Mapping[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Open the vectors of queries and candidates of a complete result folder: memory maps.

    Raises:
        InputError: names the file that is missing, cut off, or not of this folder.

    """
    _, parquet = _extras.pyarrow()
    vectors: dict[str, NDArray[np.float32]] = {}
    for side in SIDES:
        wanted = (int(manifest["counts"][side]), int(manifest["dim"]))
        for kind in ("npy", "parquet"):
            file = path / f"{side}.{kind}"
            with _files.reading(file, again(file)):
                if kind == "npy":
                    vectors[side] = _files.read_npy(file, mapped=True)
                    shape = vectors[side].shape
                    if vectors[side].dtype != np.float32:
                        raise ValueError(f"it holds {vectors[side].dtype}, not float32")
                else:
                    with _files.for_arrow(file) as raw:
                        shape = (parquet.read_metadata(raw).num_rows, wanted[1])
            if shape != wanted:
                raise InputError(f"{file} has the shape {shape} instead of {wanted}: {again(file)}.")
    return vectors["queries"], vectors["candidates"]


def embedded(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the files of a folder that is embedded."""
    kinds = ("npy", "parquet", *(("tokens.npy", "offsets.npy") if has_tokens(manifest) else ()))
    return tuple(f"{side}.{kind}" for side in SIDES for kind in kinds)


def has_tokens(manifest: Mapping[str, Any]) -> bool:
    """Whether a folder's run makes a vector of each token."""
    return "tokens" in manifest.get("identity", {})


def open_tokens(path: Path, manifest: Mapping[str, Any], side: Side) -> TokenEmbeddings:
    """The token vectors of one side of a complete result folder: a memory map.

    Raises:
        InputError: names the file that is missing, cut off, or not of this folder.

    """
    file, count = path / f"{side}.tokens.npy", int(manifest["counts"][side])
    found: list[NDArray[Any]] = []
    for each in (file, path / f"{side}.offsets.npy"):
        with _files.reading(each, again(each)):
            found.append(_files.read_npy(each, mapped=True))
    with _files.reading(file, again(file)):
        tokens = TokenEmbeddings(*found)
        if (len(tokens), tokens.dim) != (count, int(manifest["dim"])):
            raise ValueError(f"it has {len(tokens)} sets of {tokens.dim} dimensions, the folder {count}")
    return tokens


def check_bytes(path: Path, manifest: Mapping[str, Any], names: Iterable[str]) -> None:
    """Check files of a complete result folder against the checksums that its manifest has of them.

    Raises:
        InputError: names the file that is damaged and, where it holds vectors, the block.

    """
    for name in names:
        file = path / name
        known = manifest.get("checksums", {}).get(name)
        with _files.reading(file, again(file)):
            found = checksums_of(file, manifest)
        if known != found:
            pairs = itertools.zip_longest(known if isinstance(known, list) else [], found)
            block = next(i for i, (one, other) in enumerate(pairs) if one != other)
            where = f", block {block}," if len(found) > 1 else ""
            raise InputError(f"{file}{where} is damaged, it does not fit its checksum: {again(file)}.")


def checksums_of(file: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Digests of a file of a result folder: of each block of vectors, or of the whole of another file."""
    side = file.name.removesuffix(".npy")
    if side not in SIDES:
        return file_checksums(file)
    row = 4 * int(manifest["dim"])
    header = file.stat().st_size - row * int(manifest["counts"][side])
    return file_checksums(file, header, row * int(manifest["block"]))


TASK_KEYS = ("name", "category", "modality", "metric", "scored", "family", "parser", "local")
"""What a manifest keeps of its task."""


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with the format and a checksum of all that is in it."""
    values = {**manifest, "format": FORMAT}
    values.pop("checksum", None)
    text = json.dumps(values, ensure_ascii=False, sort_keys=True)
    return {**values, "checksum": _checksum(text.encode()).hex()}


_REMEDY = "give another --out folder, or remove this one"


def check_identity(found: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Raise `InputError` naming what differs between the run of a folder and the run that is wanted."""
    theirs, ours = _flat(found), _flat(wanted)
    differing = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    differing.sort(key=lambda key: key.endswith("fingerprint"))  # What people can read comes first.
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
