"""The single call: think_then_embed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tte import _display, _hub, _options, _tte
from tte._inputs import Item, to_inputs
from tte._models import Embedder, PathLike, Reasoner, TraceLike, to_traces, token_callback

Think = bool | Literal["queries", "recipe"] | Callable[[int, NDArray[np.float32]], bool] | Sequence[Any]


@dataclass(eq=False)
class Result:
    """What :func:`think_then_embed` returns. Shows itself in a notebook: pictures, traces, neighbours."""

    embeddings: NDArray[np.float32]
    """float32 [N, dim]; the row of an item that was skipped is NaN."""
    traces: list[_tte.Trace | None]
    """One per item; None where it was not thought about."""
    timings: list[_tte.Timings]
    """Seconds by stage, one per item."""
    stats: _tte.CallStats
    """Seconds and tokens of the whole call."""
    errors: list[_tte.ItemError] = field(default_factory=list)
    """Items that were skipped, with `on_error="skip"`."""
    inputs: list[Item] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.embeddings)

    def similarity(self, other: Result | NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Cosine of every item to every item of `other` (default: of this result), float32 [N, M]."""
        theirs = self.embeddings if other is None else other.embeddings if isinstance(other, Result) else other
        ours = _unit(self.embeddings)
        return np.asarray(ours @ _unit(np.asarray(theirs, dtype=np.float32)).T, dtype=np.float32)

    def neighbours(self, k: int = 5) -> list[list[tuple[int, float]]]:
        """The `k` nearest other items of each item, best first, as (index, cosine); ties by index.

        An item that was skipped has no neighbours and is nobody's.
        """
        scores = self.similarity()
        np.fill_diagonal(scores, np.nan)
        order = np.argsort(-scores, axis=1, kind="stable")[:, : max(0, k)]  # NaN is last.
        return [
            [(int(j), float(scores[i, j])) for j in row if not np.isnan(scores[i, j])] for i, row in enumerate(order)
        ]

    def _repr_html_(self) -> str:
        return _display.result_html(self)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms == 0, 1, norms), dtype=np.float32)


@lru_cache(maxsize=1)
def _bundled_pair() -> tuple[Reasoner, Embedder]:
    return Reasoner(_hub.bundled("reasoner")), Embedder(_hub.bundled("embedder"))


def _pair(reasoner: Reasoner | PathLike | None, embedder: Embedder | PathLike | None) -> tuple[Reasoner, Embedder]:
    if reasoner is None and embedder is None:
        return _bundled_pair()
    if reasoner is None or embedder is None:
        given, missing = ("embedder", "reasoner") if reasoner is None else ("reasoner", "embedder")
        raise _tte.InputError(
            f"{given} was given without {missing}: give both (they may be the same checkpoint), or neither for the "
            "bundled nano pair."
        )
    if not isinstance(reasoner, Reasoner):
        backend = embedder.backend if isinstance(embedder, Embedder) else None
        reasoner = Reasoner(reasoner, backend=backend)
    if not isinstance(embedder, Embedder):
        embedder = Embedder(embedder, backend=reasoner.backend)
    return reasoner, embedder


