"""Results show themselves: small images from the engine's own pixels, one line as text."""

from __future__ import annotations

import base64
import functools
import html
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tte
from checkpoints import SHAPES, Shape
from references import noise
from tte import _display, demo


@pytest.fixture(scope="module")
def pair(checkpoint: Callable[[Shape], Path]) -> tuple[tte.Reasoner, tte.Embedder]:
    folder, backend = checkpoint(SHAPES[0]), tte.Backend("cpu")
    return tte.Reasoner(folder, backend=backend), tte.Embedder(folder, backend=backend)


Run = Callable[..., tte.Result]


@pytest.fixture(scope="module")
def run(pair: tuple[tte.Reasoner, tte.Embedder]) -> Run:
    def call(items: Any, **options: Any) -> tte.Result:
        given = {"think": False, "progress": False, **options}
        return tte.think_then_embed(items, reasoner=pair[0], embedder=pair[1], **given)

    return call


def sources(page: str) -> list[bytes]:
    found = re.findall(r'<img alt="" src="data:image/jpeg;base64,([^"]*)"', page)
    assert len(found) == page.count("<img")
    assert all(len(source) < 10_000 for source in found)
    return [base64.b64decode(source) for source in found]


def test_images_are_small_jpegs_of_what_the_engine_decoded(run: Run, tmp_path: Path) -> None:
    from PIL import Image

    rotated = Image.fromarray(noise(300, 500, 1))
    exif = Image.Exif()
    exif[0x0112] = 6  # A quarter turn.
    rotated.save(tmp_path / "turned.jpg", exif=exif)
    grain = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    items = [tmp_path / "turned.jpg", grain, {"video": [noise(56, 56, i) for i in range(9)]}]
    images = sources(run(items)._repr_html_())
    assert len(images) == 1 + 1 + 4 + 3 * 2  # And each beside the others, where it is near them.
    assert all(image.startswith(b"\xff\xd8") for image in images)
    import io

    first = Image.open(io.BytesIO(images[0]))
    assert (first.width, first.height) == (101, 168)
    again = run(items)
    (tmp_path / "turned.jpg").unlink()
    assert "cannot be opened" in again._repr_html_()


