"""`tte embed` and `tte search`: vectors of files, and the nearest of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tte
from adapters import make_adapter
from chat_server import chat_server, stream
from checkpoints import SHAPES, Shape
from command_line import run
from PIL import Image
from pyarrow import parquet
from references import noise
from safetensors.torch import load_file, save_file
from tte import __main__, _index, _pages

NANO = Path(__file__).parents[2] / "models" / "nano"


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_embed_and_search(
    suffix: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("the red circle\n\nthe blue square\n")
    (tmp_path / "in" / "b.jsonl").write_text('{"text": "the green cross"}\n')
    Image.fromarray(noise(56, 56)).save(tmp_path / "in" / "c.png")
    (tmp_path / "in" / "d.png").write_bytes(b"nothing")
    out = tmp_path / f"corpus{suffix}"
    told = run(capsys, "embed", "in", "-o", out, "--side", "query", code=3)
    assert "in/d.png" in told
    lines = run(capsys, "search", out, "the blue square", "--top", 3).splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("in/a.txt#3")
    assert float(lines[0].split()[0]) == pytest.approx(1, abs=1e-3)
    names, vectors, settings = _index.read(out)
    assert names == ["in/a.txt#1", "in/a.txt#3", "in/b.jsonl#1", "in/c.png", "in/d.png"]
    expected = tte.Embedder("nano", device="cpu").embed(["the red circle"])
    np.testing.assert_allclose(vectors[0], expected[0], atol=1e-5)
    assert np.isnan(vectors[4]).all()
    assert settings["embedder"] == "nano"


def test_other_files_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("cat")
    assert ".npy and .parquet" in run(capsys, "embed", tmp_path / "a.txt", "-o", tmp_path / "a.csv", code=2)
    assert "no file or folder" in run(capsys, "embed", tmp_path / "none", "-o", tmp_path / "a.npy", code=2)
    (tmp_path / "empty").mkdir()
    assert "has no image" in run(capsys, "embed", tmp_path / "empty", "-o", tmp_path / "a.npy", code=2)
    assert "is no file" in run(capsys, "search", tmp_path / "a.npy", "cat", code=2)
    (tmp_path / "dir.npy").mkdir()
    assert "is a folder" in run(capsys, "embed", tmp_path / "a.txt", "-o", tmp_path / "dir.npy", code=2)
    (tmp_path / "blank.txt").write_text("\n \n")
    assert "nothing to embed" in run(capsys, "embed", tmp_path / "blank.txt", "-o", tmp_path / "b.npy", code=2)


@pytest.mark.parametrize("content", ["{}", '{"names": []}', "[]", "nothing"])
def test_another_json_beside_the_vectors_stays(
    content: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("cat")
    (tmp_path / "a.json").write_text(content)
    assert "a.json" in run(capsys, "embed", tmp_path / "a.txt", "-o", tmp_path / "a.npy", code=2)
    assert (tmp_path / "a.json").read_text() == content
    run(capsys, "embed", tmp_path / "a.txt", "-o", tmp_path / "b.npy")
    run(capsys, "embed", tmp_path / "a.txt", "-o", tmp_path / "b.npy")  # Its own is replaced.
    good = (tmp_path / "b.json").read_bytes()
    for damaged in (b"", good[:10], good[: len(good) // 2], good.replace(b'"names"', b'\xffnames"')):
        (tmp_path / "b.json").write_bytes(damaged)
        run(capsys, "embed", tmp_path / "a.txt", "-o", tmp_path / "b.npy")
        assert (tmp_path / "b.json").read_bytes() == good
    (tmp_path / "b.npy").unlink()
    (tmp_path / "b.json").write_bytes(b"")  # Beside nothing: anybody's.
    assert "move it away" in run(capsys, "embed", tmp_path / "a.txt", "-o", tmp_path / "b.npy", code=2)


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_a_bad_file_takes_nothing_with_it(
    suffix: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    good = Image.fromarray(noise(56, 56))
    good.save("a.png")
    good.save("page.pdf")
    Path("bom.txt").write_bytes("\ufeffa cat\r\n\r\na dog".encode())
    Path("lists.jsonl").write_bytes(b'\xef\xbb\xbf[{"type": "text", "text": "a"}]\n\n"b"\n')
    bad: dict[str, bytes] = {
        "b.png": b"nothing", "b.mp4": b"nothing", "b.pdf": b"%PDF nothing", "no.pdf": b"nothing", "empty.pdf": b"",
        "key.jsonl": b'{"colour": "red"}\n', "number.jsonl": b"5\n", "null.jsonl": b"null",
        "deep.jsonl": b'{"text": ' + b"[" * 99999 + b"]" * 99999 + b"}\n",
        "some.jsonl#2": b'{"text": "a"}\nno json\n{"text": "c"}\n', "latin.txt#2": b"a\ncaf\xe9\nb\n",
    }  # fmt: skip
    for name, content in bad.items():
        Path(name.partition("#")[0]).write_bytes(content)
    good.save(os.fsdecode(b"\xff.png"))
    told = run(capsys, "embed", ".", "-o", tmp_path / f"out{suffix}", code=3).splitlines()
    names, vectors, _ = _index.read(tmp_path / f"out{suffix}")
    fine = [name for name, vector in zip(names, vectors, strict=True) if np.isfinite(vector).all()]
    assert fine == [
        "a.png", "bom.txt#1", "bom.txt#3", "latin.txt#1", "latin.txt#3", "lists.jsonl#1", "lists.jsonl#3",
        "page.pdf#page=1", "some.jsonl#1", "some.jsonl#3", "\\xff.png",
    ]  # fmt: skip
    assert len(told) == len(bad)
    for name in bad:
        (line,) = (line for line in told if f" {name}" in line)
        assert line.startswith("error: ")
        assert len(line) < 500
    expected = tte.Embedder("nano", device="cpu").embed(["a cat"], side="target")
    np.testing.assert_allclose(vectors[names.index("bom.txt#1")], expected[0], atol=1e-5)


def test_few_documents_are_open_at_a_time(tmp_path: Path) -> None:
    pages = [Image.fromarray(noise(56, 56, i)) for i in range(2)]
    for i in range(4):
        pages[0].save(tmp_path / f"{i}.pdf", save_all=True, append_images=pages[1:])
    before = len(_pages._documents)
    items = list(_index.items_of([str(tmp_path)]))
    assert len(items) == 8
    assert len({entry.item()["image"] for entry in items}) == 2
    assert len(_pages._documents) <= before + 1
    # One that changes meanwhile is a row that fails.
    pages[0].save(tmp_path / "3.pdf")
    _index._document.cache_clear()
    with pytest.raises(tte.InputError, match=r"3\.pdf cannot be read"):
        items[-1].item()


def test_names_may_be_long_or_have_line_breaks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "in" / ("d" * 200) / ("d" * 200) / ("d" * 200)
    deep.mkdir(parents=True)
    for name in ("bad.png", "bad.pdf", "bad.jsonl", "bad.mp4"):
        (deep / name).write_text("5")
    (tmp_path / "in" / "a\nb\x1b[31m.txt").write_text("the red circle")
    monkeypatch.chdir(tmp_path)
    told = run(capsys, "embed", "in", "-o", "out.npy", code=3).splitlines()
    assert len(told) == 4
    assert all(line.startswith("error: in/ddd") and len(line) < 500 for line in told)
    assert run(capsys, "search", "out.npy", "a circle").endswith(r"in/a\nb\x1b[31m.txt#1" + "\n")


def test_what_fails_as_a_whole_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the red circle\n")
    out = tmp_path / "a.npy"
    run(capsys, "embed", tmp_path / "a.txt", "-o", out)
    before = out.read_bytes()
    (tmp_path / "bad.png").write_bytes(b"nothing")
    assert run(capsys, "embed", tmp_path / "bad.png", tmp_path / "bad.png", "-o", out, code=1).count("error: ") == 2
    assert "'cooking'" in run(capsys, "embed", tmp_path / "a.txt", "-o", out, "--task", "cooking", code=2)
    assert out.read_bytes() == before
    assert not (tmp_path / "a.npy.part").exists()


def test_vectors_are_searched_from_anywhere_with_the_model_that_made_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Path(tte.__file__).parent / "models" / "nano"
    shutil.copytree(models / "embedder", tmp_path / "mine")
    (tmp_path / "raw").mkdir()  # Is no recipe.
    (tmp_path / "a.txt").write_text("the red circle")
    monkeypatch.chdir(tmp_path)
    run(capsys, "embed", "a.txt", "-o", "a.npy", "--embedder", "mine", "--recipe", "raw")
    monkeypatch.chdir("raw")
    assert "a.txt#1" in run(capsys, "search", "../a.npy", "a circle")
    about = json.loads((tmp_path / "a.json").read_text())
    assert (about["settings"]["embedder"], about["settings"]["recipe"]) == (str(tmp_path / "mine"), "raw")
    # Of a model on another kind of device nothing is known; another one in the same folder is told.
    about["settings"]["fingerprint"] = {"another kind of device": "x"}
    (tmp_path / "a.json").write_text(json.dumps(about))
    assert "a.txt#1" in run(capsys, "search", "../a.npy", "a circle")
    about["settings"]["fingerprint"] = {"cpu": "x"}
    (tmp_path / "a.json").write_text(json.dumps(about))
    assert "is not the model any more" in run(capsys, "search", "../a.npy", "a circle", code=2)


@pytest.mark.parametrize("kind", ["head", "adapter"])
@pytest.mark.parametrize("alone", [True, False])
def test_adapters_and_heads_embed_files(
    kind: str, alone: bool, capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: Callable[[Shape], Path]
) -> None:
    nano = Path(__file__).parents[2] / "models" / "nano"
    base = nano / "reasoner" if kind == "head" else checkpoint(SHAPES[0])
    changes = nano / "head" if kind == "head" else make_adapter(tmp_path / "a", base, target_modules=["q_proj"])
    (tmp_path / "a.txt").write_text("the cat\n")
    given = ["--embedder", changes] if alone else ["--embedder", base, "--adapter", changes]
    run(capsys, "embed", tmp_path / "a.txt", "-o", tmp_path / "a.npy", *given, "--side", "query")
    expected = tte.Embedder(base, adapter=changes).embed("the cat", progress=False)
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), expected, atol=1e-5)
    assert run(capsys, "search", tmp_path / "a.npy", "the cat").startswith("1.0000  ")


def leave_a_row(part: Path, settings: dict[str, object]) -> None:
    """What a call of these settings leaves that was stopped after a row."""
    part.mkdir(exist_ok=True)
    kept = _index._Part(part, settings, 192)
    kept.add(("an earlier file", ""), np.zeros(192, np.float32))
    kept.close()


@pytest.mark.parametrize("role", ["", "reasoner_"])
def test_vectors_of_another_recipe_are_not_mixed(role: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the red circle")
    recipe = tmp_path / "mine.json"
    recipe.write_text(json.dumps({"extends": "raw", "instruction": "Look."}))
    option = f"--{role.replace('_', '-')}recipe"
    command = ["embed", tmp_path / "a.txt", "-o", tmp_path / "a.npy", "--reasoner", "nano", option, recipe]
    run(capsys, *command)
    about = json.loads((tmp_path / "a.json").read_text())
    leave_a_row(tmp_path / "a.npy.part", about["settings"])
    recipe.write_text(json.dumps({"extends": "raw", "instruction": "Look again."}))
    assert f"other settings ({role}recipe_digest '" in run(capsys, *command, code=2)
    assert "does not have the recipe any more" in run(capsys, "search", tmp_path / "a.npy", "a circle", code=2)
    recipe.write_text(json.dumps({"extends": "raw", "instruction": "Look.", "description": "The same."}))
    run(capsys, *command)
    run(capsys, "search", tmp_path / "a.npy", "a circle")


def test_traces_of_another_reasoner_are_not_mixed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shutil.copytree(Path(tte.__file__).parent / "models" / "nano" / "reasoner", tmp_path / "mine")
    (tmp_path / "a.txt").write_text("the red circle")
    command = ["embed", tmp_path / "a.txt", "-o", tmp_path / "a.npy", "--reasoner", tmp_path / "mine"]
    run(capsys, *command)
    about = json.loads((tmp_path / "a.json").read_text())
    leave_a_row(tmp_path / "a.npy.part", about["settings"])
    weights = load_file(tmp_path / "mine" / "model.safetensors")
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    save_file({**weights, name: weights[name] + 1}, tmp_path / "mine" / "model.safetensors", metadata={"format": "pt"})
    assert "other settings (reasoner_fingerprint {" in run(capsys, *command, code=2)
    assert "is not the model any more" in run(capsys, "search", tmp_path / "a.npy", "a circle", code=2)


def test_how_traces_are_written_is_kept_with_the_vectors(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the red circle")
    command = ["embed", tmp_path / "a.txt", "-o", tmp_path / "a.npy", "--reasoner", "nano"]
    written = ["--max-new-tokens", "2", "--temperature", "0.5", "--seed", "3"]
    run(capsys, *command, *written)
    expected = tte.think_then_embed(
        ["the red circle"], side="target", progress=False, max_new_tokens=2, temperature=0.5, seed=3
    )
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), expected.embeddings, atol=1e-6)
    settings = json.loads((tmp_path / "a.json").read_text())["settings"]
    assert (settings["max_new_tokens"], settings["temperature"], settings["seed"]) == (2, 0.5, 3)
    run(capsys, "search", tmp_path / "a.npy", "a circle")
    leave_a_row(tmp_path / "a.npy.part", settings)
    told = run(capsys, *command, "--max-new-tokens", "3", code=2)
    assert "other settings (max_new_tokens 2, now 3; seed 3, now not given; temperature 0.5, now not given): " in told
    alone = ["embed", tmp_path / "a.txt", "-o", tmp_path / "b.npy", "--seed", "3"]
    assert "--seed is given without --reasoner" in run(capsys, *alone, code=2)


def test_a_server_thinks_about_items_and_queries(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MY_KEY", "secret-key")
    (tmp_path / "a.txt").write_text("the red circle\nthe blue square\n")
    command = ["embed", tmp_path / "a.txt", "-o", tmp_path / "a.npy", "--reasoner-key-env", "MY_KEY"]
    with chat_server() as server:
        server.default = stream("<think>a shape</think>", "a shape")
        assert "give --reasoner-model" in run(capsys, *command, "--reasoner", server.url, code=2)
        named = ["--reasoner", server.url, "--reasoner-model", "some/model", "--reasoner-requests", "1"]
        run(capsys, *command, *named)
        search, key = ("search", tmp_path / "a.npy", "a circle"), ("--reasoner-key-env", "MY_KEY")
        # A file may be anybody's: what it names gets no query and no key unless the caller names it too.
        for given in ((), key, ("--reasoner", "http://127.0.0.1:9/v1", *key)):
            refused = run(capsys, *search, *given, code=2)
            assert f"has traces of a server: give --reasoner '{server.url}' to send QUERY there." in refused
        assert len(server.requests) == 2
        run(capsys, *search, "--reasoner", server.url, *key)
        assert [request.body["model"] for request in server.requests] == ["some/model"] * 3
        assert {request.headers["authorization"] for request in server.requests} == {"Bearer secret-key"}
    trace = tte.Trace("<think>a shape</think>a shape")
    expected = tte.Embedder("nano").embed(
        ["the red circle", "the blue square"], traces=[trace, trace], side="target", progress=False
    )
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), expected, atol=1e-6)
    about = (tmp_path / "a.json").read_text()
    assert "secret-key" not in about
    assert "MY_KEY" not in about
    run(capsys, "embed", tmp_path / "a.txt", "-o", tmp_path / "b.npy")
    alone = run(capsys, "search", tmp_path / "b.npy", "a circle", "--reasoner", "nano", code=2)
    assert "has no traces of a server: leave --reasoner out." in alone
    assert "--reasoner-model is given without --reasoner" in run(capsys, *command, "--reasoner-model", "m", code=2)


def test_rows_of_another_side_or_model_are_not_mixed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the red circle")
    out, part = tmp_path / "a.npy", tmp_path / "a.npy.part"
    run(capsys, "embed", tmp_path / "a.txt", "-o", out)
    settings = json.loads((tmp_path / "a.json").read_text())["settings"]
    for other in ({"side": "query"}, {"fingerprint": {"cpu": "another"}}, {"quantization": "int8"}):
        shutil.rmtree(part, ignore_errors=True)
        leave_a_row(part, {**settings, **other})
        message = run(capsys, "embed", tmp_path / "a.txt", "-o", out, code=2)
        (name, was), now = next(iter(other.items())), settings[next(iter(other))]
        assert f"other settings ({name} {was!r}, now {'not given' if now is None else repr(now)[:9]}" in message
    shutil.rmtree(part)
    leave_a_row(part, settings)
    (part / "mine").write_text("mine")
    run(capsys, "embed", tmp_path / "a.txt", "-o", out)
    assert [(file.name, file.read_text()) for file in part.iterdir()] == [("mine", "mine")]


@pytest.mark.parametrize("command", ["show", "think", "search"])
def test_items_are_files_pages_json_or_texts(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("the red circle")
    run(capsys, "embed", "a.txt", "-o", "a.npy")
    where = "a.npy" if command == "search" else "nano"
    more = ["--max-new-tokens", "2"] if command == "think" else []
    images = [Image.fromarray(noise(56, 56, i)) for i in range(2)]
    images[0].save("report.pdf", save_all=True, append_images=images[1:])
    images[0].save("a.png")
    for item in (
        "a.png", "report.pdf#page=2", "a question about b.png", "", '{"text": "[a"}', '[{"type": "text", "text": "a"}]',
    ):  # fmt: skip
        run(capsys, command, where, item, *more)
    for item, words in (
        ("b.png", "b.png is no file"), ("no/b.MP4", "b.MP4 is no file"), ("b.flv", "is no file"),
        ("b.pdf", "is no file"), ("b.pdf#page=1", "is no file"), ("report.pdf", "#page=1"),
        ("report.pdf#page=3", "has no page 3"), ("report.pdf#page=0", "has no page 0"), ("{", "is no JSON"),
        ("[" * 100_000, "nested too deeply"), ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"text": NaN}', "is no JSON"), ('{"text": "\\ud800"}', "is no JSON"), ("{\udcff", "is no JSON"),
        ("\udcff", "UTF-8"), ('{"colour": "red"}', "unknown key"), ("http://localhost/a.png", "is no file"),
        ("[" * 900 + "]" * 900, ""), ('{"text":' * 900 + "5" + "}" * 900, ""),
    ):  # fmt: skip
        message = run(capsys, command, where, item, *more, code=2)
        assert words in message
        assert message.count("\n") == 1
        assert len(message) < 500


def changed_image(folder: Path) -> None:
    Image.fromarray(noise(56, 56, 7)).save(folder / "a.png")


def changed_line(folder: Path) -> None:
    (folder / "b.txt").write_text("a cat\na cow\n")


def changed_frame(folder: Path) -> None:
    Image.fromarray(noise(56, 56, 7)).save(folder / "clip" / "0.png")


def mended(folder: Path) -> None:
    Image.fromarray(noise(56, 56)).save(folder / "d.png")


CHANGES = [(changed_image, ["a.png", "c.jsonl#1", "e.jsonl#1"]), (changed_line, ["b.txt#2"]),
           (changed_frame, ["c.jsonl#2"]), (mended, ["d.png"])]  # fmt: skip


@pytest.mark.parametrize(("change", "again"), CHANGES, ids=lambda each: getattr(each, "__name__", ""))
def test_what_changed_since_it_was_stopped_is_embedded_again(
    change: Callable[[Path], None], again: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clip").mkdir()
    for name in ("a.png", "clip/0.png", "clip/1.png"):
        Image.fromarray(noise(56, 56)).save(name)
    Path("b.txt").write_text("a cat\na dog\n")
    Path("c.jsonl").write_text('{"image": "a.png"}\n{"video": "clip"}\n')
    Path("d.png").write_text("nothing")
    Path("e.jsonl").write_text('[{"role": "user", "content": [{"type": "image", "image": "a.png"}]}]\n')
    files = ["a.png", "b.txt", "c.jsonl", "d.png", "e.jsonl"]
    seen: list[str] = []

    def embed(entries: list[_index.Entry], _store: object, keep: _index.Keep) -> dict[int, str]:
        seen.extend(entry.name for entry in entries)
        for row, _ in enumerate(entries):
            keep(row, np.full(3, len(seen) - len(entries) + row, np.float32))
        return {}

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    settings = {"reasoner": None}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(_index, "_save", stopped)
        _index.write(tmp_path / "out.npy", list(_index.items_of(files)), settings, 3, embed)
    first = list(seen)
    change(tmp_path)
    _index.write(tmp_path / "out.npy", list(_index.items_of(files)), settings, 3, embed)
    assert seen[len(first) :] == again
    assert not Path("out.npy.part").exists()
    rows = {name: index for index, name in enumerate(seen)}  # The last time counts.
    names = json.loads(Path("out.json").read_text())["names"]
    np.testing.assert_array_equal(np.load("out.npy")[:, 0], [rows[name] for name in names])


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_of_many_errors_the_first_are_told(suffix: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(100):
        (tmp_path / "in" / f"{i}.png").write_bytes(b"nothing")
    (tmp_path / "in" / "good.txt").write_text("a cat")
    out = tmp_path / f"out{suffix}"
    told = run(capsys, "embed", tmp_path / "in", "-o", out, code=3).splitlines()
    assert len(told) == 21
    about = out if suffix == ".parquet" else out.with_suffix(".json")
    assert told[-1] == f"error: 80 more items failed: {about} has the errors of all"
    if suffix == ".parquet":
        errors = [error for error in parquet.read_table(out)["error"].to_pylist() if error is not None]
    else:
        errors = list(json.loads(about.read_text())["errors"].values())
    assert len(errors) == 100
    assert told[0] == f"error: {errors[0]}"
    (tmp_path / "in" / "good.txt").unlink()
    told = run(capsys, "embed", tmp_path / "in", "-o", tmp_path / f"none{suffix}", code=1).splitlines()
    assert told[-1] == "error: 80 more items failed"


def test_pages_and_images_together(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    image = Image.fromarray(noise(56, 56))
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "a.pdf")
    out = run(capsys, "show", "nano", "--together", tmp_path / "a.png", f"{tmp_path}/a.pdf#page=1", "what is it ?")
    assert out.count("[image: ") == 2
    assert "what is it ?" in out


def damaged(good: bytes) -> dict[str, bytes]:
    """What may have become of a file."""
    return {"cut": good[: len(good) // 2], "zeros": bytes(len(good)), "empty": b"", "list": b"[]", "object": b"{}"}


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_what_is_searched_may_be_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    (tmp_path / "words.txt").write_text("a cat\na dog\n")
    out = tmp_path / f"words{suffix}"
    run(capsys, "embed", tmp_path / "words.txt", "-o", out)
    for file in [file for file in (out, out.with_suffix(".json")) if file.is_file()]:
        good = file.read_bytes()
        for content in damaged(good).values():
            file.write_bytes(content)
            message = run(capsys, "search", out, "cat", code=2)
            assert message.startswith("error: ")
            assert message.count("\n") == 1
            assert "words." in message
            assert len(message) < 500
        file.write_bytes(good)
    assert "#1" in run(capsys, "search", out, "cat").splitlines()[0]


def test_what_is_no_file_of_vectors_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "words.txt").write_text("a cat\na dog\n")
    run(capsys, "embed", tmp_path / "words.txt", "-o", tmp_path / "words.npy")
    for name in ("words.json", "words.txt"):
        message = run(capsys, "search", tmp_path / name, "cat", code=2)
        assert f"{name} cannot be read (it is no .npy file): give the .npy or .parquet file that" in message


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2, 5), np.float32), "has vectors of 5 dimensions, and 'nano' makes 192: embed the files again."),
        (np.zeros((3, 192), np.float32), "it has no float32 vector for each of 2 names"),
        (np.zeros((2, 192)), "it has no float32 vector for each of 2 names"),
        (np.array(["a", "b"]), "it has no float32 vector for each of 2 names"),
    ],
)
def test_other_vectors_than_those_of_the_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: np.ndarray, message: str
) -> None:
    (tmp_path / "words.txt").write_text("a cat\na dog\n")
    run(capsys, "embed", tmp_path / "words.txt", "-o", tmp_path / "words.npy")
    np.save(tmp_path / "words.npy", rows)
    assert message in run(capsys, "search", tmp_path / "words.npy", "cat", code=2)


@pytest.mark.parametrize("name", ["embedder", "reasoner", "task", "recipe", "adapter", "reasoner_model"])
def test_settings_of_other_types_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / "words.txt").write_text("a cat\na dog\n")
    run(capsys, "embed", tmp_path / "words.txt", "-o", tmp_path / "words.npy")
    about = json.loads((tmp_path / "words.json").read_text())
    for wrong in (["a"], {"a": 1}, 5, True):
        about["settings"][name] = wrong
        (tmp_path / "words.json").write_text(json.dumps(about))
        message = run(capsys, "search", tmp_path / "words.npy", "cat", code=2)
        assert f"the {name} of its vectors is" in message
        assert "words.npy" in message
        assert message.count("\n") == 1


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_files_whose_names_are_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    image = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    Image.new("RGB", (56, 56)).save(image)
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfe" + suffix.encode()))
    run(capsys, "embed", image, "-o", out)
    assert "\\xff.png" in run(capsys, "search", out, "cat")


@pytest.mark.parametrize(
    "refused",
    [("temperature", "nan"), ("temperature", "inf"), ("top-p", "7"), ("seed", "-1"), ("seed", "x"), ("min-p", "9"),
     ("max-new-tokens", "0"), ("repetition-penalty", "0"), ("max-think-tokens", "-1"), ("top-k", "1.5"),
     ("reasoner-requests", "0")],
)  # fmt: skip
def test_options_are_checked_before_anything_is_written(
    refused: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("the red circle")
    name, value = refused
    command = ["embed", str(tmp_path / "a.txt"), "-o", str(tmp_path / "a.npy"), "--reasoner", "nano"]
    with pytest.raises(SystemExit) as ended:
        __main__.main([*command, f"--{name}", value])
    assert ended.value.code == 2
    assert f"argument --{name}: it is " in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_what_is_left_without_rows_is_in_nobodys_way(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the red circle")
    command = ["embed", tmp_path / "a.txt", "-o", tmp_path / "a.npy"]
    gone = ["--reasoner", "http://127.0.0.1:9/v1", "--reasoner-model", "x"]
    assert "127.0.0.1:9" in run(capsys, *command, *gone, code=1)
    run(capsys, *command)
    part = tmp_path / "a.npy.part"
    assert not part.exists()
    for settings, row in (('{"top_p": 7}', b""), ('{"top_p": NaN}', b""), ("{", b'{"name": 0, "sta')):
        part.mkdir()
        (part / "settings.json").write_text(settings)
        (part / "rows.jsonl").write_bytes(row)
        run(capsys, *command)
        assert not part.exists()


def test_a_disk_that_takes_no_more_is_named(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a cat\n" * 20)
    command = f"ulimit -f 4; trap '' XFSZ; exec {sys.executable} -m tte embed words.txt -o words.npy"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: 'words.npy.part/rows.jsonl' cannot be used (File too large)")


@pytest.mark.parametrize("role", ["embedder", "reasoner"])
@pytest.mark.parametrize("name", ["preprocessor_config.json", "chat_template.jinja", "tokenizer_config.json"])
def test_vectors_of_other_files_beside_the_weights_are_not_mixed(
    role: str, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("the red circle")
    folder = tmp_path / "model"
    shutil.copytree(NANO / role, folder)
    command = ["embed", tmp_path / "a.txt", "-o", tmp_path / "a.npy", f"--{role}", folder]
    run(capsys, *command)
    leave_a_row(tmp_path / "a.npy.part", json.loads((tmp_path / "a.json").read_text())["settings"])
    with (folder / name).open("a") as file:
        file.write("\n")
    prefix = "" if role == "embedder" else "reasoner_"
    assert f"other settings ({prefix}files '" in run(capsys, *command, code=2)
    told = run(capsys, "search", tmp_path / "a.npy", "a circle", code=2)
    assert "does not have the tokenizer, template and preprocessor files any more that made these vectors" in told


def test_a_disk_that_is_full_at_the_end_is_named(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("".join(f"a cat {i}\n" for i in range(20)))
    # In the folder of rows there is room, and none for the file of vectors.
    program = (
        "import sys, resource; from tte import _index, __main__; save = _index._save\n"
        "def full(*given):\n    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, -1)); save(*given)\n"
        "_index._save = full; sys.exit(__main__.main(['embed', 'words.txt', '-o', 'words.npy']))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.stderr.startswith("error: 'words.npy' cannot be used (File too large)")
    assert done.returncode == 1
    assert (tmp_path / "words.npy.part" / "rows.jsonl").read_bytes().count(b"\n") == 20


def test_what_a_folder_has_is_embedded_or_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("in/a.png", "in/deep/b.png", "elsewhere/c.png"):
        Image.new("RGB", (56, 56)).save(tmp_path / name)
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "deep" / "round").symlink_to(tmp_path / "in")  # A circle is gone through once.
    (tmp_path / "in" / "broken.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "in" / "pipe.jpg")
    (tmp_path / "in" / "note.doc").write_text("what nobody reads")
    run(capsys, "embed", tmp_path / "in", "-o", tmp_path / "a.npy", code=3)
    about = json.loads((tmp_path / "a.json").read_text())
    names = [name.removeprefix(f"{tmp_path}/in/") for name in about["names"]]
    assert names == ["a.png", "broken.png", "deep/b.png", "linked/c.png", "pipe.jpg"]
    told = [about["errors"][index] for index in ("1", "4")]
    assert all(text.endswith("it is a pipe, a device or a link to nothing: leave it out.") for text in told)
    assert [name in text for name, text in zip(("broken.png", "pipe.jpg"), told, strict=True)] == [True, True]
