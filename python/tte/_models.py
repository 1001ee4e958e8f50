"""Reasoner and Embedder: the engine's models with Python's manners."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from tte import _content, _decoding, _hub, _options, _sparse, _text, _tokens, _tte
from tte._backend import Backend
from tte._inputs import Item, prepare
from tte._keywords import named
from tte._media_limits import DEFAULT_LIMITS, MediaLimits, native
from tte._options import PathLike
from tte._pickled import again, given_arguments
from tte._processor import Tokenizer
from tte._traces import TraceLike, to_traces, token_callback


def folders(model: _tte.ModelDescription) -> dict[str, Any]:
    """What to load a model from again: where it was found, whatever it was given as."""
    if model.base is None:
        return {"path_or_id": model.path, "adapter": None}
    return {"path_or_id": model.base, "adapter": model.path}


def _draft_options(draft: Reasoner | PathLike | None) -> _tte.DraftOptions | None:
    if draft is None:
        return None
    if not isinstance(draft, Reasoner):
        return _tte.DraftOptions(*_hub.locate(draft))
    model = draft.model
    if model.server:
        raise _tte.InputError(f"draft is {draft!r}, which is behind a server: give a checkpoint that is loaded here.")
    where = folders(model)
    return _tte.DraftOptions(where["path_or_id"], where["adapter"], model.dtype, model.quantization)


@named
class _Model:
    """What a reasoner and an embedder have in common: how they are loaded, described and pickled."""

    _kind: type[_tte.Reasoner | _tte.Embedder]
    _native: _tte.Reasoner | _tte.Embedder

    def __init__(  # noqa: PLR0913
        self,
        path_or_id: PathLike,
        *,
        device: str = "auto",
        dtype: str = "auto",
        recipe: PathLike | None = None,
        backend: Backend | None = None,
        quantization: str | None = None,
        adapter: PathLike | None = None,
        template_options: Mapping[str, bool | int | str] | None = None,
        parse_control_tokens: bool = False,
        media_limits: MediaLimits | None = None,
        draft: Reasoner | PathLike | None = None,
    ) -> None:
        self._given = given_arguments(locals())
        if backend is not None and not isinstance(backend, Backend):
            raise _options.refuse("backend", backend, "a tte.Backend, or None")
        device = _options.device(device)
        if backend is not None and device not in ("auto", backend.device):
            raise _tte.InputError(
                f"device={_text.shown(device)} contradicts the backend, which is on {backend.device!r}: give one of "
                "them."
            )
        given = (
            _options.dtype(dtype),
            _options.recipe(recipe),
            _options.flag(parse_control_tokens, "parse_control_tokens"),
            native(media_limits),
        )
        folder, changes = _hub.locate(path_or_id, adapter, self._kind.__name__.lower())
        options = _tte.LoadOptions(
            *given, changes, _options.quantization(quantization), _draft_options(draft),
            _options.template_options(template_options),
        )  # fmt: skip
        self._native = self._kind.load(folder, options, (backend or Backend(device))._native)
        self._model = self._native.model
        _content.model_identity(self._model)  # Of its files as they are now.
        self._limits = media_limits or DEFAULT_LIMITS

    @property
    def model(self) -> _tte.ModelDescription:
        """Path, family, dtype, sizes, fingerprints, recipe."""
        return self._native.model

    @property
    def backend(self) -> Backend:
        """What the model runs on. Raises `Error` for one behind a server."""
        return Backend._wrap(self._native.backend)

    @property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer. Raises `Error` for a model behind a server."""
        return Tokenizer._wrap(self._native.tokenizer)

    @contextmanager
    def _checked(  # noqa: PLR0913
        self,
        label: str,
        inputs: Item | Iterable[Item],
        instruction: str | Sequence[str | None] | None,
        task: str | Sequence[str | None] | None,
        side: str | Sequence[str],
        allow_urls: bool,
        *,
        on_error: Literal["raise", "skip"],
        progress: _options.Progress,
        cancel: _tte.CancelToken | None,
        max_in_flight: int,
    ) -> Iterator[tuple[list[_tte.Input], dict[str, Any]]]:
        """What every call is handed: the items as the engine takes them, and its keywords, beside a bar."""
        what = prepare(inputs, instruction, on_error, allow_urls, self._limits)
        count = len(what.native)
        checked = {
            "instruction": what.instruction,
            "tasks": _options.tasks(task, side, count),
            "on_error": _options.on_error(on_error),
            "cancel": _options.cancel_token(cancel),
            "max_in_flight": _options.count(max_in_flight, "max_in_flight"),
        }
        with _options.progress_bar(progress, count, label) as report:
            yield what.native, {**checked, "progress": report}

    def __reduce__(self) -> Any:
        return again, (type(self), {**self._given, **folders(self.model)})

    def __repr__(self) -> str:
        bits = "" if self.model.quantization == "none" else f"quantization={self.model.quantization!r}, "
        return (
            f"{type(self).__name__}({str(self.model.path)!r}, family={self.model.family!r}, "
            f"dtype={self.model.dtype!r}, {bits}device={self.model.device!r}, layers={self.model.num_layers}, "
            f"hidden_size={self.model.hidden_size})"
        )


