"""Every argument of every public call takes what it should, and refuses everything else in one sentence."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import io
import itertools
import math
import shutil
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tte
import tte.mmeb
from PIL import Image
from test_sparse import heads_of, with_sparse_recipe
from tte import _text, _tokens
from tte._decoding import DECODING, Decoding
from zoo import ZOO, BadRepr, misunderstood

NANO = Path(tte.__file__).parent / "models" / "nano"


@pytest.fixture(scope="module")
def reasoner() -> tte.Reasoner:
    return tte.Reasoner(NANO / "reasoner", device="cpu")


@pytest.fixture(scope="module")
def embedder(reasoner: tte.Reasoner) -> tte.Embedder:
    return tte.Embedder(NANO / "embedder", backend=reasoner.backend)


@pytest.fixture(scope="module")
def calls(
    reasoner: tte.Reasoner, embedder: tte.Embedder, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Each public call with the arguments that make it work."""
    folder = tmp_path_factory.mktemp("stores")
    store = tte.TraceStore(folder / "traces.sqlite")
    request = store.request(reasoner, "a")
    (trace,) = reasoner.think("a", max_new_tokens=1)
    result = tte.think_then_embed("a", reasoner=reasoner, embedder=embedder, think=False)
    pdf = io.BytesIO()
    Image.new("L", (9, 9)).save(pdf, "PDF")
    limits = ("max_pixels", "max_file_bytes", "max_item_bytes", "max_item_pixels")
    two = tte.think_then_embed(["a", "b"], reasoner=reasoner, embedder=embedder, think=False)

    def auto(**arguments: Any) -> None:
        think = tte.AutoThink(**arguments)
        tte.think_then_embed("a", reasoner=reasoner, embedder=embedder, think=think, max_new_tokens=1, progress=False)

    def look_at(**arguments: Any) -> None:
        made = tte.Result(**arguments)
        assert repr(made)
        assert made._repr_html_()
        assert len(made.neighbours(1, two)) == len(made.similarity()) == len(made)

    tokens = embedder.embed_tokens(["a", "b"], progress=False)
    tokens.save(folder / "tokens.npy")
    writer = tte.TokenWriter(folder / "written.npy")
    arrays = {field.name: getattr(tokens, field.name) for field in dataclasses.fields(tokens)}

    def look_up(index: Any) -> None:
        with contextlib.suppress(IndexError):
            tokens[index]

    def turn_to(index: Any) -> None:
        with contextlib.suppress(IndexError):
            pages[index]

    def load_nothing(**arguments: Any) -> None:
        with contextlib.suppress(tte.mmeb.data.layout.MissingError):
            tte.mmeb.load(**arguments)

    files = with_sparse_recipe(NANO / "embedder", folder / "sparse")
    torch.save(heads_of(files), files / "heads.pt")
    sparse_embedder = tte.Embedder(files, device="cpu")
    sparse = sparse_embedder.embed_sparse(["a", "b"], progress=False)
    matrix = {field.name: getattr(sparse, field.name) for field in dataclasses.fields(sparse)}

    def look_into(index: Any) -> None:
        with contextlib.suppress(IndexError):
            sparse[index]

    def quantize_anew(**arguments: Any) -> None:
        shutil.rmtree(folder / "rounded", ignore_errors=True)
        with contextlib.chdir(folder):  # Some of the values are names of new folders.
            tte.quantize(**arguments)

    tokenizer, processor = reasoner.tokenizer, tte.Processor(NANO / "reasoner")
    pages = tte.pages(pdf.getvalue())
    reranker, pair = tte.Reranker(reasoner), {"query": "a", "documents": ["b"], "progress": False}
    written = folder / "written.jsonl"
    written.write_text('{"id": "a", "trace": "b"}\n')
    return {
        "Backend": (tte.Backend, {"device": "cpu", "threads": 1, "media_threads": 1}),
        "Reasoner": (tte.Reasoner, {"path_or_id": NANO / "reasoner", "device": "cpu"}),
        "Embedder": (tte.Embedder, {"path_or_id": NANO / "embedder", "device": "cpu"}),
        "Processor": (tte.Processor, {"path_or_id": NANO / "reasoner"}),
        "Tokenizer": (tte.Tokenizer, {"path_or_id": NANO / "reasoner"}),
        "Trace": (tte.Trace, {"text": "x"}),
        "Reasoner.think": (reasoner.think, {"inputs": "a", "max_new_tokens": 1, "progress": False}),
        "Embedder.embed": (embedder.embed, {"inputs": "a", "progress": False}),
        "Embedder.embed_tokens": (embedder.embed_tokens, {"inputs": "a", "progress": False}),
        "Embedder.embed_sparse": (sparse_embedder.embed_sparse, {"inputs": "a", "progress": False}),
        "SparseEmbeddings": (tte.SparseEmbeddings, matrix),
        "SparseEmbeddings.dot": (sparse.dot, {"other": sparse}),
        "SparseEmbeddings.__getitem__": (look_into, {"index": 0}),
        "Reasoner.score": (reasoner.score, {"inputs": "a", "labels": ["x"], "progress": False}),
        "TokenEmbeddings": (tte.TokenEmbeddings, arrays),
        "TokenEmbeddings.of": (tte.TokenEmbeddings.of, {"sets": list(tokens)}),
        "TokenEmbeddings.load": (tte.TokenEmbeddings.load, {"path": folder / "tokens.npy"}),
        "TokenEmbeddings.save": (tokens.save, {"path": folder / "others.npy"}),
        "TokenWriter": (tte.TokenWriter, {"path": folder / "more.npy"}),
        "TokenWriter.append": (writer.append, {"tokens": tokens}),
        "TokenEmbeddings.only": (lambda origin: tokens.only(origin), {"origin": "text"}),
        "TokenEmbeddings.mask": (lambda origin: tokens.mask(origin), {"origin": "text"}),
        "TokenEmbeddings.__getitem__": (look_up, {"index": 0}),
        "maxsim": (tte.maxsim, {"queries": tokens, "documents": tokens}),
        "mean_maxsim": (tte.mean_maxsim, {"queries": tokens, "documents": tokens}),
        "hybrid": (tte.hybrid, {"queries": tokens, "documents": tokens}),
        "Processor.__call__": (processor.__call__, {"item": "a"}),
        "Tokenizer.encode": (tokenizer.encode, {"text": "a"}),
        "Tokenizer.decode": (tokenizer.decode, {"ids": [1]}),
        "Tokenizer.apply_chat_template": (
            tokenizer.apply_chat_template,
            {"messages": [{"role": "user", "content": "a"}]},
        ),
        "Tokenizer.id_of": (tokenizer.id_of, {"token": "a"}),
        "think_then_embed": (
            tte.think_then_embed,
            {"inputs": "a", "reasoner": reasoner, "embedder": embedder, "max_new_tokens": 1, "progress": False},
        ),
        "TraceStore": (tte.TraceStore, {"path": store.path, "read_only": True}),
        "TraceStore.request": (
            store.request,
            {"reasoner": reasoner, "item": "a", "max_new_tokens": 1, "stop": "x", "seed": 1},
        ),
        "TraceStore.get": (store.get, {"request": request}),
        "TraceStore.get_many": (store.get_many, {"keys": [request.key]}),
        "TraceStore.put": (store.put, {"request": request, "trace": trace}),
        "TraceStore.__contains__": (store.__contains__, {"key": request}),
        "TraceStore.think": (
            store.think,
            {"reasoner": reasoner, "inputs": "a", "max_new_tokens": 1, "progress": False},
        ),
        "TraceStore.export": (store.export, {"path": folder / "traces.jsonl"}),
        "TraceStore.merge": (store.merge, {"path": store.path}),
        "Result.similarity": (result.similarity, {}),
        "Result.neighbours": (result.neighbours, {}),
        "MediaLimits": (tte.MediaLimits, dict.fromkeys(limits, 1)),
        "pages": (tte.pages, {"document": pdf.getvalue()}),
        "AutoThink": (auto, {"targets": two, "margin": 0.1}),
        "Result": (
            look_at,
            {
                "embeddings": result.embeddings,
                "traces": result.traces,
                "timings": result.timings,
                "stats": result.stats,
                "errors": [],
                "inputs": ["a"],
            },
        ),
        "Pages": (tte.Pages, {"document": pdf.getvalue()}),
        "Pages.__getitem__": (turn_to, {"index": 0}),
        "RemoteReasoner": (tte.RemoteReasoner, {"base_url": "http://127.0.0.1:9/v1", "model": "m"}),
        "Reranker": (tte.Reranker, {"reasoner": reasoner}),
        "Reranker.score": (reranker.score, pair),
        "Reranker.rank": (reranker.rank, pair),
        "read_traces": (tte.read_traces, {"path": written}),
        "quantize": (
            quantize_anew,
            {"path_or_id": NANO / "reasoner", "folder": folder / "rounded", "quantization": "int8", "adapter": None},
        ),
        "mmeb.load": (load_nothing, {"task": "MSVD", "data_dir": folder}),
        "mmeb.tasks": (tte.mmeb.tasks, {"names": ["MSVD"]}),
    }


