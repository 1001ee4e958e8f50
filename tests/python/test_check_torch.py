"""What `import tte` says of the torch that is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def imported(torch: Path) -> subprocess.CompletedProcess[str]:
    """`import tte` where the package in this folder is torch."""
    environment = os.environ | {"PYTHONPATH": str(torch.parent)}
    command = "import sys, tte; print('importlib.metadata' in sys.modules)"
    return subprocess.run([sys.executable, "-c", command], env=environment, text=True, capture_output=True, check=False)


@pytest.fixture
def torch(tmp_path: Path) -> Path:
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('torch was imported')")
    return package


def test_another_release_is_named(torch: Path) -> None:
    (torch / "version.py").write_text("__all__ = []\n__version__ = '1.13.1+cpu'\n")
    done = imported(torch)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: tte was built with torch ")
    assert "torch 1.13.1+cpu is installed" in last


@pytest.mark.parametrize("text", [None, "", "version = 'none'"])
def test_a_torch_without_a_version_is_left_to_the_loader(torch: Path, text: str | None) -> None:
    if text is not None:
        (torch / "version.py").write_text(text)
    done = imported(torch)
    assert "was built with" not in done.stderr
    assert "torch was imported" not in done.stderr


def test_what_takes_long_is_not_imported(tmp_path: Path) -> None:
    done = imported(tmp_path / "torch")
    assert done.stdout == "False\n", done.stderr
