"""TraceStore: found by content, shared by writers, nothing lost when a writer is killed."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tte
from PIL import Image
from tte import _command, _content, _files, _hub, _pages, _trace_files, _tte, trace_store


@dataclass
class Named:
    """Stands where a reasoner would: keys need its description only."""

    model: SimpleNamespace


def reasoner(folder: Path, fingerprint: str = "f0", recipe: str = '{"name": "a"}') -> Named:
    return Named(SimpleNamespace(path=folder, fingerprint=fingerprint, dtype="float32", recipe=recipe, base=None))


@pytest.fixture
def store(tmp_path: Path) -> tte.TraceStore:
    return tte.TraceStore(tmp_path / "traces.sqlite")


def complete(text: str, ids: list[int] | None = None) -> tte.Trace:
    trace = _tte.Trace.__new__(_tte.Trace)
    finish = tte.FinishReason.STOP
    trace.__setstate__((text, "a", "b", ids or [], "v", finish, "", 7, 3))
    return trace


def test_what_was_put_is_found_again_whole(store: tte.TraceStore, tmp_path: Path) -> None:
    request = store.request(reasoner(tmp_path), "hello", task="image_qa", max_new_tokens=9)
    assert store.get(request) is None
    assert store.put(request, complete("<think>a</think>b", [5, 6, -1]), seconds=1.5)
    found = store.get(request)
    assert found is not None
    assert found.trace.__getstate__() == complete("<think>a</think>b", [5, 6, -1]).__getstate__()
    assert found.seconds == 1.5
    assert len(store) == 1
    assert request in store
    assert request.key in store
    assert "00" * 20 not in store


def test_the_first_trace_of_a_key_stays(store: tte.TraceStore, tmp_path: Path) -> None:
    request = store.request(reasoner(tmp_path), "hello")
    assert store.put(request, complete("first"))
    assert not store.put(request, complete("second"))
    found = store.get(request)
    assert found is not None
    assert found.trace.text == "first"


def test_a_locked_store_is_waited_for_in_words(
    store: tte.TraceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = store.request(reasoner(tmp_path), "hello")
    monkeypatch.setattr(trace_store, "_WAIT_SECONDS", 1.5)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with (
            pytest.warns(UserWarning, match="locked by another process: waiting") as told,
            pytest.raises(tte.InputError, match="another process is writing to it, try again"),
        ):
            store.put(request, complete("a"))
    assert len(told) == 1
    with closing(sqlite3.connect(tmp_path / "other.sqlite", isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        code = f"import tte; tte.TraceStore({str(tmp_path / 'other.sqlite')!r})"
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        assert "waiting for it up to 120 seconds" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=100)[1]  # Before it would give up by itself.


@pytest.mark.parametrize("instead", ["nothing", "another"])
def test_a_store_that_was_deleted_says_so(
    store: tte.TraceStore, tmp_path: Path, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with tte.TraceStore("traces.sqlite") as relative:
        monkeypatch.chdir("/")
        assert relative.put(store.request(reasoner(tmp_path), "hello"), complete("a"))
    trace_store.remove(store.path)
    if instead == "another":
        tte.TraceStore(store.path).close()
    for text in ("hello", "other"):
        with pytest.raises(tte.InputError, match=r"traces\.sqlite was deleted or replaced while it was open"):
            store.put(store.request(reasoner(tmp_path), text), complete("b"))


def test_keys_follow_everything_that_changes_a_trace(store: tte.TraceStore, tmp_path: Path) -> None:
    image, other = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(image)
    Image.fromarray(np.ones((4, 4, 3), np.uint8)).save(other)
    plain = reasoner(tmp_path)
    requests = [
        store.request(plain, "a"),
        store.request(plain, "b"),
        store.request(plain, "a", instruction="i"),
        store.request(plain, "a", task="image_qa"),
        store.request(plain, "a", side="target"),
        store.request(plain, "a", max_new_tokens=3),
        store.request(plain, "a", temperature=0.5, seed=1),
        store.request(plain, "a", checkpoint_sampling=True),
        store.request(plain, "a", checkpoint_sampling=True, temperature=0),
        store.request(plain, image),
        store.request(plain, other),
        store.request(plain, {"text": "a", "image": image}),
        store.request(plain, {"image": image, "text": "a"}),
        store.request(plain, {"video": [image, other]}),
        store.request(plain, {"video": [other, image]}),
        store.request(plain, [{"role": "user", "content": "a"}]),
        store.request(reasoner(tmp_path, fingerprint="f1"), "a"),
        store.request(reasoner(tmp_path, recipe='{"pooling": "mean"}'), "a"),
    ]
    assert len({request.key for request in requests}) == len(requests)


def test_keys_do_not_follow_what_changes_nothing(store: tte.TraceStore, tmp_path: Path) -> None:
    image, copy = tmp_path / "a.png", tmp_path / "copy.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(image)
    copy.write_bytes(image.read_bytes())
    plain = reasoner(tmp_path)
    assert store.request(plain, "a").key == store.request(plain, {"text": "a"}, temperature=0.0, top_p=None).key
    assert store.request(plain, "a").key == store.request(plain, "a", top_p=1, stop=[]).key
    assert store.request(plain, "a").key != store.request(plain, "a", max_new_tokens=512).key, "the file may say less"
    hot = reasoner(tmp_path, recipe='{"decoding": {"temperature": 1.0}}')
    assert store.request(hot, "a").key == store.request(hot, "a", temperature=1).key
    assert store.request(hot, "a").key != store.request(hot, "a", temperature=0).key
    assert store.request(plain, image).key == store.request(plain, {"image": str(copy)}).key
    assert store.request(plain, "a").key == store.request(reasoner(tmp_path, recipe='{"name": "b"}'), "a").key


def test_a_file_that_changes_gets_another_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    first = _content.file_digest(path)
    path.write_bytes(b"other")
    assert _content.file_digest(path) != first
    with pytest.raises(tte.InputError, match=r"gone\.png cannot be read"):
        _content.file_digest(tmp_path / "gone.png")


def test_what_was_cut_short_is_not_kept(store: tte.TraceStore, tmp_path: Path) -> None:
    trace = _tte.Trace.__new__(_tte.Trace)
    trace.__setstate__(("half", "", "", [], "", tte.FinishReason.CANCELLED, "", 0, 0))
    assert not store.put(store.request(reasoner(tmp_path), "a"), trace)
    assert len(store) == 0


def test_writers_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "traces.sqlite"

    def write(number: int) -> None:
        with tte.TraceStore(path) as mine:
            for i in range(50):
                mine.put(mine.request(reasoner(tmp_path), f"{i % 40} {number if i >= 40 else ''}"), complete(str(i)))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with tte.TraceStore(path, read_only=True) as store:
        assert len(store) == 40 + 4 * 10


def test_a_new_store_is_opened_by_many_at_once(tmp_path: Path) -> None:
    for turn in range(20):
        start, opened = threading.Barrier(8), []

        def open_it(path: Path, start: threading.Barrier, opened: list[int]) -> None:
            start.wait()
            with tte.TraceStore(path) as mine:
                opened.append(len(mine))

        arguments = (tmp_path / f"{turn}.sqlite", start, opened)
        threads = [threading.Thread(target=open_it, args=arguments) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert opened == [0] * 8


WRITER = """
import sys
from pathlib import Path
from types import SimpleNamespace
import tte
folder = Path(sys.argv[1])
named = SimpleNamespace(model=SimpleNamespace(path=folder, fingerprint="f", dtype="float32", recipe="{}", base=None))
with tte.TraceStore(folder / "traces.sqlite") as store:
    for i in range(100000):
        store.put(store.request(named, f"item {i}"), tte.Trace(f"trace {i}"))
        print(i, flush=True)
