"""Reranking: a reasoner judges pairs of query and document by the words that it would write."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from tte import _decoding, _items, _options, _tte
from tte._inputs import Item, to_named
from tte._keywords import named
from tte._models import Reasoner
from tte._options import PathLike
from tte._remote import RemoteReasoner
from tte.trace_store import TraceStore

SYSTEM = "Judge whether the document answers the query as the instruction asks. Answer with one word: yes or no."
INSTRUCTION = "Find documents that answer the query."


@named
class Reranker:
    """Scores of pairs: how likely a reasoner is to write "yes" rather than "no" about a query and a document.

    The prompt is that of Qwen3-VL-Reranker: a system turn, then one user turn with "<Instruct>: ", the instruction,
    "<Query>:", the query (videos, images, then texts), a line break, "<Document>:" and the document likewise. The score
    is sigmoid(logit(yes) - logit(no)) at the first token of the answer, or after a trace (`think`). The words of
    `system` and `instruction` are tte's own: give those that a checkpoint was trained with.

    Args:
        reasoner: a Reasoner, or the path or hub id of one.
        system: the system turn; "": none.
        instruction: what makes a document relevant; that of a call, or of the query's item, comes first.
        labels: what is written about a document that is relevant, and about one that is not.
        think: write a trace about each pair first, and judge after it (behind the closing tag).

    Raises:
        ModelError: the checkpoint does not fit.

    """

    def __init__(
        self,
        reasoner: Reasoner | PathLike,
        *,
        system: str = SYSTEM,
        instruction: str = INSTRUCTION,
        labels: Sequence[str] = ("yes", "no"),
        think: bool = False,
    ) -> None:
        self._system = _options.string(system, "system")
        self._instruction = _options.string(instruction, "instruction")
        each = list(_options.listed(labels, "labels", "two texts"))
        if len(each) != 2:
            raise _options.refuse("labels", labels, "two texts: for what is relevant, and for what is not")
        self._labels = [_options.string(label, f"labels[{i}]") for i, label in enumerate(each)]
        if "" in self._labels or self._labels[0] == self._labels[1]:
            raise _options.refuse("labels", labels, "two texts that differ, neither of them empty")
        self._think = _options.flag(think, "think")
        if isinstance(reasoner, RemoteReasoner):
            raise _options.refuse(
                "reasoner", reasoner, "a local tte.Reasoner (servers do not say how likely words are)"
            )
        self.reasoner = reasoner if isinstance(reasoner, Reasoner) else Reasoner(reasoner)

    @property
    def rule(self) -> dict[str, Any]:
        """What it judges by, beside the model: system turn, instruction, labels, whether it thinks."""
        return {
            "system": self._system,
            "instruction": self._instruction,
            "labels": list(self._labels),
            "think": self._think,
        }

    def score(
        self,
        query: Item,
        documents: Item | Iterable[Item],
        *,
        instruction: str | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        progress: _options.Progress = True,
        cancel: _tte.CancelToken | None = None,
        allow_urls: bool = False,
        store: TraceStore | None = None,
        **decoding: Unpack[_decoding.Decoding],
    ) -> NDArray[np.float32]:
        """Score each document for the query: float32 [documents], from 0 to 1.

        Args:
            query: one item; see :func:`tte.think_then_embed`. Chat messages cannot be part of a pair.
            documents: one item or a list.
            instruction: what makes a document relevant, for this call.
            on_error: "raise", or "skip": a bad document's score is NaN. A bad query is always raised.
            progress: a bar, nothing, or a callable ``(done, total)``.
            cancel: stops the call from another thread.
            allow_urls: download images that are named by http(s) addresses; never done without it.
            store: with `think`: traces that are kept there are not written again, and those that are written are kept.
            **decoding: with `think`: how traces are written, as in :meth:`tte.Reasoner.think`.

        Raises:
            InputError: names the query or the document.
            CancelledError: `cancel` was used.

        """
        if decoding and not self._think:
            raise _tte.InputError(f"{next(iter(decoding))} is given, but nothing is written: make it with think=True.")
        if store is not None and not self._think:
            raise _tte.InputError("store is given, but nothing is written: make it with think=True.")
        kept = _options.trace_store(store)
        urls = _options.flag(allow_urls, "allow_urls")
        skip = _options.on_error(on_error) == _tte.OnError.SKIP
        asked = _items.read(query, "the query", urls)
        own = _options.text(instruction, "instruction")
        begin = self._query(asked, own if own is not None else self._instruction)
        pairs: list[_tte.Input] = []
        for index, document in enumerate(_items.split(documents)[0]):
            name = f"document {index}"
            try:
                read = _items.read(document, name, urls)
                pairs.append(self._pair([*begin, "\n<Document>:", *_media_first(read, name)], read, name))
            except _tte.InputError as error:
                if not skip:
                    raise
                pairs.append(_tte.Input(name=name, error=str(error)))
        try:
            scores = self._judge(pairs, on_error, progress, cancel, kept, decoding)
        except _tte.InputError:
            self._require_query(begin, asked, cancel)
            raise
        if np.isnan(scores).all():  # Also of none.
            self._require_query(begin, asked, cancel)
        return scores

    def rank(
        self, query: Item, documents: Item | Iterable[Item], k: int | None = None, **options: Any
    ) -> list[tuple[int, float]]:
        """The `k` best documents (default: all) as (index, score), best first, ties by index, without skipped ones.

        `options` are those of :meth:`score`.
        """
        most = None if k is None else _options.count(k, "k")
        scores = self.score(query, documents, **options)
        order = np.argsort(-scores, kind="stable")  # NaN is last.
        return [(int(i), float(scores[i])) for i in order if not np.isnan(scores[i])][:most]

    def _query(self, query: _items.Item, instruction: str) -> list[_items.Part]:
        wanted = query.instruction if query.instruction is not None else instruction
        return [f"<Instruct>: {wanted}", "<Query>:", *_media_first(query, "the query")]

    def _pair(self, parts: list[_items.Part], document: _items.Item, name: str) -> _tte.Input:
        system = (_items.Turn("system", (self._system,)),) if self._system else ()
        turns = (*system, _items.Turn("user", tuple(parts)))
        return to_named(replace(document, parts=(), instruction=None, turns=turns), name)

    def _require_query(self, begin: list[_items.Part], query: _items.Item, cancel: _tte.CancelToken | None) -> None:
        """Raise `InputError` where no document could be judged because the query cannot be used."""
        alone = self._pair(begin, replace(query, parts=()), "the query")
        self.reasoner.score([alone], self._labels, progress=False, cancel=cancel)

    def _judge(
        self,
        pairs: list[_tte.Input],
        on_error: Literal["raise", "skip"],
        progress: _options.Progress,
        cancel: _tte.CancelToken | None,
        store: TraceStore | None,
        decoding: _decoding.Decoding,
    ) -> NDArray[np.float32]:
        written: list[_tte.Trace] = []
        if self._think:
            think = self.reasoner.think if store is None else functools.partial(store.think, self.reasoner)
            written = think(pairs, on_error=on_error, progress=progress, cancel=cancel, **decoding)
        traces = [self._thought(trace) for trace in written] if self._think else None
        scores = self.reasoner.score(pairs, self._labels, traces, on_error=on_error, progress=progress, cancel=cancel)
        failed = [trace.finish == _tte.FinishReason.ERROR for trace in written] or [False] * len(pairs)
        with np.errstate(over="ignore"):
            judged = 1 / (1 + np.exp(scores[:, 1] - scores[:, 0]))
        return np.where(failed, np.nan, judged).astype(np.float32)

    def _thought(self, trace: _tte.Trace) -> _tte.Trace:
        """What stands before the answer: the thinking with its closing tag, which is added where it was cut off."""
        close = _options.rules(self.reasoner.model.recipe).get("trace", {}).get("close") or "</think>"
        thinking, tag, answer = trace.text.partition(close)
        space = answer[: len(answer) - len(answer.lstrip())] if tag else ""
        return _tte.Trace(thinking + close + space)

    def __repr__(self) -> str:
        return f"Reranker({self.reasoner!r}, labels={self._labels!r}, think={self._think})"


def _media_first(item: _items.Item, name: str) -> list[_items.Part]:
    if item.turns:
        raise _tte.InputError(f"{_items.named(name, item.name)} is chat messages: give text, images and videos.")
    if not item.parts:
        raise _tte.InputError(f"{_items.named(name, item.name)} is empty: give it text, an image or a video.")
    kinds = (_items.Video, _items.Image, str)
    return [part for kind in kinds for part in item.parts if isinstance(part, kind)]
