"""The installed package: imports, types, help."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tte
from PIL import Image


def _run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_import_does_not_import_torch() -> None:
    assert _run("import sys, tte; print('torch' in sys.modules)").strip() == "False"


def test_torch_may_be_imported_before_and_after() -> None:
    program = "import torch, tte; print(tte.Backend('cpu').device, torch.ones(2).sum().item())"
    assert _run(program).split() == ["cpu", "2.0"]
    program = "import tte, torch; print(tte.Backend('cpu').device, torch.ones(2).sum().item())"
    assert _run(program).split() == ["cpu", "2.0"]


def test_no_cuda_library_is_loaded_on_the_cpu() -> None:
    program = """
import tte
from PIL import Image
tte.Backend("cpu")
names = {line.split("/")[-1].strip() for line in open("/proc/self/maps") if "/" in line}
print([n for n in names if n.startswith(("libtorch_cuda", "libc10_cuda", "libcublas", "libcudnn", "libtte_cuda"))])
"""
    assert _run(program).strip() == "[]"


def test_ffmpeg_is_loaded_with_the_first_video(tmp_path: Path) -> None:
    # Its libraries bring more than a hundred others, which every start would wait for.
    Image.new("RGB", (64, 64)).save(tmp_path / "a.gif")
    program = f"""
import tte
from PIL import Image
def loaded():
    return any("/libavcodec" in line for line in open("/proc/self/maps"))
tte.Backend("cpu")
print(loaded())
print(tte.think_then_embed({{"video": "{tmp_path}/a.gif"}}, think=False, progress=False).embeddings.shape, loaded())
"""
    assert _run(program).split("\n")[:2] == ["False", "(1, 192) True"]


def test_everything_public_is_documented() -> None:
    for name in tte.__all__:
        thing = getattr(tte, name)
        if callable(thing) or isinstance(thing, type):
            assert thing.__doc__, name


def test_types_are_shipped() -> None:
    folder = Path(tte.__file__).parent
    assert (folder / "py.typed").exists()
    assert (folder / "_tte.pyi").exists()


def test_make_asks_no_more_of_pip_than_debians_has() -> None:
    # Debian 12's pip, which a fresh virtual environment gets, knows --config-settings but not yet -C.
    script = (Path(__file__).parents[2] / "tools" / "install.sh").read_text()
    assert "--config-settings=build-dir=" in script
    assert re.search(r" -C\b", script) is None


@pytest.mark.parametrize("code", [0, 3])
def test_a_build_tells_what_failed_in_it(tmp_path: Path, code: int) -> None:
    script = Path(shutil.copy(Path(__file__).parents[2] / "tools" / "install.sh", tmp_path))
    (tmp_path / "tools").mkdir()
    script.rename(tmp_path / "tools" / "install.sh")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    python = tmp_path / "venv" / "bin" / "python"
    python.write_text(
        f'#!/bin/sh\necho "$@"\necho "  [1/2] Building error.o"\necho "a.cpp:1: error: no" >&2\nexit {code}\n'
    )
    python.chmod(0o755)
    environment = {**os.environ, "TTE_VENV": "venv"}
    done = subprocess.run(
        [tmp_path / "tools" / "install.sh", "tests"], capture_output=True, text=True, check=False, env=environment
    )
    log = (tmp_path / "build" / "build.log").read_text()
    assert done.returncode == code, done.stderr
    assert "TTE_BUILD_TESTS=ON" in log
    assert "[1/2]" in log
    assert "build/build.log" in done.stdout
    assert ("a.cpp:1: error: no" in done.stderr) == (code != 0)
    assert "[1/2]" not in done.stdout + done.stderr


def test_devices_list_the_cpu() -> None:
    assert "cpu" in [device.name for device in tte.Backend.devices()]
    assert repr(tte.Backend("cpu")).startswith("Backend('cpu'")


def test_demo_help_teaches() -> None:
    run = subprocess.run([sys.executable, "-m", "tte.demo", "--help"], check=True, capture_output=True, text=True)
    assert "--html" in run.stdout


def _demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tte.demo", *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "argument --count: it is 0: it must be a whole number, from 1 to 10000"),
        (["--data", "gone"], "--data gone has no demo.json: give a folder of examples"),
        (["--html", "gone/page.html"], "--html gone/page.html: gone is not a folder: make it"),
    ],
)
def test_demo_refuses_before_it_works(arguments: list[str], message: str) -> None:
    run = _demo(*arguments)
    assert run.returncode == 2
    assert f"error: {message}" in run.stderr
    assert run.stdout == ""


def test_demo_runs_in_an_ascii_terminal() -> None:
    run = _demo("--task", "image_cls", "--count", "1", "--device", "cpu", PYTHONIOENCODING="ascii")
    assert run.returncode == 0, run.stderr
    assert "The right candidate came first for" in run.stdout