CALLS = [
    "Backend", "Reasoner", "Embedder", "Processor", "Tokenizer", "Trace", "Reasoner.think", "Embedder.embed",
    "Embedder.embed_tokens", "Processor.__call__", "Tokenizer.encode", "Tokenizer.decode",
    "Tokenizer.apply_chat_template", "Tokenizer.id_of", "think_then_embed", "TraceStore", "TraceStore.request",
    "TraceStore.get", "TraceStore.get_many", "TraceStore.put", "TraceStore.__contains__", "TraceStore.think",
    "TraceStore.export", "TraceStore.merge", "Result.similarity", "Result.neighbours", "MediaLimits", "pages",
    "AutoThink", "Result", "Pages", "Reasoner.score", "TokenEmbeddings", "TokenEmbeddings.of",
    "TokenEmbeddings.load", "TokenEmbeddings.save", "TokenWriter", "TokenWriter.append", "TokenEmbeddings.only",
    "TokenEmbeddings.mask", "TokenEmbeddings.__getitem__", "maxsim", "mean_maxsim", "hybrid", "Pages.__getitem__",
    "RemoteReasoner", "Reranker", "Reranker.score", "Reranker.rank", "read_traces", "mmeb.load",
    "mmeb.tasks", "Embedder.embed_sparse", "SparseEmbeddings", "SparseEmbeddings.dot",
    "SparseEmbeddings.__getitem__", "quantize",
]  # fmt: skip


