"""The one rule of how commands end, for every command; and that options of models are spelled alike in all of them."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tte
from PIL import Image
from references import noise
from tte import __main__, _command, demo
from tte.mmeb import cli

PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "tte": __main__.main,
    "tte.mmeb": cli.main,
    "tte.demo": lambda given: _command.run(lambda: demo.main(given)),
}
RUN = ["--out", "out", "--embedder", "nano"]
WRONG: dict[str, list[list[str]]] = {
    "tte info": [["nope"], ["nano", "--recipe", "nope"], ["nano", "--adapter", "nope"], ["nano", "--recipe", ""],
                 ["nano", "--template-options", "{"], ["nano", "--template-options", '{"a": 1}'], ["a.txt"]],
    "tte show": [["nope", "a"], ["nano", "{"], ["nano", "nope.png"], ["nano", "bad.png"], ["nano"]],
    "tte think": [["nope", "a"], ["nano", "{"], ["nano", "bad.png"], ["nano", "a", "--temperature", "-1"],
                  ["nano", "a", "--dtype", "nope"], ["nano", "a", "--device", "nope"],
                  ["nano", "a", "--state-bytes", "-1"], ["nano", "a", "--threads", "x"],
                  ["nano", "a", "--repetition-penalty", "1e-37"], ["nano", "a", "--temperature", "1e300"]],
    "tte embed": [["nope.txt", "-o", "b.npy"], ["a.txt", "-o", "b.csv"], ["a.txt", "-o", "a.txt/b.npy"],
                  ["a.txt", "-o", "folder.npy"], ["a.txt", "-o", "b.npy", "--embedder", "nope"],
                  ["a.txt", "-o", "b.npy", "--reasoner", "nope"], ["a.txt", "-o", "b.npy", "--recipe", "nope"],
                  ["a.txt", "-o", "b.npy", "--task", "nope"], ["a.txt"], ["a.txt", "-o", "/proc/b.npy"],
                  ["a.txt", "-o", "b.npy", "--reasoner", "nano", "--reasoner-adapter", "nope"],
                  ["a.txt", "-o", "b.npy", "--reasoner", "nano", "--reasoner-recipe", "nope"],
                  ["a.txt", "-o", "b.npy", "--reasoner-recipe", "raw"]],
    "tte search": [["nope.npy", "q"], ["a.txt", "q"], ["words.npy", "{"], ["words.npy", "nope.png"],
                   ["words.npy", "a", "--top", "0"], ["~nobody-is-called-so/words.npy", "a"]],
    "tte quantize": [["nope", "-o", "out", "--quantization", "int8"], ["nano", "-o", "out", "--quantization", "int3"],
                     ["nano", "-o", "a.txt/out", "--quantization", "int8"],
                     ["nano", "-o", "/proc/out", "--quantization", "int8"]],
    "tte.mmeb tasks": [["--tasks", "nope"], ["--extra-tasks", "nope.json"]],
    "tte.mmeb check": [["--data", "nope"], [], ["--data", "", "--quick"]],
    "tte.mmeb prompts": [["--data", "nope", "--out", "out"], ["--data", "data", "--out", "a.txt"]],
    "tte.mmeb traces": [["--traces", "t.sqlite"], ["--traces", "t.sqlite", "--reasoner", "nano"],
                        ["--traces", "t.sqlite", "--reasoner", "nano", "--data", "nope"],
                        ["--traces", "t.sqlite", "--import", "nope.jsonl"],
                        ["--traces", "t.sqlite", "--export", "nope.csv"],
                        ["--traces", "nope.sqlite", "--drop-damaged"],
                        ["--traces", "nope.sqlite", "--export", "out.jsonl"]],
    "tte.mmeb run": [["--data", "nope", *RUN], ["--data", "data", *RUN[:2], "--embedder", "nope"], ["--data", "data"],
                     ["--data", "data", *RUN, "--block", "0"], ["--data", "data", *RUN, "--shard", "5/4"],
                     ["--data", "data", *RUN, "--reasoner", "http://localhost:1/v1"],
                     ["--data", "data", *RUN, "--think", "always"],
                     ["--data", "data", *RUN, "--num-frames", "0"], ["--data", "data", *RUN, "--num-frames", "-2"],
                     ["--data", "data", *RUN, "--reasoner-recipe", "raw"],
                     ["--data", "data", *RUN, "--device", "nope"]],
    "tte.mmeb score": [["nope"], ["data"]],
    "tte.mmeb merge": [["nope"], ["data"]],
    "tte.mmeb report": [["nope"], ["data"]],
    "tte.mmeb mini": [["--tasks", "nope"], ["--count", "0"], ["--count", "10001"], ["--out", "a.txt"]],
    "tte.demo": [["--task", "nope"], ["--data", "nope"], ["--count", "0"], ["--count", "10001"], ["--seed", "-1"],
                 ["--device", "nope"]],
}  # fmt: skip
"""What cannot be used, by command: options, paths, checkpoints and items."""


def call(command: str, *arguments: str) -> int:
    """The exit code of a command."""
    program, *name = command.split()
    try:
        return PROGRAMS[program]([*name, *arguments])
    except SystemExit as ended:
        return int(str(ended.code))


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command with its parser."""
    for program, parser in (("tte", __main__.parser()), ("tte.mmeb", cli.parser())):
        (commands,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
        for name, own in commands.choices.items():
            yield f"{program} {name}", own


PARSERS = dict(parsers())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("a cat\n")
    Path("bad.png").write_text("nothing")
    Path("folder.npy").mkdir()
    Path("data").mkdir()
    assert call("tte embed", "a.txt", "-o", "words.npy") == 0
    capsys.readouterr()
    return tmp_path


def test_the_table_has_every_command() -> None:
    assert WRONG.keys() == PARSERS.keys() | {"tte.demo"}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", WRONG)
def test_what_cannot_be_used_is_2(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in WRONG[command]:
        code, said = call(command, *arguments), capsys.readouterr().err.strip().splitlines()
        assert (code, len(said) > 0) == (2, True), (arguments, said)
        assert "error: " in said[-1], said
        assert len(said[-1]) < 500
    assert not Path("nope.sqlite").exists()


@pytest.mark.usefixtures("folder")
def test_what_works_in_part_is_3_and_not_at_all_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("tte embed", "bad.png", "a.txt", "-o", "b.npy") == 3
    assert call("tte embed", "bad.png", "-o", "c.npy") == 1
    assert call("tte.mmeb check", "--data", "data", "--tasks", "GQA") == 1
    assert call("tte.mmeb prompts", "--data", "data", "--out", "out", "--tasks", "GQA") == 1
    assert call("tte.mmeb run", "--data", "data", *RUN, "--tasks", "GQA") == 1
    assert capsys.readouterr().err


@pytest.mark.parametrize("command", PARSERS)
def test_every_number_has_a_range(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = PARSERS[command]
    numbers = [action for action in parser._actions if isinstance(action.default, int) or action.metavar == "N"]
    for action in (each for each in (*numbers, *parser._actions) if each.nargs != 0 and each.type in (int, float)):
        raise AssertionError(f"{action.option_strings} has no range")
    for action in (each for each in numbers if each.nargs != 0):
        for value in ("-2", "9" * 400, "x"):
            assert call(command, f"{action.option_strings[-1]}={value}") == 2
            last = capsys.readouterr().err.splitlines()[-1]
            assert f"error: argument {'/'.join(action.option_strings)}: it is " in last
            assert len(last) < 500


@pytest.mark.parametrize("command", [*PARSERS, "tte", "tte.mmeb", "tte.demo"])
def test_help_says_the_rule(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, "--help") == 0
    said = capsys.readouterr().out
    assert said.endswith(_command.EXIT_CODES)
    assert said.lower().count("exit codes") == 1


MODELS = {"tte info": [""], "tte show": [""], "tte think": [""], "tte embed": ["", "embedder-", "reasoner-"],
          "tte.mmeb run": ["", "embedder-", "reasoner-"], "tte.mmeb traces": ["reasoner-"]}  # fmt: skip
"""Commands that load models, with what stands before the names of their options."""
WITH_MEDIA = ["tte show", "tte think", "tte embed", "tte search", "tte.mmeb run", "tte.mmeb traces"]
ON_A_DEVICE = ["tte think", "tte embed", "tte search", "tte.mmeb run", "tte.mmeb traces", "tte.mmeb mini"]
NEEDED = {"tte show": ["nano", "a"], "tte think": ["nano", "a"], "tte embed": ["a", "-o", "b.npy"],
          "tte search": ["a", "b"], "tte.mmeb run": ["--data", "a", *RUN],
          "tte.mmeb traces": ["--traces", "a"]}  # fmt: skip


@pytest.mark.parametrize("command", MODELS)
def test_options_of_models_are_spelled_alike(command: str) -> None:
    known = PARSERS[command]._option_string_actions.keys()
    for role in MODELS[command]:
        assert {f"--{role}recipe", f"--{role}adapter", f"--{role}template-options"} <= known


@pytest.mark.parametrize("command", ON_A_DEVICE)
def test_memory_is_an_option_wherever_models_run(command: str) -> None:
    wanted = {"replicas": 2, "tensor_parallel": 2, "threads": 2, "media_threads": 1, "state_bytes": 1 << 24,
              "vision_cache_bytes": 0, "max_step_tokens": 64, "max_running": 3}  # fmt: skip
    given = [word for name, value in wanted.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    arguments = PARSERS[command].parse_args([*NEEDED.get(command, []), *given, "--device", "cpu"])
    options = _command.backend(arguments)._native.options
    assert {name: getattr(options, name) for name in wanted} == wanted
    plain = _command.backend(PARSERS[command].parse_args([*NEEDED.get(command, []), "--device", "cpu"]))
    assert plain._native.options.state_bytes == tte.Backend("cpu")._native.options.state_bytes


@pytest.mark.parametrize("command", WITH_MEDIA)
def test_limits_of_media_are_options_wherever_media_are_read(command: str) -> None:
    wanted = {"max_pixels": 1, "max_file_bytes": 2, "max_item_bytes": 3, "max_item_pixels": 4}
    given = [word for name, value in wanted.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    arguments = PARSERS[command].parse_args([*NEEDED[command], *given])
    assert _command.media_limits(arguments) == tte.MediaLimits(**wanted)
    assert _command.media_limits(PARSERS[command].parse_args(NEEDED[command])) == tte.MediaLimits()


@pytest.mark.usefixtures("folder")
def test_limits_of_media_hold(capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(noise(56, 56)).save("a.png")
    few = ["--max-pixels", "9"]
    for command in (
        ["tte show", "nano", "a.png"],
        ["tte think", "nano", "a.png"],
        ["tte search", "words.npy", "a.png"],
    ):
        assert call(*command, *few) == 2
        assert "raise --max-pixels if the file is trusted" in capsys.readouterr().err
    assert call("tte embed", "a.png", "-o", "b.npy", *few) == 1
    assert "raise --max-pixels if the file is trusted" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_options_reach_the_model_of_their_role(capsys: pytest.CaptureFixture[str]) -> None:
    for role in ("embedder", "reasoner"):
        command = ["a.txt", "-o", "b.npy", "--reasoner", "nano"]
        assert call("tte embed", *command, f"--{role}-template-options", '{"depth": 3}') == 2
        assert "depth" in capsys.readouterr().err
    assert call("tte embed", *command, "--state-bytes", "1") == 1
    assert "state_bytes" in capsys.readouterr().err
    Path("mine.json").write_text(json.dumps({"extends": "raw", "decoding": {"max_new_tokens": 2}}))
    mine = ["--reasoner-recipe", "mine.json", "--embedder-recipe", "raw", "--dtype", "bfloat16"]
    assert call("tte embed", *command, *mine) == 0
    settings = json.loads(Path("b.json").read_text())["settings"]
    assert settings["reasoner_recipe"] == os.path.abspath("mine.json")
    assert (settings["recipe"], settings["dtype"]) == ("raw", "bfloat16")
    assert call("tte search", "b.npy", "a cat") == 0
    of_one = ["a.txt", "-o", "c.npy", "--reasoner", "nano", "--embedder-recipe", "raw", "--task", "image_qa"]
    assert call("tte embed", *of_one) == 0  # A task that one of the two recipes has.
    Path("mine.json").write_text('{"extends": "nothing"}')
    assert call("tte search", "b.npy", "a cat") == 2
    assert "mine.json" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_a_folder_is_one_video_with_frames(capsys: pytest.CaptureFixture[str]) -> None:
    for clip in ("one", "two"):
        Path("clips", clip).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(noise(56, 56, i)).save(Path("clips", clip, f"{i}.png"))
    assert call("tte embed", "--frames", "clips/one", "clips/two", "-o", "b.npy") == 0
    assert json.loads(Path("b.json").read_text())["names"] == ["clips/one", "clips/two"]
    assert call("tte embed", "clips", "-o", "c.npy") == 0
    assert len(json.loads(Path("c.json").read_text())["names"]) == 6
    assert call("tte search", "b.npy", "clips/two", "--top", "1") == 0
    assert "2 of 2 vectors" in capsys.readouterr().out
    assert call("tte embed", "--frames", "folder.npy", "a.txt", "-o", "d.npy") == 3
