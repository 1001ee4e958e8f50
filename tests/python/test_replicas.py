"""Several replicas of each model in one call: the results of one, from work that all had a part in."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tte
from adapters import make_adapter
from checkpoints import SHAPES, Shape
from references import noise
from test_process_ends import run

GetFolder = Callable[[Shape], Path]
NAMED = {shape.name: shape for shape in SHAPES}
REASONER = Shape("replicas-reasoner", tied=False, scale=4.0)
EMBEDDER = Shape("replicas-embedder", hidden=96, heads=6, kv_heads=2, mrope=(2, 4, 2), scale=3.0)
ITEMS: list[Any] = [
    "the cat and dog",
    {"text": "what is this", "image": noise(60, 80, 1)},
    {"video": [noise(56, 84, i) for i in range(4)], "text": "what moves"},
    *(f"a red circle left of {i}" for i in range(8)),
    *([noise(84, 56, 10 + i), f"image {i}"] for i in range(4)),
]
ON: dict[str, Any] = {"max_new_tokens": 16, "ignore_eos": True, "progress": False}


def backend(replicas: int, **options: Any) -> tte.Backend:
    return tte.Backend("cpu", replicas=replicas, threads=2, media_threads=1, **options)


def assert_all_worked(used: tte.Backend) -> None:
    each = used.replica_stats
    assert len(each) == 2
    assert all(stats.steps > 0 and stats.prefill_tokens > 0 for stats in each)
    for name in ("engines", "steps", "prefill_tokens", "decode_tokens", "vision_encoded"):
        assert getattr(used.stats, name) == sum(getattr(stats, name) for stats in each)


@pytest.mark.parametrize(
    ("reasoner", "embedder"),
    [(REASONER, EMBEDDER), (NAMED["qwen3.5"], NAMED["qwen3.5"])],
    ids=lambda shape: shape.name,
)
def test_results_are_those_of_one_replica(reasoner: Shape, embedder: Shape, checkpoint: GetFolder) -> None:
    found = []
    for replicas in (1, 2):
        shared = backend(replicas, max_running=40 + replicas)
        pair = {
            "reasoner": tte.Reasoner(checkpoint(reasoner), backend=shared, dtype="float32"),
            "embedder": tte.Embedder(checkpoint(embedder), backend=shared, dtype="float32"),
        }
        result = tte.think_then_embed(ITEMS, tokens=True, **pair, **ON)
        found.append((result, pair["reasoner"].score(ITEMS, ["yes", "no"], progress=False)))
        if replicas == 2:
            assert_all_worked(shared)
    (one, one_scores), (two, two_scores) = found
    assert [trace.token_ids for trace in two.traces] == [trace.token_ids for trace in one.traces]
    np.testing.assert_array_equal(two.embeddings, one.embeddings)
    for ours, expected in zip(two.tokens, one.tokens, strict=True):
        np.testing.assert_array_equal(ours, expected)
    np.testing.assert_array_equal(two_scores, one_scores)


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_an_adapter_is_merged_once_for_all(quantization: str | None, checkpoint: GetFolder, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", checkpoint(EMBEDDER), target_modules=["q_proj", "down_proj"])
    vectors = []
    for replicas in (1, 2):
        embedder = tte.Embedder(
            checkpoint(EMBEDDER), adapter=adapter, backend=backend(replicas, max_running=43), dtype="float32",
            quantization=quantization,
        )  # fmt: skip
        vectors.append(embedder.embed(ITEMS, progress=False))
    np.testing.assert_array_equal(vectors[1], vectors[0])
    assert_all_worked(embedder.backend)


def memory_of(folder: Path, replicas: int) -> int:
    """Bytes that loading an embedder takes in a new process, files that are mapped not counted."""
    program = f"""
        import resource
        import tte
        def own():
            with open("/proc/self/statm") as file:
                resident, mapped = map(int, file.read().split()[1:3])
            return (resident - mapped) * resource.getpagesize()
        backend = tte.Backend("cpu", replicas={replicas}, threads=4, media_threads=1)
        before = own()
        embedder = tte.Embedder({str(folder)!r}, backend=backend, dtype="bfloat16")
        print(own() - before)
    """
    done = run(program, header="")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_replicas_share_the_memory_of_weights(checkpoint: GetFolder) -> None:
    folder = checkpoint(Shape("replicas-large", hidden=512, heads=8, kv_heads=8, ffn=1536, layers=6, mrope=(8, 12, 12)))
    one, four = memory_of(folder, 1), memory_of(folder, 4)
    assert one > 35 << 20  # Of float32 made bfloat16, 40 MB of matrices.
    assert four < 1.3 * one, (one, four)


def test_a_bad_item_disturbs_no_other(checkpoint: GetFolder, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    shared = backend(2, max_running=44)
    reasoner = tte.Reasoner(checkpoint(REASONER), backend=shared, dtype="float32")
    embedder = tte.Embedder(checkpoint(EMBEDDER), backend=shared, dtype="float32")
    common = {"reasoner": reasoner, "embedder": embedder, **ON}
    plain = tte.think_then_embed(ITEMS, **common)
    items = [*ITEMS[:3], broken, *ITEMS[3:]]
    result = tte.think_then_embed(items, on_error="skip", **common)
    assert [error.index for error in result.errors] == [3]
    np.testing.assert_array_equal(np.delete(result.embeddings, 3, axis=0), plain.embeddings)
    with pytest.raises(tte.InputError, match="broken"):
        tte.think_then_embed(items, **common)


def test_a_token_callback_stops_its_item_only(checkpoint: GetFolder) -> None:
    reasoner = tte.Reasoner(checkpoint(REASONER), backend=backend(2))
    plain = reasoner.think(ITEMS, **ON)
    stopped = reasoner.think(ITEMS, on_token=lambda item, text, token: item != 5, **ON)
    for item, (ours, expected) in enumerate(zip(stopped, plain, strict=True)):
        assert ours.token_ids == (expected.token_ids[:1] if item == 5 else expected.token_ids)


def test_a_backend_of_replicas_is_pickled_and_shown() -> None:
    used = backend(2)
    assert repr(used) == "Backend('cpu', replicas=2, threads=2)"
    again = pickle.loads(pickle.dumps(used))
    assert repr(again) == repr(used)
    assert len(again.replica_stats) == 2
    assert repr(tte.Backend("cpu", threads=2)) == "Backend('cpu', replicas=1, threads=2)"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"replicas": 0}, "replicas is 0"),
        ({"replicas": -1}, "replicas is -1"),
        ({"replicas": 2.5}, "replicas is 2.5"),
        ({"replicas": 3, "threads": 2}, "replicas is 3, but threads is 2"),
        ({"device": "cpu,cpu"}, 'device is "cpu,cpu"'),
        ({"device": "cuda:0,cuda:0"}, 'device names "cuda:0" twice'),
        ({"device": "cuda:0,1"}, 'device is "cuda:0,1"'),
    ],
)
def test_what_is_no_number_of_replicas_is_told(options: dict[str, Any], words: str) -> None:
    with pytest.raises(tte.InputError) as error:
        tte.Backend(**{"device": "cpu", **options})
    assert words in str(error.value)
    assert len(str(error.value)) < 500