def parameters(function: Callable[..., Any], good: dict[str, Any]) -> list[str]:
    if function is tte.Trace:
        return ["text"]
    named = inspect.signature(function).parameters
    own = [name for name, each in named.items() if name != "self" and each.kind != each.VAR_KEYWORD]
    gathered = DECODING if "decoding" in named else ()
    return list(dict.fromkeys([*own, *gathered, *good]))


NATIVE = [
    name
    for name in tte.__all__
    if isinstance(thing := getattr(tte, name), type) and vars(tte._tte).get(name) is thing
    if not issubclass(thing, Exception)
]


def public_calls() -> Iterator[tuple[str, Callable[..., Any]]]:
    """What is exported and what its classes define, by name, but results, errors, and what the next test is about."""
    for name in set(tte.__all__) - {"Best", *NATIVE}:
        thing = getattr(tte, name)
        if isinstance(thing, type) and issubclass(thing, Exception):
            continue
        if callable(thing):
            yield name, thing
        for method in vars(thing) if isinstance(thing, type) else ():
            if not method.startswith("_") or method in ("__call__", "__getitem__", "__contains__"):
                yield f"{name}.{method}", getattr(thing, method)


def test_every_public_call_is_tried() -> None:
    def takes_something(call: Callable[..., Any]) -> bool:
        return callable(call) and bool(set(inspect.signature(call).parameters) - {"self"})

    assert {name for name, call in public_calls() if takes_something(call)} <= set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_an_unknown_keyword_is_told_with_the_nearest(
    calls: dict[str, tuple[Callable[..., Any], dict[str, Any]]], name: str
) -> None:
    call, good = calls[name]
    known = [each for each in parameters(call, good) if len(each) > 3]
    own = call in (tte.Trace, tte.Pages) or name.endswith(("__getitem__", "__contains__"))
    if own or not known or call.__module__ == __name__ or name == "Reranker.rank":
        return  # Not a call by keywords, without a longer name, of this test, or whose options are another call's.
    meant = max(known, key=len)
    for wrong, words in ((f"{meant}z", f": did you mean {meant!r}?"), ("qqxxqq", ": its documentation says")):
        with pytest.raises(TypeError) as error:
            call(**good, **{wrong: 1})
        message = str(error.value)
        assert f"() has no argument '{wrong}'{words}" in message
        assert message.split("(", maxsplit=1)[0] in name
        assert len(message) < 500


