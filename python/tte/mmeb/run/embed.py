"""Traces and vectors of entries: what is run on one block of a data set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tte import _content, _decoding, _inputs, _options, _tokens, _tte
from tte._models import Embedder, Reasoner
from tte.mmeb.data.types import Entry
from tte.trace_store import Request, StoredTrace, TraceStore

ThinkMode = Literal["never", "always", "queries", "recipe"]
THINK_MODES: tuple[ThinkMode, ...] = ("never", "always", "queries", "recipe")
"""Who gets a trace: nobody, everybody, queries only, or who the reasoner's recipe says for the task and side."""

Progress = Callable[[int, int], None]
"""Called with (done, total) of the block under way."""

log = logging.getLogger("tte.mmeb")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one entry."""

    vector: NDArray[np.float32] | None
    """[D]; None if it failed, or if only traces were wanted."""
    token_vectors: _tokens.Vectors | None
    """[rows, D]: with `System.tokens`, one vector per token."""
    key: str
    """Digest of the entry's content: equal entries have equal keys. Empty if it could not be read."""
    error: str | None = None
    trace: str | None = None
    finish: str | None = None
    """Why the trace ended: "STOP", "LENGTH", "GIVEN"."""
    tokens: int | None = None
    """Tokens of the trace; None without."""
    prompt_tokens: int | None = None
    """Tokens that the embedder read, trace included."""
    think_seconds: float | None = None
    """What the trace took when it was written, be it now or earlier."""
    embed_seconds: float | None = None

    def row(self) -> dict[str, Any]:
        """Everything but the vector, as the result folder keeps it."""
        seconds = [value for value in (self.think_seconds, self.embed_seconds) if value is not None]
        return {
            "key": self.key,
            "error": self.error,
            "trace": self.trace,
            "finish": self.finish,
            "tokens": self.tokens,
            "prompt_tokens": self.prompt_tokens,
            "think_seconds": self.think_seconds,
            "embed_seconds": self.embed_seconds,
            "seconds": sum(seconds) if seconds else None,
        }


@dataclass
class _Work:
    """One distinct entry of a block on its way."""

    item: _tte.Input
    key: str
    request: Request | None = None
    stored: StoredTrace | None = None
    trace: _tte.Trace | None = None
    think_seconds: float | None = None
    embed_seconds: float | None = None
    prompt_tokens: int | None = None
    vector: NDArray[np.float32] | None = None
    token_vectors: _tokens.Vectors | None = None
    error: str | None = None

    def outcome(self) -> Outcome:
        trace = None if self.error else self.trace
        return Outcome(
            vector=None if self.error else self.vector,
            token_vectors=None if self.error else self.token_vectors,
            key=self.key,
            error=self.error,
            trace=None if trace is None else trace.text,
            finish=None if trace is None else trace.finish.name,
            tokens=None if trace is None else trace.generated_tokens,
            prompt_tokens=self.prompt_tokens,
            think_seconds=self.think_seconds,
            embed_seconds=self.embed_seconds,
        )


