"""The command `tte`: what a checkpoint is, and what its model sees."""

from __future__ import annotations

import errno
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
from checkpoints import SHAPES, Shape
from PIL import Image
from references import noise
from tte import _command, _index
from tte.__main__ import main

GetFolder = Callable[[Shape], Path]


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    assert main([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "tte", "--help"], check=True, capture_output=True, text=True)
    assert "tte info PATH" in done.stdout
    assert subprocess.run([sys.executable, "-m", "tte"], capture_output=True, check=False).returncode == 2


@pytest.mark.parametrize("command", ["info", "show"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert "examples:" in capsys.readouterr().out


def test_info_of_the_bundled_pair(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "info", "nano")
    assert "recipe.json of the checkpoint" in out
    assert "qwen2_vl" in out
    assert "image_qa" in out


def test_info_says_what_loading_finds(checkpoint: GetFolder, capsys: pytest.CaptureFixture[str]) -> None:
    folder = checkpoint(SHAPES[0])
    found = json.loads(run(capsys, "info", folder, "--json"))
    model = tte.Embedder(folder, device="cpu").model
    assert found["family"] == model.family
    assert found["layers"] == model.num_layers
    assert found["vector"]["dimensions"] == model.hidden_size
    assert found["weights"]["dtypes"] == [model.dtype]
    assert found["weights"]["bytes"] < sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert 0 < found["weights"]["vision_bytes"] < found["weights"]["bytes"]
    assert found["recipe"]["why"] == model.recipe_reason
    assert found["recipe"]["name"] == "raw"
    assert found["sample"]["embed"].endswith("<|im_start|>assistant\\n")
    assert "no recipe fits" in run(capsys, "info", folder)
    given = run(capsys, "info", folder, "--recipe", "qwen2_vl_vlm2vec")
    assert "given by name" in given


def test_info_shows_by_hash_whose_words_a_request_is(
    checkpoint: GetFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = checkpoint(Shape("UME-R1", tokens=("<disc_emb>", "<gen_emb>")))
    ours = json.loads(run(capsys, "info", folder, "--json"))["request"]["sha256"]
    assert f"sha256 {ours[:16]}" in run(capsys, "info", folder)
    (tmp_path / "words.txt").write_text("Their words.")
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"extends": "ume_r1", "prompt": {"request_file": "words.txt"}}))
    theirs = json.loads(run(capsys, "info", folder, "--recipe", recipe, "--json"))["request"]
    assert theirs["sha256"] != ours
    assert theirs["text"] == "Their words."


def test_info_of_an_adapter(checkpoint: GetFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "adapter", checkpoint(SHAPES[0]), target_modules=["q_proj"])
    found = json.loads(run(capsys, "info", folder, "--json"))
    assert found["adapter"] == str(folder)
    assert found["base"] == str(checkpoint(SHAPES[0]))
    assert found["weights"]["bytes"] > 0


def test_show_marks_media_trace_and_pooled_token(
    checkpoint: GetFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = checkpoint(SHAPES[0])
    file = tmp_path / "cat.png"
    Image.fromarray(noise(56, 84)).save(file)
    out = run(capsys, "show", folder, "--together", file, "what is it ?", "--trace", "<think>a</think> cat")
    grid = "[image: 6 tokens, 1 x 4 x 6 patches]"
    assert f"<|vision_start|>{grid}<|vision_end|>what is it ?<|im_end|>" in out
    assert "[trace: <think>a</think>" in out
    assert ">>" in out
    assert "row" in out.splitlines()[-1]
    coloured = run(capsys, "show", folder, "a cat", "--color", "always", "--embed")
    assert "\x1b[" in coloured
    assert "\x1b[" not in run(capsys, "show", folder, "a cat", "--embed")


def test_show_lists_every_token(checkpoint: GetFolder, capsys: pytest.CaptureFixture[str]) -> None:
    folder = checkpoint(SHAPES[0])
    processed = tte.Processor(folder)("the cat", stage="embed")
    lines = run(capsys, "show", folder, "the cat", "--ids", "--embed").splitlines()[:-1]
    assert [int(line.split()[1]) for line in lines] == processed["input_ids"][0].tolist()
    assert [int(line.split()[2]) for line in lines] == processed["position_ids"][0, 0].tolist()
    assert lines[processed["pooled_row"]].endswith("<- pooled")


def test_mistakes_are_a_sentence(checkpoint: GetFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "is not a folder" in run(capsys, "info", tmp_path / "none", code=1)
    folder = checkpoint(SHAPES[0])
    assert "neither a file nor one of the bundled" in run(capsys, "info", folder, "--recipe", "umer1", code=1)
    assert "no JSON" in run(capsys, "show", folder, '{"text": ', code=1)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    assert "broken.png" in run(capsys, "show", folder, broken, code=1)


def test_think_writes_the_trace(capsys: pytest.CaptureFixture[str], checkpoint: GetFolder) -> None:
    folder = checkpoint(SHAPES[0])
    expected = tte.Reasoner(folder, device="cpu").think("the cat", max_new_tokens=5, progress=False)[0]
    out = run(capsys, "think", folder, "the cat", "--max-new-tokens", 5)
    assert out.startswith(expected.text)
    assert "5 tokens, length" in out


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


def test_embedding_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_index, "_CHUNK", 2)
    items = [(f"name {i}", i) for i in range(7)]
    settings = {"embedder": "a", "reasoner": None, "recipe": None, "task": None}
    seen: list[int] = []

    def embed(chunk: list[int], stop_at: int | None = None) -> tuple[np.ndarray, dict[int, str]]:
        if stop_at in chunk:
            raise KeyboardInterrupt
        seen.extend(chunk)
        return np.array([[i, i + 1] for i in chunk], np.float32), {0: "bad"} if 4 in chunk else {}

    out = tmp_path / "out.npy"
    with pytest.raises(KeyboardInterrupt):
        _index.write(out, items, settings, lambda chunk: embed(chunk, 5))
    assert not out.exists()
    with pytest.raises(tte.InputError, match="rows of other settings"):
        _index.write(out, items, {**settings, "embedder": "b"}, embed)
    # Half a row, as a call leaves it that is killed while it writes.
    with (tmp_path / "out.npy.part" / "rows.f32").open("ab") as file:
        file.write(b"xyz")
    with (tmp_path / "out.npy.part" / "rows.jsonl").open("a") as file:
        file.write('{"index": 4, "na')
    assert _index.write(out, items, settings, embed) == {"name 4": "bad"}
    assert seen == [0, 1, 2, 3, 4, 5, 6]
    names, vectors, _ = _index.read(out)
    assert names == [name for name, _ in items]
    assert vectors[:, 0].tolist() == list(range(7))
    assert not (tmp_path / "out.npy.part").exists()


def test_other_files_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("cat")
    assert ".npy and .parquet" in run(capsys, "embed", tmp_path / "a.txt", "-o", tmp_path / "a.csv", code=1)
    assert "no file or folder" in run(capsys, "embed", tmp_path / "none", "-o", tmp_path / "a.npy", code=1)
    (tmp_path / "empty").mkdir()
    assert "has no image" in run(capsys, "embed", tmp_path / "empty", "-o", tmp_path / "a.npy", code=1)
    assert "is no file" in run(capsys, "search", tmp_path / "a.npy", "cat", code=1)


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
            message = run(capsys, "search", out, "cat", code=1)
            assert message.startswith("error: ")
            assert message.count("\n") == 1
            assert "words." in message
            assert len(message) < 500
        file.write_bytes(good)
    assert "#1" in run(capsys, "search", out, "cat").splitlines()[0]


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
    assert message in run(capsys, "search", tmp_path / "words.npy", "cat", code=1)


def test_rows_that_wait_may_be_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "words.txt").write_text("a cat\n")
    part = tmp_path / "words.npy.part"
    part.mkdir()
    settings = {"embedder": "nano", "reasoner": None, "recipe": None, "task": None, "quantization": None}
    for line in (b'{"index": 0}', b"[]", b"\xff\xfe", b'{"dim": "x", "index": 0, "name": "a", "error": null}'):
        (part / "settings.json").write_text(json.dumps(settings))
        (part / "rows.jsonl").write_bytes(line + b"\n")
        message = run(capsys, "embed", tmp_path / "words.txt", "-o", tmp_path / "words.npy", code=1)
        assert "rows.jsonl cannot be read" in message
        assert "remove the folder to begin again" in message