REFUSED = {
    "page.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "image.ppm": b"P6 2 2 255 " + bytes(12),
    "vector.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "none.png": b"nothing",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_engine_refuses_no_other_decoder_opens(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from PIL import Image

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("Pillow opened a file")

    path = tmp_path / name
    path.write_bytes(REFUSED[name])
    monkeypatch.setattr(Image, "open", never)
    result = run(["a", path, {"image": path.read_bytes()}], on_error="skip")
    page = result._repr_html_()
    assert "<img" not in page
    assert page.count("item 1: image") == 1  # In the item's own place, once.
    assert "item 1: item 1" not in page


def test_a_pipe_is_not_waited_for(run: Run, tmp_path: Path) -> None:
    import os

    path = tmp_path / "image.png"
    os.mkfifo(path)
    page = run(["a", path], on_error="skip")._repr_html_()
    assert "pipe" in page
    result = run(["a", "b"])
    result._read[1] = None
    result.inputs[1] = path  # As if it had become a pipe since.
    assert "pipe" in result._repr_html_()


def test_the_page_is_escaped_and_bounded(run: Run) -> None:
    texts = ["<script>alert(1)</script>", "x" * 3_500, *[f"item {i}" for i in range(40)]]
    page = run(texts)._repr_html_()
    assert "<script>" not in page
    assert html.escape("<script>alert(1)</script>") in page
    assert len(page) < 60_000
    assert "and 22 more" in page
    assert "text-align:left!important" in page


def test_many_images_in_an_item_are_counted(run: Run) -> None:
    page = _display.item_html({"images": [noise(28, 28, i) for i in range(30)]})
    assert page.count("<img") == 12
    assert "and 18 more" in page


def test_neighbours_are_shown_by_what_they_are(run: Run) -> None:
    result = run(["the cat", "the cat", *[f"other {i}" for i in range(30)], {"image": noise(56, 56), "text": "last"}])
    rows = result._repr_html_().split("<tr>")
    assert "1.000" in rows[2]
    assert rows[2].count("the cat") == 2  # The item, and its nearest.
    assert rows[2].count('class="near"') == 3


def test_results_are_one_line(run: Run, pair: tuple[tte.Reasoner, tte.Embedder], tmp_path: Path) -> None:
    result = run(["the cat", {"image": b"none"}], on_error="skip", think=[True, False], max_new_tokens=2)
    assert repr(result).startswith("Result(2 items, 1 skipped, 64 dimensions, 1 with a trace, ")
    assert repr(run("a")).startswith("Result(1 item, 64 dimensions")
    reasoner, embedder = pair
    objects = [
        result, result.stats, result.timings[0], result.errors[0], result.traces[0], tte.Trace("long\n" * 1000),
        reasoner, embedder, reasoner.model, reasoner.backend, reasoner.backend.stats, reasoner.tokenizer,
        tte.Processor(reasoner.model.path), tte.CancelToken(), tte.Backend.devices()[0],
        tte.TraceStore(tmp_path / "t.sqlite"), tte.AutoThink(result), tte.FinishReason.STOP,
        tte.TokenWriter(tmp_path / "t.npy"), tte.TraceStore(tmp_path / "t.sqlite").request(reasoner, "long\n" * 1000),
    ]  # fmt: skip
    for thing in objects:
        assert "\n" not in repr(thing)
        assert " at 0x" not in repr(thing)
        assert len(repr(thing)) < 500
    cancelled = tte.CancelToken()
    cancelled.cancel()
    assert repr(cancelled) == "CancelToken(cancelled)"


def test_results_survive_pickling(run: Run) -> None:
    result = run(["a", noise(56, 56), float("nan")], on_error="skip")
    other = pickle.loads(pickle.dumps(result))
    assert other._repr_html_() == result._repr_html_()


def test_similarity_and_neighbours_of_another_result(run: Run) -> None:
    corpus, queries = run(["the cat", "a dog", "red"]), run(["a dog", "red"])
    scores = queries.similarity(corpus)
    assert scores.shape == (2, 3)
    np.testing.assert_allclose(scores, queries.embeddings @ corpus.embeddings.T, atol=1e-5)
    assert [near[0][0] for near in queries.neighbours(1, corpus)] == [1, 2]
    assert queries.neighbours(9, corpus.embeddings) == queries.neighbours(3, corpus)
    np.testing.assert_allclose(queries.similarity(corpus.embeddings[0]), scores[:, :1], atol=1e-6)
    np.testing.assert_allclose(queries.similarity(corpus.embeddings.tolist()), scores, atol=1e-6)
    assert corpus.neighbours(0) == [[], [], []]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ("x", "other is 'x'"),
        ([[1.0, 2.0]], "vectors of 2 dimensions, these have 64"),
        (np.zeros((2, 3, 4)), "float32 .M, dim."),
        ([["a"]], "other is"),
        (object(), "other is"),
        ([[1.0], [1.0, 2.0]], "other is"),
    ],
)
def test_similarity_to_what_is_none(run: Run, other: Any, words: str) -> None:
    with pytest.raises(tte.InputError, match=words):
        run(["a", "b"]).similarity(other)


@pytest.mark.parametrize("k", [-1, 1.5, "3", True, None])
def test_neighbours_are_a_number(run: Run, k: Any) -> None:
    with pytest.raises(tte.InputError, match=r"^k is "):
        run(["a", "b"]).neighbours(k)


def test_neighbours_of_many_items_need_little_memory(run: Run) -> None:
    result = run(["a", "b"])
    vectors = np.random.default_rng(0).standard_normal((1200, 64)).astype(np.float32)
    many = tte.Result(vectors, [None] * 1200, result.timings, result.stats)
    near = many.neighbours(2)
    scores = many.similarity()
    np.fill_diagonal(scores, -2)
    assert [row[0][0] for row in near] == scores.argmax(axis=1).tolist()