@dataclass
class System:
    """What is evaluated: an embedder, with a reasoner or without, and how they are used.

    Traces come from the store where it has them, and go into it the moment they end.
    """

    embedder: Embedder | None
    """None: only traces are wanted."""
    reasoner: Reasoner | None = None
    store: TraceStore | None = None
    think: ThinkMode = "never"
    decoding: dict[str, Any] = field(default_factory=dict)
    """Decoding settings of :meth:`tte.Reasoner.think`, one value each."""
    truncate_dim: int | None = None
    normalize: bool | None = None
    tokens: bool = False
    """Make a vector of each token too: words, parts of images and videos, and the trace's tokens."""

    def __post_init__(self) -> None:
        if self.think not in THINK_MODES:
            raise _tte.InputError(f"think is {self.think!r}: it must be one of {', '.join(THINK_MODES)}.")
        self._generate(1)  # Checked before anything is written.
        if self.embedder is not None and not 1 <= self.dim <= self.embedder.dim:
            raise _tte.InputError(
                f"truncate_dim is {self.truncate_dim}: it must be from 1 to the embedder's {self.embedder.dim}."
            )
        if self.think == "never":
            self.reasoner = None
        elif self.reasoner is None or self.store is None:
            missing = "reasoner" if self.reasoner is None else "trace store"
            raise _tte.InputError(f"think is {self.think!r}, but there is no {missing}: give one, or think never.")

    @property
    def dim(self) -> int:
        """Size of the vectors."""
        assert self.embedder is not None
        return self.embedder.dim if self.truncate_dim is None else self.truncate_dim

    @cached_property
    def _families(self) -> tuple[set[str], set[str]]:
        """Task families that the recipes of reasoner and embedder have presets for."""

        def presets(model: Reasoner | Embedder | None) -> set[str]:
            return set(_options.rules(model.model.recipe).get("tasks", {})) if model is not None else set()

        return presets(self.reasoner), presets(self.embedder)

    def notes(self, family: str) -> list[str]:
        """What a reader of the log should know about this task family, if anything."""
        named = (("reasoner", self.reasoner, self._families[0]), ("embedder", self.embedder, self._families[1]))
        return [
            f"the {role}'s recipe has no preset for the task {family}: no task is passed to it"
            for role, model, known in named
            if model is not None and family not in known
        ]

    def thinks(self, family: str, side: str) -> bool:
        """Whether entries of this side are reasoned about."""
        if self.reasoner is None or self.think == "never":
            return False
        if self.think == "recipe":
            recipe = _options.rules(self.reasoner.model.recipe)
            # A family without presets, and a side without one, take the recipe's default instruction.
            preset = recipe.get("tasks", {}).get(family, {}).get(side, recipe.get("instruction"))
            return not isinstance(preset, dict) or bool(preset.get("think", True))
        return self.think == "always" or side == "query"

    def identity(self) -> dict[str, Any]:
        """Everything that changes vectors: what a result folder must be of to be gone on with."""
        thinking = self.think != "never"
        return {
            "think": self.think,
            "embedder": _described(self.embedder),
            "reasoner": _described(self.reasoner),
            "decoding": {k: v for k, v in sorted(self.decoding.items()) if v is not None} if thinking else {},
            "truncate_dim": self.truncate_dim,
            "normalize": self.normalize,
            **({"tokens": "+".join(_tokens.KEEP)} if self.tokens else {}),
        }

    def run(
        self,
        entries: Sequence[Entry],
        names: Sequence[str],
        *,
        family: str,
        side: Literal["query", "target"],
        progress: Progress | None = None,
        cancel: _tte.CancelToken | None = None,
    ) -> list[Outcome]:
        """Think about entries and embed them; equal ones once.

        Args:
            entries: what to embed.
            names: what they are called in errors.
            family: task family.
            side: "query" or "target".
            progress: called as entries are done.
            cancel: stops it from another thread.

        Returns:
            One outcome per entry. An entry that cannot be used has an error, the others are not touched by it.

        """
        report = progress or (lambda done, total: None)
        thinks = self.thinks(family, side)
        keys: list[str] = []
        failed: dict[int, Outcome] = {}
        work: dict[str, _Work] = {}
        for index, (entry, name) in enumerate(zip(entries, names, strict=True)):
            try:
                item, content, key = read(entry, family, side)
                if key not in work:
                    work[key] = _Work(_inputs.to_input(item, name), key)
                    if thinks:
                        work[key].request = self._request(item, content, family, side)
            except _tte.InputError as error:
                failed[index] = Outcome(None, None, "", error=str(error))
                key = ""
            keys.append(key)
        todo = list(work.values())
        shift = len(entries) - len(todo)
        self._run(todo, family, side, lambda done: report(done + shift, len(entries)), cancel or _tte.CancelToken())
        report(len(entries), len(entries))
        done = {key: item.outcome() for key, item in work.items()}
        return [failed[i] if i in failed else done[key] for i, key in enumerate(keys)]

    def keep_given(
        self, entries: Sequence[Entry], traces: Sequence[_tte.Trace | None], *, family: str, side: str
    ) -> list[str]:
        """Put traces that were made elsewhere into the store, as if the reasoner had written them about the entries.

        Returns a sentence for each entry that has a trace and cannot be read.
        """
        assert self.store is not None
        failed = []
        for entry, trace in zip(entries, traces, strict=True):
            if trace is None:
                continue
            try:
                item, content, _ = read(entry, family, side)
                self.store.put(self._request(item, content, family, side), trace, seconds=0.0)
            except _tte.InputError as error:
                failed.append(str(error))
        return failed

    def _request(self, item: Any, content: Any, family: str, side: str) -> Request:
        assert self.store is not None
        assert self.reasoner is not None
        task = family if family in self._families[0] else None
        return self.store.request(self.reasoner, item, task=task, side=side, content=content, **self.decoding)

    def _run(
        self,
        work: list[_Work],
        family: str,
        side: Literal["query", "target"],
        report: Callable[[int], None],
        cancel: _tte.CancelToken,
    ) -> None:
        if self.store is not None:
            kept = self.store.get_many(w.request.key for w in work if w.request is not None)
            for item in work:
                if item.request is not None and (found := kept.get(item.request.key)) is not None:
                    item.trace, item.think_seconds = found.trace, found.seconds
        theirs, ours = (family in known for known in self._families)
        if self.embedder is None:
            self._think(work, family if theirs else "", side, report, cancel)
        elif any(w.request is not None and w.trace is None for w in work) and theirs == ours:
            self._think_then_embed(work, family if ours else "", side, report, cancel)
        else:
            # One call can hand both models one task only; here they take different ones, or there is no trace to write.
            self._think(work, family if theirs else "", side, None, cancel)
            self._embed(work, family if ours else "", side, report, cancel)

    def _keep(self, item: _Work, trace: _tte.Trace) -> None:
        assert self.store is not None
        assert item.request is not None
        item.trace = trace
        item.think_seconds = trace.timings.media + trace.timings.prefill + trace.timings.decode
        self.store.put(item.request, trace, seconds=item.think_seconds)

    def _think(
        self,
        work: list[_Work],
        family: str,
        side: Literal["query", "target"],
        report: Callable[[int], None] | None,
        cancel: _tte.CancelToken,
    ) -> None:
        """Write the traces that are missing."""
        missing = [item for item in work if item.request is not None and item.trace is None]
        if not missing:
            return
        assert self.reasoner is not None
        before = len(work) - len(missing)
        traces = self.reasoner._native.think(
            [item.item for item in missing],
            tasks=_options.tasks(family or None, side, len(missing)),
            generate_each=self._generate(len(missing)),
            on_result=lambda i, trace: self._keep(missing[i], trace),
            on_error=_tte.OnError.SKIP,
            progress=None if report is None else lambda done, _: report(done + before),
            cancel=cancel,
        )
        for item, trace in zip(missing, traces, strict=True):
            if trace.finish == _tte.FinishReason.ERROR:
                item.error = trace.error

    def _embed(
        self,
        work: list[_Work],
        family: str,
        side: Literal["query", "target"],
        report: Callable[[int], None],
        cancel: _tte.CancelToken,
    ) -> None:
        """Embed with the traces that there are."""
        ready = [item for item in work if item.error is None]
        if not ready:
            return
        assert self.embedder is not None
        arguments: dict[str, Any] = {
            "traces": [item.trace for item in ready] if any(item.trace for item in ready) else [],
            "tasks": _options.tasks(family or None, side, len(ready)),
            "normalize": self.normalize,
            "truncate_dim": self.truncate_dim,
            "on_error": _tte.OnError.SKIP,
            "progress": lambda done, _: report(done + len(work) - len(ready)),
            "cancel": cancel,
        }
        items = [item.item for item in ready]
        if self.tokens:
            found = self.embedder._native.embed_tokens(items, tokens=_tokens.options(), **arguments)
            _take(ready, found.pooled, found.pooled.timings, found)
        else:
            native = self.embedder._native.embed(items, **arguments)
            _take(ready, native, native.timings)

    def _think_then_embed(
        self,
        work: list[_Work],
        family: str,
        side: Literal["query", "target"],
        report: Callable[[int], None],
        cancel: _tte.CancelToken,
    ) -> None:
        """Write the traces that are missing, and embed every entry as soon as its trace is there."""
        assert self.embedder is not None
        assert self.reasoner is not None
        modes = {True: _tte.ThinkMode.ALWAYS, False: _tte.ThinkMode.NEVER}
        native = _tte.ThinkThenEmbed(self.reasoner._native, self.embedder._native).run(
            [item.item for item in work],
            tasks=_options.tasks(family or None, side, len(work)),
            think_each=[modes[item.request is not None and item.trace is None] for item in work],
            traces=[item.trace for item in work],
            generate_each=self._generate(len(work)),
            normalize=self.normalize,
            truncate_dim=self.truncate_dim,
            tokens=_tokens.chosen(self.tokens),
            on_trace=lambda i, trace: self._keep(work[i], trace),
            on_error=_tte.OnError.SKIP,
            progress=lambda done, _: report(done),
            cancel=cancel,
        )
        _take(work, native.embeddings, native.timings, native.tokens)

    def _generate(self, count: int) -> list[_tte.GenerateOptions]:
        return _decoding.generate_options(count, **self.decoding)


def read(entry: Entry, family: str, side: str) -> tuple[Any, Any, str]:
    """An entry's item, its canonical form, and the digest of that with task and side: equal for equal content.

    Raises `InputError` if it cannot be read.
    """
    item = entry.item()
    content = _content.canonical(item)
    return item, content, _content.digest(_content.to_json(content), family, side)


def _take(
    work: Sequence[_Work],
    embeddings: _tte.Embeddings,
    timings: Sequence[_tte.Timings],
    native: _tte.TokenEmbeddings | None = None,
) -> None:
    """Move the vectors of a call into the entries that they are of."""
    tokens = embeddings.tokens
    for error in embeddings.errors:
        work[error.index].error = error.message
    vectors = embeddings.take_data()
    sets = None if native is None else _tokens.taken(native, vectors)
    for index, item in enumerate(work):
        item.token_vectors = None if sets is None else sets[index]
        if item.error is None and not np.isfinite(vectors[index]).all():
            item.error = "its vector is not finite"
        item.vector = vectors[index]
        item.prompt_tokens = int(tokens[index])
        item.embed_seconds = timings[index].embed


def _described(model: Reasoner | Embedder | None) -> dict[str, str] | None:
    if model is None:
        return None
    return _content.run_identity(model.model)
