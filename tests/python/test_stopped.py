"""What was finished survives however a call ends: killed, stopped, terminated, the disk full. Real processes."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tte
from command_line import run
from PIL import Image
from references import noise
from test_process_ends import HARD_LIMIT
from tte import _files, _index

ROOT = Path(__file__).parents[2]

# A command that ends itself before the N-th of all writes, and tells of the traces that were kept.
PROGRAM = """
import os, pathlib, signal, sys
from tte import _files
from tte.__main__ import main
from tte.trace_store import TraceStore

name, left, *arguments = sys.argv[1:]
left = int(left)

def watched(owner, attribute):
    original = getattr(owner, attribute)
    def call(*given, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), getattr(signal, name))
        done = original(*given, **named)
        if attribute == "put":
            with open("kept", "a") as file:
                file.write(given[1].key + "\\n")
        return done
    setattr(owner, attribute, call)

for owner, attribute in (
    (TraceStore, "put"), (_files, "writing"), (pathlib.Path, "replace"), (pathlib.Path, "unlink"),
):
    watched(owner, attribute)
sys.exit(main(arguments))
"""
EMBED = ["embed", "in", "-o", "out.npy", "--reasoner", "nano", "--task", "image_qa", "--side", "query"]
ENDS = {"SIGKILL": -9, "SIGTERM": -15, "SIGINT": 130}


def call(folder: Path, name: str = "SIGKILL", left: int = 0, limit: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, name, str(left), *EMBED]
    return subprocess.run(
        ["bash", "-c", f'{limit} exec "$@"', "bash", *command], cwd=folder, capture_output=True, text=True,
        timeout=HARD_LIMIT, check=False,
    )  # fmt: skip


def kept(folder: Path) -> list[str]:
    return (folder / "kept").read_text().split() if (folder / "kept").exists() else []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files, and the vectors that a call gives that nothing stops."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "in").mkdir()
    for name in ("image_qa_0.png", "image_qa_1.png", "image_vg_0.png", "visdoc_0_candidate0.png"):
        shutil.copy(ROOT / "examples" / "data" / "nano" / name, folder / "in")
    (folder / "in" / "bad.png").write_bytes(b"nothing")
    (folder / "in" / "a.txt").write_text("what is up ?\n\nthe red circle\nthe blue square\n")
    lines = ('{"text": "a", "instruction": "Look.", "name": "mine"}', '[{"type": "text", "text": "a"}]')
    (folder / "in" / "b.jsonl").write_text("".join(line + "\n" for line in lines))
    Image.fromarray(noise(84, 84)).save(folder / "in" / "page.pdf")
    done = call(folder)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("error: ") == 1
    assert done.stderr.startswith("error: in/bad.png")
    assert len(kept(folder)) == len(set(kept(folder))) == 10
    assert not (folder / "out.npy.part").exists()
    return folder


def same(folder: Path, undisturbed: Path) -> bool:
    files = [(folder / name, undisturbed / name) for name in ("out.npy", "out.json")]
    return all(one.read_bytes() == other.read_bytes() for one, other in files)


def test_no_finished_trace_is_written_again(undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed / "in", tmp_path / "in")
    ends = [
        ("SIGKILL", 2), ("SIGKILL", 6), ("SIGINT", 7), ("SIGTERM", 5), ("SIGKILL", 8), ("SIGKILL", 6), ("SIGINT", 6),
    ]  # fmt: skip
    for name, left in ends:
        done = call(tmp_path, name, left)
        assert done.returncode == ENDS[name], done.stderr
    done = call(tmp_path)
    assert done.returncode == 3, done.stderr
    assert same(tmp_path, undisturbed)
    assert sorted(kept(tmp_path)) == sorted(kept(undisturbed))
    assert not (tmp_path / "out.npy.part").exists()
    assert {file.name for file in tmp_path.iterdir()} == {"in", "out.npy", "out.json", "kept"}


def test_two_calls_do_not_write_one_file(undisturbed: Path, tmp_path: Path) -> None:
    """The second is told, also where the first ends in between; unfinished work is no data of a folder."""
    shutil.copytree(undisturbed / "in", tmp_path / "in")
    part = tmp_path / "out.npy.part"
    part.mkdir()
    with (part / _files.LOCK).open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = call(tmp_path)
        assert (done.returncode, kept(tmp_path)) == (2, [])
        assert done.stderr == "error: out.npy is being written by another call: wait, or give another file.\n"
    assert call(tmp_path, "SIGKILL", 6).returncode == -9
    shutil.copytree(part, tmp_path / "in" / "out.npy.part")
    assert call(tmp_path).returncode == 3
    assert same(tmp_path, undisturbed)
    assert not part.exists()


def test_calls_at_once_give_right_rows_or_say_so(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"line {i} of cats and dogs\n" for i in range(200)))
    command = [sys.executable, "-m", "tte", "embed", "a.txt", "-o"]
    subprocess.run([*command, "right.npy"], cwd=tmp_path, check=True, capture_output=True)
    running = [
        subprocess.Popen(
            [*command, "out.npy"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    ends = [(process.communicate(timeout=HARD_LIMIT)[1], process.returncode) for process in running]
    refused = "error: out.npy is being written by another call: wait, or give another file.\n"
    assert {(error, code) for error, code in ends} <= {("", 0), (refused, 2)}
    assert ("", 0) in ends
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "right.npy").read_bytes()


@pytest.mark.parametrize("blocks", [16, 40])
def test_a_disk_that_takes_no_more_takes_no_trace(undisturbed: Path, tmp_path: Path, blocks: int) -> None:
    shutil.copytree(undisturbed / "in", tmp_path / "in")
    done = call(tmp_path, limit=f"trap '' XFSZ; ulimit -f {blocks};")
    assert done.returncode in (1, 2), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "out.npy.part" in line
    assert call(tmp_path).returncode == 3
    assert same(tmp_path, undisturbed)
    assert sorted(kept(tmp_path)) == sorted(kept(undisturbed))


def test_embedding_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_index, "_CHUNK", 3)
    items = [_index.Entry(f"name {i}", i, "") for i in range(7)]
    settings = {"embedder": "a", "reasoner": None, "recipe": None, "task": None}
    seen: list[int] = []

    def embed(chunk: list[_index.Entry], store: None, keep: _index.Keep, stop_at: int | None = None) -> dict[int, str]:
        assert store is None
        for place, number in reversed(list(enumerate(entry.item for entry in chunk))):
            if number == stop_at:
                raise KeyboardInterrupt
            seen.append(number)
            if number != 4:
                keep(place, np.array([number, number + 1], np.float32))
        return {place: "bad" for place, entry in enumerate(chunk) if entry.item == 4}

    out = tmp_path / "out.npy"
    with pytest.raises(KeyboardInterrupt):
        _index.write(out, items, settings, 2, lambda *call: embed(*call, stop_at=3))
    assert not out.exists()
    with pytest.raises(tte.InputError, match="rows of other settings"):
        _index.write(out, items, {**settings, "embedder": "b"}, 2, embed)
    with pytest.raises(tte.InputError, match=r"rows of other settings: give those again, or move the folder away\.$"):
        _index.write(out, items, settings, 3, embed)
    # Half a row, as a call leaves it that is killed while it writes.
    with (tmp_path / "out.npy.part" / "rows.jsonl").open("a") as file:
        file.write('{"name": "4", "sta')
    steps: list[int] = []
    assert _index.write(out, items, settings, 2, embed, steps.append) == {4: "bad"}
    assert seen == [2, 1, 0, 5, 4, 6, 4, 3]  # What had failed is tried again.
    assert sum(steps) == 7
    names, vectors, _ = _index.read(out)
    assert names == [entry.name for entry in items]
    np.testing.assert_array_equal(vectors[:, 0], [0, 1, 2, 3, np.nan, 5, 6])
    assert not (tmp_path / "out.npy.part").exists()


Damage = Callable[[Path, list[bytes]], None]


def _line(number: int, change: Callable[[bytes], bytes]) -> Damage:
    def damage(part: Path, lines: list[bytes]) -> None:
        (part / "rows.jsonl").write_bytes(
            b"".join(change(line) if i == number else line for i, line in enumerate(lines))
        )

    return damage


def _nan(line: bytes) -> bytes:
    row = json.loads(line)
    return json.dumps({**row, "vector": base64.b64encode(b"\0\0\xc0\x7f\0\0\0\0").decode()}).encode() + b"\n"


def _maker(made: list[int]) -> _index.Embed:
    """Embeds number n as [n, 1], and notes it."""

    def embed(chunk: list[_index.Entry], _store: object, keep: _index.Keep) -> dict[int, str]:
        for place, entry in enumerate(chunk):
            made.append(entry.item)
            keep(place, np.array([entry.item, 1], np.float32))
        return {}

    return embed


def _stopped_after(part: Path, settings: dict[str, Any], items: list[_index.Entry]) -> list[bytes]:
    """What a call leaves that was stopped after these items: the lines of its rows."""
    part.mkdir()
    kept = _index._Part(part, settings, 2)
    _maker([])(items, None, lambda place, vector: kept.add((items[place].name, ""), vector))
    kept.close()
    return (part / "rows.jsonl").read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("damage", "again", "is_told"),
    [
        (_line(1, lambda line: b"[]\n"), [1], True),
        (_line(1, lambda line: b"{" * 100_000 + b"\n"), [1], True),
        (_line(1, lambda line: b"\xff" + line[1:]), [1], True),
        (_line(1, lambda line: line.replace(b'"name"', b'"mane"')), [1], True),
        (_line(1, lambda line: line.replace(b'"1"', b'[["1"]]')), [1], True),
        (_line(1, lambda line: line.replace(b'"1"', b'"9"')), [1], True),
        (_line(1, _nan), [1], True),
        (_line(1, lambda line: line[:-1]), [1, 2], True),
        (_line(3, lambda line: line[:-1]), [3], False),
        (lambda part, _: (part / "rows.jsonl").write_bytes(b""), [0, 1, 2, 3], False),
        (lambda part, _: (part / "rows.jsonl").unlink(), [0, 1, 2, 3], False),
        (lambda part, _: (part / "settings.json").write_bytes(b"{"), [], False),
        (lambda part, _: (part / "settings.json").unlink(), [], False),
    ],
)
def test_rows_that_wait_may_be_damaged(damage: Damage, again: list[int], is_told: bool, tmp_path: Path) -> None:
    items = [_index.Entry(str(i), i, "") for i in range(4)]
    out, part = tmp_path / "out.npy", tmp_path / "out.npy.part"
    settings = {"embedder": "a", "reasoner": None}
    damage(part, _stopped_after(part, settings, items))
    made: list[int] = []
    if len(again) < len(items):
        with pytest.raises(tte.InputError, match="rows of other settings"):
            _index.write(out, items, {**settings, "embedder": "b"}, 2, _maker(made))
    with pytest.warns(UserWarning, match="1 damaged lines: what they had is made") if is_told else nullcontext():
        assert _index.write(out, items, settings, 2, _maker(made)) == {}
    assert made == again
    np.testing.assert_array_equal(np.load(out), [[i, 1] for i in range(4)])
    assert not part.exists()


def test_a_pipe_in_the_place_of_rows_is_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "words.txt").write_text("a cat\n")
    part = tmp_path / "words.npy.part"
    part.mkdir()
    os.mkfifo(part / "rows.jsonl")
    message = run(capsys, "embed", tmp_path / "words.txt", "-o", tmp_path / "words.npy", code=2)
    assert "rows.jsonl cannot be read (it is a pipe, socket or device): move it away." in message


def test_a_file_more_makes_no_vector_a_second_time(tmp_path: Path) -> None:
    items = [_index.Entry(str(i), i, "") for i in range(4)]
    settings = {"reasoner": None}
    _stopped_after(tmp_path / "out.npy.part", settings, items[1:3])
    made: list[int] = []
    _index.write(tmp_path / "out.npy", [*items, items[2]], settings, 2, _maker(made))
    assert made == [0, 3]
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy")[:, 0], [0, 1, 2, 3, 2])


def test_what_failed_is_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "in" / "a.png")
    Image.new("RGB", (80, 80)).save(tmp_path / "in" / "b.png")
    command = ("embed", tmp_path / "in", "-o", tmp_path / "out.npy")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_index, "_save", stopped)
        run(capsys, *command, "--max-pixels", "100", code=130)
    assert (tmp_path / "out.npy.part" / "rows.jsonl").read_bytes().count(b"\n") == 1
    assert "2 of 2 vectors" in run(capsys, *command)


def test_damaged_rows_are_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a cat\n")
    (tmp_path / "words.npy.part").mkdir()
    (tmp_path / "words.npy.part" / "rows.jsonl").write_text("{}\n")
    command = [sys.executable, "-m", "tte", "embed", "words.txt", "-o", "words.npy"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stderr == "warning: words.npy.part/rows.jsonl has 1 damaged lines: what they had is made again.\n"