@named
class Reasoner(_Model):
    """A multimodal language model that writes reasoning traces.

    It can be pickled: where it is unpickled, it is loaded again from the same folder with the same arguments.

    Args:
        path_or_id: folder of a checkpoint as `save_pretrained` writes it, a hub id, or "nano" for the bundled one. The
            folder or id of a PEFT adapter loads the model that its adapter_config.json names, with the adapter. Weights
            of few bits (FP8, compressed-tensors) become numbers of the dtype.
        device: "auto", "cpu", "cuda", "cuda:1", "cuda:0,cuda:1", "cuda:all"; or hand in a `backend`.
        dtype: "auto" (the checkpoint's own), "float32", "bfloat16", "float16".
        recipe: a recipe file or the name of a bundled recipe; default: `recipe.json` of the checkpoint, else the
            bundled one that fits the checkpoint, else what its sentence-transformers files say, else the checkpoint's
            chat template as it is. `model.recipe_reason` says which and why, as `tte info` does.
        backend: share this backend; by default models on the same device share one.
        quantization: "int8" or "int4": the matrices of linear layers are rounded to this while they are loaded, and
            on a CPU their inputs to 8 bits in every call; less memory, and faster.
        adapter: folder or hub id of a PEFT adapter (LoRA, DoRA) of the checkpoint, which is merged into its weights as
            they are loaded. Tokenizer, template and recipe are the adapter's where its folder has them.
        template_options: what the chat template reads beside the messages, such as ``{"enable_thinking": False}``; on
            top of the recipe's. One that the template does not read is an error.
        parse_control_tokens: let strings such as ``<|im_end|>`` in the text of inputs act as control tokens, which
            is the default of transformers. By default they stay text.
        media_limits: what the images and videos of one item may cost.
        draft: a smaller reasoner, or its folder or hub id, that guesses tokens where prompt lookup finds none
            (speculative decoding): fewer steps where it guesses well, and the same tokens whatever it guesses. Its
            tokenizer must be the same; neither model may have recurrent layers. It reads the text of prompts, no images
            and videos, and its states take room of this model's `state_bytes`.

    Files of a checkpoint may be replaced (renamed over) while a model uses them, but not written to: that ends its
    calls with a ModelError, and pages that are cut off under a running step end the process.

    Raises:
        ModelError: the checkpoint does not fit; names file, key or tensor.
        DeviceError: the device is not available.

    """

    _kind = _tte.Reasoner
    _native: _tte.Reasoner

    def think(  # noqa: PLR0913
        self,
        inputs: Item | Iterable[Item],
        *,
        instruction: str | Sequence[str | None] | None = None,
        task: str | Sequence[str | None] | None = None,
        side: Literal["query", "target"] | Sequence[str] = "query",
        on_token: Callable[[int, str, int], bool | None] | None = None,
        on_result: Callable[[int, _tte.Trace], None] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        progress: _options.Progress = True,
        cancel: _tte.CancelToken | None = None,
        max_in_flight: int = 0,
        allow_urls: bool = False,
        **decoding: Unpack[_decoding.Decoding],
    ) -> list[_tte.Trace]:
        """Write one trace per input, in their order.

        Args:
            inputs: one item or a list; see :func:`tte.think_then_embed` for what an item can be.
            instruction: placed where the recipe says, one or one per item; an item's own comes first.
            task: task family of the recipe's presets ("image_qa", ...), one or one per item.
            side: "query" or "target".
            on_token: called as ``(item, text, id)`` with every token, on the calling thread, while the model writes on;
                it may call models itself. Returning False ends that trace with exactly this token; the model hears of
                it one step later.
            on_result: called as ``(item, trace)`` as soon as a trace ends.
            on_error: "raise", or "skip": a bad item's trace is empty with finish ERROR and says why, the others go on.
            progress: a bar, nothing, or a callable ``(done, total)``.
            cancel: stops the call from another thread.
            max_in_flight: items whose pixels and states are held at the same time; 0: twice what the engine runs.
            allow_urls: download images that are named by http(s) addresses; never done without it.
            **decoding: how traces are written. Numbers are one value, or one per item; what is not given (None) is as
                the recipe says, else as the checkpoint's generation_config.json says but for its sampling, else
                greedy: the same in C++. What that file asks for and tte does not have is a ModelError.

                * `max_new_tokens`: most of a trace; default: the recipe's, the checkpoint's, else 512 or what fits.
                * `temperature`: 0 is greedy, and top_p, top_k, min_p and seed then do nothing, which a warning says.
                * `top_p`: keep the smallest set of tokens with this probability.
                * `top_k`: keep this many tokens.
                * `min_p`: keep tokens with at least this fraction of the best one's probability.
                * `repetition_penalty`: divides the logits of tokens seen before; 1 is off.
                * `min_new_tokens`: no end token before.
                * `seed`: makes sampling repeatable, whatever else is in the batch.
                * `stop`: strings that end the text; they are cut off.
                * `stop_token_ids`: further end tokens.
                * `ignore_eos`: go on past the end tokens.
                * `max_think_tokens`: when spent inside <think>, the closing tag is forced.
                * `checkpoint_sampling`: sample where generation_config.json says so, as `generate` of transformers
                  does: its do_sample, temperature, top_k, top_p and min_p hold too.

        Raises:
            InputError: names the item.
            CancelledError: `cancel` was used; Ctrl-C raises KeyboardInterrupt. Both within one step.

        """
        with self._checked(
            "think", inputs, instruction, task, side, allow_urls,
            on_error=on_error, progress=progress, cancel=cancel, max_in_flight=max_in_flight,
        ) as (items, checked):  # fmt: skip
            return self._native.think(
                items,
                generate_each=_decoding.generate_options(len(items), self.model.recipe, **decoding),
                on_token=token_callback(on_token),
                on_result=_options.function(on_result, "on_result"),
                **checked,
            )

    def score(  # noqa: PLR0913
        self,
        inputs: Item | Iterable[Item],
        labels: Sequence[str],
        traces: Sequence[TraceLike | None] | TraceLike | None = None,
        *,
        instruction: str | Sequence[str | None] | None = None,
        task: str | Sequence[str | None] | None = None,
        side: Literal["query", "target"] | Sequence[str] = "query",
        on_error: Literal["raise", "skip"] = "raise",
        progress: _options.Progress = True,
        cancel: _tte.CancelToken | None = None,
        max_in_flight: int = 0,
        allow_urls: bool = False,
    ) -> NDArray[np.float32]:
        """How likely each label is as what the model would write next: log-probabilities, float32 [N, labels].

        Nothing is written: each prompt is read once, and for labels of several tokens these after it. The difference
        of two labels of one token each is that of their logits.

        Args:
            inputs: one item or a list; see :func:`tte.think_then_embed`.
            labels: texts of at most 1024 tokens, the same for all inputs. Each is tokenised by itself, control tokens
                as such; one of several tokens is scored as a sequence, by the sum over its tokens. A label that models
                write behind a space has one in front (" yes").
            traces: one per input (a Trace, its text, or None): what the model has written before the label.
            instruction: placed where the recipe says, one or one per item; an item's own comes first.
            task: task family of the recipe's presets, one or one per item.
            side: "query" or "target".
            on_error: "raise", or "skip": the row of a bad item is NaN.
            progress: a bar, nothing, or a callable ``(done, total)``.
            cancel: stops the call from another thread.
            max_in_flight: items whose pixels and states are held at the same time; 0: twice what the engine runs.
            allow_urls: download images that are named by http(s) addresses; never done without it.

        Raises:
            InputError: names the item, or the label that is empty or given twice.
            CancelledError: `cancel` was used.

        """
        texts = [
            _options.string(label, f"labels[{i}]")
            for i, label in enumerate(_options.listed(labels, "labels", "a list of texts"))
        ]
        with self._checked(
            "score", inputs, instruction, task, side, allow_urls,
            on_error=on_error, progress=progress, cancel=cancel, max_in_flight=max_in_flight,
        ) as (items, checked):  # fmt: skip
            return self._native.score(items, texts, traces=to_traces(traces, len(items)), **checked)


