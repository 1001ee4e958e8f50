"""tte as a model of mteb, the embedding benchmark.

    >>> import mteb
    >>> from tte.integrations.mteb import TteEncoder
    >>> model = TteEncoder("my-embedder", reasoner="my-reasoner")                      # doctest: +SKIP
    >>> mteb.mock_run(model).all_passed          # every kind of task on made-up data  # doctest: +SKIP
    True
    >>> tasks = mteb.get_tasks(tasks=["VidoreArxivQARetrieval"])                       # doctest: +SKIP
    >>> mteb.evaluate(model, tasks, encode_kwargs={"batch_size": 64})                  # doctest: +SKIP
    >>> mteb.evaluate(model.with_think(False), tasks)        # beside it in the cache  # doctest: +SKIP

mteb's scores are not MMEB's: other tasks, metrics, candidates and frames. For MMEB-V2 use `python -m tte.mmeb`.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

import tte
from tte import _options, _text
from tte._items import Item, looking_at
from tte._options import PathLike, is_absent
from tte.integrations import missing_extra
from tte.integrations._media import MAX_DECODER_FRAMES, VideoWalk, column_names, from_decoder, is_decoder
from tte.integrations._pair import Pair, Think

try:
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.modality_collators import frame_indices
    from mteb.models.model_meta import ModelMeta, ScoringFunction
    from mteb.types import PromptType
except ImportError as _error:
    raise missing_extra(__name__, "mteb", _error) from _error

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata

MODALITIES = ("text", "image", "video")


class TteEncoder(AbsEncoder):
    """An embedder, perhaps with a reasoner, as `mteb.evaluate` and `mteb.mock_run` take it.

    Queries and everything without a side are embedded on the query side, documents on the target side. A query's text
    is what mteb makes of it (with the query's own instruction behind), a document's is title and body. The task's
    instruction goes where the recipe says: for queries and for tasks without sides it is `prompts`, else the task's
    own prompt, else mteb's for its kind; documents get one only from `prompts` or a task that has one for documents.

    Args:
        embedder: an Embedder, or the path or hub id of one; None (with no reasoner): the bundled nano pair.
        revision: name of the state of the weights in mteb's cache; default: fingerprint of weights, dtype and recipe.
        reasoner: a Reasoner, or the path or hub id of one; None: nothing is reasoned about.
        think: True, False, "queries" or "recipe"; default: as the recipe says where there is a reasoner.
        prompts: instructions by the task's name, its type ("Retrieval") or the side ("query", "document"); the first
            that is there is taken, and "" is none. An instruction of a name or type holds for queries.
        task_prompts: whether mteb's own prompts are used where `prompts` has none; False: the recipe's.
        family: task family of the recipe's presets for every task, or families by the task's name or type.
        fps: frames per second read from a video, and
        num_frames: frames read from a video, evenly spread, by mteb's own rule; only one of the two. The recipe's own
            sampling, if it has one, then applies to these. Default: every frame, up to `max_frames`.
        max_frames: most frames read from a video.
        device: "auto", "cpu", "cuda", "cuda:1".
        dtype: "auto" (the checkpoint's own), "float32", "bfloat16", "float16".
        truncate_dim: keep the first dimensions, before normalising.
        name: "organization/model" in mteb's tables; default: made from the embedder's path or id.
        meta: further fields of `mteb.ModelMeta`, such as ``{"license": "apache-2.0", "languages": ["eng-Latn"]}``.
        decoding: `max_new_tokens`, `temperature` and so on, as in :func:`tte.think_then_embed`.

    `think`, the reasoner, decoding, frames and families are in `experiment_kwargs`, by which mteb keeps results apart.

    Raises:
        InputError: the settings do not go together; from `encode`: an item cannot be used, by its row.
        ModelError: a checkpoint does not fit.

    """

    mteb_model_meta: ModelMeta

    def __init__(  # noqa: PLR0913
        self,
        embedder: tte.Embedder | PathLike | None = None,
        revision: str | None = None,
        *,
        reasoner: tte.Reasoner | PathLike | None = None,
        think: Think | None = None,
        prompts: Mapping[str, str] | None = None,
        task_prompts: bool = True,
        family: str | Mapping[str, str] | None = None,
        fps: float | None = None,
        num_frames: int | None = None,
        max_frames: int = MAX_DECODER_FRAMES,
        device: str | None = None,
        dtype: str = "auto",
        truncate_dim: int | None = None,
        name: str | None = None,
        meta: Mapping[str, Any] | None = None,
        **decoding: Any,
    ) -> None:
        if fps is not None and num_frames is not None:
            raise tte.InputError("fps and num_frames exclude each other: give one of them.")
        self.prompts_dict = _texts({} if prompts is None else prompts, "prompts")
        self._task_prompts = _options.flag(task_prompts, "task_prompts")
        self._family = _texts(family, "family") if isinstance(family, Mapping) else _options.text(family, "family")
        self._fps = _options.optional(_options.positive, fps, "fps")
        self._num_frames = _options.optional(_options.whole, num_frames, "num_frames", 1, _options.INT32)
        self._max_frames = _options.whole(max_frames, "max_frames", 1, _options.INT32)
        self._revision = _options.text(revision, "revision")
        if meta is not None and not isinstance(meta, Mapping):
            raise _options.refuse("meta", meta, "a dict with fields of mteb.ModelMeta, or None")
        self._meta = {} if meta is None else dict(meta)
        given = _options.text(name, "name")
        self.pair = Pair(
            embedder, reasoner, think=think, device="auto" if device is None else device, dtype=dtype,
            truncate_dim=truncate_dim, decoding=decoding,
        )  # fmt: skip
        self._name = given or _name(embedder, self.pair.embedder)
        self.mteb_model_meta = self._make_meta()

    def with_think(self, think: Think) -> TteEncoder:
        """Make the same encoder with another `think`; the models are shared, and mteb keeps the results apart."""
        other = copy.copy(self)
        other.pair = self.pair.with_think(think)
        other.mteb_model_meta = other._make_meta()
        return other

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> NDArray[np.float32]:
        """Embed the rows of a DataLoader of mteb: float32 [N, dim] in their order.

        Raises:
            InputError: a row cannot be used, or `precision` is not float32.

        """
        from tqdm.auto import tqdm

        if kwargs.get("precision") not in (None, "float32"):
            raise tte.InputError(
                f"precision is {_text.shown(kwargs['precision'])}: tte gives float32; wrap the model in mteb's "
                "CompressionWrapper."
            )
        if any(column in getattr(inputs.dataset, "features", ()) for column in MODALITIES[1:]):
            inputs.collate_fn = self._collate
        instruction = self.instruction(task_metadata, prompt_type)
        family = self._family
        if isinstance(family, Mapping):
            family = family.get(task_metadata.name) or family.get(task_metadata.type)
        rows: list[NDArray[np.float32]] = []
        count = 0
        for batch in tqdm(inputs, desc="tte", disable=not kwargs.get("show_progress_bar", True)):
            items = batch_items(batch, count, self._max_frames)
            vectors = self.pair.run(
                items,
                side="target" if prompt_type == PromptType.document else "query",
                instruction=instruction,
                family=family,
            )
            rows.append(vectors.embeddings)
            count += len(items)
        return np.concatenate(rows) if rows else np.zeros((0, self.pair.dim), np.float32)

    def instruction(self, task_metadata: TaskMetadata, prompt_type: PromptType | None) -> str | None:
        """Return the instruction of a task and side, or None where the recipe's own holds."""
        side = None if prompt_type is None else str(prompt_type.value)
        queries = prompt_type != PromptType.document
        keys = [f"{task_metadata.name}-{side}", f"{task_metadata.type}-{side}"] if side else []
        keys += [str(task_metadata.name), str(task_metadata.type)] if queries else []
        for key in [*keys, *([side] if side else [])]:
            if key in self.prompts_dict:
                return self.prompts_dict[key]
        if not self._task_prompts:
            return None
        prompt = task_metadata.prompt
        if isinstance(prompt, Mapping):
            return prompt.get(side or "query") or None
        return (self.get_instruction(task_metadata, prompt_type) or None) if queries else None

    def _collate(self, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
        """Keep every column as a list, and read the frames of videos while their decoders are at hand."""
        for row in rows:
            if is_decoder(row.get("video")):
                choose = self._choose_frames(row["video"])
                row["video"] = from_decoder(row["video"], "a video", choose, max_frames=self._max_frames)
        return {key: [row[key] for row in rows] for key in rows[0]}

    def _choose_frames(self, decoder: Any) -> Callable[[int], list[int]] | None:
        """What picks the frames to read of a video with so many; None: all of them, up to `max_frames`."""
        wanted = self._num_frames
        if wanted is None and self._fps is not None:
            seconds = decoder.metadata.end_stream_seconds
            if seconds is None:
                raise tte.InputError("a video does not say how long it is: use num_frames instead of fps.")
            wanted = max(1, int(seconds * self._fps))
        if wanted is None:
            return None
        most = min(wanted, self._max_frames)
        # num_frames repeats the frames of shorter clips, fps does not: mteb's rule.
        return lambda total: list(frame_indices(total, most if self._fps is None else min(most, total)))

    def _make_meta(self) -> ModelMeta:
        settings = self.pair.settings()
        experiment: dict[str, Any] = {"think": settings["think"], **settings["decoding"]}
        chosen = {
            "reasoner": _digest(settings["reasoner"]) if settings["reasoner"] else None,
            "family": self._family,
            "fps": self._fps,
            "num_frames": self._num_frames,
            "max_frames": None if self._max_frames == MAX_DECODER_FRAMES else self._max_frames,
            "task_prompts": None if self._task_prompts else False,
            "prompts": _digest(self.prompts_dict) if self.prompts_dict else None,
            "truncate_dim": settings["truncate_dim"],
        }
        experiment |= {key: value for key, value in chosen.items() if value is not None}
        return ModelMeta.create_empty().model_copy(
            update={
                "loader": TteEncoder,
                "name": self._name,
                "revision": self._revision or _digest(settings["embedder"]),
                "embed_dim": self.pair.dim,
                "framework": ["PyTorch", "safetensors"],
                "similarity_fn_name": ScoringFunction.COSINE,
                "use_instructions": True,
                "modalities": list(MODALITIES),
                "experiment_kwargs": experiment,
                **self._meta,
            }
        )


def batch_items(batch: Mapping[str, Any], first_row: int = 0, max_frames: int = MAX_DECODER_FRAMES) -> list[Item]:
    """Turn a batch of mteb, a dict of lists, into items for tte: media first, then the text.

    Images are turned upright by their EXIF tag; palettes, grey and transparency are tte's business.
    """
    if not isinstance(batch, Mapping):
        raise _options.refuse("a batch", batch, "a dict of columns")
    columns = {key: batch[key] for key in MODALITIES if key in batch}
    if not columns:
        raise tte.InputError(
            f"a batch has the columns {column_names(batch)}, of which tte reads none: {', '.join(MODALITIES)}; "
            "rename those that it should read."
        )
    for key, column in columns.items():
        if not isinstance(column, (Sequence, np.ndarray)) or isinstance(column, (str, bytes)):
            raise _options.refuse(f"a batch's column {key!r}", column, "a list of cells")
    counts = {key: len(column) for key, column in columns.items()}
    if len(set(counts.values())) > 1:
        raise tte.InputError(f"a batch's columns have unequal numbers of cells ({counts}): give one for each row.")
    items: list[Item] = []
    for row, cells in enumerate(zip(*columns.values(), strict=True), start=first_row):
        with looking_at(f"row {row}"):
            item = _item(dict(zip(columns, cells, strict=True)))
        items.append(VideoWalk(f"row {row}", max_frames=max_frames).read(item))
    return items


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    item: dict[str, Any] = {}
    if not is_absent(image := row.get("image")):
        item["image"] = [_upright(i) for i in image] if isinstance(image, (list, tuple)) else _upright(image)
    if not is_absent(row.get("video")):
        item["video"] = row["video"]
    if not is_absent(row.get("text")) and (row["text"] or not item):
        item["text"] = row["text"]
    return item


def _upright(image: Any) -> Any:
    return ImageOps.exif_transpose(image) if isinstance(image, Image.Image) else image


def _texts(given: object, name: str) -> dict[str, str]:
    """Check texts by the name of a task, its type or its side."""
    if not isinstance(given, Mapping):
        raise _options.refuse(name, given, "a dict of texts by the name of a task, its type or its side")
    return {_options.string(key, name): _options.string(value, name) for key, value in given.items()}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _name(given: tte.Embedder | PathLike | None, embedder: tte.Embedder) -> str:
    if isinstance(given, str) and given.count("/") == 1 and not given.startswith((".", "~")):
        return given.partition("@")[0]
    return f"tte/{embedder.model.path.name if given is not None else 'nano'}"
