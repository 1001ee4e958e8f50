"""Installs the Python packages that a command needs into the running interpreter's environment.

Without an NVIDIA GPU, `run` and `eval` install torch without most of its CUDA libraries: libtorch_cpu.so itself needs
only the CUDA runtime and CUPTI to be loadable. `import torch` does not work then, and tte does not need it; `test`
completes the set.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD_REQUIREMENTS = ["scikit-build-core>=0.11", "pybind11>=2.13"]
LIGHT_CUDA = ("nvidia-cuda-runtime", "nvidia-cuda-cupti")


def pip(*arguments: str) -> None:
    """Run pip quietly; its errors are shown."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments],
        check=True,
    )


def normalised(requirement: str) -> str:
    """Name of a requirement, as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", re.split(r"[ ;<>=!~\[(]", requirement.strip(), maxsplit=1)[0]).lower()


def is_installed(requirement: str) -> bool:
    """Whether a distribution of that name is there (versions are pip's business)."""
    try:
        metadata.version(normalised(requirement))
    except metadata.PackageNotFoundError:
        return False
    return True


def torch_needs() -> list[str]:
    """Requirements of the installed torch for this platform, without markers."""
    return [r.split(";")[0].strip() for r in metadata.requires("torch") or [] if "extra ==" not in r]


def has_nvidia_gpu() -> bool:
    """Whether the driver's own tool is there and lists a GPU."""
    tool = shutil.which("nvidia-smi")
    return tool is not None and subprocess.run([tool, "-L"], check=False, capture_output=True).returncode == 0


def expand(requirement: str) -> list[str]:
    """`cuda-toolkit[a,b]==1` style meta packages name their parts as extras: look for the light ones there."""
    return [requirement] if normalised(requirement) in LIGHT_CUDA else []


def light_cuda_requirements() -> list[str]:
    """The CUDA libraries that libtorch_cpu.so links to, in the versions that this torch asks for."""
    found: list[str] = []
    for requirement in torch_needs():
        found += expand(requirement)
        if normalised(requirement) == "cuda-toolkit":
            version = requirement.split("==")[1] if "==" in requirement else ""
            pip("--no-deps", f"cuda-toolkit=={version}" if version else "cuda-toolkit")
            for part in metadata.requires("cuda-toolkit") or []:
                found += expand(re.split(r";", part)[0].strip())
    return sorted(set(found))


def main() -> None:
    """Install for `run`, `eval`, `test` or `lint`."""
    what = sys.argv[1] if len(sys.argv) > 1 else "run"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    runtime = [r for r in project["dependencies"] if normalised(r) != "torch"]
    wanted = [*BUILD_REQUIREMENTS, *runtime]
    if what in ("test", "lint"):
        wanted += project["optional-dependencies"]["test"]
    if what == "lint":
        wanted += project["optional-dependencies"]["lint"]
    if what == "eval":
        wanted += project["optional-dependencies"]["eval"]
    full = what not in ("run", "eval") or has_nvidia_gpu()
    if not is_installed("torch"):
        print("setup: installing libtorch (the torch wheel)", flush=True)
        pip(*(["torch"] if full else ["--no-deps", "torch"]))
    if full and not all(is_installed(r) for r in torch_needs()):
        print("setup: completing torch", flush=True)
        pip(f"torch=={metadata.version('torch')}")
    elif not full:
        missing = [r for r in light_cuda_requirements() if not is_installed(r)]
        if missing:
            pip("--no-deps", *missing)
    missing = [r for r in wanted if not is_installed(r)]
    if missing:
        print(f"setup: installing {len(missing)} Python packages", flush=True)
        # A light torch lacks what its wheel asks for, on purpose: nobody needs to be told.
        pip(*([] if full else ["--no-warn-conflicts"]), *missing)


if __name__ == "__main__":
    main()
