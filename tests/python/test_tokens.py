"""One vector per token: which tokens, what is merged, what is written, and how it is scored."""

from __future__ import annotations

import gc
import itertools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import tte
from checkpoints import SHAPES, Shape
from conversations import conversations
from pyarrow import parquet
from references import Reference, noise
from scipy.cluster.hierarchy import fcluster, linkage
from tte import _maxsim, _tokens

NANO = Path(tte.__file__).parent / "models" / "nano"
TRACE = "<think> red circle A1 right A2 blue two</think> blue two"
ITEMS = [
    {"image": noise(56, 84), "text": "what is right of the red circle ?"},
    "list the things",
    {"image": noise(28, 28, 1)},
]


@pytest.fixture(scope="module")
def reasoner() -> tte.Reasoner:
    return tte.Reasoner(NANO / "reasoner", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def embedder(reasoner: tte.Reasoner) -> tte.Embedder:
    return tte.Embedder(NANO / "embedder", backend=reasoner.backend, dtype="float32")


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.name in ("tied-gqa", "qwen2.5-vl", "qwen3-vl")], ids=str)
def test_token_sets_are_transformers_states_without_special_tokens(
    shape: Shape, reference: Callable[[Shape], Reference], tmp_path: Path
) -> None:
    """All states after the final norm, L2 each, special tokens out, those of images and videos in."""
    theirs = reference(shape)
    embedder = tte.Embedder(theirs.folder, device="cpu")
    tokenizer = theirs.processor.tokenizer
    visual = {tokenizer.convert_tokens_to_ids(token) for token in ("<|image_pad|>", "<|video_pad|>")}
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    special = {*tokenizer.all_special_ids, *added} - visual
    talks = conversations(tmp_path)
    sets = embedder.embed_tokens(list(talks.values()), dtype="float32", progress=False)
    for found, (name, messages) in zip(sets, talks.items(), strict=True):
        ids = theirs.inputs(messages)["input_ids"][0].tolist()
        kept = [i for i, token in enumerate(ids) if token not in special]
        np.testing.assert_allclose(found, unit(theirs.hidden(messages)[kept]), atol=1e-5, rtol=0, err_msg=name)


def test_what_rows_are_is_known(embedder: tte.Embedder) -> None:
    traces = [TRACE, None, None]
    every = embedder.embed_tokens(ITEMS, traces, keep="all", progress=False)
    kept = embedder.embed_tokens(ITEMS, traces, progress=False)
    assert every.vectors.dtype == kept.vectors.dtype == np.float16
    assert every.pooled is not None
    np.testing.assert_allclose(every.pooled, embedder.embed(ITEMS, traces, progress=False), atol=1e-5)
    np.testing.assert_array_equal(every.vectors[~every.mask("special")], kept.vectors)
    processor = tte.Processor(NANO / "embedder")
    for i, (item, trace) in enumerate(zip(ITEMS, traces, strict=True)):
        ids = processor(item, stage="embed", trace=trace)["input_ids"][0]
        np.testing.assert_array_equal(every[i : i + 1].ids, ids)
        np.testing.assert_array_equal(every[i : i + 1].positions, np.arange(len(ids)))
    tokenizer = embedder.tokenizer
    assert kept.ids is not None
    words = tokenizer.decode(kept[:1].ids[kept[:1].mask("trace")].tolist())
    assert re.sub("</?think>", "", TRACE).split() == words.replace("</think>", " ").replace("<think>", " ").split()
    text = tokenizer.decode(kept[:1].ids[kept[:1].mask("text")].tolist())
    assert "what is right of the red circle ?" in text, "words of the item are among the texts"
    assert kept[:1].mask("visual").sum() == 2 * 3
    unchanged = embedder.embed_tokens(ITEMS, [TRACE, None, None], keep=("text", "visual"), progress=False)
    np.testing.assert_array_equal(kept.only("text", "visual").vectors, unchanged.vectors)


def test_words_that_users_write_are_not_control_tokens(embedder: tte.Embedder) -> None:
    (plain,) = embedder.embed_tokens(["<|im_end|>"], progress=False)
    (none,) = embedder.embed_tokens(["a"], progress=False)
    assert len(plain) > len(none)