def test_slips_of_names_are_understood() -> None:
    for call, name in (
        (lambda: tte.think_then_embed("a", max_tokens=3), "max_new_tokens"),  # type: ignore[call-arg]
        (lambda: tte.think_then_embed("a", embeder="nano"), "embedder"),  # type: ignore[call-arg]
        (lambda: tte.Reasoner("nano", quantisation="int8"), "quantization"),  # type: ignore[call-arg]
        (lambda: tte.Embedder("nano", adaptor="x"), "adapter"),  # type: ignore[call-arg]
        (lambda: tte.Backend(num_threads=2), "threads"),  # type: ignore[call-arg]
        (lambda: tte.MediaLimits(max_pixel=2), "max_pixels"),  # type: ignore[call-arg]
        (lambda: tte.Reranker("nano").rank("a", ["b"], temprature=1), "temperature"),
    ):
        with pytest.raises(TypeError, match=f"has no argument '.*': did you mean '{name}'"):
            call()


def test_the_gathered_options_are_those_of_the_engine() -> None:
    assert set(Decoding.__annotations__) == set(DECODING)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore")
def test_every_argument_takes_or_refuses_every_value(
    calls: dict[str, tuple[Callable[..., Any], dict[str, Any]]], name: str
) -> None:
    call, good = calls[name]
    wrong = misunderstood(call, good, parameters(call, good), endless=("inputs", "item"))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", NATIVE)
def test_every_exported_class_refuses_other_calls_in_one_sentence(name: str) -> None:
    kind = getattr(tte, name)
    methods = [method for method in vars(kind) if not method.startswith("_") and callable(getattr(kind, method))]
    made = {"CancelToken": tte.CancelToken, "Trace": lambda: tte.Trace("x")}.get(name)
    calls = [(name, kind), *((method, getattr(kind, method)) for method in methods)]
    if made is not None:
        calls += [(method, getattr(made(), method)) for method in methods if callable(getattr(made(), method))]
    for called, call in calls:
        for value in ZOO.values():
            for arguments, named in (([value], {}), ([value, value], {}), ([], {"nothing": value}), ([], {})):
                try:
                    call(*arguments, **named)
                except tte.InputError as error:
                    message = str(error)
                    assert called.lower() in message.lower(), message
                    assert len(message) < 500, message
                    assert "\n" not in message, message
                    assert message.endswith("."), message


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tte.CancelToken(5), "tte.CancelToken() is given 5: it takes no argument."),
        (lambda: tte.CancelToken().cancel(1), "tte.CancelToken.cancel() is given 1: it takes no argument."),
        (lambda: tte.Trace(), "tte.Trace() is given nothing: it takes (text: object)."),
        (lambda: tte.Trace(txt="a"), "tte.Trace() is given txt='a': it takes (text: object)."),
        (lambda: tte.Timings(), "tte.Timings() is given nothing: only tte makes one."),
        (lambda: tte.FinishReason("STOP"), "tte.FinishReason() is given 'STOP': it takes one of STOP, LENGTH, "),
        (lambda: tte.FinishReason(99), "tte.FinishReason() is given 99: it takes one of STOP, LENGTH, "),
        (lambda: tte.FinishReason(), "tte.FinishReason() is given nothing: it takes one of STOP, LENGTH, "),
    ],
)
def test_calls_of_exported_classes_name_value_and_remedy(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(tte.InputError) as error:
        call()
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_new_tokens", 0), ("max_new_tokens", 2**32 + 14), ("max_new_tokens", 1.0), ("max_new_tokens", True),
        ("top_k", -1), ("top_k", 2**32 + 14), ("top_k", 2.5), ("top_p", -0.1), ("top_p", 1.1), ("top_p", math.nan),
        ("min_p", 2), ("temperature", math.inf), ("temperature", -1), ("temperature", False), ("temperature", "0"),
        ("temperature", 1e31), ("repetition_penalty", 0), ("repetition_penalty", 1e-37), ("repetition_penalty", 1e31),
        ("seed", -1), ("seed", 2**64), ("seed", 1.0), ("min_new_tokens", -1),
        ("max_think_tokens", -1), ("max_think_tokens", np.float32(3)), ("stop_token_ids", [2**63]),
        ("stop_token_ids", [-1]), ("stop_token_ids", [1.0]), ("stop_token_ids", [True]), ("stop", [1]), ("stop", [""]),
        ("stop_token_ids", [10**9]), ("stop", itertools.count()), ("stop", {"a": 1}), ("ignore_eos", 1),
        ("seed", itertools.count()),
    ],
    ids=str,
)  # fmt: skip
def test_decoding_options_out_of_range_are_named(reasoner: tte.Reasoner, option: str, value: Any) -> None:
    with pytest.raises(tte.InputError, match=option):
        reasoner.think("a", **{option: value})


