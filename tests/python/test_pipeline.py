"""think_then_embed: the same results as the two models one after the other, and what it shares."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tte
from checkpoints import Shape
from PIL import Image
from references import noise
from safetensors.torch import load_file, save_file

REASONER = Shape("pipeline-reasoner", tied=False, scale=4.0)
EMBEDDER = Shape("pipeline-embedder", hidden=96, heads=6, kv_heads=2, mrope=(2, 4, 2), scale=3.0)


@pytest.fixture(scope="module")
def pair(checkpoint: Callable[[Shape], Path]) -> tuple[tte.Reasoner, tte.Embedder]:
    backend = tte.Backend("cpu")
    return (
        tte.Reasoner(checkpoint(REASONER), backend=backend),
        tte.Embedder(checkpoint(EMBEDDER), backend=backend),
    )


ITEMS = [
    "the cat and dog",
    {"text": "what is this", "image": noise(60, 80, 1)},
    [{"type": "image", "image": noise(84, 56, 2)}, {"type": "text", "text": "a red circle"}],
    {"video": [noise(56, 84, i) for i in range(4)], "text": "what moves"},
]
GENERATE = {"max_new_tokens": [3, 12, 7, 20], "ignore_eos": True, "progress": False}


def test_the_same_as_one_after_the_other(pair: tuple[tte.Reasoner, tte.Embedder]) -> None:
    reasoner, embedder = pair
    result = tte.think_then_embed(ITEMS, reasoner=reasoner, embedder=embedder, **GENERATE)
    traces = reasoner.think(ITEMS, **GENERATE)
    assert [t.token_ids for t in result.traces if t] == [t.token_ids for t in traces]
    vectors = embedder.embed(ITEMS, traces, progress=False)
    np.testing.assert_allclose(result.embeddings, vectors, atol=1e-5)
    plain = embedder.embed(ITEMS, progress=False)
    assert np.abs(plain - vectors).max() > 1e-3  # The trace matters.


def test_not_thinking_is_plain_embedding(pair: tuple[tte.Reasoner, tte.Embedder]) -> None:
    reasoner, embedder = pair
    result = tte.think_then_embed(ITEMS, reasoner=reasoner, embedder=embedder, think=False, progress=False)
    np.testing.assert_allclose(result.embeddings, embedder.embed(ITEMS, progress=False), atol=1e-5)
    assert result.traces == [None] * 4
    assert result.stats.thought == 0


def test_traces_by_hand_and_thinking_per_item(pair: tuple[tte.Reasoner, tte.Embedder]) -> None:
    reasoner, embedder = pair
    think = [True, False, "<think>a</think> b", None]
    result = tte.think_then_embed(ITEMS, reasoner=reasoner, embedder=embedder, think=think, **GENERATE)
    assert result.traces[0] is not None
    assert result.traces[0].finish == tte.FinishReason.LENGTH
    assert result.traces[1] is None
    assert result.traces[2] is not None
    assert result.traces[2].text == "<think>a</think> b"
    assert result.traces[2].thinking.strip() == "a"
    assert result.traces[2].conclusion.strip() == "b"
    expected = embedder.embed(ITEMS, [result.traces[0], None, "<think>a</think> b", None], progress=False)
    np.testing.assert_allclose(result.embeddings, expected, atol=1e-5)


def test_a_callback_decides_what_is_thought_about(pair: tuple[tte.Reasoner, tte.Embedder]) -> None:
    reasoner, embedder = pair
    seen: dict[int, np.ndarray] = {}

    def decide(item: int, plain: np.ndarray) -> bool:
        seen[item] = plain
        return item == 2

    result = tte.think_then_embed(ITEMS, reasoner=reasoner, embedder=embedder, think=decide, **GENERATE)
    assert [t is not None for t in result.traces] == [False, False, True, False]
    np.testing.assert_allclose(np.stack([seen[i] for i in range(4)]), embedder.embed(ITEMS, progress=False), atol=1e-5)


def test_queries_only(pair: tuple[tte.Reasoner, tte.Embedder]) -> None:
    reasoner, embedder = pair
    result = tte.think_then_embed(
        ITEMS, reasoner=reasoner, embedder=embedder, think="queries", side=["query", "target", "query", "target"],
        **GENERATE,
    )  # fmt: skip
    assert [t is not None for t in result.traces] == [True, False, True, False]


def test_one_checkpoint_for_both_continues_from_its_own_state(checkpoint: Callable[[Shape], Path]) -> None:
    folder = checkpoint(REASONER)
    backend = tte.Backend("cpu", max_running=32)
    reasoner, embedder = tte.Reasoner(folder, backend=backend), tte.Embedder(folder, backend=backend)
    assert backend.stats.engines == 1
    result = tte.think_then_embed(ITEMS, reasoner=reasoner, embedder=embedder, **GENERATE)
    assert result.stats.reused_tokens > 0.3 * result.stats.prompt_tokens
    fresh = tte.Embedder(folder, backend=tte.Backend("cpu", max_running=33))
    np.testing.assert_allclose(result.embeddings, fresh.embed(ITEMS, result.traces, progress=False), atol=1e-5)


def test_equal_towers_encode_an_image_once(checkpoint: Callable[[Shape], Path]) -> None:
    folder = checkpoint(REASONER)
    backend = tte.Backend("cpu", max_running=31)
    reasoner, embedder = tte.Reasoner(folder, backend=backend), tte.Embedder(folder, backend=backend)
    tte.think_then_embed(ITEMS[1:3], reasoner=reasoner, embedder=embedder, max_new_tokens=4, progress=False)
    assert backend.stats.vision_encoded == 2


def test_bad_items_can_be_skipped(pair: tuple[tte.Reasoner, tte.Embedder], tmp_path: Path) -> None:
    reasoner, embedder = pair
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    items = ["the cat", broken, "the dog"]
    with pytest.raises(tte.InputError, match=r"item 1.*broken\.png"):
        tte.think_then_embed(items, reasoner=reasoner, embedder=embedder, max_new_tokens=4, progress=False)
    result = tte.think_then_embed(
        items, reasoner=reasoner, embedder=embedder, max_new_tokens=4, on_error="skip", progress=False
    )
    assert np.isnan(result.embeddings[1]).all()
    assert np.isfinite(result.embeddings[[0, 2]]).all()
    assert [e.index for e in result.errors] == [1]
    assert "broken.png" in result.errors[0].message


NO_INPUTS = [None, float("nan"), {}, [[]], {"foo": 1}, np.zeros((3, 3), np.float32), "\ud800", {"type": "zip"}]


def test_what_is_no_input_at_all_can_be_skipped_too(pair: tuple[tte.Reasoner, tte.Embedder]) -> None:
    reasoner, embedder = pair
    items = ["the cat", *NO_INPUTS, "the dog"]
    bad = list(range(1, len(items) - 1))
    with pytest.raises(tte.InputError, match="item 1"):
        embedder.embed(items, progress=False)
    vectors = embedder.embed(items, on_error="skip", progress=False)
    assert np.flatnonzero(np.isnan(vectors).any(axis=1)).tolist() == bad
    traces = reasoner.think(items, on_error="skip", max_new_tokens=2, progress=False)
    assert [i for i, t in enumerate(traces) if t.finish == tte.FinishReason.ERROR] == bad
    assert all(traces[i].error.startswith(f"item {i}") for i in bad)
    result = tte.think_then_embed(
        items, reasoner=reasoner, embedder=embedder, max_new_tokens=2, on_error="skip", progress=False
    )
    assert [e.index for e in result.errors] == bad
    last = len(items) - 1
    assert [[j for j, _ in near] for near in result.neighbours()] == [[last], *[[] for _ in bad], [0]]


def test_results_can_be_pickled_and_copied(pair: tuple[tte.Reasoner, tte.Embedder]) -> None:
    reasoner, embedder = pair
    result = tte.think_then_embed(
        ["the cat", None], reasoner=reasoner, embedder=embedder, max_new_tokens=2, on_error="skip", progress=False
    )
    for other in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        np.testing.assert_array_equal(other.embeddings, result.embeddings)
        assert other.traces == result.traces
        assert repr(other.stats) == repr(result.stats)
        assert repr(other.timings) == repr(result.timings)
        assert repr(other.errors) == repr(result.errors)
    assert result.traces[0] != tte.Trace("something else")


WORKER = """
import multiprocessing, sys
import numpy as np, tte