def test_a_text_that_is_not_utf8_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "words.txt").write_bytes(b"a cat\n\xff\n")
    message = run(capsys, "embed", tmp_path / "words.txt", "-o", tmp_path / "words.npy", code=1)
    assert "words.txt cannot be read (its text is not UTF-8)" in message


@pytest.mark.parametrize("header", [b"[]", b"{", b'{"a": {"dtype": "F32", "shape": [1]}}', b'{"a": 5}', b"\xff"])
def test_weights_whose_header_is_damaged_are_named(
    checkpoint: GetFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], header: bytes
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint(SHAPES[0]), folder)
    for file in folder.glob("*.safetensors"):
        file.write_bytes(len(header).to_bytes(8, "little") + header)
    message = run(capsys, "info", folder, code=1)
    assert ".safetensors cannot be read" in message
    assert "save or fetch the checkpoint again" in message


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_files_whose_names_are_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    image = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    Image.new("RGB", (56, 56)).save(image)
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfe" + suffix.encode()))
    run(capsys, "embed", image, "-o", out)
    assert "\\xff.png" in run(capsys, "search", out, "cat")


def test_a_disk_that_takes_no_more_is_named(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a cat\n" * 20)
    command = f"ulimit -f 4; trap '' XFSZ; exec {sys.executable} -m tte embed words.txt -o words.npy"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: 'words.npy.part/rows.f32' cannot be used (File too large)")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "a.npy", "a", "--top", "0"], "'0' is no whole number from 1"),
        (["search", "a.npy", "a", "--top", "-1"], "'-1' is no whole number from 1"),
        (["search", "a.npy", "a", "--top", "9" * 5000], "is no whole number from 1"),
        (["think", "nano", "a", "--max-new-tokens", "x" * 5000], "invalid int value"),
        (["show", "nano", "a", "--side", "x" * 5000], "invalid choice"),
        (["x" * 5000], "invalid choice"),
    ],
)
def test_wrong_usage_is_short(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert words in line
    assert len(line) < 500


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (tte.InputError("it is wrong."), 1, "error: it is wrong."),
        (KeyboardInterrupt(), 130, "stopped"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 2, "the disk is full at '/x/y'"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 5000), 2, "File name too long"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, "'/x' cannot be used (Permission denied)"),
    ],
)
def test_whatever_ends_a_command_is_a_sentence(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> int:
        raise error

    assert _command.run(command) == code
    message = capsys.readouterr().err
    assert words in message
    assert len(message) < 500


@pytest.mark.parametrize("module", ["tte", "tte.mmeb", "tte.demo"])
def test_a_reader_may_go(module: str) -> None:
    arguments = {"tte": "'show', 'nano', 'a ' * 9000, '--ids'", "tte.mmeb": "'tasks', '--json'"}.get(module, "")
    program = f"import runpy, sys; sys.argv = ['x', {arguments}]; runpy.run_module('{module}', run_name='__main__')"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", program], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