def test_the_item_with_a_bad_option_is_named(reasoner: tte.Reasoner) -> None:
    with pytest.raises(tte.InputError, match="item 2: max_new_tokens is 0"):
        reasoner.think(["a", "b", "c"], max_new_tokens=[1, 2, 0], progress=False)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, lambda values: iter_free(values)])
def test_options_per_item_come_in_any_sequence(reasoner: tte.Reasoner, kind: Callable[[list[int]], Any]) -> None:
    traces = reasoner.think(["a", "b"], max_new_tokens=kind([1, 2]), ignore_eos=True, progress=False)
    assert [len(trace.token_ids) for trace in traces] == [1, 2]


def iter_free(values: list[int]) -> Any:
    return dict(enumerate(values)).values()


@pytest.mark.parametrize("value", [np.int32(2), np.uint8(2), np.int64(2), torch.tensor(2), np.array(2)], ids=repr)
def test_whole_numbers_of_other_libraries(reasoner: tte.Reasoner, embedder: tte.Embedder, value: Any) -> None:
    (trace,) = reasoner.think("a", max_new_tokens=value, ignore_eos=True, stop_token_ids=[value, 5])
    assert len(trace.token_ids) <= 2
    assert embedder.embed("a", truncate_dim=value).shape == (1, 2)
    assert reasoner.tokenizer.decode([value]) == reasoner.tokenizer.decode([2])


@pytest.mark.parametrize("value", [np.float32(0), np.float64(0), torch.tensor(0.0), Fraction(0), 0], ids=repr)
def test_numbers_of_other_libraries(reasoner: tte.Reasoner, value: Any) -> None:
    assert reasoner.think("a", max_new_tokens=2, temperature=value) == reasoner.think("a", max_new_tokens=2)


@pytest.mark.parametrize("dtype", ["float32", torch.float32, np.float32, np.dtype("float32")], ids=repr)
@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")], ids=repr)
def test_dtypes_and_devices_of_torch_and_numpy(dtype: Any, device: Any) -> None:
    model = tte.Embedder(NANO / "embedder", dtype=dtype, device=device).model
    assert (model.dtype, model.device) == ("float32", "cpu")


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda values: [np.bool_(value) for value in values]])
def test_think_takes_lists_of_bools_of_other_libraries(
    reasoner: tte.Reasoner, embedder: tte.Embedder, kind: Callable[[list[bool]], Any]
) -> None:
    think = kind([True, False])
    if isinstance(think, torch.Tensor):
        think = list(think.numpy())
    result = tte.think_then_embed(
        ["a", "b"], reasoner=reasoner, embedder=embedder, think=think, max_new_tokens=1, progress=False
    )
    assert [trace is not None for trace in result.traces] == [True, False]


@pytest.mark.parametrize("option", [{"top_p": 0.5}, {"top_k": 3}, {"min_p": 0.1}, {"seed": 3}], ids=str)
def test_what_does_nothing_at_temperature_zero_is_told(reasoner: tte.Reasoner, option: dict[str, Any]) -> None:
    with pytest.warns(UserWarning, match=f"{next(iter(option))} does nothing at temperature 0") as told:
        reasoner.think("a", max_new_tokens=1, **option)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reasoner.think("a", max_new_tokens=1, temperature=1.0, **option)
        reasoner.think("a", max_new_tokens=1, checkpoint_sampling=True, **option)
        reasoner.think("a", max_new_tokens=1, top_p=1.0, top_k=0, min_p=0.0, seed=None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10**5000, "a int"),
        (BadRepr(), "<BadRepr instance at"),
        ("a\nb" * 100, "'a\\nba\\n"),
        ([[1] * 1000] * 1000, "[[1, 1, 1, 1, 1, 1, ...]"),
        ("\ud800", "'\\ud800'"),
    ],
    ids=["5,000 digits", "bad repr", "long", "nested", "surrogate"],
)
def test_values_are_shown_in_one_short_line(value: Any, text: str) -> None:
    shown = _text.shown(value)
    assert shown.startswith(text)
    assert len(shown) <= 80
    assert "\n" not in shown