def work(embedder, reasoner, processor, queue):
    trace = reasoner.think(["the cat"], max_new_tokens=3, progress=False)[0]
    queue.put((embedder.embed(["the cat"], [trace], progress=False), len(processor("a")["input_ids"][0]), trace.text))

if __name__ == "__main__":
    backend = tte.Backend("cpu", max_running=9)
    embedder, reasoner = tte.Embedder("nano", backend=backend), tte.Reasoner("nano", dtype="float32", backend=backend)
    processor = tte.Processor(embedder.model.path, recipe=sys.argv[1])
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    worker = spawn.Process(target=work, args=(embedder, reasoner, processor, queue))
    worker.start()
    vector, length, text = queue.get(timeout=100)
    worker.join()
    trace = reasoner.think(["the cat"], max_new_tokens=3, progress=False)[0]
    assert trace.text == text
    np.testing.assert_allclose(embedder.embed(["the cat"], [trace], progress=False), vector, atol=1e-6)
    assert len(processor("a")["input_ids"][0]) == length
"""


def test_models_go_to_spawned_workers(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(WORKER)
    (tmp_path / "r.json").write_text('{"prompt": {"user": ["look: ", "{content}"]}}')
    done = subprocess.run(
        [sys.executable, "program.py", "r.json"], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr


def test_models_can_be_pickled(pair: tuple[tte.Reasoner, tte.Embedder]) -> None:
    reasoner, embedder = pickle.loads(pickle.dumps(pair))
    assert repr((reasoner, embedder)) == repr(pair)
    assert reasoner.backend.device == "cpu"
    np.testing.assert_array_equal(embedder.embed("the cat"), pair[1].embed("the cat"))
    assert repr(pickle.loads(pickle.dumps(tte.Backend("cpu", threads=2)))) == "Backend('cpu', replicas=1, threads=2)"


def test_what_cannot_be_pickled_says_what_to_do(pair: tuple[tte.Reasoner, tte.Embedder], tmp_path: Path) -> None:
    numbers = (pair[0].backend.stats, tte.Backend.devices()[0])
    Image.new("RGB", (20, 20)).save(tmp_path / "page.pdf")
    pages = tte.pages(tmp_path / "page.pdf")
    for value in (pair[0].model, pair[1].model, pair[0].tokenizer, tte.CancelToken(), pages, *numbers):
        for take in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(tte.InputError, match=r"can be neither pickled nor copied: (hand|make) .*\.$"):
                take(value)
    with tte.TraceStore(tmp_path / "traces.sqlite") as store:
        store.think(pair[0], ["the cat"], max_new_tokens=2, progress=False)
        with pickle.loads(pickle.dumps(store)) as again:
            assert list(again.records()) == list(store.records())
            assert len(list(again.records())) == 1
    with tte.TraceStore(tmp_path / "traces.sqlite", read_only=True) as store:
        again = pickle.loads(pickle.dumps(store))
        with again, pytest.raises(tte.InputError, match="open for reading only"):
            again.drop_damaged()


def test_vectors_that_are_not_finite_are_errors(checkpoint: Callable[[Shape], Path], tmp_path: Path) -> None:
    folder = tmp_path / "nan"
    shutil.copytree(checkpoint(EMBEDDER), folder)
    tensors = load_file(folder / "model.safetensors")
    (norm,) = (name for name in tensors if name.endswith("model.norm.weight"))
    tensors[norm][:] = float("nan")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    embedder = tte.Embedder(folder)
    with pytest.raises(tte.ModelError, match="item 0: the model's hidden states are not finite"):
        embedder.embed("the cat")


def test_what_is_not_finite_is_the_error_of_its_item(checkpoint: Callable[[Shape], Path], tmp_path: Path) -> None:
    folder = tmp_path / "nan"
    shutil.copytree(checkpoint(EMBEDDER), folder)
    tensors = load_file(folder / "model.safetensors")
    tower = {name: values * float("nan") for name, values in tensors.items() if "visual" in name}
    assert tower
    save_file(tensors | tower, folder / "model.safetensors", {"format": "pt"})
    embedder, reasoner = tte.Embedder(folder), tte.Reasoner(folder)
    items = ["a", np.zeros((56, 56, 3), np.uint8), "b"]
    result = tte.think_then_embed(items, reasoner=reasoner, embedder=embedder, think=False, on_error="skip")
    assert np.isfinite(result.embeddings).all(1).tolist() == [True, False, True]
    assert ["not finite" in error.message for error in result.errors] == [True]
    for _ in range(2):  # What stands behind it in a step has rows of its own.
        vectors = embedder.embed([*items, "c", "d"], on_error="skip")
        assert np.isfinite(vectors).all(1).tolist() == [True, False, True, True, True]
        np.testing.assert_array_equal(vectors[[0, 2, 3, 4]], embedder.embed(["a", "b", "c", "d"]))
    traces = reasoner.think(items, max_new_tokens=2, on_error="skip")
    assert ["logits are NaN" in trace.error for trace in traces] == [False, True, False]
    assert np.isfinite(reasoner.score(items, ["yes"], on_error="skip")).all(1).tolist() == [True, False, True]
    with pytest.raises(tte.ModelError, match="item 1: the model's hidden states are not finite"):
        embedder.embed(items)


LEAVE_EARLY = """
import threading, time, tte
started = threading.Event()
reasoner = tte.Reasoner("nano")
def think():
    reasoner.think(["a"] * 8, ignore_eos=True, max_new_tokens=1500, on_token=lambda *_: started.set(), progress=False)