def test_instructions_one_per_item(run: Run) -> None:
    items = ["a", {"text": "b", "instruction": "own"}, "c"]
    expected = run([{"text": "a", "instruction": "first"}, {"text": "b", "instruction": "own"}, "c"])
    each = run(items, instruction=["first", "second", None])
    np.testing.assert_allclose(each.embeddings, expected.embeddings, atol=1e-6)
    with pytest.raises(tte.InputError, match="instruction has 2 values for 3 items"):
        run(items, instruction=["a", "b"])
    with pytest.raises(tte.InputError, match="item 1: instruction is 3"):
        run(["a", "b"], instruction=["a", 3])
    for unordered in ({"a": 1}, {"a"}):
        with pytest.raises(tte.InputError, match=r"instruction is .* it must be a str, None, or a list"):
            run(["a"], instruction=unordered)


def test_what_a_column_has_not_is_absent(run: Run) -> None:
    nan = float("nan")
    expected = run(["a", "b"], instruction=["x", None], think=["made earlier", None])
    absent = run(["a", "b"], instruction=["x", nan], task=[None, nan], think=["made earlier", nan])
    np.testing.assert_array_equal(absent.embeddings, expected.embeddings)
    assert absent.traces[1] is None


@pytest.mark.parametrize(
    ("think", "words"),
    [([1], "think's entry 0 is 1: it must be True, False"), ({"a": 1}, "think is"), ({"a"}, "think is")],
)
def test_entries_of_think_that_are_none(run: Run, think: Any, words: str) -> None:
    with pytest.raises(tte.InputError, match=words):
        run(["a"], think=think)


def test_items_in_flight_are_bounded(run: Run) -> None:
    texts = [f"item {i}" for i in range(9)]
    np.testing.assert_array_equal(run(texts, max_in_flight=1).embeddings, run(texts).embeddings)
    for value in (-1, 1.5, True, "2"):
        with pytest.raises(tte.InputError, match="max_in_flight is"):
            run(texts, max_in_flight=value)


def test_the_margin_decides_what_is_reasoned_about(run: Run) -> None:
    texts = ["the cat", "a dog", "red"]
    targets = run(["the cat", "a dog on the left", "red and blue"])
    scores = np.sort(run(texts).similarity(targets), axis=1)
    margins = scores[:, -1] - scores[:, -2]
    margin = float(np.sort(margins)[:2].mean())
    for given in (targets, targets.embeddings, targets.embeddings.astype(np.float64)):
        result = run(texts, think=tte.AutoThink(given, margin=margin), max_new_tokens=2)
        assert [trace is not None for trace in result.traces] == (margins < margin).tolist()
    assert all(t is None for t in run(texts, think=tte.AutoThink(targets, margin=0)).traces)
    for wrong, words in [
        ({"margin": -1}, "AutoThink.margin is -1"),
        ({"margin": "x"}, "AutoThink.margin is 'x'"),
        ({"margin": float("nan")}, "AutoThink.margin is nan"),
        ({"targets": "x"}, "AutoThink.targets is 'x'"),
    ]:
        with pytest.raises(tte.InputError, match=words):
            tte.AutoThink(**{"targets": targets, **wrong})
    for think, words in [
        (tte.AutoThink(targets.embeddings[:, :9]), "9 dimensions"),
        (tte.AutoThink(targets.embeddings[:1]), "1 vectors"),
        ("auto", r"tte\.AutoThink\(targets="),
        (tte.AutoThink, r"think is the class tte\.AutoThink: call it"),
    ]:
        with pytest.raises(tte.InputError, match=words):
            run(texts, think=think)


