"""Bulk embedding: a callable for batches, and a job on Ray Data that can be stopped and resumed.

The callable needs no Ray and fits every engine that hands a class batches of columns, as a dict or a table:

    >>> from tte.integrations.ray import BatchEmbedder
    >>> embed = BatchEmbedder("my-embedder", reasoner="my-reasoner", max_new_tokens=256)     # doctest: +SKIP
    >>> embed({"id": np.array([1, 2]), "text": np.array(["a cat", "a dog"])})["embedding"]   # doctest: +SKIP
    >>> ds.map_batches(BatchEmbedder, fn_constructor_kwargs={"embedder": "my-embedder"},     # doctest: +SKIP
    ...                batch_size=256, num_gpus=1, concurrency=8)

The job adds what a night's work needs: a folder that belongs to one model, recipe, prompt and decoding; an error in
its row instead of a dead job; shards that are whole or absent; and a second run that only does what is missing:

    >>> from tte.integrations.ray import read_results, run_job
    >>> run_job("pages/*.parquet", "vectors", id_column="page", embedder="my-embedder",      # doctest: +SKIP
    ...         num_gpus=1, concurrency=8)
    JobSummary(rows=100000, skipped=0, embedded=99998, errors=2)
    >>> read_results("vectors")["embedding"]                                                 # doctest: +SKIP
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tte
from tte import _files, _options, _text, _tte
from tte._inputs import to_native
from tte._items import looking_at
from tte._options import PathLike, is_absent
from tte._sources import is_tensor
from tte.integrations import missing_extra
from tte.integrations._media import VideoWalk, column_names
from tte.integrations._pair import Pair, Side, Think

ITEM_COLUMNS = ("text", "image", "images", "video", "videos", "instruction", "messages")
"""What a row may have, under the keys of tte's items."""
MEDIA_COLUMNS = ("image", "images", "video", "videos", "messages")
RESULT_COLUMNS = ("embedding", "trace", "trace_tokens", "error")