def think_then_embed(
    inputs: Item | Sequence[Item],
    *,
    reasoner: Reasoner | PathLike | None = None,
    embedder: Embedder | PathLike | None = None,
    think: Think = True,
    instruction: str | None = None,
    task: str | Sequence[str | None] | None = None,
    side: Literal["query", "target"] | Sequence[str] = "query",
    normalize: bool | None = None,
    truncate_dim: int | None = None,
    max_new_tokens: int | Sequence[int] | None = None,
    temperature: float | Sequence[float] | None = 0.0,
    top_p: float | Sequence[float] | None = None,
    top_k: int | Sequence[int] | None = None,
    min_p: float | Sequence[float] | None = None,
    repetition_penalty: float | Sequence[float] | None = 1.0,
    min_new_tokens: int | Sequence[int] = 0,
    seed: int | Sequence[int] | None = None,
    stop: str | Sequence[str] | None = None,
    stop_token_ids: Sequence[int] = (),
    ignore_eos: bool = False,
    max_think_tokens: int | Sequence[int] | None = None,
    on_token: Callable[[int, str, int], bool | None] | None = None,
    on_trace: Callable[[int, _tte.Trace], None] | None = None,
    on_vector: Callable[[int, NDArray[np.float32]], None] | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    progress: _options.Progress = True,
    cancel: _tte.CancelToken | None = None,
) -> Result:
    """Reason about every input, then embed input and trace into one vector.

    An item is embedded as soon as its own trace ends; what the two models share (weights, vision features, the
    prompt's beginning) is computed once.

    Args:
        inputs: one item or a list of items. An item is

            * a `str`: text;
            * a picture: `pathlib.Path`, `PIL.Image`, uint8 array [H, W] or [H, W, 1 | 3 | 4], or the bytes of a file;
            * a dict with any of `text`, `image`, `images`, `video`, `videos`, `instruction`;
            * a list of parts in order, as in chat content: ``{"type": "text", "text": ...}``,
              ``{"type": "image", "image": ...}``, ``{"type": "video", "video": ..., "fps": ...}``;
            * whole chat messages, a list of ``{"role": ..., "content": ...}``.
        reasoner: a Reasoner, or the path or hub id of one; default: the bundled nano pair.
        embedder: an Embedder, or the path or hub id of one.
        think: True, False, "queries" (only items whose side is "query"), "recipe" (as the reasoner's recipe says
            for the item's task and side), a callable ``(item, vector) -> bool`` that sees the vector without a
            trace, or one entry per item: a bool, or a trace made earlier (a Trace or its text).
        instruction: placed where the recipe says; an item's own instruction comes first.
        task: task family of the recipe's presets ("image_qa", ...), one or one per item.
        side: "query" or "target", one or one per item.
        normalize: divide by the L2 norm; default: as the recipe says (yes, unless it says no).
        truncate_dim: keep the first dimensions (Matryoshka), before normalising.
        max_new_tokens: and the other decoding options: as in :meth:`tte.Reasoner.think`; one value or one per item.
        temperature: 0 is greedy; None takes the recipe's and the checkpoint's defaults.
        top_p: nucleus sampling.
        top_k: keep this many tokens.
        min_p: keep tokens with at least this fraction of the best one's probability.
        repetition_penalty: 1 is off.
        min_new_tokens: no end token before.
        seed: makes sampling repeatable.
        stop: strings that end a trace.
        stop_token_ids: further end tokens.
        ignore_eos: go on past the end tokens.
        max_think_tokens: when spent inside <think>, the closing tag is forced.
        on_token: called as ``(item, text, id)``; returning False ends that trace.
        on_trace: called as ``(item, trace)`` as soon as a trace ends.
        on_vector: called as ``(item, vector)`` as soon as a vector is there.
        on_error: "raise", or "skip": see `Result.errors`.
        progress: a bar, nothing, or a callable ``(done, total)``.
        cancel: stops the call from another thread.

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
    items, single = to_inputs(inputs, on_error)
    pair = _pair(reasoner, embedder)
    count = len(items)
    modes, traces, decide = _think_modes(think, count)
    generate = _options.generate_options(
        count, stop=stop, stop_token_ids=stop_token_ids, ignore_eos=ignore_eos, max_new_tokens=max_new_tokens,
        temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, repetition_penalty=repetition_penalty,
        min_new_tokens=min_new_tokens, seed=seed, max_think_tokens=max_think_tokens,
    )  # fmt: skip
    with _options.progress_bar(progress, count, "think, then embed") as report:
        native = _tte.ThinkThenEmbed(pair[0]._native, pair[1]._native).run(
            items,
            instruction=_options.text(instruction, "instruction"),
            tasks=_options.tasks(task, side, count),
            think_each=modes,
            decide=decide,
            traces=traces,
            generate_each=generate,
            normalize=normalize,
            truncate_dim=_options.whole(truncate_dim, "truncate_dim"),
            on_token=token_callback(on_token),
            on_trace=on_trace,
            on_vector=on_vector,
            on_error=_options.on_error(on_error),
            progress=report,
            cancel=cancel or _tte.CancelToken(),
        )
    return Result(
        embeddings=native.embeddings.take_data(),
        traces=native.traces,
        timings=native.timings,
        stats=native.stats,
        errors=native.embeddings.errors,
        inputs=[inputs] if single else list(inputs),
    )


def _think_modes(
    think: Think, count: int
) -> tuple[list[_tte.ThinkMode], list[_tte.Trace | None], Callable[[int, NDArray[np.float32]], bool] | None]:
    """Mode of each item, traces by hand, and the callback that decides."""
    always, never = _tte.ThinkMode.ALWAYS, _tte.ThinkMode.NEVER
    if isinstance(think, bool):
        return [always if think else never] * count, [], None
    named = {"queries": _tte.ThinkMode.QUERIES, "recipe": _tte.ThinkMode.RECIPE}
    if isinstance(think, str) and think in named:
        return [named[think]] * count, [], None
    if callable(think):
        return [_tte.ThinkMode.AUTO] * count, [], think
    if isinstance(think, str) or not isinstance(think, Sequence):
        raise _tte.InputError(
            f"think is {think!r}: it must be True, False, 'queries', 'recipe', a callable, or one entry per item."
        )
    entries = list(think)
    if len(entries) != count:
        raise _tte.InputError(f"think has {len(entries)} entries for {count} items: give one per item.")
    given: list[TraceLike | None] = [None if e is None or isinstance(e, bool) else e for e in entries]
    modes = [always if entry is True else never for entry in entries]
    return modes, to_traces(given, count) if any(e is not None for e in given) else [], None
