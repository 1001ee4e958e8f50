"""Every Python snippet of the README runs as it stands, one after the other, and gives what it says."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tte
from adapters import make_adapter
from chat_server import chat_server
from checkpoints import Shape
from PIL import Image
from references import noise
from test_sparse import heads_of, with_sparse_recipe
from tte.__main__ import main
from tte.nano import tasks

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.S)
REASONER = Shape("readme-reasoner")
EMBEDDER = Shape("readme-embedder", hidden=96, heads=6, kv_heads=2, mrope=(2, 4, 2))


def test_snippets_run(checkpoint: Callable[[Shape], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where the README says what a user has, this is what they have: two plain folders of save_pretrained, a document.
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "embedder").symlink_to(checkpoint(EMBEDDER))
    make_adapter(tmp_path / "path" / "to" / "adapter", checkpoint(EMBEDDER), target_modules=["q_proj"])
    (tmp_path / "Qwen").mkdir()
    (tmp_path / "Qwen" / "Qwen2-VL-2B-Instruct").symlink_to(checkpoint(REASONER))
    pages = [Image.fromarray(noise(120, 100, i)) for i in range(3)]
    pages[0].save(tmp_path / "report.pdf", save_all=True, append_images=pages[1:])
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    assert len(SNIPPETS) == 9

    exec(SNIPPETS[0], names)
    corpus, queries = names["corpus"], names["queries"]
    assert queries.similarity(corpus).shape == (1, 6)
    assert queries.neighbours(3, corpus)[0][0][0] == 2
    np.testing.assert_allclose(np.linalg.norm(queries.embeddings, axis=1), 1, atol=1e-5)
    assert queries.traces[0].conclusion
    assert "<img" in corpus._repr_html_()

    exec(SNIPPETS[1], names)
    assert np.isfinite(names["result"].embeddings).all()
    assert names["vectors"].shape == (2, names["embedder"].dim)
    assert [trace is not None for trace in names["result"].traces] == [True, True]
    # The task is the reasoner's alone: the embedder gets its plain prompt.
    alone = names["embedder"].embed(names["items"], names["result"].traces, progress=False)
    np.testing.assert_allclose(names["result"].embeddings, alone, atol=1e-5)
    with pytest.raises(tte.InputError, match=r"task \"image_quality\" is not one of"):
        tte.think_then_embed("a", reasoner=names["reasoner"], embedder=names["embedder"], task="image_quality")

    plain = names["vectors"]
    exec(SNIPPETS[2], names)
    adapted = names["embedder"].embed(names["items"], names["traces"])
    assert names["embedder"].model.path == tmp_path / "path" / "to" / "adapter"
    assert np.abs(adapted - plain).max() > 1e-3

    with chat_server() as server:
        exec(SNIPPETS[3].replace("http://localhost:8000/v1", server.url), names)
        assert [trace.text for trace in names["result"].traces] == ["<think>a</think>b"] * 2
        exec(SNIPPETS[3].replace("http://localhost:8000/v1", server.url), names)
        assert len(server.requests) == 2

    exec(SNIPPETS[4], names)
    assert names["best"] in (1, 2, 3)
    assert len(names["corpus"]) == 3

    exec(SNIPPETS[5], names)
    assert len(names["corpus"]) == len(names["items"]) == 2
    assert names["corpus"].vectors.dtype == np.float16
    assert isinstance(names["corpus"].vectors, np.memmap)
    assert names["result"].tokens.mask("trace").any()
    sparse = with_sparse_recipe(checkpoint(EMBEDDER), tmp_path / "sparse")
    torch.save(heads_of(sparse), sparse / "heads.pt")
    exec(SNIPPETS[6], {**names, "embedder": tte.Embedder(sparse, device="cpu")})
    exec(SNIPPETS[7], names)
    assert names["scores"].shape == (2, 2)
    assert len(names["best"]) == 1
    exec(SNIPPETS[8], names)
    assert names["result"].stats.thought == len(names["items"])
    assert np.isfinite(names["result"].embeddings).all()


def test_command_lines_run(
    checkpoint: Callable[[Shape], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "checkpoint").symlink_to(checkpoint(EMBEDDER))
    (tmp_path / "photos").mkdir()
    page = Image.fromarray(noise(120, 100))
    for clip in ("one", "two"):
        (tmp_path / "clips" / clip).mkdir(parents=True)
    for name in ("page.png", "photos/a.png", "report.pdf", "clips/one/1.png", "clips/two/1.png", "clips/two/2.png"):
        page.save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^tte .+", README, re.M)
    assert {line.split()[1] for line in lines} == {"embed", "search", "info", "show", "quantize"}
    for line in lines:
        assert main(shlex.split(line, comments=True)[1:]) == 0, line
        told = capsys.readouterr().out
        assert told
        assert ("report.pdf#page=1" in told) == ("search" in line)


def test_every_system_has_the_test_that_its_row_names() -> None:
    rows = [line.split("|")[1:-1] for line in README.splitlines() if line.startswith("| ")]
    heads = next(row for row in rows if row[0].strip() == "system")
    column = [head.strip() for head in heads].index("test")
    systems = [row for row in rows if len(row) == len(heads) and row is not heads]
    assert len(systems) > 20
    functions = re.findall(
        r"^def (test_\w+)",
        "".join((ROOT / "tests/python" / name).read_text() for name in ("test_systems.py", "test_thinking_systems.py")),
        re.M,
    )
    for row in systems:
        named = re.findall(r"`(test_\w+…?)`", row[column])
        for name in named:
            assert any(each == name or (name[-1] == "…" and each.startswith(name[:-1])) for each in functions), name
        assert named or "](tests/python/" in row[column] or row[column].strip() == "the nano pair", row[0]


def test_numbers_of_the_nano_pair_are_those_of_its_logs() -> None:
    logs = ROOT / "models/nano/logs"
    records = json.loads((logs / "eval_tte.json").read_text())
    heads = [{"task": r["task"], **r["head"]} for r in json.loads((logs / "head_tte.json").read_text())]

    def means(key: str, of: list[dict[str, Any]]) -> list[float]:
        return [float(np.mean([r[key] for r in of if r["task"] == task])) for task in tasks()]

    for name, key in (("thinking, its own traces", "think"), ("same start and data, no thinking", "no_think")):
        found = means(key, records)
        cells = [*(f"{each:.1f}" for each in found), f"**{np.mean(found):.1f}**"]
        assert f"| {name} | {' | '.join(cells)} |" in README
    pair, plain, head = (
        np.mean(means(*each)) for each in (("think", records), ("no_think", records), ("think", heads))
    )
    assert f"finds {head:.0f} of 100 where the pair finds {pair:.0f}" in README
    own = (ROOT / "examples/own_checkpoint/README.md").read_text(encoding="utf-8")
    assert f"({plain:.0f}\nof 100 without traces, {pair:.0f} with them)" in own
    # By seeds, which `make mini` draws in the same way.
    for name, key in (("think", "think"), ("no-think", "no_think")):
        each = [f"{np.mean([r[key] for r in records if r['seed'] == seed]):.1f}" for seed in (0, 1)]
        assert re.search(rf"^\| {name} \|.*\*\*{' / '.join(each)}\*\*", README, re.M), each
    card = (ROOT / "models/nano/README.md").read_text(encoding="utf-8")
    shares = dict(re.findall(r"^\| (tokens that|bytes of).*\| (\d+) % \|$", card, re.M))
    assert shares == {"tokens that": "51", "bytes of": "75"}, "half of the tokens and three quarters of the weights"


def test_links_lead_somewhere() -> None:
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")]
    pages += [page for folder in ("src", "models", "examples", "python") for page in (ROOT / folder).rglob("*.md")]
    assert len(pages) >= 9
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            assert "://" in target or (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
        for anchor in re.findall(r"\]\(#([^)]+)\)", text):
            headings = [
                re.sub(r"[^\w -]", "", line.lstrip("# ")).strip() for line in text.splitlines() if line[:1] == "#"
            ]
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, anchor