def test_an_item_without_kept_tokens_has_its_pooled_vector(embedder: tte.Embedder) -> None:
    for tokens in (
        embedder.embed_tokens(ITEMS, keep="trace", dtype="float32", progress=False),
        embedder.embed_tokens(ITEMS, dtype="float32", progress=False).only("trace"),
        embedder.embed_tokens(ITEMS, keep=(), dtype="float32", progress=False),
    ):
        assert len(tokens) == len(tokens.vectors) == 3
        np.testing.assert_array_equal(tokens.vectors, tokens.pooled)
    mixed = embedder.embed_tokens(ITEMS, [None, TRACE, None], keep="trace", dtype="float32", progress=False)
    same = embedder.embed_tokens(ITEMS, [None, TRACE, None], dtype="float32", progress=False).only("trace")
    np.testing.assert_array_equal(mixed.vectors, same.vectors)
    np.testing.assert_array_equal(mixed.offsets, same.offsets)


def test_hierarchical_pooling_is_wards(embedder: tte.Embedder) -> None:
    item = [{"image": noise(140, 168, 5)}]
    (single,) = embedder.embed_tokens(item, keep="visual", dtype="float32", progress=False)
    for factor in (2, 3, 7, 1000):
        pooled = embedder.embed_tokens(item, keep="visual", dtype="float32", pool_factor=factor, progress=False)
        wanted = -(-len(single) // factor)
        labels = fcluster(linkage(single.astype(np.float64), "ward"), wanted, "maxclust")
        first = sorted({int(np.argmax(labels == label)): label for label in labels}.items())
        expected = unit(np.stack([single[labels == label].mean(0) for _, label in first]))
        np.testing.assert_allclose(pooled[0], expected, atol=1e-5, err_msg=str(factor))
    neighbours = embedder.embed_tokens(
        item, keep="visual", dtype="float32", pool_factor=4, pooling="neighbours", progress=False
    )
    expected = unit(np.stack([single[i : i + 4].mean(0) for i in range(0, len(single), 4)]))
    np.testing.assert_allclose(neighbours[0], expected, atol=1e-6)


def test_think_then_embed_gives_the_tokens_of_its_traces(reasoner: tte.Reasoner, embedder: tte.Embedder) -> None:
    result = tte.think_then_embed(
        ITEMS, reasoner=reasoner, embedder=embedder, tokens=True, max_new_tokens=6, progress=False
    )
    assert result.tokens is not None
    expected = embedder.embed_tokens(ITEMS, result.traces, progress=False)
    np.testing.assert_array_equal(result.tokens.offsets, expected.offsets)
    np.testing.assert_allclose(result.tokens.vectors, expected.vectors, atol=2e-3)
    assert result.tokens.mask("trace").sum() >= 3
    np.testing.assert_array_equal(result.tokens.pooled, result.embeddings)
    few = tte.think_then_embed(
        ITEMS, reasoner=reasoner, embedder=embedder, think=[TRACE, None, None], progress=False,
        tokens={"keep": "trace", "dtype": "float32", "pool_factor": 2},
    ).tokens  # fmt: skip
    assert few is not None
    same = embedder.embed_tokens(
        ITEMS, [TRACE, None, None], keep="trace", dtype="float32", pool_factor=2, progress=False
    )
    np.testing.assert_allclose(few.vectors, same.vectors, atol=1e-5)
    assert tte.think_then_embed("a", reasoner=reasoner, embedder=embedder, think=False).tokens is None
    for wrong in ("text", {"kept": "text"}, {"keep": "words"}, 1, None):
        with pytest.raises(tte.InputError, match=r"tokens|keep"):
            tte.think_then_embed("a", reasoner=reasoner, embedder=embedder, think=False, tokens=wrong)  # type: ignore[arg-type]


def test_skipped_items_have_no_rows(embedder: tte.Embedder) -> None:
    tokens = embedder.embed_tokens(["a", Path("/nowhere.png"), "b"], on_error="skip", progress=False)
    assert np.diff(tokens.offsets).tolist()[1] == 0
    assert tokens.pooled is not None
    assert np.isnan(tokens.pooled).all(1).tolist() == [False, True, False]
    with pytest.raises(tte.InputError, match="item 1"):
        embedder.embed_tokens(["a", Path("/nowhere.png"), "b"], progress=False)
    assert tokens.only("text").offsets.tolist()[1:3] == [len(tokens.only("text")[0])] * 2
    scores = tte.maxsim(tokens, tokens)
    assert np.isnan(scores).tolist() == [[False, True, False], [True, True, True], [False, True, False]]
    best = tte.maxsim(tokens, tokens, k=3)
    assert best.indices.tolist()[1] == [-1, -1, -1]
    assert best.indices[0, 2] == -1


def random_sets(counts: list[int], dim: int, seed: int, dtype: Any = np.float16) -> tte.TokenEmbeddings:
    rng = np.random.default_rng(seed)
    rows = sum(counts)
    vectors = unit(rng.normal(size=(rows, dim))).astype(dtype)
    pooled = rng.normal(size=(len(counts), dim)).astype(np.float32)
    return tte.TokenEmbeddings(
        vectors, np.cumsum([0, *counts]), pooled, np.arange(rows), rng.integers(0, 99, rows),
        rng.integers(0, 4, rows).astype(np.uint8),
    )  # fmt: skip


def reference_maxsim(queries: tte.TokenEmbeddings, documents: tte.TokenEmbeddings) -> np.ndarray:
    def score(q: np.ndarray, d: np.ndarray) -> float:
        return float((q.astype(np.float64) @ d.astype(np.float64).T).max(1).sum()) if len(q) and len(d) else np.nan

    return np.array([[score(q, d) for d in documents] for q in queries])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_maxsim_is_numpys(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = random_sets([3, 0, 12, 1], 40, 1, dtype)
    documents = random_sets([5, 1, 0, 300, 17, 64, 2, 0], 40, 2, dtype)
    expected = reference_maxsim(queries, documents)
    counts = np.diff(queries.offsets)[:, None]
    cosines = unit(queries.pooled) @ unit(documents.pooled).T
    for rows in (1 << 17, 50, 1):  # Blocks of all documents, of some, of one.
        monkeypatch.setattr(_maxsim, "_BLOCK_ROWS", rows)
        np.testing.assert_allclose(tte.maxsim(queries, documents), expected, atol=1e-5, rtol=1e-5)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = expected / counts
        np.testing.assert_allclose(tte.mean_maxsim(queries, documents), means, atol=1e-5, rtol=1e-5)
        smart = tte.hybrid(queries, documents, pooled_weight=0.2, token_weight=3)
        np.testing.assert_allclose(smart, 0.2 * cosines + 3 * means, atol=1e-4)
        best = tte.maxsim(queries, documents, k=4)
        order = np.argsort(-np.where(np.isnan(expected), -np.inf, expected), axis=1, kind="stable")[:, :4]
        assert best.indices[[0, 2, 3]].tolist() == order[[0, 2, 3]].tolist()
        assert best.indices[1].tolist() == [-1] * 4
        np.testing.assert_allclose(best.scores[0], expected[0][order[0]], atol=1e-5)
    listed = tte.maxsim(list(queries), list(documents), threads=1)
    np.testing.assert_array_equal(listed, tte.maxsim(queries, documents))


def test_equal_documents_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    one = random_sets([4], 8, 3)
    many = tte.TokenEmbeddings.of([one[0]] * 20)
    monkeypatch.setattr(_maxsim, "_BLOCK_ROWS", 12)
    assert tte.maxsim(one, many, k=7).indices.tolist() == [list(range(7))]
    assert tte.maxsim(one, many, k=100).indices.shape == (1, 20)


def private_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])  # type: ignore[index]


