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
from tte import _command, _index, _pages
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


@pytest.mark.parametrize("name", ["--top", "--side"])
def test_two_dashes_are_no_value(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["search", "index", "query", f"{name}=--"])
    assert f"argument {name}: '--' is no value for it" in capsys.readouterr().err
    assert "index is no file" in run(capsys, "search", "index", "--", f"{name}=--", code=1)


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


def test_other_files_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("cat")
    assert ".npy and .parquet" in run(capsys, "embed", tmp_path / "a.txt", "-o", tmp_path / "a.csv", code=1)
    assert "no file or folder" in run(capsys, "embed", tmp_path / "none", "-o", tmp_path / "a.npy", code=1)
    (tmp_path / "empty").mkdir()
    assert "has no image" in run(capsys, "embed", tmp_path / "empty", "-o", tmp_path / "a.npy", code=1)
    assert "is no file" in run(capsys, "search", tmp_path / "a.npy", "cat", code=1)
    (tmp_path / "dir.npy").mkdir()
    assert "is a folder" in run(capsys, "embed", tmp_path / "a.txt", "-o", tmp_path / "dir.npy", code=1)
    (tmp_path / "blank.txt").write_text("\n \n")
    assert "nothing to embed" in run(capsys, "embed", tmp_path / "blank.txt", "-o", tmp_path / "b.npy", code=1)


@pytest.mark.parametrize("content", ["{}", '{"names": []}', "[]", "nothing"])
def test_another_json_beside_the_vectors_stays(
    content: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("cat")
    (tmp_path / "a.json").write_text(content)
    assert "a.json" in run(capsys, "embed", tmp_path / "a.txt", "-o", tmp_path / "a.npy", code=1)
    assert (tmp_path / "a.json").read_text() == content
    run(capsys, "embed", tmp_path / "a.txt", "-o", tmp_path / "b.npy")
    run(capsys, "embed", tmp_path / "a.txt", "-o", tmp_path / "b.npy")  # Its own is replaced.


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
    Path("lists.jsonl").write_bytes(b'[{"type": "text", "text": "a"}]\n\n"b"\n')
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
    assert len({make()["image"] for _, make in items}) == 2
    assert len(_pages._documents) <= before + 1
    # One that changes meanwhile is a row that fails.
    pages[0].save(tmp_path / "3.pdf")
    _index._document.cache_clear()
    with pytest.raises(tte.InputError, match=r"3\.pdf cannot be read"):
        items[-1][1]()


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
    assert '"cooking"' in run(capsys, "embed", tmp_path / "a.txt", "-o", out, "--task", "cooking", code=1)
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
    assert "is not the model any more" in run(capsys, "search", "../a.npy", "a circle", code=1)


def test_rows_of_another_side_or_model_are_not_mixed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the red circle")
    out, part = tmp_path / "a.npy", tmp_path / "a.npy.part"
    run(capsys, "embed", tmp_path / "a.txt", "-o", out)
    settings = json.loads((tmp_path / "a.json").read_text())["settings"]
    part.mkdir()
    for other in ({"side": "query"}, {"fingerprint": {"cpu": "another"}}, {"quantization": "int8"}):
        (part / "settings.json").write_text(json.dumps({**settings, **other}))
        assert "other settings" in run(capsys, "embed", tmp_path / "a.txt", "-o", out, code=1)
    (part / "settings.json").write_text(json.dumps(settings))
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
        message = run(capsys, command, where, item, *more, code=1)
        assert words in message
        assert message.count("\n") == 1
        assert len(message) < 500


def test_pages_and_images_together(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    image = Image.fromarray(noise(56, 56))
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "a.pdf")
    out = run(capsys, "show", "nano", "--together", tmp_path / "a.png", f"{tmp_path}/a.pdf#page=1", "what is it ?")
    assert out.count("[image: ") == 2
    assert "what is it ?" in out


@pytest.mark.parametrize("value", [None, {}])
@pytest.mark.parametrize(
    "key", ["name", "description", "prompt", "tasks", "dims", "max_length", "instruction", "decoding", "trace"]
)
def test_a_recipe_may_leave_things_out(
    key: str, value: object, capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: GetFolder
) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({key: value}))
    refused = value == {} and key in ("name", "description", "max_length")  # As the engine has it.
    run(capsys, "info", checkpoint(SHAPES[0]), "--recipe", tmp_path / "recipe.json", code=int(refused))


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
        (tte.InputError(f"{'x' * 5000} is wrong: mend it."), 1, "xx is wrong: mend it."),
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


@pytest.mark.parametrize("command", ["tte show nano a", "tte.mmeb tasks", "tte.demo --count 1 --task image_cls"])
@pytest.mark.parametrize(("redirected", "code"), [(">&-", 0), ("2>&-", 0), (">&- 2>&- <&-", 0), (">/dev/full", 2)])
def test_output_may_be_closed_or_full(command: str, redirected: str, code: int, tmp_path: Path) -> None:
    line = f"exec {sys.executable} -m {command} {redirected}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert (code == 0) or done.stderr.splitlines()[-1].startswith("error: the disk is full")


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


CTRL_C = "import os, signal; os.kill(os.getpid(), signal.SIGINT)\n"


def ended(command: list[str], folder: Path) -> tuple[int, str]:
    """Exit code and what is told of `python -m`, with the modules in a folder before those that are installed."""
    where = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", *command], env={**os.environ, "PYTHONPATH": where}, cwd=folder, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize("command", [["tte", "info", "nano"], ["tte.mmeb", "tasks"], ["tte.demo", "--help"]])
@pytest.mark.parametrize(
    ("file", "program"),
    [
        ("PIL/__init__.py", CTRL_C),  # While the package is imported.
        ("argparse.py", CTRL_C),
    ],
    ids=["import", "import of the command"],
)
def test_ctrl_c_is_a_line_at_any_moment(command: list[str], file: str, program: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(program)
    assert ended(command, tmp_path) == (130, "stopped\n")


@pytest.mark.parametrize(
    "program",
    [
        "import atexit, os\natexit.register(os.kill, os.getpid(), 2)",
        "class Last:\n    def __del__(self, kill=os.kill, pid=os.getpid()):\n        kill(pid, 2)\nlast = Last()",
    ],
    ids=["at exit", "after it"],
)
@pytest.mark.parametrize("command", [["tte", "info", "nano"], ["tte.mmeb", "tasks"], ["tte.demo", "--help"]])
def test_what_has_ended_is_not_stopped(command: list[str], program: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import os\n{program}")
    assert ended(command, tmp_path) == (0, "")


def test_what_was_interrupted_is_not_closed_again(tmp_path: Path) -> None:
    (tmp_path / "tqdm.py").write_text(f"import atexit, os\natexit.register(os.abort)\n{CTRL_C}")
    (tmp_path / "a.txt").write_text("cat")
    code, told = ended(["tte", "embed", "a.txt", "-o", "a.npy"], tmp_path)
    assert (code, told) == (130, "stopped; the same command goes on where it was\n")


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    (tmp_path / "tqdm.py").write_text(f"try:\n    {CTRL_C}finally:\n    {CTRL_C}    while True: pass")
    (tmp_path / "a.txt").write_text("cat")
    assert ended(["tte", "embed", "a.txt", "-o", "a.npy"], tmp_path) == (130, "stopped\n")


def test_a_program_that_imports_tte_keeps_its_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import tte\nimport signal\nprint(signal.getsignal(2).__name__)\n")
    for command in (["-m", "own"], ["own.py"]):
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, check=True, capture_output=True, text=True)
        assert done.stdout == "default_int_handler\n"