def test_think_takes_columns_and_numpys_bools(run: Run) -> None:
    import pandas as pd

    for think in (np.array([True, False]), pd.Series([True, False]), [np.True_, np.False_], pd.Series(["t", None])):
        result = run(["a", "b"], think=think, max_new_tokens=1)
        assert [trace is not None for trace in result.traces] == [True, False]
    assert run("a", think=np.True_, max_new_tokens=1).traces[0] is not None


def test_a_store_keeps_what_is_written_and_gives_what_it_has(
    run: Run, pair: tuple[tte.Reasoner, tte.Embedder], tmp_path: Path
) -> None:
    items = ["the cat", {"text": "what", "image": noise(56, 56)}, "a dog", b"no image"]
    options: dict[str, Any] = {"side": ["query", "query", "target", "query"], "max_new_tokens": 3, "on_error": "skip"}
    with tte.TraceStore(tmp_path / "traces.sqlite") as store:
        seen: list[int] = []
        first = run(items, think="queries", store=store, on_trace=lambda i, _: seen.append(i), **options)
        assert len(store) == 2
        assert set(seen) == {0, 1}
        again = run(items, think="queries", store=store, **options)
        assert again.stats.thought == 0
        assert [t and t.token_ids for t in again.traces] == [t and t.token_ids for t in first.traces]
        np.testing.assert_allclose(again.embeddings, first.embeddings, atol=1e-5)
        # What the store itself writes is the same.
        traces = store.think(pair[0], items[:2], max_new_tokens=3, progress=False)
        assert len(store) == 2
        assert [t.token_ids for t in traces] == [first.traces[i].token_ids for i in range(2)]  # type: ignore[union-attr]
        with pytest.raises(tte.InputError, match="store goes with"):
            run(items, think=lambda *_: True, store=store)
    with tte.TraceStore(tmp_path / "traces.sqlite", read_only=True) as store:
        assert run(items[:2], think=True, store=store, max_new_tokens=3).stats.thought == 0
        with pytest.raises(tte.InputError, match=r"item 1: .*has no trace of it"):
            run(["the cat", "new"], think=True, store=store, max_new_tokens=3)
    given: Any = 3
    with pytest.raises(tte.InputError, match="store is 3"):
        run("a", think=True, store=given)


def test_the_demo_shows_media_after_their_text_and_scores_beside_their_bars() -> None:
    item = {"image": noise(56, 56), "text": "what is up ?"}
    query = demo.Query("image_qa", item, [{"text": "red circle"}, {"image": noise(56, 56, 3)}], 1)
    answer = demo.Answer([1, 0], [0.9, 0.1], tte.Trace("<think>up</think> red"))
    page = demo.page([query], [answer], [answer], "one query")
    assert page.index("what is up ?") < page.index("<img")
    assert page.count("what is up ?") == 1
    assert re.search(r'class="bar" style="width:3.60em"></span></span><span class="num">0\.900', page)


def test_vectors_are_finite_real_numbers(run: Run) -> None:
    result = run(["a", "b"])
    rows = result.embeddings
    for wrong, words in (
        (rows.astype(np.float64) * 1e300, "other has values that are not finite"),
        (np.full_like(rows, np.inf), "other has values that are not finite"),
        (rows.astype(np.complex64), r"complex numbers are not taken"),
        (torch.from_numpy(rows).to(torch.complex64), r"complex numbers are not taken"),
        (np.ma.masked_array(rows, True), "masked arrays are not taken"),
    ):
        for call in (result.similarity, functools.partial(result.neighbours, 1)):
            with pytest.raises(tte.InputError, match=words):
                call(wrong)
    for fine in (torch.from_numpy(rows).to(torch.bfloat16), torch.from_numpy(rows.copy()).requires_grad_()):
        np.testing.assert_allclose(result.similarity(fine), result.similarity(), atol=2e-2)
    for scale in (1e30, 1e-30):
        np.testing.assert_allclose(result.similarity(rows * np.float32(scale)), result.similarity(), atol=1e-5)
