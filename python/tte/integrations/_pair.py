"""What the integrations share: an embedder, perhaps with a reasoner, and everything that its vectors depend on."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import tte
from tte import _content, _decoding, _hub, _options
from tte._inputs import prepare
from tte._models import backend_of
from tte._options import PathLike

Think = bool | Literal["queries", "recipe"]
Side = Literal["query", "target"]


def resolve_models(
    embedder: tte.Embedder | PathLike | None, reasoner: tte.Reasoner | PathLike | None
) -> tuple[tte.Embedder | PathLike, tte.Reasoner | PathLike | None]:
    """Fill in the bundled nano pair where neither is given."""
    if embedder is not None:
        return embedder, reasoner
    if reasoner is not None:
        raise tte.InputError("reasoner was given without embedder: give both, or neither for the bundled nano pair.")
    return _hub.bundled("embedder"), _hub.bundled("reasoner")


def resolve_think(think: Think | None, has_reasoner: bool) -> Think:
    """Check `think`; None means as the recipe says where there is a reasoner, and not at all without one."""
    if think is None:
        return "recipe" if has_reasoner else False
    if isinstance(think, str) and (name := str.__str__(think)) in ("queries", "recipe"):
        think = "queries" if name == "queries" else "recipe"  # Not a subclass with ways of its own.
    elif not isinstance(think, bool):
        raise _options.refuse("think", think, "True, False, 'queries' or 'recipe'")
    if think and not has_reasoner:
        raise tte.InputError(f"think={think!r} needs a reasoner: give one, or think=False.")
    return think


def check_decoding(decoding: Mapping[str, Any]) -> dict[str, Any]:
    """Check decoding options before any model is loaded; what is left is plain, and has none that are None."""
    unknown = set(decoding) - set(_decoding.DECODING)
    if unknown:
        raise tte.InputError(_decoding.no_option(min(unknown)))
    given = {name: _decoding.setting(name, value) for name, value in decoding.items() if value is not None}
    _decoding.generate_options(1, **given)
    return given


@dataclass(frozen=True)
class Vectors:
    """What :meth:`Pair.run` returns."""

    embeddings: NDArray[np.float32]
    """float32 [N, dim]; the row of an item with an error is NaN."""
    traces: list[tte.Trace | None]
    """One per item; None where it was not reasoned about."""
    errors: dict[int, str]
    """Message of each item that was skipped, by its position."""


class Pair:
    """A loaded embedder and its reasoner, called with the same settings every time.

    Args:
        embedder: an Embedder, or the path or hub id of one; None (with no reasoner): the bundled nano pair.
        reasoner: a Reasoner, or the path or hub id of one; None: nothing is reasoned about.
        think: as in :func:`tte.think_then_embed`; default "recipe" with a reasoner, False without.
        family: task family of the recipe's presets.
        device: "auto", "cpu", "cuda", "cuda:1".
        dtype: "auto", "float32", "bfloat16", "float16".
        normalize: divide by the L2 norm; default: as the recipe says.
        truncate_dim: keep the first dimensions, before normalising.
        decoding: further options of :func:`tte.think_then_embed`, `max_new_tokens` and so on.

    Raises:
        InputError: the settings do not go together.
        ModelError: a checkpoint does not fit.

    """

    def __init__(  # noqa: PLR0913
        self,
        embedder: tte.Embedder | PathLike | None = None,
        reasoner: tte.Reasoner | PathLike | None = None,
        *,
        think: Think | None = None,
        family: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        decoding: Mapping[str, Any] | None = None,
    ) -> None:
        embedder, reasoner = resolve_models(embedder, reasoner)
        self.think = resolve_think(think, reasoner is not None)
        self.decoding = check_decoding(decoding or {})
        self.family = _options.text(family, "family")
        self.normalize = _options.optional(_options.flag, normalize, "normalize")
        self.truncate_dim = _options.optional(_options.whole, truncate_dim, "truncate_dim", 1, _options.INT32)
        given = isinstance(reasoner, tte.Reasoner)
        if not isinstance(embedder, tte.Embedder):
            backend = backend_of(reasoner) if isinstance(reasoner, tte.Reasoner) else None
            embedder = tte.Embedder(embedder, backend=backend or tte.Backend(device), dtype=dtype)
        self.embedder = embedder
        self._dtype = dtype
        self._reasoner: tte.Reasoner | PathLike | None = reasoner
        if self.think and not given:
            self._load_reasoner()

    def _load_reasoner(self) -> None:
        assert self._reasoner is not None
        if not isinstance(self._reasoner, tte.Reasoner):
            self._reasoner = tte.Reasoner(self._reasoner, backend=self.embedder.backend, dtype=self._dtype)

    def with_think(self, think: Think) -> Pair:
        """Make the same pair with another `think`; the models are shared, the reasoner is loaded when first needed."""
        other = copy.copy(self)
        other.think = resolve_think(think, self._reasoner is not None)
        if other.think:
            self._load_reasoner()
            other._reasoner = self._reasoner
        return other

    @property
    def reasoner(self) -> tte.Reasoner | None:
        """The reasoner, where there is thinking."""
        return self._reasoner if self.think and isinstance(self._reasoner, tte.Reasoner) else None

    @property
    def dim(self) -> int:
        """Size of a vector."""
        return self.embedder.dim if self.truncate_dim is None else self.truncate_dim

    def run(
        self,
        items: Sequence[Any],
        *,
        side: Side | Sequence[str] = "query",
        family: str | None = None,
        instruction: str | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> Vectors:
        """Think about the items where `think` says so, and embed them; as :func:`tte.think_then_embed`."""
        family = family or self.family  # Items come as an iterator: always several, whatever they look like.
        if self.reasoner is not None:
            result = tte.think_then_embed(
                iter(items), reasoner=self.reasoner, embedder=self.embedder, think=self.think,
                instruction=instruction, task=family, side=side, normalize=self.normalize,
                truncate_dim=self.truncate_dim, on_error=on_error, progress=False, **self.decoding,
            )  # fmt: skip
            return Vectors(result.embeddings, result.traces, {e.index: e.message for e in result.errors})
        inputs = prepare(iter(items), on_error=on_error).native
        native = self.embedder._native.embed(
            inputs,
            instruction=_options.text(instruction, "instruction"),
            tasks=_options.tasks(family, side, len(inputs)),
            normalize=self.normalize,
            truncate_dim=self.truncate_dim,
            on_error=_options.on_error(on_error),
        )
        errors = {e.index: e.message for e in native.errors}
        return Vectors(native.take_data(), [None] * len(inputs), errors)

    def settings(self) -> dict[str, Any]:
        """Everything that the vectors depend on, as JSON would have it: models, recipes, prompts, decoding."""
        return {
            "embedder": describe(self.embedder),
            "reasoner": None if self.reasoner is None else describe(self.reasoner),
            "think": self.think,
            "family": self.family,
            "normalize": self.normalize,
            "truncate_dim": self.truncate_dim,
            "decoding": json.loads(json.dumps(self.decoding)) if self.reasoner is not None else {},
        }


def describe(model: tte.Embedder | tte.Reasoner) -> dict[str, Any]:
    """What one model adds to the settings; where it lies on the disk is not part of it."""
    return {**_content.model_identity(model.model), "recipe": json.loads(model.model.recipe)}
