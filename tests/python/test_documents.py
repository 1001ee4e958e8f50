"""What the pages quote is what the files say: numbers, commands, scripts, snippets beside README's own."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
import tte
from tte.__main__ import parser as tte_parser
from tte.mmeb import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / name
    for name in (
        "README.md", "CONTRIBUTING.md", "models/nano/README.md", "models/recipes/README.md", "src/kernels/README.md",
        "examples/mmeb_v2/README.md", "python/tte/nano/README.md",
    )
]  # fmt: skip
TASKS = ("image_cls", "image_qa", "image_ret", "image_vg", "video_cls", "video_qa", "video_ret", "video_mret", "visdoc")


def rows_of(table: str) -> dict[str, list[str]]:
    """Cells of each row of a table, by the first; without the asterisks."""
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line]
    return {first: rest for first, *rest in rows}


def section(name: str) -> str:
    return README.split(f"\n## {name}\n")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def measured() -> list[dict[str, Any]]:
    return json.loads((ROOT / "models" / "nano" / "logs" / "eval_tte.json").read_text())


def test_the_nano_pairs_table(measured: list[dict[str, Any]]) -> None:
    rows = rows_of(section("The nano pair"))
    for name, key in (("thinking, its own traces", "think"), ("same start and data, no thinking", "no_think")):
        means = [mean(record[key] for record in measured if record["task"] == task) for task in TASKS]
        assert rows[name] == [f"{value:.1f}" for value in [*means, mean(means)]]
    assert {record["n"] for record in measured} == {500}
    assert {record["seed"] for record in measured} == {0, 1, 2}
    sizes = {path.stat().st_size for path in (ROOT / "models" / "nano").glob("*/model.safetensors")}
    assert [f"{size / 1e6:.1f}" for size in sizes] == ["3.9"]


def test_the_miniatures_table(measured: list[dict[str, Any]]) -> None:
    rows = rows_of(section("MMEB-V2"))
    for name, key in (("think", "think"), ("no-think", "no_think")):
        by_seed = [[r[key] for task in TASKS for r in measured if (r["task"], r["seed"]) == (task, s)] for s in (0, 1)]
        pairs = [f"{a:.1f} / {b:.1f}" for a, b in zip(*([*v, mean(v)] for v in by_seed), strict=True)]
        assert rows[name][:10] == pairs


def test_the_heads_numbers() -> None:
    records = json.loads((ROOT / "models" / "nano" / "logs" / "head_tte.json").read_text())
    found = mean(mean(r["head"]["think"] for r in records if r["task"] == task) for task in TASKS)
    (told,) = re.findall(r"finds (\d+) of 100 where the pair finds (\d+)", README)
    assert told == (f"{found:.0f}", f"{float(rows_of(section('The nano pair'))['thinking, its own traces'][-1]):.0f}")
    sizes = [ROOT / "models" / "nano" / name for name in ("reasoner/model.safetensors", "embedder/model.safetensors")]
    reasoner, embedder = (path.stat().st_size for path in sizes)
    head = (ROOT / "models" / "nano" / "head" / "head.safetensors").stat().st_size
    assert "half of the pair's tokens and three quarters of its weights" in " ".join(README.split())
    assert (reasoner + head) / (reasoner + embedder) == pytest.approx(0.75, abs=0.01)


def commands(page: Path) -> Iterator[list[str]]:
    """Words of the lines in fences that are commands, without what the shell does with them."""
    for block in re.findall(r"```\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if not re.match(r" *(tte |(\.venv/bin/)?python -m tte\.mmeb )", line):
                continue
            words = shlex.split(line, comments=True)
            yield words[: next((i for i, word in enumerate(words) if word in ("&", "&&", "|")), len(words))]


def test_commands_are_what_the_parsers_take() -> None:
    seen = []
    for page in PAGES:
        for words in commands(page):
            program = " ".join(words[:3]).removeprefix(".venv/bin/")
            if program == "python -m tte.mmeb":
                some = ["--data", "DIR", "--embedder", "PATH"]
                given = [word for part in words[3:] for word in (some if part == "..." else [part])]
                if given != ["--help"]:
                    assert callable(cli.parser().parse_args(given).command)
            else:
                assert callable(tte_parser().parse_args(words[1:]).run)
            seen.append(page.name)
    assert len(seen) >= 10


def test_scripts_and_targets_are_there() -> None:
    targets = set(re.findall(r"^([a-z -]+):", (ROOT / "Makefile").read_text(), re.M))
    names = {name for line in targets for name in line.split()}
    count = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text, re.M):
            assert target in names, f"{page.name}: make {target}"
            count += 1
        for script in re.findall(r"(?:^|[`/ ])((?:tools|benchmarks|models/nano|tests)/[\w/]+\.(?:py|sh))", text, re.M):
            assert (ROOT / script).is_file(), f"{page.name}: {script}"
            count += 1
    assert count >= 20


def snippets(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)


def test_the_recipes_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    (code,) = snippets("models/recipes/README.md", "python")
    names: dict[str, Any] = {"tte": tte, "items": ["what is up ?"]}
    exec(code, names)
    assert names["result"].stats.thought == 1
    assert names["head"].backend.stats.head_tokens > 0
    (recipe,) = snippets("models/recipes/README.md", "json")
    (tmp_path / "mine.json").write_text(recipe, encoding="utf-8")
    folder, mine = ROOT / "models" / "nano" / "embedder", tmp_path / "mine.json"
    processor = tte.Processor(folder, recipe=mine)
    shown = processor.tokenizer.decode(processor("a", task="image_qa")["input_ids"][0].tolist())
    assert "Answer the question about the picture.\na" in shown
    embedder = tte.Embedder(folder, recipe=mine)
    assert np.isfinite(embedder.embed(["a"], ["<think>b</think> c"], task="image_qa", progress=False)).all()


def test_the_nano_worlds_page() -> None:
    (code,) = snippets("python/tte/nano/README.md", "python")
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["s"].query.image.dtype == np.uint8
    assert len(names["samples"]) == 500


def test_the_benchmarks_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "mmeb"))
    from make_tree import write_tree

    write_tree(tmp_path / "MMEB-V2")
    monkeypatch.chdir(tmp_path)
    (code,) = snippets("examples/mmeb_v2/README.md", "python")
    names: dict[str, Any] = {}
    exec(code, names)
    vector = tte.Embedder(ROOT / "models" / "nano" / "embedder").embed([names["query"].entry.item()], progress=False)
    assert np.isfinite(vector).all()
    assert set(names["query"].labels) <= set(names["query"].candidates)