def test_a_corpus_of_100_000_sets_is_never_in_memory(tmp_path: Path) -> None:
    corpus, items, each, dim = tmp_path / "corpus.npy", 100_000, 6, 64
    rng = np.random.default_rng(0)
    with tte.TokenWriter(corpus) as out:
        for _ in range(10):
            rows = rng.standard_normal((items // 10 * each, dim), dtype=np.float32).astype(np.float16)
            out.append(tte.TokenEmbeddings(rows, np.arange(0, len(rows) + 1, each)))
    loaded = tte.TokenEmbeddings.load(corpus)
    assert len(loaded) == items
    assert loaded.vectors.nbytes > 75_000_000
    queries = random_sets([5, 8], dim, 4)
    tte.maxsim(queries, loaded[:10_000], k=3)  # Threads and their memory are there now.
    before = private_bytes()
    best = tte.maxsim(queries, loaded, k=3)
    assert private_bytes() - before < 25_000_000
    for row, index in itertools.product(range(2), range(3)):
        document = loaded[int(best.indices[row, index])].astype(np.float64)
        expected = (queries[row].astype(np.float64) @ document.T).max(1).sum()
        assert best.scores[row, index] == pytest.approx(expected, rel=1e-5)
    seen: list[int] = []
    whole = tte.maxsim(queries, loaded, progress=lambda done, _: seen.append(done))
    assert np.argsort(-whole, axis=1, kind="stable")[:, :3].tolist() == best.indices.tolist()
    assert seen[-1] == items
    cancel = tte.CancelToken()
    cancel.cancel()
    with pytest.raises(tte.CancelledError):
        tte.maxsim(queries, loaded, cancel=cancel)


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_is_saved_is_loaded(tmp_path: Path, suffix: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tokens, "_COPIED", 256)  # Several pieces.
    tokens = random_sets([5, 0, 60, 1, 0, 7], 16, 7, dtype)
    path = tmp_path / f"tokens.{suffix}"
    tokens.save(path)
    found = tte.TokenEmbeddings.load(path)
    for name in ("vectors", "offsets", "pooled", "positions", "ids", "origins"):
        left, right = getattr(found, name), getattr(tokens, name)
        assert left.dtype == right.dtype, name
        np.testing.assert_array_equal(left, right, err_msg=name)
    bare = tte.TokenEmbeddings(tokens.vectors, tokens.offsets)
    bare.save(path)
    found = tte.TokenEmbeddings.load(path)
    assert found.pooled is found.ids is found.origins is None
    np.testing.assert_array_equal(found.vectors, tokens.vectors)
    with tte.TokenWriter(path) as out:
        for i in range(len(tokens)):
            out.append(tokens[i : i + 1])
    np.testing.assert_array_equal(tte.TokenEmbeddings.load(path).vectors, tokens.vectors)
    np.testing.assert_array_equal(tte.TokenEmbeddings.load(path).offsets, tokens.offsets)
    tokens[:0].save(path)
    assert len(tte.TokenEmbeddings.load(path)) == 0
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tokens.{suffix}"
    tokens = random_sets([2, 3], 4, 8)
    tokens.save(path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(RuntimeError), tte.TokenWriter(path) as out:
        out.append(random_sets([9], 4, 9))
        raise RuntimeError
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    with pytest.raises(tte.InputError, match="4 dimensions"), tte.TokenWriter(path) as out:
        out.append(tokens)
        out.append(random_sets([1], 5, 1))
    with pytest.raises(tte.InputError, match="closed"):
        out.append(tokens)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
@pytest.mark.parametrize("room", [0, 4096])
def test_nothing_is_left_of_what_a_full_disk_did_not_take(tmp_path: Path, suffix: str, room: int) -> None:
    code = f"""
import resource, signal, sys
import numpy as np, tte
rows = np.random.default_rng(0).random((5000, 8), np.float32)
tokens = tte.TokenEmbeddings(rows, np.array([0, 1, 5000]), ids=np.arange(5000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
try:
    tokens.save("some.{suffix}")
except tte.InputError as error:
    sys.exit(str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert f"some.{suffix} cannot be written (" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
def test_one_thread_may_write_and_another_close(tmp_path: Path, suffix: str) -> None:
    path, tokens = tmp_path / f"tokens.{suffix}", random_sets([2, 3], 4, 8)
    writer = tte.TokenWriter(path)
    thread = threading.Thread(target=writer.append, args=[tokens])
    thread.start()
    thread.join()
    writer.close()
    np.testing.assert_array_equal(tte.TokenEmbeddings.load(path).vectors, tokens.vectors)
    assert [file for file in tmp_path.iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
def test_writers_of_one_file_do_not_meet(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tokens.{suffix}"
    first, second, third = (random_sets([i + 1, 3], 4, i) for i in range(3))

    def holds(tokens: tte.TokenEmbeddings) -> bool:
        found = tte.TokenEmbeddings.load(path)
        return np.array_equal(found.vectors, tokens.vectors) and np.array_equal(found.offsets, tokens.offsets)

    one, other = tte.TokenWriter(path), tte.TokenWriter(path)
    one.append(first)
    other.append(second)
    third.save(path)
    assert holds(third)
    one.close()
    assert holds(first)
    other.close()
    assert holds(second)
    abandoned = tte.TokenWriter(path)
    abandoned.append(third)
    assert [file for file in tmp_path.iterdir() if file.name.startswith(".")]
    del abandoned
    gc.collect()
    assert [file for file in tmp_path.iterdir() if file.name.startswith(".")] == []
    code = f"import tte; w = tte.TokenWriter({str(path)!r}); w.append(tte.TokenEmbeddings.load({str(path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert [file for file in tmp_path.iterdir() if file.name.startswith(".")] == []
    assert holds(second)


@pytest.mark.parametrize("bare", [False, True])
def test_files_of_writers_that_close_at_once_fit_each_other(tmp_path: Path, bare: bool) -> None:
    path = tmp_path / "tokens.npy"
    several = [random_sets([3 + i, 2], 4, i) for i in range(2)]
    if bare:
        several[1] = tte.TokenEmbeddings(several[1].vectors, several[1].offsets)

    def write(tokens: tte.TokenEmbeddings) -> None:
        for _ in range(60):
            tokens.save(path)

    threads = [threading.Thread(target=write, args=[tokens]) for tokens in several]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = tte.TokenEmbeddings.load(path)
    (same,) = [each for each in several if np.array_equal(each.vectors, found.vectors)]
    for name in ("offsets", "pooled", "positions", "ids", "origins"):
        np.testing.assert_array_equal(getattr(found, name), getattr(same, name))


@pytest.mark.parametrize("name", ["tokens.npy", "tokens.offsets.npy", "tokens.parquet"])
def test_pipes_are_not_waited_for(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"tokens{Path(name).suffix}"
    random_sets([2, 3], 4, 8).save(path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(tte.InputError, match="pipe, socket or device"):
        tte.TokenEmbeddings.load(path)


@pytest.mark.parametrize("suffix", [b".npy", b".parquet"])
def test_names_that_are_not_utf8(tmp_path: Path, suffix: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff" + suffix))
    saved = tte.TokenEmbeddings(np.ones((3, 4), np.float32), np.array([0, 1, 3]))
    saved.save(path)
    np.testing.assert_array_equal(tte.TokenEmbeddings.load(path).vectors, saved.vectors)


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tokens.{suffix}"
    random_sets([2, 3, 1], 4, 8).save(path)
    whole = {p: p.read_bytes() for p in tmp_path.iterdir()}
    rng = np.random.default_rng(0)
    for damaged, data in whole.items():
        for cut in (*range(0, len(data), max(len(data) // 12, 1)), len(data) - 1):
            damaged.write_bytes(data[:cut])
            with pytest.raises(tte.InputError, match=path.stem):
                tte.TokenEmbeddings.load(path)
        for _ in range(60):
            flipped = bytearray(data)
            flipped[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
            damaged.write_bytes(flipped)
            with suppress(tte.InputError):
                found = tte.TokenEmbeddings.load(path)
                assert tte.maxsim(found, found).shape == (len(found), len(found))
        damaged.write_bytes(data)
    with pytest.raises(tte.InputError, match=r"neither \.npy nor \.parquet"):
        tte.TokenEmbeddings.load(tmp_path / "tokens.bin")
    with pytest.raises(tte.InputError, match="cannot be read"):
        tte.TokenEmbeddings.load(tmp_path / f"none.{suffix}")
    with pytest.raises(tte.InputError, match="not a folder"):
        tte.TokenWriter(tmp_path / "none" / f"a.{suffix}")


def test_files_that_do_not_fit_each_other_are_named(tmp_path: Path) -> None:
    random_sets([2, 3, 1], 4, 8).save(tmp_path / "tokens.npy")
    np.save(tmp_path / "tokens.offsets.npy", np.array([0, 5, 3, 6]))
    with pytest.raises(tte.InputError, match=r"tokens\.offsets\.npy cannot be read \(offsets are .*must ascend"):
        tte.TokenEmbeddings.load(tmp_path / "tokens.npy")


@pytest.mark.parametrize("name", ["", ".offsets", ".pooled", ".positions", ".ids", ".origins"])
def test_of_several_files_the_damaged_one_is_named(tmp_path: Path, name: str) -> None:
    tokens = random_sets([2, 3, 1], 4, 8)
    tokens.save(tmp_path / "tokens.npy")
    file = tmp_path / f"tokens{name}.npy"
    good = file.read_bytes()
    for damaged in (good.replace(b"False", b"Fxlse"), good[:-1], good[:20]):
        file.write_bytes(damaged)
        with pytest.raises(
            tte.InputError,
            match=rf"tokens{name}\.npy cannot be read \(it is damaged, cut off, or holds no plain numbers",
        ):
            tte.TokenEmbeddings.load(tmp_path / "tokens.npy")
    file.write_text("[1, 2]")
    with pytest.raises(tte.InputError, match=rf"tokens{name}\.npy cannot be read \(it is no \.npy file\)"):
        tte.TokenEmbeddings.load(tmp_path / "tokens.npy")
    if name:
        np.save(file, np.zeros(7, np.int16))
        with pytest.raises(tte.InputError, match=rf"tokens{name}\.npy cannot be read \({name[1:]} is a .*int16"):
            tte.TokenEmbeddings.load(tmp_path / "tokens.npy")


def test_files_that_were_removed_are_named_where_they_are_needed(tmp_path: Path) -> None:
    random_sets([2, 3, 1], 4, 8).save(tmp_path / "tokens.npy")
    (tmp_path / "tokens.pooled.npy").unlink()
    bare = tte.TokenEmbeddings.load(tmp_path / "tokens.npy")
    bare.origins[:] = tte.ORIGINS.index("text")
    with pytest.raises(tte.InputError, match=r"without its \.pooled\.npy beside it"):
        bare.only("trace")
    (tmp_path / "tokens.origins.npy").unlink()
    with pytest.raises(tte.InputError, match=r"without its \.origins\.npy beside it"):
        tte.TokenEmbeddings.load(tmp_path / "tokens.npy").mask("text")


def test_other_files_are_told_from_token_vectors(tmp_path: Path) -> None:
    def of(values: Any, kind: Any) -> pa.Table:
        return pa.table({"vectors": pa.array(values, kind)})

    vectors = of([[[1.0]]], pa.list_(pa.list_(pa.float32(), 1)))
    for table, why in (
        (pa.table({"a": [1], "b": ["x"]}), r"columns \['a', 'b'\], and no column 'vectors'"),
        (pa.table({"name": ["a"], "vector": [[1.0]]}), "one vector per item, as `tte embed` writes it"),
        (of([1], pa.int64()), "'vectors' is int64, not lists of float16 or float32"),
        (of([[1.0]], pa.list_(pa.float64())), "'vectors' is list<.*double>, not lists of"),
        (of([[[1.0]]], pa.list_(pa.list_(pa.float32()))), "'vectors' is list<.*, not lists of"),
        (of([[[1.0]]], pa.list_(pa.list_(pa.float64(), 1))), "'vectors' is .*double.*, not lists of"),
        (vectors.append_column("more", pa.array([1])), "a column 'more', which token vectors do not have"),
        (vectors.append_column("offsets", pa.array([[1]])), "a column 'offsets', which"),
        (vectors.append_column("ids", pa.array([1])), "'ids' is int64, not lists of int64"),
        (vectors.append_column("origins", pa.array([[1]])), "'origins' is .*, not lists of uint8"),
        (vectors.append_column("pooled", pa.array([[1.0]])), r"'pooled' is .*, not float32 \[dim\]"),
        (vectors.append_column("pooled", pa.array([[1.0] * 2], pa.list_(pa.float32(), 2))), "have . and . dimensions"),
        (vectors.append_column("vectors", vectors["vectors"]), "one of them twice"),
    ):
        parquet.write_table(table, tmp_path / "some.parquet")
        with pytest.raises(tte.InputError, match=rf"^[^ ]*some\.parquet cannot be read \(it.*{why}.*: give a "):
            tte.TokenEmbeddings.load(tmp_path / "some.parquet")
    np.save(tmp_path / "some.npy", np.ones((2, 3), np.float32))
    with pytest.raises(tte.InputError, match=r"some\.npy cannot be read \(it has no some\.offsets\.npy beside it"):
        tte.TokenEmbeddings.load(tmp_path / "some.npy")


@pytest.mark.parametrize(
    ("sets", "why"),
    [
        ([np.ones((2, 4))], r"\[0\] is a ndarray of float64 \[2, 4\]: .*\.astype\(np\.float32\)"),
        ([np.ones((2, 4), ">f4")], r"\[0\] is a ndarray of >f4 .*\.astype\(np\.float32\)"),
        ([torch.ones(2, 4, dtype=torch.bfloat16)], r"\[0\] is a Tensor of torch\.bfloat16 .*\.to\(torch\.float32\)"),
        ([[[1.0, 2.0]]], r"\[0\] is \[\[1\.0, 2\.0\]\] \(a list\): .*np\.array\(\.\.\., np\.float32\)"),
        ([np.ma.masked_array(np.ones((1, 4), np.float32), True)], r"\[0\] is a MaskedArray .*without a mask"),
        ([np.full((1, 4), np.inf, np.float32)], r"\[0\] has values that are not finite"),
        (np.ones((2, 4), np.float32), r" is a ndarray of float32 \[2, 4\]: .*one array in brackets"),
        ((each for each in ()), r" is <generator.*a list of arrays"),
        ([], r" is an empty list"),
        (Path("a.npy"), r" is .*a\.npy.*TokenEmbeddings\.load"),
    ],
)
def test_what_is_no_set_of_vectors_is_told_in_a_sentence(sets: Any, why: str) -> None:
    fine = random_sets([2], 4, 0)
    for name, call in (("queries", lambda: tte.maxsim(sets, fine)), ("documents", lambda: tte.maxsim(fine, sets))):
        if not isinstance(sets, Iterator):
            with pytest.raises(tte.InputError, match=f"^{name}{why}") as error:
                call()
            assert ". " not in str(error.value)
    with pytest.raises(tte.InputError, match=f"^sets{why}"):
        tte.TokenEmbeddings.of(sets)


def test_vectors_that_miss_something_are_told_what() -> None:
    fine = random_sets([2], 4, 0)
    with pytest.raises(tte.InputError, match=r"^queries has no pooled vectors \(its `pooled` is None\)"):
        tte.hybrid(tte.TokenEmbeddings.of([np.ones((2, 4), np.float32)]), fine)
    with pytest.raises(tte.InputError, match=r"^an origin is 'all': it must be one of 'text'"):
        fine.only("all")  # type: ignore[arg-type]
    with pytest.raises(tte.InputError, match=r"^an origin is \['text'\] \(a list\): it must be one of 'text'"):
        fine.only(["text"])  # type: ignore[arg-type]
    with pytest.raises(tte.InputError, match="given no origin"):
        fine.only()


def test_arrays_that_do_not_fit_are_refused() -> None:
    tokens = random_sets([2, 3], 4, 8)
    wrong: list[dict[str, Any]] = [
        {"offsets": np.array([0, 2, 4])},
        {"offsets": np.array([0, 6, 5])},
        {"offsets": np.array([1, 2, 5])},
        {"offsets": np.array([], np.int64)},
        {"offsets": np.array([0.0, 2, 5])},
        {"vectors": tokens.vectors.astype(np.float64)},
        {"vectors": tokens.vectors[0]},
        {"vectors": np.zeros((5, 0), np.float16)},
        {"pooled": tokens.pooled[:, :3]},
        {"pooled": tokens.pooled[:1]},
        {"ids": np.arange(4)},
    ]
    for change in wrong:
        arguments = {"vectors": tokens.vectors, "offsets": tokens.offsets, **change}
        with pytest.raises(tte.InputError, match=next(iter(change))):
            tte.TokenEmbeddings(**arguments)
    with pytest.raises(tte.InputError, match="4 dimensions, documents of 5"):
        tte.maxsim(tokens, random_sets([1], 5, 1))
    with pytest.raises(tte.InputError, match="4 dimensions, documents of 5"):
        tte.hybrid(tokens, random_sets([1], 5, 1))
    with pytest.raises(tte.InputError, match=r"^threads is -1"):  # Also where there is nothing to score.
        tte.hybrid(tokens, tokens[:0], threads=-1)
    with pytest.raises(tte.InputError, match="pooled"):
        tte.hybrid(tte.TokenEmbeddings(tokens.vectors, tokens.offsets), tokens)
    with pytest.raises(tte.InputError, match="empty list"):
        tte.maxsim([], tokens)
    with pytest.raises(IndexError):
        tokens[2]
    values, mask = tokens.padded()
    assert values.shape == (2, 3, 4)
    assert mask.tolist() == [[True, True, False], [True] * 3]
    np.testing.assert_array_equal(values[mask], tokens.vectors)
    view = torch.from_numpy(tokens.vectors.astype(np.float32))
    np.testing.assert_array_equal(tte.TokenEmbeddings(view, tokens.offsets).vectors, view.numpy())


# ----------------------------------------------------------------------------------------------------------------------
# Label scores.


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.name in ("tied-gqa", "qwen3-vl")], ids=str)
def test_label_scores_are_transformers_log_probabilities(
    shape: Shape, reference: Callable[[Shape], Reference], tmp_path: Path
) -> None:
    theirs = reference(shape)
    reasoner = tte.Reasoner(theirs.folder, device="cpu")
    labels = ["yes", "no", "the cat and dog", "the cat", " 7"]
    ids = [reasoner.tokenizer.encode(label) for label in labels]
    assert max(map(len, ids)) > 2
    talks = conversations(tmp_path)
    scores = reasoner.score(list(talks.values()), labels, progress=False)
    assert scores.dtype == np.float32
    for row, (name, messages) in zip(scores, talks.items(), strict=True):
        np.testing.assert_allclose(row, [log_probability(theirs, messages, i) for i in ids], atol=2e-4, err_msg=name)


@torch.inference_mode()
def log_probability(theirs: Reference, messages: list[dict[str, Any]], ids: list[int]) -> float:
    """How likely ids are to follow a prompt, from one pass over both."""
    inputs = theirs.inputs(messages)
    prompt = inputs["input_ids"].shape[1]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([ids])], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "mm_token_type_ids" in inputs:
        inputs["mm_token_type_ids"] = torch.cat(
            [inputs["mm_token_type_ids"], torch.zeros(1, len(ids), dtype=torch.long)], 1
        )
    theirs.model.model.rope_deltas = None
    logits = theirs.model(**inputs).logits[0].float().log_softmax(-1)
    return float(sum(logits[prompt + i - 1, token] for i, token in enumerate(ids)))


def test_scores_go_on_from_traces_and_tell_skipped_items(reasoner: tte.Reasoner) -> None:
    items = ["what is left of the red circle ?", Path("/nowhere.png")]
    scores = reasoner.score(items, [" red", " blue"], on_error="skip", progress=False)
    assert np.isnan(scores).tolist() == [[False, False], [True, True]]
    after = reasoner.score(items[0], [" circle", " two"], traces="<think> the red", progress=False)
    assert after.shape == (1, 2)
    (whole,) = reasoner.score(items[:1], ["<think> the red circle"], progress=False)
    (begin,) = reasoner.score(items[:1], ["<think> the red"], progress=False)
    assert whole[0] == pytest.approx(begin[0] + after[0, 0], abs=1e-3)
    for labels, named in (
        ([], "labels"), (["a", ""], "Label 1"), (["a", "a"], "Labels 0 and 1"), ("ab", "labels"),
        (["a", "b" * 1025], r"Label 1 .* has 1025 tokens"),
    ):  # fmt: skip
        with pytest.raises(tte.InputError, match=named):
            reasoner.score("a", labels)
    with pytest.raises(tte.InputError, match="1 traces for 2 items"):
        reasoner.score(["a", "b"], ["x"], traces=["t"])
