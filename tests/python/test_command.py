"""The command `tte`: what a checkpoint is, and what its model sees."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tte
from adapters import make_adapter
from checkpoints import SHAPES, Shape
from command_line import run
from PIL import Image
from references import noise
from tte import _command
from tte.__main__ import main

GetFolder = Callable[[Shape], Path]


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "tte", "--help"], check=True, capture_output=True, text=True)
    assert "tte info PATH" in done.stdout
    assert subprocess.run([sys.executable, "-m", "tte"], capture_output=True, check=False).returncode == 2
    done = subprocess.run([sys.executable, "-m", "tte", "--version"], check=True, capture_output=True, text=True)
    assert done.stdout == f"tte {tte.__version__}\n"


@pytest.mark.parametrize("name", ["--top", "--side"])
def test_two_dashes_are_no_value(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["search", "index", "query", f"{name}=--"])
    assert f"argument {name}: '--' is no value for it" in capsys.readouterr().err
    assert "index is no file" in run(capsys, "search", "index", "--", f"{name}=--", code=2)


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
    assert "is not a folder" in run(capsys, "info", tmp_path / "none", code=2)
    folder = checkpoint(SHAPES[0])
    assert "neither a file nor one of the bundled" in run(capsys, "info", folder, "--recipe", "umer1", code=2)
    assert "no JSON" in run(capsys, "show", folder, '{"text": ', code=2)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    assert "broken.png" in run(capsys, "show", folder, broken, code=2)


def test_think_writes_the_trace(capsys: pytest.CaptureFixture[str], checkpoint: GetFolder) -> None:
    folder = checkpoint(SHAPES[0])
    expected = tte.Reasoner(folder, device="cpu").think("the cat", max_new_tokens=5, progress=False)[0]
    out = run(capsys, "think", folder, "the cat", "--max-new-tokens", 5)
    assert out.startswith(expected.text)
    assert "5 tokens, length" in out


@pytest.mark.parametrize("value", [None, {}])
@pytest.mark.parametrize(
    "key", ["name", "description", "prompt", "tasks", "dims", "max_length", "instruction", "decoding", "trace"]
)
def test_a_recipe_may_leave_things_out(
    key: str, value: object, capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: GetFolder
) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({key: value}))
    refused = value == {} and key in ("name", "description", "max_length")  # As the engine has it.
    run(capsys, "info", checkpoint(SHAPES[0]), "--recipe", tmp_path / "recipe.json", code=2 * refused)


@pytest.mark.parametrize("header", [b"[]", b"{", b'{"a": {"dtype": "F32", "shape": [1]}}', b'{"a": 5}', b"\xff"])
def test_weights_whose_header_is_damaged_are_named(
    checkpoint: GetFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], header: bytes
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint(SHAPES[0]), folder)
    for file in folder.glob("*.safetensors"):
        file.write_bytes(len(header).to_bytes(8, "little") + header)
    message = run(capsys, "info", folder, code=2)
    assert re.search(
        r"\.safetensors (is damaged|is not a safetensors file|has a header that is not valid JSON)", message
    ), message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "a.npy", "a", "--top", "0"], "it is 0: it must be a whole number, from 1"),
        (["search", "a.npy", "a", "--top", "-1"], "it is -1: it must be a whole number, from 1"),
        (["search", "a.npy", "a", "--top", "9" * 5000], "it must be a whole number, from 1"),
        (["think", "nano", "a", "--max-new-tokens", "x" * 5000], "must be a whole number, from 1 to"),
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
        (tte.InputError("it is wrong."), 2, "error: it is wrong."),
        (tte.InputError(f"{'x' * 5000} is wrong: mend it."), 2, "xx is wrong: mend it."),
        (tte.ModelError("it does not fit."), 2, "error: it does not fit."),
        (tte.OutOfMemoryError("it is too much."), 1, "error: it is too much."),
        (tte.DeviceError("it is not there."), 1, "error: it is not there."),
        (tte.RemoteError("it is gone."), 1, "error: it is gone."),
        (tte.CancelledError("it was stopped."), 1, "error: it was stopped."),
        (KeyboardInterrupt(), 130, "stopped"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 1, "the disk is full at '/x/y'"),
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
@pytest.mark.parametrize(("redirected", "code"), [(">&-", 0), ("2>&-", 0), (">&- 2>&- <&-", 0), (">/dev/full", 1)])
def test_output_may_be_closed_or_full(command: str, redirected: str, code: int, tmp_path: Path) -> None:
    line = f"exec {sys.executable} -m {command} {redirected}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert (code == 0) or done.stderr.splitlines()[-1].startswith("error: the disk is full")


@pytest.mark.parametrize(
    ("command", "resumes"),
    [("tte info nano", False), ("tte show nano a", False), ("tte think nano a", False), ("tte.mmeb tasks", False),
     ("tte search a.npy a", False), ("tte embed a.txt -o b.npy", True)],
)  # fmt: skip
def test_what_goes_on_where_it_was_says_so(command: str, resumes: bool, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a cat")
    assert main(["embed", str(tmp_path / "a.txt"), "-o", str(tmp_path / "a.npy")]) == 0
    line = f"exec {sys.executable} -m {command} >/dev/full"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: the disk is full: free some space and give the same command again")
    assert last.endswith("again, which goes on where it was.") is resumes


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
        ("html.py", CTRL_C),  # While the package is imported.
        ("argparse.py", CTRL_C),
    ],
    ids=["import", "import of the command"],
)
def test_ctrl_c_is_a_line_at_any_moment(command: list[str], file: str, program: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(program)
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


@pytest.mark.parametrize(
    ("given", "message"),
    [("{", "'{' is no JSON"), ("[1]", "it must be a dict"), ('{"a": 1.5}', "it must be True, False, a whole number")],
)
def test_options_of_the_template_are_told_apart(given: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["show", "nano", "a", "--template-options", given])
    assert message in capsys.readouterr().err