def test_vectors_are_taken_once(embedder: tte.Embedder) -> None:
    items = [tte._tte.Input(parts=[text]) for text in "ab"]
    rows = embedder._native.embed(items)
    first = rows.take_data()
    assert first.shape == (2, embedder.dim)
    with pytest.raises(tte.InputError, match="already"):
        rows.take_data()
    tokens = embedder._native.embed_tokens(items, tokens=_tokens.options())
    assert tokens.take_data().shape == (tokens.offsets[-1], tokens.pooled.dim)
    with pytest.raises(tte.InputError, match="already"):
        tokens.take_data()
    assert np.isfinite(first).all(), "the first array keeps its memory"
    assert embedder.embed([]).shape == (0, embedder.dim)


async def _awaited(*_: object) -> bool:
    return True


def _iterated(*_: object) -> Iterator[bool]:
    yield True


class _Awaited:
    async def __call__(self, *_: object) -> bool:
        return True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1}, "temperature is -1: it must be"),
        ({"temperature": []}, None),
        ({"seed": "x"}, "seed is 'x': it must be"),
        ({"stop": 1}, "stop is 1: it must be"),
        ({"task": 3}, "task is 3: it must be"),
        ({"side": "x"}, "side is 'x': it must be"),
        ({"side": ["x"]}, "side has 1 values for 0 items"),
    ],
)
def test_arguments_are_checked_where_there_are_no_items(
    reasoner: tte.Reasoner, embedder: tte.Embedder, options: Any, message: str | None
) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: reasoner.think([], **options),
        lambda: tte.think_then_embed([], reasoner=reasoner, embedder=embedder, **options).traces,
    ]
    for call in calls:
        if message is None:
            assert list(call()) == []
            continue
        with pytest.raises(tte.InputError, match=f"^{message}"):
            call()


@pytest.mark.parametrize(
    "later", [_awaited, _iterated, _Awaited(), functools.partial(_awaited, 1), lambda *_: _awaited()]
)
def test_callbacks_that_nobody_would_wait_for_are_refused(
    reasoner: tte.Reasoner, embedder: tte.Embedder, later: Any, tmp_path: Path
) -> None:
    store, pair = tte.TraceStore(tmp_path / "a.sqlite"), {"reasoner": reasoner, "embedder": embedder}
    tokens = embedder.embed_tokens("a", progress=False)
    for name, call in [
        *((name, functools.partial(reasoner.think, "a")) for name in ("on_token", "on_result", "progress")),
        *((name, functools.partial(store.think, reasoner, name)) for name in ("on_token", "on_result", "progress")),
        *((name, functools.partial(embedder.embed, "a")) for name in ("on_result", "progress")),
        *((name, functools.partial(tte.think_then_embed, "a", **pair)) for name in ("think", "on_trace", "on_vector")),
        ("on_trace", functools.partial(tte.think_then_embed, "not kept yet", **pair, store=store)),
        ("progress", functools.partial(embedder.embed_tokens, "a")),
        ("progress", functools.partial(reasoner.score, "a", ["x"])),
        ("progress", functools.partial(tte.Reranker(reasoner).score, "a", ["x"])),
        ("progress", functools.partial(tte.maxsim, tokens, tokens)),
        ("progress", functools.partial(tte.hybrid, tokens, tokens)),
    ]:  # fmt: skip
        with pytest.raises(
            tte.InputError, match=rf"^{name} is .*: it must be a plain function, with neither async nor"
        ):
            call(**{name: later})


def test_views_are_not_copied_before_they_are_refused(reasoner: tte.Reasoner, embedder: tte.Embedder) -> None:
    view = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (1 << 40, 30, 3))
    rows = torch.zeros(1, 2).expand(1 << 40, 2)
    result = tte.think_then_embed("a", reasoner=reasoner, embedder=embedder, think=False)
    calls: list[Callable[[], object]] = [
        lambda: result.similarity(view),
        lambda: result.similarity(rows),
        lambda: result.similarity(range(1 << 40)),  # type: ignore[arg-type]
        lambda: embedder.embed("a", rows),
        lambda: reasoner.think("a", stop=view),
        lambda: reasoner.think("a", stop_token_ids=view[:10_000_000]),
        lambda: reasoner.tokenizer.decode(view[:10_000_000]),
        lambda: tte.think_then_embed("a", think=tte.AutoThink(targets=rows), progress=False),
        lambda: embedder.embed("a", instruction=rows),  # type: ignore[arg-type]
        lambda: tte.think_then_embed("a", reasoner=reasoner, embedder=embedder, think=rows),
    ]
    for call in calls:
        with pytest.raises(tte.InputError) as error:
            call()
        assert len(str(error.value)) < 500
