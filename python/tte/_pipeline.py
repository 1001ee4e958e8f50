"""The single call: think_then_embed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from tte import _decoding, _hub, _options, _text, _tte
from tte._inputs import Inputs, Item, prepare
from tte._keywords import named
from tte._media_limits import DEFAULT_LIMITS
from tte._models import Embedder, Reasoner, backend_of, check_roles, folders
from tte._options import PathLike
from tte._processor import Processor
from tte._result import Result, vectors_of
from tte._tokens import TokenChoice, chosen, taken
from tte._traces import TraceLike, to_traces, token_callback

if TYPE_CHECKING:
    from tte.trace_store import Request, TraceStore


@named
@dataclass(eq=False, frozen=True)
class AutoThink:
    """Reason only about items whose plain vector is unsure which target is best; for `think` of `think_then_embed`.

    Every item is embedded without a trace first. Where the cosine of its best target is less than `margin` above that
    of the second best, it is reasoned about and embedded again.
    """

    targets: Result | NDArray[np.float32] = field(repr=False)
    """Vectors of the targets, float32 [M, dim] with M at least 2, made without thinking; or a Result that has them."""
    margin: float = 0.05
    """0 or more; the larger, the more is reasoned about."""

    def __post_init__(self) -> None:
        vectors_of(self.targets, "AutoThink.targets")
        margin = _options.real(self.margin, "AutoThink.margin", 0.0, sys.float_info.max)
        object.__setattr__(self, "margin", margin)  # Python's, whatever number it was.


_Decide = AutoThink | Callable[[int, NDArray[np.float32]], bool]
Think = bool | Literal["queries", "recipe"] | _Decide | Sequence[Any]


@lru_cache(maxsize=1)
def _bundled_pair() -> tuple[Reasoner, Embedder]:
    return Reasoner(_hub.bundled("reasoner")), Embedder(_hub.bundled("embedder"))


def _is_head(embedder: Embedder | PathLike) -> bool:
    return _hub.is_head(embedder.model.path if isinstance(embedder, Embedder) else _hub.resolve(embedder, "embedder"))


def _thinks_itself(embedder: Embedder | PathLike) -> bool:
    """Whether it thinks in latent steps, while it embeds."""
    if isinstance(embedder, Embedder):
        return "latent" in _options.rules(embedder.model.recipe)
    return "latent" in Processor(embedder).recipe


def _pair(reasoner: Reasoner | PathLike | None, embedder: Embedder | PathLike | None) -> tuple[Reasoner, Embedder]:
    check_roles(reasoner, embedder)
    if reasoner is None and embedder is None:
        return _bundled_pair()
    if reasoner is None and embedder is not None and _is_head(embedder):
        embedder = embedder if isinstance(embedder, Embedder) else Embedder(embedder)
        head = embedder.model
        assert head.base is not None
        quantization = None if head.quantization == "none" else head.quantization
        return Reasoner(head.base, dtype=head.dtype, quantization=quantization, backend=embedder.backend), embedder
    if reasoner is None and embedder is not None and _thinks_itself(embedder):
        embedder = embedder if isinstance(embedder, Embedder) else Embedder(embedder)
        loaded = {**embedder._given, **folders(embedder.model), "backend": embedder.backend}
        return Reasoner(**loaded), embedder
    if reasoner is None or embedder is None:
        given, missing = ("embedder", "reasoner") if reasoner is None else ("reasoner", "embedder")
        raise _tte.InputError(
            f"{given} was given without {missing}: give both (they may be the same checkpoint), or neither for the "
            "bundled nano pair; Embedder.embed() embeds without a reasoner, and Reasoner.think() only thinks."
        )
    if not isinstance(reasoner, Reasoner):
        backend = embedder.backend if isinstance(embedder, Embedder) else None
        reasoner = Reasoner(reasoner, backend=backend)
    if not isinstance(embedder, Embedder):
        embedder = Embedder(embedder, backend=backend_of(reasoner))
    return reasoner, embedder


@named
def think_then_embed(  # noqa: PLR0913
    inputs: Item | Iterable[Item],
    *,
    reasoner: Reasoner | PathLike | None = None,
    embedder: Embedder | PathLike | None = None,
    think: Think = True,
    instruction: str | Sequence[str | None] | None = None,
    task: str | Sequence[str | None] | None = None,
    side: Literal["query", "target"] | Sequence[str] = "query",
    normalize: bool | None = None,
    truncate_dim: int | None = None,
    without_trace: bool = False,
    tokens: bool | TokenChoice = False,
    on_token: Callable[[int, str, int], bool | None] | None = None,
    on_trace: Callable[[int, _tte.Trace], None] | None = None,
    on_vector: Callable[[int, NDArray[np.float32]], None] | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    progress: _options.Progress = True,
    cancel: _tte.CancelToken | None = None,
    max_in_flight: int = 0,
    allow_urls: bool = False,
    store: TraceStore | None = None,
    **decoding: Unpack[_decoding.Decoding],
) -> Result:
    """Reason about every input, then embed input and trace into one vector.

    An item is embedded as soon as its own trace ends; what the two models share (weights, vision features, the
    prompt's beginning) is computed once.

    Args:
        inputs: one item, or a list, column (pandas, polars, pyarrow, numpy) or iterator of items. An item is

            * a `str`: text. The name of an image file is text too; `pathlib.Path` is the file;
            * an image: `pathlib.Path`, `PIL.Image`, the bytes of a file, a file open for reading bytes, or a uint8
              array or tensor [H, W], [H, W, 1 | 3 | 4], or [1 | 3, H, W] where the shape leaves no doubt;
            * a dict with any of `text`, `image`, `images`, `video`, `videos`, `instruction`, or with `messages`, and
              perhaps a `name` for errors; the order of the keys is the order of the content;
            * a list of parts in order, as in chat content: ``{"type": "text", "text": ...}``,
              ``{"type": "image", "image": ...}``, ``{"type": "image_url", "image_url": {"url": ...}}``,
              ``{"type": "video", "video": ..., "fps": ...}``;
            * whole chat messages, a list of ``{"role": ..., "content": ...}``; a role is "system", "user",
              "assistant", or one that the checkpoint's chat template names.

            Where a key says that it is an image, a `str` is a path, a ``file://`` or ``data:`` URI, base64, or (with
            `allow_urls`) an http(s) address. A video is a file, a folder of frames, a list of frames or an array
            [N, H, W, C]; `fps` or `num_frames` (also `nframes`) says which frames are taken, `source_fps` how fast a
            list of frames is. `min_pixels`, `max_pixels`, or `resized_height` and `resized_width` beside an image or a
            video say what size it is resized to. None, NaN and pandas' NA count as absent. A text is taken as it is,
            also one that is empty or blank. As in transformers, an image's file, or its bytes, loses its transparency
            and is turned as its EXIF says; a `PIL.Image`, array or tensor is laid over white, and the EXIF of a
            `PIL.Image` is not looked at: `PIL.ImageOps.exif_transpose` turns it.
        reasoner: a Reasoner, or the path or hub id of one; default: the bundled nano pair, or the base of `embedder`
            where that is an embedding head (TTE-u). An embedder that thinks in latent steps (PLUME) needs none, takes
            no traces and leaves none: with another reasoner, `think` must be False.
        embedder: an Embedder, or the path or hub id of one.
        think: True, False, "queries" (only items whose side is "query"), "recipe" (as the reasoner's recipe says
            for the item's task and side), a :class:`tte.AutoThink` or a callable ``(item, vector) -> bool`` that
            sees the vector without a trace, or one entry per item: a bool, or a trace made earlier (a Trace or its
            text).
        instruction: placed where the recipe says, one or one per item; an item's own comes first.
        task: task family of the recipe's presets ("image_qa", ...), one or one per item.
        side: "query" or "target", one or one per item.
        normalize: divide by the L2 norm; default: as the recipe says (yes, unless it says no).
        truncate_dim: keep the first dimensions (Matryoshka), before normalising.
        without_trace: the vectors of the prompts without their traces too, in `Result.without_trace`. They are made
            first, so that with one checkpoint for both nothing is read twice (UME-R1: <disc_emb> and <gen_emb>).
        tokens: True: vectors of each item's tokens too, the trace's among them, in `Result.tokens`; or a dict with any
            of `keep`, `dtype`, `pool_factor` and `pooling`, which are those of :meth:`tte.Embedder.embed_tokens`.
        on_token: called as ``(item, text, id)`` on the calling thread; returning False ends that trace with this token.
        on_trace: called as ``(item, trace)`` as soon as a trace ends.
        on_vector: called as ``(item, vector)`` as soon as a vector is there.
        on_error: "raise", or "skip": see `Result.errors`.
        progress: a bar, nothing, or a callable ``(done, total)``.
        cancel: stops the call from another thread.
        max_in_flight: items whose pixels and states are held at the same time, which bounds memory however long the
            list is; 0: twice what the engine runs at once.
        allow_urls: download images that are named by http(s) addresses (64 MiB and 60 seconds at most each);
            nothing is ever downloaded without it.
        store: traces that are kept there are not written again, and those that are written are kept there.
        **decoding: `max_new_tokens`, `temperature` and the other decoding options of :meth:`tte.Reasoner.think`; one
            value or one per item, and where None as the reasoner's recipe says, else greedy.

    Raises:
        InputError: names the item and the file.
        ModelError: a checkpoint does not fit.
        CancelledError: `cancel` was used; Ctrl-C raises KeyboardInterrupt. Both within one step.

    Example:
        >>> import tte
        >>> result = tte.think_then_embed(["a cat", "a dog"])
        >>> result.embeddings.shape[0]
        2

    """
    kinds = chosen(tokens)
    limits = embedder._limits if isinstance(embedder, Embedder) else DEFAULT_LIMITS
    what = prepare(inputs, instruction, on_error, allow_urls, limits)  # Before a model is loaded.
    pair = _pair(reasoner, embedder)
    count = len(what.native)
    modes, traces, auto = _think_modes(think, count)
    generate = _decoding.generate_options(count, pair[0].model.recipe, **decoding)
    tasks = _options.tasks(task, side, count)
    keep = _options.function(on_trace, "on_trace")
    if store is not None:
        _options.trace_store(store)
        if auto is not None:
            raise _tte.InputError("store goes with think=True, False, 'queries', 'recipe' or one entry per item.")
        each = _options.per_item(task, count, "task"), _options.per_item(side, count, "side")
        wanted = [m != _tte.ThinkMode.NEVER and _thinks(pair[0], m, t) for m, t in zip(modes, tasks, strict=True)]
        kept = _Kept(store, pair[0], what, wanted, each, on_error, {**decoding})
        traces = [t if t is not None else kept.traces.get(i) for i, t in enumerate(traces or [None] * count)]
        keep = kept.keeping(keep)
    with _options.progress_bar(progress, count, "think, then embed") as report:
        native = _tte.ThinkThenEmbed(pair[0]._native, pair[1]._native).run(
            what.native,
            instruction=what.instruction,
            tasks=tasks,
            think_each=modes,
            decide=_decision(auto) if callable(auto) else None,
            targets=vectors_of(auto.targets, "AutoThink.targets") if isinstance(auto, AutoThink) else None,
            margin=auto.margin if isinstance(auto, AutoThink) else 0.0,
            traces=traces,
            generate_each=generate,
            normalize=_options.optional(_options.flag, normalize, "normalize"),
            truncate_dim=_options.optional(_options.whole, truncate_dim, "truncate_dim", 1, _options.INT32),
            without_trace=_options.flag(without_trace, "without_trace"),
            tokens=kinds,
            on_token=token_callback(on_token),
            on_trace=keep,
            on_vector=_options.function(on_vector, "on_vector"),
            on_error=_options.on_error(on_error),
            progress=report,
            cancel=_options.cancel_token(cancel),
            max_in_flight=_options.count(max_in_flight, "max_in_flight"),
        )
    vectors = native.embeddings.take_data()
    return Result(
        embeddings=vectors,
        traces=native.traces,
        timings=native.timings,
        stats=native.stats,
        errors=native.embeddings.errors,
        inputs=what.given,
        tokens=None if native.tokens is None else taken(native.tokens, vectors),
        without_trace=None if native.without_trace is None else native.without_trace.take_data(),
        _read=what.read,
    )


def _decision(think: Callable[[int, NDArray[np.float32]], bool]) -> Callable[[int, NDArray[np.float32]], bool]:
    return lambda item, vector: _options.flag(think(item, vector), "think's answer")


def _thinks(reasoner: Reasoner, mode: _tte.ThinkMode, task: _tte.Task) -> bool:
    """Whether an item of a task is reasoned about."""
    if mode == _tte.ThinkMode.QUERIES:
        return task.side == _tte.Side.QUERY
    return mode != _tte.ThinkMode.RECIPE or reasoner._native.thinks(task)


class _Kept:
    """The traces of a call that a store has, and the way of the others into it."""

    def __init__(
        self, store: TraceStore, reasoner: Reasoner, what: Inputs, wanted: Sequence[bool],
        each: tuple[list[Any], list[Any]], on_error: Literal["raise", "skip"], decoding: dict[str, Any],
    ) -> None:  # fmt: skip
        from tte.trace_store import requests, traces_of

        self._store = store
        items = [item if wish else None for item, wish in zip(what.read, wanted, strict=True)]
        self._requests: list[Request | None] = requests(store, reasoner, items, what.instruction, *each, decoding)
        found = traces_of(store, self._requests, what, on_error)
        self.traces = {i: found[r.key] for i, r in enumerate(self._requests) if r is not None and r.key in found}

    def keeping(self, on_trace: Callable[[int, _tte.Trace], None] | None) -> Callable[[int, _tte.Trace], None]:
        """The callback that keeps each trace that is written, before the caller's own sees it."""

        def finished(index: int, trace: _tte.Trace) -> None:
            request = self._requests[index]
            if request is not None and index not in self.traces:
                self._store.put(request, trace)
            if on_trace is not None:
                on_trace(index, trace)

        return finished


def _think_modes(think: Any, count: int) -> tuple[list[_tte.ThinkMode], list[_tte.Trace | None], _Decide | None]:
    """Mode of each item, traces by hand, and what decides."""
    always, never = _tte.ThinkMode.ALWAYS, _tte.ThinkMode.NEVER
    think = str.__str__(think) if isinstance(think, str) else think  # Not a subclass with ways of its own.
    if isinstance(think, (bool, np.bool_)):
        return [always if think else never] * count, [], None
    named = {"queries": _tte.ThinkMode.QUERIES, "recipe": _tte.ThinkMode.RECIPE}
    if isinstance(think, str) and think in named:
        return [named[think]] * count, [], None
    if isinstance(think, type) and issubclass(think, AutoThink):
        raise _tte.InputError(
            "think is the class tte.AutoThink: call it, as in think=tte.AutoThink(targets=corpus.embeddings)."
        )
    if isinstance(think, AutoThink) or callable(think):
        decide = think if isinstance(think, AutoThink) else _options.function(think, "think")
        return [_tte.ThinkMode.AUTO] * count, [], decide
    if isinstance(think, str) and think == "auto":
        raise _tte.InputError(
            "think='auto' has to know the targets: give think=tte.AutoThink(targets=corpus.embeddings, margin=0.05)."
        )
    if isinstance(think, (str, bytes, _tte.Trace, Mapping, Set)) or not isinstance(think, Iterable):
        raise _tte.InputError(
            f"think is {_text.shown(think)}: it must be True, False, 'queries', 'recipe', a tte.AutoThink, a callable, "
            "or one entry per item."
        )
    entries = _options.one_each(think, count, "think")
    given: list[TraceLike | None] = [
        None if _options.is_absent(e) or isinstance(e, (bool, np.bool_)) else e for e in entries
    ]
    for index, entry in enumerate(given):
        if entry is not None and not isinstance(entry, (str, _tte.Trace)):
            raise _options.refuse(f"think's entry {index}", entry, "True, False, a tte.Trace, its text, or None")
    modes = [always if isinstance(e, (bool, np.bool_)) and e else never for e in entries]
    return modes, to_traces(given, count) if any(e is not None for e in given) else [], None