@named
class Embedder(_Model):
    """A multimodal embedding model. Arguments and errors are those of :class:`Reasoner`; `draft` is for that alone.

    The folder of an embedding head (`tte_head.json` and `head.safetensors`: TTE-u) loads its base with it. Behind a
    Reasoner that is this very base, of the same dtype on the same backend, the head goes on from the hidden states of
    the pass that wrote the trace. Elsewhere the base reads prompt and trace once, up to where the head begins.
    """

    _kind = _tte.Embedder
    _native: _tte.Embedder

    def embed(  # noqa: PLR0913
        self,
        inputs: Item | Iterable[Item],
        traces: Sequence[TraceLike | None] | TraceLike | None = None,
        *,
        instruction: str | Sequence[str | None] | None = None,
        task: str | Sequence[str | None] | None = None,
        side: Literal["query", "target"] | Sequence[str] = "query",
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        on_result: Callable[[int, NDArray[np.float32]], None] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        progress: _options.Progress = True,
        cancel: _tte.CancelToken | None = None,
        max_in_flight: int = 0,
        allow_urls: bool = False,
    ) -> NDArray[np.float32]:
        """Embed the inputs: float32 [N, dim], also for a single item (N = 1).

        Args:
            inputs: one item or a list; see :func:`tte.think_then_embed`.
            traces: one per input (a Trace, its text, or None), read after the input.
            instruction: placed where the recipe says, one or one per item; an item's own comes first.
            task: task family of the recipe's presets, one or one per item.
            side: "query" or "target".
            normalize: divide by the L2 norm; default: as the recipe says (yes, unless it says no).
            truncate_dim: keep the first dimensions (Matryoshka), before normalising.
            on_result: called as ``(item, vector)`` as soon as a vector is there.
            on_error: "raise", or "skip": the row of a bad item is NaN.
            progress: a bar, nothing, or a callable ``(done, total)``.
            cancel: stops the call from another thread.
            max_in_flight: items whose pixels and states are held at the same time; 0: twice what the engine runs.
            allow_urls: download images that are named by http(s) addresses; never done without it.

        Raises:
            InputError: names the item.
            CancelledError: `cancel` was used.

        """
        with self._checked(
            "embed", inputs, instruction, task, side, allow_urls,
            on_error=on_error, progress=progress, cancel=cancel, max_in_flight=max_in_flight,
        ) as (items, checked):  # fmt: skip
            vectors = _vector_options(len(items), traces, normalize, truncate_dim)
            told = _options.function(on_result, "on_result")
            return self._native.embed(items, on_result=told, **vectors, **checked).take_data()

    def embed_tokens(  # noqa: PLR0913
        self,
        inputs: Item | Iterable[Item],
        traces: Sequence[TraceLike | None] | TraceLike | None = None,
        *,
        keep: _tokens.Origin | Literal["all"] | Iterable[_tokens.Origin] | None = None,
        dtype: Literal["float16", "float32"] = "float16",
        pool_factor: int = 1,
        pooling: Literal["neighbours", "hierarchical"] = "hierarchical",
        instruction: str | Sequence[str | None] | None = None,
        task: str | Sequence[str | None] | None = None,
        side: Literal["query", "target"] | Sequence[str] = "query",
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        progress: _options.Progress = True,
        cancel: _tte.CancelToken | None = None,
        max_in_flight: int = 0,
        allow_urls: bool = False,
    ) -> _tokens.TokenEmbeddings:
        """Vectors of the tokens of each input: hidden states after the final norm, and one pooled vector beside them.

        Args:
            inputs: one item or a list; see :func:`tte.think_then_embed`.
            traces: one per input (a Trace, its text, or None), read after the input.
            keep: which tokens get a vector: some of "text" (words: of the template, the instruction and the item),
                "visual" (parts of images and videos), "trace" (words of the trace) and "special" (the tokenizer's
                special tokens, such as ``<|im_end|>``, wherever they stand), or "all"; None: all but special
                ones, and these too where the recipe pools nothing. An item of which none is kept gets its pooled
                vector.
            dtype: of the vectors.
            pool_factor: the tokens of an item become fewer by this factor: of each origin, n vectors become
                ceil(n / pool_factor), each the mean of several, normalised again.
            pooling: how they are chosen: "hierarchical" (Ward's clusters of similar vectors) or "neighbours".
            instruction: placed where the recipe says, one or one per item; an item's own comes first.
            task: task family of the recipe's presets, one or one per item.
            side: "query" or "target".
            normalize: divide each vector by its L2 norm, in float32; default: tokens yes, the pooled vector as the
                recipe says.
            truncate_dim: keep the first dimensions of all vectors, before normalising.
            on_error: "raise", or "skip": a bad item has no rows, and its pooled vector is NaN.
            progress: a bar, nothing, or a callable ``(done, total)``.
            cancel: stops the call from another thread.
            max_in_flight: items whose pixels and states are held at the same time; 0: twice what the engine runs.
            allow_urls: download images that are named by http(s) addresses; never done without it.

        Raises:
            InputError: names the item.
            CancelledError: `cancel` was used.

        """
        tokens = _tokens.options(keep, dtype, pool_factor, pooling)
        with self._checked(
            "embed tokens", inputs, instruction, task, side, allow_urls,
            on_error=on_error, progress=progress, cancel=cancel, max_in_flight=max_in_flight,
        ) as (items, checked):  # fmt: skip
            vectors = _vector_options(len(items), traces, normalize, truncate_dim)
            native = self._native.embed_tokens(items, tokens=tokens, **vectors, **checked)
        return _tokens.taken(native, native.pooled.take_data())

    def embed_sparse(  # noqa: PLR0913
        self,
        inputs: Item | Iterable[Item],
        traces: Sequence[TraceLike | None] | TraceLike | None = None,
        *,
        top_k: int | None = None,
        instruction: str | Sequence[str | None] | None = None,
        task: str | Sequence[str | None] | None = None,
        side: Literal["query", "target"] | Sequence[str] = "query",
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        progress: _options.Progress = True,
        cancel: _tte.CancelToken | None = None,
        max_in_flight: int = 0,
        allow_urls: bool = False,
    ) -> _sparse.SparseEmbeddings:
        """Sparse vectors of the inputs, of systems that were trained to make them, and the dense ones of the same pass.

        Args:
            inputs: one item or a list; see :func:`tte.think_then_embed`.
            traces: one per input (a Trace, its text, or None), read after the input.
            top_k: keep so many of the largest values of each vector; None: all that are above 0.
            instruction: placed where the recipe says, one or one per item; an item's own comes first.
            task: task family of the recipe's presets, one or one per item.
            side: "query" or "target".
            normalize: divide the dense vectors by their L2 norm; default: as the recipe says. Sparse ones never are.
            truncate_dim: keep the first dimensions of the dense vectors.
            on_error: "raise", or "skip": the sparse vector of a bad item is empty, and its dense one NaN.
            progress: a bar, nothing, or a callable ``(done, total)``.
            cancel: stops the call from another thread.
            max_in_flight: items whose pixels and states are held at the same time; 0: twice what the engine runs.
            allow_urls: download images that are named by http(s) addresses; never done without it.

        Raises:
            InputError: names the item; the recipe has no sparse vector.
            ModelError: the file of the sparse heads is missing.
            CancelledError: `cancel` was used.

        """
        with self._checked(
            "embed sparse", inputs, instruction, task, side, allow_urls,
            on_error=on_error, progress=progress, cancel=cancel, max_in_flight=max_in_flight,
        ) as (items, checked):  # fmt: skip
            vectors = _vector_options(len(items), traces, normalize, truncate_dim)
            kept = _options.optional(_options.whole, top_k, "top_k", 1, _options.INT32)
            native = self._native.embed_sparse(items, top_k=kept, **vectors, **checked)
        return _sparse.taken(native, native.pooled.take_data())

    @property
    def sparse_dim(self) -> int:
        """Size of a sparse vector; 0: there is none, or the file of its heads is not in the checkpoint's folder."""
        return self._native.sparse_dim

    @property
    def dim(self) -> int:
        """Size of a vector that is not truncated."""
        return self._native.dim


def check_roles(reasoner: object, embedder: object) -> None:
    """Refuse a loaded model that is given for the other role."""
    for name, given, wanted, other in (
        ("reasoner", reasoner, Reasoner, Embedder), ("embedder", embedder, Embedder, Reasoner),
    ):  # fmt: skip
        if isinstance(given, other) and not isinstance(given, wanted):
            raise _tte.InputError(
                f"{name} is {_text.shown(given)}: give a tte.{wanted.__name__}, or the folder of its checkpoint."
            )


def _vector_options(
    count: int,
    traces: Sequence[TraceLike | None] | TraceLike | None,
    normalize: bool | None,
    truncate_dim: int | None,
) -> dict[str, Any]:
    """What all calls that embed `count` items take besides, checked: the engine's keywords."""
    return {
        "traces": to_traces(traces, count),
        "normalize": _options.optional(_options.flag, normalize, "normalize"),
        "truncate_dim": _options.optional(_options.whole, truncate_dim, "truncate_dim", 1, _options.INT32),
    }


def backend_of(reasoner: Reasoner) -> Backend | None:
    """What an embedder beside a reasoner is loaded on; None where that is behind a server, and shares nothing."""
    return None if reasoner.model.server else reasoner.backend