"""


def test_nothing_that_was_put_is_lost_when_the_writer_is_killed(tmp_path: Path) -> None:
    named = Named(SimpleNamespace(path=tmp_path, fingerprint="f", dtype="float32", recipe="{}", base=None))
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = -1
    for line in process.stdout:
        last = int(line)
        if last == 200:
            process.send_signal(signal.SIGKILL)
    process.wait()
    assert last >= 200
    with tte.TraceStore(tmp_path / "traces.sqlite") as store:
        found = [store.get(store.request(named, f"item {i}")) for i in range(last + 1)]
    assert [f.trace.text for f in found if f] == [f"trace {i}" for i in range(last + 1)]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".sqlite"])
def test_exports_come_back_whole(store: tte.TraceStore, tmp_path: Path, suffix: str) -> None:
    requests = [store.request(reasoner(tmp_path), f"ünï {i}") for i in range(5)]
    for i, request in enumerate(requests):
        store.put(request, complete(f"<think>{i}\n</think>", [i, 2**40]), seconds=0.25 * i)
    path = tmp_path / f"export{suffix}"
    if suffix == ".sqlite":
        store.close()
        path = store.path
    else:
        assert store.export(path) == 5
    with tte.TraceStore(tmp_path / "other.sqlite") as other:
        assert other.merge(path) == 5
        assert other.merge(path) == 0
        with tte.TraceStore(store.path) as again:
            assert list(other.records()) == list(again.records())
        found = other.get(requests[3])
        assert found is not None
        assert found.trace.token_ids == [3, 2**40]


def test_errors_name_the_file_and_the_row(store: tte.TraceStore, tmp_path: Path) -> None:
    with pytest.raises(tte.InputError, match=r"export\.csv ends in neither"):
        store.export(tmp_path / "export.csv")
    broken = tmp_path / "broken.jsonl"
    store.put(store.request(reasoner(tmp_path), "a"), complete("t"))
    record = next(store.records())
    broken.write_text(json.dumps(record) + "\n" + json.dumps({**record, "finish": "CANCELLED"}) + "\n")
    with pytest.raises(tte.InputError, match=r"broken\.jsonl, row 2: finish cannot be 'CANCELLED'"):
        store.merge(broken)
    broken.write_text("{\n")
    with pytest.raises(tte.InputError, match=r"line 1 is not JSON"):
        store.merge(broken)
    with pytest.raises(tte.InputError, match=r"is not a key of a trace"):
        store.get("abc")


def test_folders_are_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(tte.InputError, match=r"typo is not a folder: make it, or"):
        tte.TraceStore(tmp_path / "typo" / "x.sqlite")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("HOME", str(tmp_path))
    with tte.TraceStore("~/x.sqlite") as store:
        assert store.path == tmp_path / "x.sqlite"
        assert store.export("~/x.jsonl") == 0
        assert store.merge("~/x.jsonl") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.jsonl", "x.sqlite"]
    with pytest.raises(tte.InputError, match="begins with a home folder that does not exist: give the whole path"):
        tte.TraceStore("~nobody-of-this-name/x.sqlite")
    with pytest.raises(tte.InputError, match="is ':memory:': a trace store is a file"):
        tte.TraceStore(":memory:")


def test_other_files_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.sqlite"
    text.write_text("not a database, but long enough to be taken for the header of one " * 4)
    with pytest.raises(tte.InputError, match="cannot be used as a trace store"):
        tte.TraceStore(text)
    database = tmp_path / "other.sqlite"
    with sqlite3.connect(database) as other:
        other.execute("CREATE TABLE things (id)")
    with pytest.raises(tte.InputError, match="another SQLite database"):
        tte.TraceStore(database)
    made = tmp_path / "made.sqlite"
    tte.TraceStore(made)
    for addition in (
        "CREATE TRIGGER t AFTER INSERT ON traces BEGIN DELETE FROM traces; END",
        "DROP TRIGGER t; CREATE VIEW v AS SELECT * FROM traces",
        "DROP VIEW v; DROP TABLE traces; CREATE VIEW traces AS WITH RECURSIVE c(id) AS (SELECT 1 UNION ALL SELECT id "
        "FROM c) SELECT id FROM c",
    ):
        with sqlite3.connect(made) as other:
            other.executescript(addition)
        for read_only in (True, False):
            with pytest.raises(tte.InputError, match="has other parts than a trace store"):
                tte.TraceStore(made, read_only=read_only)
    with pytest.raises(tte.InputError, match="does not exist"):
        tte.TraceStore(tmp_path / "absent.sqlite", read_only=True)
    assert not (tmp_path / "absent.sqlite").exists()
    with tte.TraceStore(tmp_path / "fine.sqlite") as store:
        for path, words in ((tmp_path, "is not a file: give an export"), (tmp_path / "x", "does not exist: give an")):
            with pytest.raises(tte.InputError, match=words):
                store.merge(path)


def test_a_request_is_of_a_reasoner_and_an_item(tmp_path: Path) -> None:
    with tte.TraceStore(tmp_path / "x.sqlite") as store:
        embedder: Any = tte.Embedder("nano")
        with pytest.raises(tte.InputError, match=r"reasoner is .*: it must be a tte\.Reasoner"):
            store.request(embedder, "a")
        for content in (5, "a", [1], True):
            with pytest.raises(tte.InputError, match=r"content is .*: it must be an item's canonical form"):
                store.request(tte.Reasoner("nano"), "a", content=content)


def test_the_bundled_reasoner_thinks_once_about_equal_items(tmp_path: Path) -> None:
    pair = tte.Reasoner(_hub.bundled("reasoner")), tte.Embedder(_hub.bundled("embedder"))
    items = ["what is left of the red circle ?", "how many 3 ?", "what is left of the red circle ?"]
    with tte.TraceStore(tmp_path / "traces.sqlite") as store:
        fresh = store.think(pair[0], items, task="image_qa", progress=False)
        assert len(store) == 2
        seen: list[int] = []
        kept = store.think(pair[0], items, task="image_qa", on_result=lambda i, _: seen.append(i), progress=False)
    assert seen == []
    assert [t.token_ids for t in kept] == [t.token_ids for t in fresh]
    assert [t.conclusion for t in kept] == [t.conclusion for t in fresh]
    direct = pair[0].think(items, task="image_qa", progress=False)
    assert [t.text for t in fresh] == [t.text for t in direct]
    vectors = [pair[1].embed(items, traces, task="image_qa", progress=False) for traces in (direct, kept)]
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_a_number_of_numpy_is_the_same_setting(store: tte.TraceStore, tmp_path: Path) -> None:
    plain = reasoner(tmp_path)

    def key(**decoding: object) -> str:
        return store.request(plain, "a", **decoding).key

    assert key(seed=np.int64(3), top_p=np.float64(0.5)) == key(seed=3, top_p=0.5)
    assert key(temperature=1) == key(temperature=np.float32(1)) == key(temperature=1.0)
    assert key(stop_token_ids=np.array([3, 4])) == key(stop_token_ids=(3, 4))
    with pytest.raises(tte.InputError, match=r"^seed is <object"):
        key(seed=object())


@pytest.fixture(scope="module")
def nano() -> tte.Reasoner:
    return tte.Reasoner(_hub.bundled("reasoner"), device="cpu")


def test_arguments_are_those_of_the_reasoner(store: tte.TraceStore, nano: tte.Reasoner) -> None:
    items, results = ["a", "b", "c"], []
    tokens: list[tuple[int, str, int]] = []
    first = store.think(nano, items[0], max_new_tokens=3, seed=3, progress=False)
    traces = store.think(
        nano, items, max_new_tokens=np.int32(3), seed=np.int64(3), progress=False,
        on_token=lambda *seen: tokens.append(seen), on_result=lambda i, _: results.append(i),
    )  # fmt: skip
    assert traces[0].token_ids == first[0].token_ids
    assert sorted(results) == [1, 2]
    assert {item for item, _, _ in tokens} == {1, 2}
    # Stops are for all items alike, not one each.
    stopped = store.think(nano, items, max_new_tokens=3, stop=["x y", "z z"], progress=False)
    direct = nano.think(items, max_new_tokens=3, stop=["x y", "z z"], progress=False)
    assert [t.text for t in stopped] == [t.text for t in direct]
    with pytest.raises(tte.InputError, match=r"^item 1: seed is 'x': it must be a whole number"):
        store.think(nano, items, seed=[1, "x", 2])
    with pytest.raises(TypeError, match="no argument 'tempreature': did you mean 'temperature'"):
        store.think(nano, items, tempreature=0.5)
    with pytest.raises(tte.InputError, match=r"^on_error is 'no'"):
        store.think(nano, items, max_new_tokens=3, on_error="no")  # type: ignore[arg-type]
    with pytest.raises(tte.InputError, match=r"^the reasoner is of type Embedder: give a tte\.Reasoner\.$"):
        store.think(tte.Embedder(_hub.bundled("embedder"), device="cpu"), items)  # type: ignore[arg-type]


def test_an_image_that_cannot_be_read_is_skipped_or_named(
    store: tte.TraceStore, nano: tte.Reasoner, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    items = ["a", {"image": tmp_path / "gone.png"}, {"image": tmp_path / "broken.png"}, "b"]
    store.think(nano, "a", max_new_tokens=3, progress=False)  # Kept: positions differ from those of the call.
    traces = store.think(nano, items, max_new_tokens=3, on_error="skip", progress=False)
    direct = nano.think(items, max_new_tokens=3, on_error="skip", progress=False)
    assert [t.finish for t in traces] == [t.finish for t in direct]
    assert traces[1].finish == traces[2].finish == tte.FinishReason.ERROR
    assert len(store) == 2
    for bad in (items[:2], [items[0], items[2]]):
        with pytest.raises(tte.InputError) as theirs:
            nano.think(bad, max_new_tokens=3, progress=False)
        with pytest.raises(tte.InputError, match=r"^item 1: ") as ours:
            store.think(nano, bad, max_new_tokens=3, progress=False)
        assert str(ours.value) == str(theirs.value)


def test_reading_only(store: tte.TraceStore, nano: tte.Reasoner, tmp_path: Path) -> None:
    store.think(nano, "a", max_new_tokens=3, progress=False)
    export = tmp_path / "traces.jsonl"
    store.export(export)
    with tte.TraceStore(store.path, read_only=True) as mine:
        assert len(mine.think(nano, ["a", "a"], max_new_tokens=3, progress=False)) == 2
        with pytest.raises(tte.InputError, match=r"^item 1: .*open for reading only and has no trace of it: "):
            mine.think(nano, ["a", "b"], max_new_tokens=3, progress=False)
        kept, missing = mine.think(nano, ["a", "b"], max_new_tokens=3, on_error="skip", progress=False)
        assert (kept.finish.name, missing.finish.name) == ("LENGTH", "ERROR")
        assert "item 1: " in missing.error
        with pytest.raises(tte.InputError, match="open for reading only: "):
            mine.put(mine.request(nano, "b"), complete("b"))
        with pytest.raises(tte.InputError, match="open for reading only: "):
            mine.merge(export)


@pytest.mark.parametrize("damage", ["text = 'other'", "text = CAST(x'ff' AS TEXT)"])
def test_a_damaged_trace_is_the_error_of_its_item(store: tte.TraceStore, nano: tte.Reasoner, damage: str) -> None:
    items = ["a", {"text": "b", "name": "mine"}, "c"]
    decoding: dict[str, Any] = {"max_new_tokens": 3, "progress": False}
    whole = store.think(nano, items, **decoding)
    with closing(sqlite3.connect(store.path)) as file:
        file.execute(f"UPDATE traces SET {damage} WHERE id = 2")
        file.commit()
    name, why = r"item 1 \(mine\)", r"traces\.sqlite, trace \d is damaged \("
    embedder = tte.Embedder(_hub.bundled("embedder"), backend=nano.backend)

    def embed(**more: Any) -> tte.Result:
        return tte.think_then_embed(items, reasoner=nano, embedder=embedder, store=store, **decoding, **more)

    for call in (embed, lambda: store.think(nano, items, **decoding)):
        with pytest.raises(tte.InputError, match=f"^{name}: .*{why}"):
            call()
    traces = store.think(nano, items, on_error="skip", **decoding)
    result = embed(on_error="skip")
    assert [(t.text, t.finish) for t in traces[::2]] == [(t.text, t.finish) for t in whole[::2]]
    assert np.isfinite(result.embeddings).all(1).tolist() == [True, False, True]
    assert result.stats.thought == 0
    (error,) = result.errors
    for message in (error.message, traces[1].error):
        assert re.search(f"^{name}: .*{why}", message)
        assert len(re.findall(name, message)) == 1
    assert store.drop_damaged() == 1
    assert embed().stats.thought == 1


def test_a_closed_store_says_so(store: tte.TraceStore, nano: tte.Reasoner, tmp_path: Path) -> None:
    request = store.request(nano, "a")
    store.close()
    store.close()
    uses: list[Callable[[], object]] = [
        lambda: len(store),
        lambda: request in store,
        lambda: store.get(request),
        lambda: store.put(request, complete("a")),
        lambda: store.export(tmp_path / "a.jsonl"),
        lambda: store.merge(tmp_path / "a.jsonl"),
        lambda: store.think(nano, []),
        lambda: list(store.records()),
    ]
    for use in uses:
        with pytest.raises(tte.InputError, match=r"traces\.sqlite is closed: open the trace store again\.$"):
            use()


def test_what_is_no_key_is_not_in_the_store(store: tte.TraceStore) -> None:
    assert "a" not in store
    assert 3 not in store


def test_exports_need_a_folder(store: tte.TraceStore, tmp_path: Path) -> None:
    with pytest.raises(tte.InputError, match="gone is not a folder: make it"):
        store.export(tmp_path / "gone" / "traces.jsonl")
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(tte.InputError, match="is a folder: give the export another name"):
        store.export(tmp_path / "a.jsonl")


def test_a_file_that_gives_more_than_its_size_is_read_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ((_content._sources, "MAX_FILE_BYTES"), (_files, "_JSON_BYTES"), (_pages, "MAX_FILE_BYTES")):
        monkeypatch.setattr(*limit, 100)
    endless = Path("/proc/self/status")  # Its size is 0, and it has a thousand bytes or more.
    for read in (_content.file_digest, lambda path: _files.read_json(path, "give another"), tte.pages):
        with pytest.raises(tte.InputError, match=r"/proc/self/status .*over 100 bytes|more than 100 bytes"):
            read(endless)


def test_what_sqlite_cannot_say_in_utf8_is_one_sentence(store: tte.TraceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = SimpleNamespace(execute=lambda *_: b"\xff".decode(), close=lambda: None)
    monkeypatch.setattr(store, "_db", broken)
    with pytest.raises(tte.InputError, match=r"traces.sqlite cannot be used \(its text is not UTF-8\): give another"):
        len(store)


def test_folders_within_too_many_folders_are_refused(tmp_path: Path) -> None:
    depth = sys.getrecursionlimit()
    sys.setrecursionlimit(300)  # Fewer than the folders, which are as many as a path can have.
    try:
        with pytest.raises(tte.InputError, match=r"is not a folder: make it, or give the trace store another one"):
            tte.TraceStore(tmp_path.joinpath(*["a"] * 1800, "store"))
    finally:
        sys.setrecursionlimit(depth)
    assert not (tmp_path / "a").exists()


def test_pages_that_go_round_in_a_circle_are_told(tmp_path: Path) -> None:
    path = tmp_path / "traces.sqlite"
    with tte.TraceStore(path) as store:
        for i in range(40):
            store.put(store.request(reasoner(tmp_path), f"{i}"), complete("x" * 500))
    with closing(sqlite3.connect(path)) as db:
        (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'traces'").fetchone()
    data = bytearray(path.read_bytes())
    begin = (root - 1) * page_bytes
    assert data[begin] == 5  # An inner page of a table: its last child at 8, where its first cell is at 12.
    first = begin + int.from_bytes(data[begin + 12 : begin + 14], "big")
    data[begin + 8 : begin + 12] = data[first : first + 4]
    path.write_bytes(data)
    with tte.TraceStore(path) as store:
        for use in (lambda: list(store.records()), store.drop_damaged, lambda: store.export(tmp_path / "o.jsonl")):
            with pytest.raises(tte.InputError, match="comes twice"):
                use()


def test_texts_that_nobody_wrote_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "traces.sqlite"
    with tte.TraceStore(path) as store:
        store.put(store.request(reasoner(tmp_path), "a"), complete("x"))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE traces SET token_ids = zeroblob(100000000)")
    with tte.TraceStore(path) as store, pytest.raises(tte.InputError, match=r"too big.*at most 67108864 bytes"):
        list(store.records())


def test_a_parquet_export_of_other_columns_is_told(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"text": pa.array(["x" * 1000] * 2000).dictionary_encode()}), path)
    with tte.TraceStore(tmp_path / "traces.sqlite") as store, pytest.raises(tte.InputError, match="row 1 has no 'key'"):
        store.merge(path)


def test_a_small_parquet_file_that_unfolds_into_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "traces.parquet"
    rows = {"id": [str(i) for i in range(300)], "trace": pa.array(["x" * 10_000] * 300).dictionary_encode()}
    parquet.write_table(pa.table(rows), path)
    assert len(tte.read_traces(path)) == 300
    monkeypatch.setattr(_trace_files, "_UNFOLDED", (2_000_000, 1))
    with pytest.raises(tte.InputError, match=r"traces\.parquet unfolds into 2\d+ bytes or more, over the limit of 2"):
        tte.read_traces(path)
    monkeypatch.setattr(_trace_files, "_UNFOLDED", (1_000, 0))  # One text alone is more, which the footer tells.
    with pytest.raises(tte.InputError, match="unfolds into"):
        tte.read_traces(path)


@pytest.mark.parametrize(
    ("name", "full", "writable", "message"),
    [
        ("SQLITE_IOERR_SHMSIZE", True, True, "(its disk is full): free some space and"),
        ("SQLITE_IOERR_WRITE", False, True, "(disk I/O error): look after its disk, and limits of file sizes, and"),
        ("SQLITE_CANTOPEN", False, False, "(its folder cannot be written to): give a file on a disk that"),
    ],
)
def test_what_sqlite_does_not_say_is_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, full: bool, writable: bool, message: str
) -> None:
    def connect(*_: Any, **__: Any) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = name
        raise error

    monkeypatch.setattr(sqlite3, "connect", connect)
    monkeypatch.setattr(_files, "is_full", lambda _: full)
    monkeypatch.setattr(os, "access", lambda *_: writable)
    with pytest.raises(tte.InputError) as error:
        tte.TraceStore(tmp_path / "traces.sqlite")
    assert f"traces.sqlite cannot be used as a trace store {message}" in str(error.value)
    assert _command.exit_code(error.value) == (1 if name.startswith("SQLITE_IOERR") else 2)


def test_an_export_to_a_full_disk_failed_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(trace_store.WRITERS, ".jsonl", full)
    with tte.TraceStore(tmp_path / "a.sqlite") as store, pytest.raises(tte.InputError, match="to another disk") as told:
        store.export(tmp_path / "a.jsonl")
    assert _command.exit_code(told.value) == 1


def test_a_task_that_is_absent_is_none(tmp_path: Path) -> None:
    absent = pytest.importorskip("pandas").NA
    with tte.TraceStore(tmp_path / "traces.sqlite") as store:
        keys = {store.request(reasoner(tmp_path), "a", task=task).key for task in (None, absent)}
    assert len(keys) == 1


def test_what_reads_control_tokens_has_traces_of_its_own(store: tte.TraceStore) -> None:
    item, options = "what is left <|im_end|>", {"max_new_tokens": 3, "progress": False}
    plain, parsed = tte.Reasoner("nano"), tte.Reasoner("nano", parse_control_tokens=True)
    assert (plain.model.parse_control_tokens, parsed.model.parse_control_tokens) == (False, True)
    kept = [store.think(reasoner, item, **options)[0] for reasoner in (plain, parsed, plain, parsed)]
    assert [trace.prompt_tokens for trace in kept[:2]] == [
        reasoner.think(item, **options)[0].prompt_tokens for reasoner in (plain, parsed)
    ]
    assert kept[0].prompt_tokens > kept[1].prompt_tokens
    assert [trace.text for trace in kept[2:]] == [trace.text for trace in kept[:2]]


def test_files_count_as_they_were_when_they_were_loaded(store: tte.TraceStore, tmp_path: Path) -> None:
    folder = tmp_path / "reasoner"
    shutil.copytree(tte.Reasoner("nano").model.path, folder)
    before = tte.Reasoner(folder)
    with (folder / "preprocessor_config.json").open("a") as file:
        file.write("\n")
    after = tte.Reasoner(folder)
    assert store.request(before, "a").key != store.request(after, "a").key
    assert store.request(before, "a").key == store.request(tte.Reasoner("nano"), "a").key
