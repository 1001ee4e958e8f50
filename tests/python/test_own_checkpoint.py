"""The page about one's own checkpoint: its snippets and commands run as they stand, one after the other."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tte
from checkpoints import Shape
from tte.__main__ import main

PAGE = (Path(__file__).parents[2] / "examples" / "own_checkpoint" / "README.md").read_text(encoding="utf-8")
MODEL = Shape("own-model")
REASONER = Shape("own-reasoner", hidden=96, heads=6, kv_heads=2, mrope=(2, 4, 2))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


@pytest.fixture
def folder(checkpoint: Callable[[Shape], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my-model").symlink_to(checkpoint(MODEL))
    (tmp_path / "my-reasoner").symlink_to(checkpoint(REASONER))
    (tmp_path / "mine.json").write_text(blocks("json")[0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_recipe_is_read_as_it_stands(folder: Path) -> None:
    recipe = json.loads((folder / "mine.json").read_text())
    processor = tte.Processor("my-model", recipe="mine.json")
    assert processor.recipe == recipe
    traced = processor("a cat", stage="embed", trace="an animal", task="qa")
    text = processor.tokenizer.decode(traced["input_ids"][0].tolist(), skip_special=False)
    assert "Answer the question.\na cat" in text
    assert text.endswith(
        "assistant\nan animal" + processor.tokenizer.decode([processor.tokenizer.eos_id], skip_special=False)
    )
    assert traced["pooled_row"] == traced["input_ids"].shape[1] - 1


def test_the_snippets_run(folder: Path) -> None:
    names: dict[str, Any] = {}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for snippet in blocks("python"):
            exec(snippet, names)
    assert names["embedder"].model.recipe_reason == "given as the file mine.json"
    assert names["plain"].shape == (2, names["embedder"].dim)
    assert names["result"].traces[0] is not None
    assert names["given"].traces[0].text == "<think>a pet</think>a cat"
    assert [line.split()[0] for line in said.getvalue().splitlines()] == ["False", "queries", "True"]
    counted = [int(line.split()[-4]) for line in said.getvalue().splitlines()]
    assert counted[0] == 0
    assert 0 < counted[1] == counted[2]  # Of the queries alone; the targets' are counted by their own call.
    assert names["small"].model.quantization == "int8"
    auto = tte.AutoThink(names["corpus"], margin=0.05)
    assert np.isfinite(tte.think_then_embed(names["queries"], think=auto, **names["models"]).embeddings).all()


def test_the_commands_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inline = [line for line in re.findall(r"`(tte [^`]*)`", PAGE) if "photos/" not in line]
    assert len(inline) >= 3
    fenced = re.findall(r"^```\n(tte .*?)^```", PAGE, re.S | re.M)
    for line in [*"".join(fenced).splitlines(), *inline]:
        arguments = shlex.split(" ".join(line.split()), comments=True)
        if arguments[1:2] and arguments[0] == "tte" and len(arguments) > 2:
            assert main(arguments[1:]) == 0, line
            assert capsys.readouterr().out
    assert (folder / "my-model-int8" / "config.json").is_file()