threading.Thread(target=think, daemon=True).start()
assert started.wait(60)
"""

FORK = """
import os, tte
embedder = tte.Embedder("nano")
embedder.embed("a")
child = os.fork()
if child == 0:
    try:
        embedder.embed("a")
    except tte.DeviceError as error:
        os._exit(42 if "spawn" in str(error) else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
"""


@pytest.mark.parametrize("program", [LEAVE_EARLY, FORK], ids=["exit during a call", "fork"])
def test_processes_end_well(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_the_result_shows_itself(pair: tuple[tte.Reasoner, tte.Embedder]) -> None:
    reasoner, embedder = pair
    result = tte.think_then_embed(ITEMS, reasoner=reasoner, embedder=embedder, **GENERATE)
    page = result._repr_html_()
    assert page.count("<img") >= 3
    assert "neighbours" in page
    assert len(result.neighbours(2)[0]) == 2
    assert result.similarity().shape == (4, 4)


def test_vectors_can_be_cut_and_left_long(pair: tuple[tte.Reasoner, tte.Embedder]) -> None:
    _, embedder = pair
    whole = embedder.embed("the cat", normalize=False)
    cut = embedder.embed("the cat", truncate_dim=16)
    np.testing.assert_allclose(cut[0], whole[0, :16] / np.linalg.norm(whole[0, :16]), atol=1e-6)
    with pytest.raises(tte.InputError, match="truncate_dim"):
        embedder.embed("the cat", truncate_dim=embedder.dim + 1)


def test_models_on_two_backends_are_refused(checkpoint: Callable[[Shape], Path]) -> None:
    reasoner = tte.Reasoner(checkpoint(REASONER), backend=tte.Backend("cpu", max_running=7))
    embedder = tte.Embedder(checkpoint(EMBEDDER), backend=tte.Backend("cpu", max_running=8))
    with pytest.raises(tte.InputError, match="backend"):
        tte.think_then_embed("the cat", reasoner=reasoner, embedder=embedder)


def test_a_call_that_is_cancelled_when_all_is_done_returns_it(pair: tuple[tte.Reasoner, tte.Embedder]) -> None:
    texts = ["the cat", "a dog"]
    for last in (1, 2):
        cancel, seen = tte.CancelToken(), 0

        def stop(*_: object, last: int = last, cancel: tte.CancelToken = cancel) -> None:
            nonlocal seen
            seen += 1
            if seen == last:
                cancel.cancel()

        def call(stop: Callable[..., None] = stop, cancel: tte.CancelToken = cancel) -> np.ndarray:
            return pair[1].embed(texts, on_result=stop, max_in_flight=1, cancel=cancel, progress=False)

        if last == 2:
            np.testing.assert_array_equal(call(), pair[1].embed(texts, progress=False))
        else:
            with pytest.raises(tte.CancelledError, match="after 1 of 2"):
                call()


def test_half_a_pair_is_refused(pair: tuple[tte.Reasoner, tte.Embedder]) -> None:
    with pytest.raises(tte.InputError, match=r"without reasoner.*Embedder\.embed\(\) embeds without a reasoner"):
        tte.think_then_embed("the cat", embedder=pair[1], think=False)
    with pytest.raises(tte.InputError, match=r"^reasoner is Embedder\(.*: give a tte\.Reasoner, or the folder"):
        tte.think_then_embed("the cat", reasoner=pair[1], embedder=pair[1])  # type: ignore[arg-type]
    with pytest.raises(tte.InputError, match=r"^embedder is Reasoner\(.*: give a tte\.Embedder, or the folder"):
        tte.think_then_embed("the cat", reasoner=pair[0], embedder=pair[0])  # type: ignore[arg-type]
