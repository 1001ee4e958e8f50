"""The commands run, traces, score, merge from the command line, on tables in the benchmark's own layout."""

from __future__ import annotations

import argparse
import functools
import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tte
from chat_server import chat_server, status, stream
from make_tree import IMAGE_REPO, image_row, parquet, write_image
from results import write_result
from tte.mmeb.cli import main, parser
from tte.mmeb.data.tasks import find
from tte.mmeb.run import traces
from tte.mmeb.run.manifest import ResultFolder, check_identity

WORDS = ["red circle", "blue star", "green square", "3"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks with the columns of the benchmark."""
    root = tmp_path_factory.mktemp("data")
    for name in ("HatefulMemes", "N24News"):
        rows = []
        for i, word in enumerate(WORDS):
            write_image(root / "image-tasks" / name / f"{i}.png", 60 * i, (56, 56))
            pool = [word, *(w for w in WORDS if w != word)]
            rows.append(image_row("", "what is in the picture ?", f"{name}/{i}.png", "", pool, [""] * 4))
        parquet(root / IMAGE_REPO / name / "test-0.parquet", rows)
    return root


def test_run_score_traces_and_merge(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--data", str(data), "--tasks", "HatefulMemes", "N24News"]
    pair = ["--embedder", "nano", "--reasoner", "nano", "--think", "queries"]
    out, shards, store = tmp_path / "out", tmp_path / "shards", tmp_path / "traces.sqlite"
    assert main(["traces", *common, "--reasoner", "nano", "--think", "queries", "--store", str(store)]) == 0
    export = tmp_path / "traces.jsonl"
    assert main(["traces", "--store", str(store), "--export", str(export)]) == 0
    kept = [json.loads(line) for line in export.read_text().splitlines()]
    assert 0 < len(kept) <= 2 * len(WORDS)
    assert main(["traces", "--store", str(tmp_path / "other.sqlite"), "--import", str(export)]) == 0
    # Four queries of a thousand: everything is run, and not whole.
    assert main(["run", *common, *pair, "--out", str(out), "--traces", str(tmp_path / "other.sqlite")]) == 3
    printed = capsys.readouterr().out
    assert "HatefulMemes" in printed
    assert "incomplete: 2 of 10" in printed
    folder = out / "image" / "HatefulMemes"
    first = (folder / "score.json").read_bytes()
    rows = pq.read_table(folder / "queries.parquet").to_pylist()
    assert {row["trace"] for row in rows} <= {record["text"] for record in kept}
    assert rows[0]["candidates"] == WORDS

    for shard in ("1/2", "2/2"):
        assert main(["run", *common, *pair, "--out", str(shards), "--block", "1", "--shard", shard]) == 0
    assert "python -m tte.mmeb merge" in capsys.readouterr().out
    assert main(["merge", str(shards)]) == 3
    assert (shards / "image" / "HatefulMemes" / "score.json").read_bytes() == first
    assert main(["score", str(out), "--relevance", "reference", "--top", "2"]) == 3
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [line["prediction"] for line in lines] != []
    assert json.loads((folder / "manifest.json").read_bytes())["relevance"] == "reference"
    averages = json.loads((out / "averages.json").read_bytes())
    assert not averages["overall"]["complete"]
    assert averages["overall"]["count"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--embedder", "nano", "--out", "o", "--think", "always"], "--think always needs --reasoner"),
        (["run", "--embedder", "nano", "--out", "o", "--temperature", "1"], "nothing is reasoned about"),
        (["run", "--embedder", "nano", "--out", "o", "--shard", "0/2"], "shard is '0/2'"),
        (["run", "--embedder", "nano", "--out", "o", "--tasks", "Nope"], "There is no task 'Nope'"),
        (["run", "--embedder", "missing", "--out", "o"], "'missing' is not a folder"),
        (["run", "--embedder", "nano", "--out", "o", "--traces", "t.sqlite"], "--traces t.sqlite is given without"),
    ],
)
def test_mistakes_are_said_plainly(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--data", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_commands_without_anything_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["score", str(tmp_path)],
        ["merge", str(tmp_path)],
        ["traces", "--store", str(tmp_path / "t.sqlite")],
    ):
        assert main(arguments) == 2
        assert "error: " in capsys.readouterr().err
    assert main(["score", str(tmp_path), "--pickles"]) == 2


def test_missing_data_leave_an_exit_code(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--data", str(data), "--embedder", "nano", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--tasks", "HatefulMemes", "VOC2007"]) == 3
    printed = capsys.readouterr()
    assert "left out: VOC2007" in printed.err
    assert "HatefulMemes" in printed.out


def test_the_reference_harness_pickles_are_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "visdoc"
    folder.mkdir()
    rng = np.random.default_rng(0)
    pages = {str(i): vector for i, vector in enumerate(rng.standard_normal((30, 8)).astype(np.float32))}
    queries = np.stack([pages["7"], pages["20"]])
    info = [
        {"cand_names": ["7", "9"], "label_name": ["7", "9"], "rel_scores": [2, 1]},
        {"cand_names": ["3"], "label_name": "3", "rel_scores": [1]},
    ]
    name = "ViDoRe_esg_reports_human_labeled_v2"
    (folder / f"{name}_qry").write_bytes(pickle.dumps(queries))
    (folder / f"{name}_tgt").write_bytes(pickle.dumps(pages))
    (folder / f"{name}_info.jsonl").write_text("".join(json.dumps(row) + "\n" for row in info))
    assert main(["score", str(tmp_path), "--pickles"]) == 0
    found = json.loads((folder / name / "score.json").read_bytes())
    predictions = [json.loads(line) for line in (folder / name / "predictions.jsonl").read_text().splitlines()]
    matrix = np.stack(list(pages.values())).astype(np.float64)
    expected = [[str(i) for i in np.argsort(-(matrix @ query), kind="stable")] for query in queries.astype(np.float64)]
    assert [p["prediction"] for p in predictions] == expected
    assert found["hit@1"] == np.mean([expected[0][0] in ("7", "9"), expected[1][0] == "3"])
    assert not find(name).local
    capsys.readouterr()


def test_identity_says_what_differs(tmp_path: Path) -> None:
    same: dict[str, Any] = {"a": {"b": 1}, "c": None}
    check_identity(same, {"a": {"b": 1}, "c": None}, tmp_path)
    with pytest.raises(tte.InputError, match=r"\(a\.b 1, now 2; d none, now x\)"):
        check_identity(same, {"a": {"b": 2}, "c": None, "d": "x"}, tmp_path)
    folder = ResultFolder(tmp_path / "results")
    with pytest.raises(tte.InputError, match=r"manifest\.json cannot be read"):
        folder.manifest()
    write_result(tmp_path, find("MSVD"), [True])
    made = ResultFolder(tmp_path / "video" / "MSVD").manifest()
    folder.claim(made)
    assert folder.claim(made)["identity"] == made["identity"]
    folder.manifest_path.write_text('{"format": 99}')
    with pytest.raises(tte.InputError, match="format 99"):
        folder.manifest()


def test_score_holds_the_folder_and_clears_it(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--data", str(data), "--embedder", "nano", "--out", str(tmp_path), "--tasks", "N24News"]) == 3
    folder = ResultFolder(tmp_path / "image" / "N24News")
    (folder.path / ".queries.npy.123.tmp").write_bytes(b"what a killed process left")
    with folder.locked(shared=False):
        assert main(["score", str(tmp_path)]) == 1
    assert "is in use by another run" in capsys.readouterr().err
    assert main(["score", str(tmp_path)]) == 3
    assert not list(folder.path.glob("*.tmp")) + list(folder.path.glob(".*.tmp"))


def test_paths_do_not_depend_on_where_the_command_was_given(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    run = ["run", "--data", data.name, "--embedder", "nano", "--out", str(tmp_path), "--tasks", "N24News"]
    assert main([*run, "--strip-stray-tokens"]) == 3
    rows = pq.read_table(tmp_path / "image" / "N24News" / "queries.parquet").to_pylist()
    assert [Path(row["images"][0]) for row in rows] == [data / "image-tasks" / "N24News" / f"{i}.png" for i in range(4)]
    # Words of the prompts are another run.
    assert main(run) == 1


def test_options_are_spelled_alike_in_every_command() -> None:
    spelled: dict[str, set[tuple[str, ...]]] = {}
    commands = parser()._subparsers
    assert commands is not None
    (choices,) = (action.choices for action in commands._group_actions)
    assert choices is not None
    for command in dict(choices).values():  # type: ignore[call-overload]
        for action in command._actions:
            if action.option_strings:
                spelled.setdefault(action.dest, set()).add(tuple(sorted(action.option_strings)))
    assert {name: ways for name, ways in spelled.items() if len(ways) > 1} == {}
    # Whatever takes one of these takes the rest.
    for command in dict(choices).values():  # type: ignore[call-overload]
        names = {action.dest for action in command._actions}
        if "prompt_style" in names:
            assert {"num_frames", "limit", "strip_stray_tokens", "tasks", "extra_tasks", "data"} <= names


def test_traces_of_a_server_are_made_once_and_gone_on_with(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MY_KEY", "secret-key")
    store = tmp_path / "traces.sqlite"
    with chat_server() as server:
        remote = ["--reasoner", server.url, "--reasoner-model", "m", "--reasoner-requests", "1", "--think", "queries"]
        remote += ["--reasoner-template-options", '{"enable_thinking": false}']
        common = ["--data", str(data), "--tasks", "HatefulMemes", "N24News"]
        command = ["traces", *common, *remote, "--reasoner-key-env", "MY_KEY", "--traces", str(store)]
        server.then(stream("<think>a</think>", "b"), stream("c"))
        server.default = status(401, "the key secret-key is not known")
        assert main(command) == 1
        told = capsys.readouterr().err
        assert "answers 401 (the key *** is not known): check the API key" in told
        assert "secret-key" not in told
        with tte.TraceStore(store) as kept:
            assert len(kept) == 2
        asked = len(server.requests)
        server.default = stream("d")
        assert main(command) == 0
        assert len(server.requests) - asked == len(WORDS) - 2  # The two tasks have the same queries.
        assert {request.headers["authorization"] for request in server.requests} == {"Bearer secret-key"}
        assert all(request.body["chat_template_kwargs"] == {"enable_thinking": False} for request in server.requests)
        asked = len(server.requests)
        out = tmp_path / "out"
        assert main(["run", *common, *remote, "--embedder", "nano", "--traces", str(store), "--out", str(out)]) == 3
        assert len(server.requests) == asked
        manifest = json.loads((out / "image" / "N24News" / "manifest.json").read_bytes())
        assert manifest["models"]["reasoner"]["path"] == f"{server.url}/m"
        assert "secret-key" not in json.dumps(manifest)


def test_a_server_needs_the_name_of_a_model(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["traces", "--data", str(data), "--traces", "t.sqlite"]
    assert main([*common, "--reasoner", "http://localhost/v1"]) == 2
    assert "give --reasoner-model" in capsys.readouterr().err
    assert main([*common, "--reasoner", "nano", "--reasoner-model", "m"]) == 2
    assert "--reasoner-model is of a server" in capsys.readouterr().err
    assert main([*common, "--reasoner", "http://a/v1", "--reasoner-model", "m", "--reasoner-adapter", "b"]) == 2
    assert "--reasoner-adapter is of a checkpoint" in capsys.readouterr().err


def test_no_path_or_model_is_an_empty_string(capsys: pytest.CaptureFixture[str]) -> None:
    """As an unset variable of a shell leaves it: neither the folder one is in, nor an option left out."""
    (commands,) = (action.choices for action in parser()._actions if isinstance(action.choices, dict))
    names = {"DIR", "FILE", "FROM", "JSON", "PATH", "PATH|URL", "RECIPE"}
    options = [(one, action) for one in commands.values() for action in one._actions if action.metavar in names]
    assert len(options) > 20
    for one, action in options:
        with pytest.raises(argparse.ArgumentError, match="is an empty string"):
            one._get_values(action, [""])
    with pytest.raises(SystemExit):
        main(["run", "--data", "x", "--embedder", "x", "--out", "x", "--reasoner", ""])
    assert "argument --reasoner: it is an empty string" in capsys.readouterr().err


def test_traces_that_were_made_elsewhere(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """About what `prompts` wrote, by the ids that it gave; `run` finds them without writing any."""
    common = ["--data", str(data), "--tasks", "HatefulMemes"]
    reasoner = ["--reasoner", "http://127.0.0.1:9/v1", "--reasoner-model", "far", "--think", "queries"]
    store, given = tmp_path / "traces.sqlite", tmp_path / "given"
    assert main(["prompts", *common, "--out", str(tmp_path / "prompts")]) == 0
    asked = [json.loads(line) for line in (tmp_path / "prompts/HatefulMemes_queries.jsonl").read_text().splitlines()]
    given.mkdir()
    rows = [
        {"custom_id": row["id"], "response": {"body": {"choices": [{"message": {"content": f"it is {row['id']}"}}]}}}
        for row in asked
    ]
    file = given / "HatefulMemes_queries.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields = ["--given-key", "custom_id", "--given-text", "response.body.choices.0.message.content"]
    take = ["traces", *common, *reasoner, "--store", str(store), "--given", str(given), *fields]
    assert main(take) == 0
    out = tmp_path / "out"
    assert main(["run", *common, *reasoner, "--embedder", "nano", "--out", str(out), "--traces", str(store)]) == 3
    found = pq.read_table(out / "image" / "HatefulMemes" / "queries.parquet").to_pylist()
    assert [row["trace"] for row in found] == [f"it is {row['id']}" for row in asked]
    # Rows that are missing are told, and so are keys of nothing; those that are kept stay.
    file.write_text(json.dumps({**rows[0], "custom_id": "nothing"}) + "\n")
    capsys.readouterr()
    assert main(take) == 3
    told = capsys.readouterr().err
    assert f"{len(asked)} of {len(asked)} entries have no trace" in told
    assert "keys of no entry, such as 'nothing'" in told
    file.unlink()
    assert main(take) == 3
    assert "has no file of its traces" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "message"), [
    (["--given-key", "id"], "--given-key needs --given"),
    (["--given", "."], "--given needs --reasoner and --data"),
    (["--given", "none", "--reasoner", "nano"], "--given none is not a folder"),
], ids=str)  # fmt: skip
def test_given_traces_need_their_place(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["traces", "--store", "t.sqlite", "--export", "e.jsonl", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_of_many_errors_the_first_are_told(caplog: pytest.LogCaptureFixture) -> None:
    entries = [SimpleNamespace(name=f"{i}") for i in range(500)]
    dataset: Any = SimpleNamespace(
        task=SimpleNamespace(name="T", family="f"), num_queries=0, num_candidates=500, queries=list,
        candidates=lambda: iter(entries),
    )  # fmt: skip
    outcome = SimpleNamespace(error="it is bad")
    system: Any = SimpleNamespace(
        thinks=lambda *_: True, run=lambda chunk, *_, **__: [outcome] * len(chunk),
        keep_given=lambda chunk, *_, **__: ["it is bad"] * len(chunk),
    )  # fmt: skip
    given: Any = SimpleNamespace(of=lambda *_: {entry.name: "a" for entry in entries}, folder="given")
    for write in (traces.write_traces, functools.partial(traces.take_given, given=given)):
        caplog.clear()
        assert write(dataset, system, block=8)[1] == 500
        assert sum("it is bad" in record.getMessage() for record in caplog.records) == 20
