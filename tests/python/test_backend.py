"""What a backend leaves alone: the program's own torch, and CUDA where it is not asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tte

EMBEDDER = Path(__file__).resolve().parents[2] / "models" / "nano" / "embedder"


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("imports", ["import torch, tte", "import tte, torch"])
def test_the_number_of_threads_is_tte_s_alone(imports: str) -> None:
    """torch.get_num_threads() stays as it was, on the main thread and on threads that start later."""
    before = int(run("import torch; print(torch.get_num_threads())").stdout)
    code = f"""{imports}
import threading
backend = tte.Backend("cpu", threads={before + 1})
tte.Embedder({str(EMBEDDER)!r}, backend=backend).embed(["a red circle"], progress=False)
numbers = [torch.get_num_threads()]
thread = threading.Thread(target=lambda: numbers.append(torch.get_num_threads()))
thread.start()
thread.join()
torch.ones(1 << 20).sum()
numbers.append(torch.get_num_threads())
print(*numbers)
"""
    assert run(code).stdout.split() == [str(before)] * 3


def searched_libraries(device: str) -> str:
    """What the dynamic loader looks for while a backend is made."""
    return run(f"import tte; tte.Backend({device!r})", LD_DEBUG="libs").stderr


def test_a_backend_of_the_cpu_does_not_ask_for_gpus() -> None:
    """The driver is not even loaded: after it is initialised, forked processes can use no GPU."""
    assert "find library=libcuda.so.1" in searched_libraries("auto")
    assert "find library=libcuda.so.1" not in searched_libraries("cpu")


@pytest.mark.parametrize("option", ["threads", "media_threads"])
@pytest.mark.parametrize("number", [3000, 2**31 - 1])
def test_more_threads_than_can_be_created_are_refused(option: str, number: int) -> None:
    """OpenMP would end the process."""
    with pytest.raises(tte.InputError, match=f"^{option} is {number}: it must be at most"):
        tte.Backend("cpu", **{option: number})