class BatchEmbedder:
    """Thinks about and embeds the rows of a batch; made once per worker, called with every batch.

    A row's item is made of its cells in the columns text, image, images, video, videos, instruction or messages, media
    first. An image is a path, the bytes of a file, a uint8 array, or the struct of `datasets`; a video is a path,
    bytes, or frames; messages are a list of turns or its JSON. Cells that are None do not count.

    Args:
        embedder: an Embedder, or the path or hub id of one; None (with no reasoner): the bundled nano pair.
        reasoner: a Reasoner, or the path or hub id of one; None: nothing is reasoned about.
        think: True, False, "queries" or "recipe"; default: as the recipe says where there is a reasoner.
        side: "query" or "target", for all rows.
        family: task family of the recipe's presets ("image_ret", ...), for all rows.
        instruction: for rows that have none of their own.
        columns: names of the batch's columns for those above, such as ``{"image": "jpeg", "text": "caption"}``;
            only these are then read. Default: the columns of these names.
        keep: columns of the batch that are handed on; default: all but media.
        id_column: names rows in error messages; default: their place in the batch.
        device: "auto" (the GPU that the engine assigned, if there is one), "cpu", "cuda", "cuda:1".
        dtype: "auto" (the checkpoint's own), "float32", "bfloat16", "float16".
        vector_dtype: "float32", or "float16" for half the disk.
        normalize: divide by the L2 norm; default: as the recipe says.
        truncate_dim: keep the first dimensions, before normalising.
        exit_on_device_error: end the process when the device is lost, so that the engine starts a new one; otherwise
            every retry goes to the same broken worker.
        decoding: `max_new_tokens`, `temperature` and so on, as in :func:`tte.think_then_embed`.

    Raises:
        InputError: the settings do not go together, or a batch has not the columns.
        ModelError: a checkpoint does not fit.
        DeviceError: the device is not available, or was lost.

    """

    def __init__(  # noqa: PLR0913
        self,
        embedder: tte.Embedder | PathLike | None = None,
        reasoner: tte.Reasoner | PathLike | None = None,
        *,
        think: Think | None = None,
        side: Side = "query",
        family: str | None = None,
        instruction: str | None = None,
        columns: Mapping[str, str] | None = None,
        keep: Sequence[str] | None = None,
        id_column: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        vector_dtype: str = "float32",
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        exit_on_device_error: bool = False,
        **decoding: Any,
    ) -> None:
        self._columns = _options.optional(_column_names, columns, "columns")
        self._keep = _options.optional(_kept_names, keep, "keep")
        self._id_column = _options.text(id_column, "id_column")
        self._vector_dtype = _options.choice(vector_dtype, "vector_dtype", {t: t for t in ("float32", "float16")})
        self._side: Side = _options.choice(side, "side", {"query": "query", "target": "target"})
        self._instruction = _options.text(instruction, "instruction")
        self._exit_on_device_error = _options.flag(exit_on_device_error, "exit_on_device_error")
        self.pair = Pair(
            embedder, reasoner, think=think, family=family, device=device, dtype=dtype, normalize=normalize,
            truncate_dim=truncate_dim, decoding=decoding,
        )  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """Everything that the vectors depend on: models, recipes, prompts, decoding, which columns are read."""
        return {
            **self.pair.settings(),
            "side": self._side,
            "instruction": self._instruction,
            "columns": self._columns,
            "vector_dtype": self._vector_dtype,
        }

    def __call__(self, batch: Any) -> dict[str, Any]:
        """Add the results to the columns that are kept.

        The batch is a dict of columns, or a table of pandas, polars or pyarrow.

        Returns a dict with `embedding`, float32 or float16 [N, dim], NaN in rows with an error; `trace`, the text of
        each trace, None without one; `trace_tokens`, int32, 0 without one; `error`, None where all went well.
        """
        with looking_at("the batch"):
            batch = _columns_of(batch)
        kept = self._kept(batch)
        count = len(next(iter(batch.values()))) if batch else 0
        vectors = np.full((count, self.pair.dim), np.nan, np.float32)
        traces: list[str | None] = [None] * count
        tokens = np.zeros(count, np.int32)
        errors: list[str | None] = [None] * count
        with ExitStack() as files:
            rows, items = self._items(batch, count, errors, files)
            if items:
                result = self._run(items)
                for position, row in enumerate(rows):
                    vectors[row] = result.embeddings[position]
                    errors[row] = result.errors.get(position)
                    trace = result.traces[position]
                    if trace is not None and errors[row] is None:
                        traces[row], tokens[row] = trace.text, trace.generated_tokens
        return {
            **{name: batch[name] for name in kept},
            "embedding": vectors.astype(self._vector_dtype, copy=False),
            "trace": _objects(traces),
            "trace_tokens": tokens,
            "error": _objects(errors),
        }

    def _run(self, items: list[_tte.Input]) -> Any:
        try:
            return self.pair.run(items, side=self._side, instruction=self._instruction, on_error="skip")
        except tte.DeviceError as error:
            if self._exit_on_device_error:
                print(f"tte: the device is lost, this worker ends: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            raise

    def _kept(self, batch: Mapping[str, Any]) -> list[str]:
        if self._keep is not None:
            for name in self._keep:
                _require(name, batch, "keep")
            return self._keep
        sources = self._columns or {}
        media = {sources.get(key, key) for key in MEDIA_COLUMNS}
        return [name for name in batch if name not in media and name not in RESULT_COLUMNS]

    def _items(
        self, batch: Mapping[str, Any], count: int, errors: list[str | None], files: ExitStack
    ) -> tuple[list[int], list[_tte.Input]]:
        """Rows that can be used, and their inputs; the errors of the others are written to `errors`."""
        sources = _sources(self._columns, batch) if count else {}
        if self._id_column is not None and count:
            _require(self._id_column, batch, "id_column")
        rows, items = [], []
        for row in range(count):
            name = f"row {row if self._id_column is None else _row_name(batch[self._id_column][row])}"
            try:
                with looking_at(name):
                    cells = {key: batch[column][row] for key, column in sources.items()}
                    read = VideoWalk(name, files).read(_item(cells, name))
                    items.append(to_native(read, name))
                rows.append(row)
            except tte.InputError as error:
                errors[row] = str(error)
        return rows, items


def _sources(columns: Mapping[str, str] | None, names: Collection[str]) -> dict[str, str]:
    """Column of each of an item's keys, media first; `names` are those that there are."""
    order = sorted(ITEM_COLUMNS, key=lambda key: key == "text")
    if columns is not None:
        for key in columns:
            _require(columns[key], names, f"columns[{key!r}]")
        return {key: columns[key] for key in order if key in columns}
    found = {key: key for key in order if key in names}
    if not found.keys() - {"instruction"}:
        raise tte.InputError(
            f"none of the columns {column_names(names)} is one of {', '.join(ITEM_COLUMNS)}: "
            'say which are which with columns={"text": ..., "image": ...}.'
        )
    return found


def _require(name: str, names: Collection[str], argument: str) -> None:
    """Refuse an argument that names a column that there is not."""
    if name not in names:
        raise tte.InputError(
            f"{argument} names {_text.shown(name)}, which is no column: name one of {column_names(names)}."
        )


def _kept_names(given: object, name: str) -> list[str]:
    """Check the names of columns that are handed on."""
    names = _options.strings(given, name)
    for own in RESULT_COLUMNS:
        if own in names:
            raise tte.InputError(f"{name} names {own!r}, which the results have themselves: rename that column first.")
    return names


def _row_name(given: Any) -> str:
    """What is in an id column, as errors name the row."""
    try:
        return (_files.shown(given) if isinstance(given, (str, np.generic)) else "") or _text.shown(given)
    except Exception:  # A text of a kind of its own may do anything.
        return f"of a {type(given).__name__}"


def _columns_of(batch: Any) -> dict[str, Any]:
    """The columns of a batch, all of one length, whose cells are found by their place."""
    what = "a dict of columns, such as {'text': [...], 'image': [...]}, or a table of pandas, polars or pyarrow"
    if not isinstance(batch, Mapping):
        names = getattr(batch, "column_names", None) or getattr(batch, "columns", None)
        if isinstance(batch, type) or not hasattr(batch, "shape") or not isinstance(names, Iterable):
            raise _options.refuse("the batch", batch, what)
        names = list(names)
        twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
        if twice is not None:
            raise tte.InputError(f"the batch has two columns {_text.shown(twice)}: give each a name of its own.")
        batch = {name: batch[name] for name in names}
    columns = {name: _cells(column) for name, column in batch.items()}
    for name, column in columns.items():
        listed = isinstance(column, Sequence) and not isinstance(column, (str, bytes))
        if not listed and (not (isinstance(column, np.ndarray) or is_tensor(column)) or column.ndim == 0):
            raise _options.refuse(f"the batch's column {_text.shown(name)}", column, "a list or an array of cells")
    lengths = [f"{_text.shown(name)} {len(column)}" for name, column in columns.items()]
    if len({len(column) for column in columns.values()}) > 1:
        raise tte.InputError(
            f"the batch's columns have unequal numbers of cells ({_text.shortened(', '.join(lengths), 200)}): give one "
            "for each row."
        )
    return columns


def _cells(column: Any) -> Any:
    """A column, as a list where it is one of pyarrow, pandas or polars, which have rows of other kinds or names."""
    for way in ("to_pylist", "to_list"):
        if hasattr(column, way) and not isinstance(column, type):
            return getattr(column, way)()
    return column


def _column_names(given: object, name: str) -> dict[str, str]:
    """Check which column each of an item's keys is in."""
    if not isinstance(given, Mapping):
        raise _options.refuse(name, given, 'a dict such as {"image": "jpeg", "text": "caption"}, or None')
    unknown = [key for key in given if not isinstance(key, str) or key not in ITEM_COLUMNS]
    if unknown:
        raise tte.InputError(
            f"{name} has {_text.shown(unknown[0])}; it names the columns of {', '.join(ITEM_COLUMNS)}."
        )
    return {key: _options.string(column, f"{name}[{key!r}]") for key, column in given.items()}


@dataclass(frozen=True)
class JobSummary:
    """What :func:`run_job` did."""

    rows: int
    """Rows of the data."""
    skipped: int
    """Rows that an earlier run had finished."""
    embedded: int
    """Rows that this run embedded."""
    errors: int
    """Rows of this run with an error; the next run tries them again."""


def run_job(  # noqa: PLR0913
    data: Any,
    output: PathLike,
    *,
    id_column: str,
    embedder: PathLike | None = None,
    reasoner: PathLike | None = None,
    keep: Sequence[str] = (),
    rows_per_shard: int = 1024,
    concurrency: int | tuple[int, int] = 1,
    num_cpus: float = 1,
    num_gpus: float = 0,
    ray_remote_args: Mapping[str, Any] | None = None,
    **settings: Any,
) -> JobSummary:
    """Embed a data set on Ray into a folder of parquet shards; run it again to go on.

    The folder belongs to one fingerprint of models, recipes, prompt, decoding and columns: with another one the job is
    refused. Ids that are finished are skipped, errors are tried again, and a success is never undone. The data may
    have grown. A run that is killed loses at most the shards that its workers are at. A worker that dies is started
    again, until the same rows have taken five. Read the folder with :func:`read_results`, or any parquet reader that
    keeps in mind that an id whose first try failed is there twice.

    Args:
        data: a `ray.data.Dataset`, or parquet files: a path, a folder, a pattern, or a list of them.
        output: folder of the results, on a file system that all workers see.
        id_column: column of unique integers or texts. All ids are held by the driver while the job starts.
        embedder: path or hub id of the embedder; None (with no reasoner): the bundled nano pair.
        reasoner: path or hub id of the reasoner.
        keep: further columns to copy into the results.
        rows_per_shard: rows that a worker computes and writes at a time.
        concurrency: workers, or the least and the most of them; each holds its own models.
        num_cpus: CPUs per worker.
        num_gpus: GPUs per worker.
        ray_remote_args: further options of Ray's workers, such as ``{"resources": {...}}``.
        settings: further arguments of :class:`BatchEmbedder`: think, side, family, columns, `max_new_tokens`, ...

    Raises:
        InputError: another job's folder, ids that are missing or not unique, settings that do not go together.
        ModelError: a checkpoint does not fit.
        Error: the same rows have killed five workers.
        ImportError: Ray or pyarrow is not installed.

    """
    try:
        import pyarrow.compute as pc
        import ray
        import ray.data

        from tte.integrations import _jobs
    except ImportError as error:
        raise missing_extra("tte.integrations.ray.run_job", "ray", error) from error
    fewest, most = _workers(concurrency)
    _options.whole(rows_per_shard, "rows_per_shard", 1, _options.INT32)
    id_column = _options.string(id_column, "id_column")
    kept = [name for name in _kept_names(keep, "keep") if name != id_column]
    _kept_names([id_column], "id_column")
    columns = _options.optional(_column_names, settings.get("columns"), "columns")
    arguments = {"embedder": _movable(embedder), "reasoner": _movable(reasoner), "id_column": id_column, **settings}
    arguments |= {"keep": [id_column, *kept], "exit_on_device_error": True}
    dataset = data if isinstance(data, ray.data.Dataset) else ray.data.read_parquet(_paths(data))
    names = dataset.schema().names if dataset.schema() is not None else []
    _require(id_column, names, "id_column")
    for name in kept:
        _require(name, names, "keep")
    _sources(columns, names)
    ids = _ids(dataset, id_column)
    remote = {"num_cpus": num_cpus, "num_gpus": num_gpus, **(ray_remote_args or {})}
    once = {"max_calls": 1} if num_gpus else {}  # A worker that has used a GPU gives it back only by ending.
    job = _job_of(arguments, once | remote)
    folder = _jobs.JobFolder(output, id_column)
    run = folder.open(job)
    finished = folder.finished()
    skipped = int(pc.sum(pc.is_in(ids, value_set=finished)).as_py() or 0)
    if skipped == len(ids):
        return JobSummary(len(ids), skipped, 0, 0)
    if skipped:
        dataset = _without(dataset, id_column, finished)
    written = dataset.map_batches(
        _ShardWriter,
        fn_constructor_kwargs={
            "arguments": arguments, "folder": str(folder.path), "run": run, "expected": _jobs.fingerprint(job),
        },
        batch_size=rows_per_shard,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(min_size=fewest, max_size=most),
        **remote,
    )  # fmt: skip
    rows = errors = 0
    for batch in written.iter_batches(batch_format="numpy"):
        rows += int(batch["rows"].sum())
        errors += int(batch["errors"].sum())
        for kind, why in zip(batch["kind"], batch["why"], strict=True):
            if why:
                raise getattr(tte, kind)(why)
    return JobSummary(len(ids), skipped, rows - errors, errors)


def _workers(concurrency: Any) -> tuple[int, int]:
    """The least and the most workers."""
    both = concurrency if isinstance(concurrency, (tuple, list)) else (concurrency, concurrency)
    fewest, *more = [_options.whole(each, "concurrency", 1, _options.INT32) for each in both] or [0]
    if len(more) != 1 or fewest > more[0]:
        raise _options.refuse("concurrency", concurrency, "a number of workers, or (least, most)")
    return fewest, more[0]


def _ids(dataset: Any, id_column: str) -> Any:
    """All ids of a data set as a pyarrow array of texts. Raises InputError where one is missing or there twice."""
    import pyarrow as pa

    from tte.integrations import _jobs

    tables = dataset.select_columns([id_column]).iter_batches(batch_format="pyarrow", batch_size=1 << 16)
    chunks = [chunk for table in tables for chunk in table[id_column].chunks]
    kinds = sorted({str(chunk.type) for chunk in chunks})
    if len(kinds) > 1:
        raise tte.InputError(
            f"the ids in {_text.shown(id_column)} are of several types ({_files.shown(', '.join(kinds), 200)}): make "
            "all of them integers or text."
        )
    return _jobs.check_ids(pa.chunked_array(chunks) if chunks else pa.chunked_array([], pa.string()), id_column)


def _job_of(arguments: Mapping[str, Any], remote: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker says of its models and settings: the models may only fit where the workers are."""
    import ray

    try:
        job: dict[str, Any] = ray.get(ray.remote(max_retries=0, **remote)(_settings_of).remote(arguments))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, tte.Error):
            raise type(error.cause)(str(error.cause)) from None
        raise
    return job


def _without(dataset: Any, id_column: str, finished: Any) -> Any:
    """The rows whose ids are not among `finished`."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import ray

    finished_ref = ray.put(finished)

    def unfinished(table: Any) -> Any:
        done = pc.is_in(pc.cast(table[id_column], pa.string()), value_set=ray.get(finished_ref))
        return table.filter(pc.invert(done))

    return dataset.map_batches(unfinished, batch_format="pyarrow", batch_size=1 << 12)


def read_results(folder: PathLike) -> Any:
    """Read a job's folder: a `pyarrow.Table` with one row per id, its success if there is one.

    Columns: the id and what was kept; `embedding`, FixedSizeList [dim], null with an error; `trace`; `trace_tokens`;
    `error`.
    """
    try:
        from tte.integrations import _jobs
    except ImportError as error:
        raise missing_extra("tte.integrations.ray.read_results", "ray", error) from error
    manifest = _text.expanded(folder, "folder") / "job.json"
    if not manifest.is_file():
        raise tte.InputError(
            f"{_text.shown_path(folder)} is not the folder of a job (it has no job.json): give run_job's output."
        )
    return _jobs.JobFolder(folder, _jobs.read_manifest(manifest)["id_column"]).read()


class _ShardWriter:
    """A worker of the job: embeds a batch and writes it as one shard."""

    def __init__(self, arguments: Mapping[str, Any], folder: str, run: int, expected: str) -> None:
        from tte.integrations import _jobs

        self._jobs = _jobs
        self._embed = BatchEmbedder(**arguments)
        self._folder = _jobs.JobFolder(folder, arguments["id_column"])
        self._run = run
        if _jobs.fingerprint(self._embed.settings()) != expected:
            raise tte.InputError(
                "this worker's models are not those of the job's first worker: the nodes have different checkpoints "
                "under the same path."
            )

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """How many rows were written and failed; or what ends the job, for Ray would bury it in its own words."""
        kind = why = ""
        rows = errors = 0
        try:
            rows, errors = self._write(batch)
        except tte.Error as error:
            kind, why = type(error).__name__, str(error)
        except OSError as error:
            kind = "InputError"
            why = (
                f"{_text.shown_path(self._folder.path)} cannot be written ({_files.reason(error)}): see to its disk "
                "and run the job again, what was written is kept."
            )
        told = {"rows": rows, "errors": errors, "kind": kind, "why": why}
        return {name: np.array([value]) for name, value in told.items()}

    def _write(self, batch: dict[str, Any]) -> tuple[int, int]:
        import pyarrow as pa

        self._folder.begin(self._run, batch[self._folder.id_column].tolist())
        result = self._embed(batch)
        failed = [error is not None for error in result["error"]]
        columns = {name: _arrow(values, name) for name, values in result.items() if name != "embedding"}
        columns["embedding"] = self._jobs.embedding_array(result["embedding"], failed)
        columns["error"] = pa.array(result["error"], pa.string())
        columns["trace"] = pa.array(result["trace"], pa.string())
        self._folder.write(self._run, pa.table(columns))
        return len(failed), sum(failed)


def _movable(model: PathLike | None) -> str | None:
    """Path or hub id of a model, as every worker can use it."""
    if model is None:
        return None
    if not isinstance(model, (str, os.PathLike)):
        raise tte.InputError(f"a {type(model).__name__} cannot be sent to the workers: give its path or hub id.")
    return str(Path(model).absolute()) if Path(model).is_dir() else os.fspath(model)


def _settings_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return BatchEmbedder(**arguments).settings()


def _arrow(values: Any, name: str) -> Any:
    import pyarrow as pa

    if isinstance(values, np.ndarray) and values.ndim > 1:
        values = list(values.reshape(len(values), -1))
    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError, ValueError) as error:
        why = _files.reason(error)
        raise tte.InputError(
            f"the column {_text.shown(name)} cannot be written ({why}): leave it out of keep."
        ) from None


def _paths(data: Any) -> list[str]:
    if isinstance(data, (list, tuple)):
        return [path for entry in data for path in _paths(entry)]
    if isinstance(data, (str, os.PathLike)):
        text = os.fspath(data)
        if "://" in text:
            return [text]
        path = os.path.abspath(os.path.expanduser(text))
        found = sorted(glob.glob(path)) if "*" in path else [path]
        if not found:
            raise tte.InputError(f"no file matches {_text.shown_path(path)}: check the pattern.")
        return found
    raise tte.InputError(f"data is a {type(data).__name__}: give a ray.data.Dataset, or paths of parquet files.")


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _item(cells: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A row's cells as one of tte's items; whole messages may be text, and then are all of it."""
    given = {key: value for key, value in cells.items() if not is_absent(value)}
    messages = given.get("messages")
    if messages is None:
        one = given.get("videos")
        return given | {"videos": [one]} if isinstance(one, (str, bytes)) else given
    if isinstance(messages, str):
        try:
            messages = _files.parse_json(messages.encode())
        except (ValueError, RecursionError) as error:
            why = _files.reason(error)
            raise tte.InputError(f"{name}: messages is text that is no JSON ({why}): give a list of turns.") from None
    return {"messages": messages}
