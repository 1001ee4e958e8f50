"""Fixtures: random-weight checkpoints and their transformers models."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # Nothing here may depend on the network.
# Threads that spin while they wait take a busy machine's processors from those that they wait for.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import tte
from checkpoints import SHAPES, Shape, make_checkpoint
from PIL import Image
from references import Reference, noise
from systems import System

torch.set_num_threads(2)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Shape], Path]:
    """Return the folder of a shape's checkpoint, written once."""
    root = tmp_path_factory.mktemp("checkpoints")
    made: dict[str, Path] = {}

    def get(shape: Shape) -> Path:
        if shape.name not in made:
            made[shape.name] = make_checkpoint(root / shape.name, shape)
        return made[shape.name]

    return get


@pytest.fixture(scope="session")
def reference(checkpoint: Callable[[Shape], Path]) -> Callable[[Shape], Reference]:
    """Return transformers' model of a shape, loaded once."""
    made: dict[str, Reference] = {}

    def get(shape: Shape) -> Reference:
        if shape.name not in made:
            dtype = getattr(torch, shape.dtype)
            made[shape.name] = Reference(checkpoint(shape), dtype)
        return made[shape.name]

    return get


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.name)
def shape(request: pytest.FixtureRequest) -> Shape:
    """Each of the random-weight shapes."""
    return request.param


@pytest.fixture(scope="session")
def folder(checkpoint: Callable[[Shape], Path]) -> Path:
    """Return the folder of a checkpoint for tests to which all are alike."""
    return checkpoint(SHAPES[0])


@pytest.fixture(scope="session")
def processor(folder: Path) -> tte.Processor:
    """Return the processor of `folder`."""
    return tte.Processor(folder)


@pytest.fixture(scope="session")
def embedder(folder: Path) -> tte.Embedder:
    """Return the embedder of `folder`, on the CPU."""
    return tte.Embedder(folder, device="cpu")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., System]:
    """Return the system of a name, whose folder is called so."""
    made: dict[str, System] = {}

    def get(name: str, family: str, tokens: tuple[str, ...] = (), **shape: Any) -> System:
        if name not in made:
            folder = tmp_path_factory.mktemp("systems") / name
            make_checkpoint(folder, Shape(name, family=family, tokens=tokens, **shape), seed=len(name))
            made[name] = System(folder)
        return made[name]

    return get


@pytest.fixture
def images() -> list[Image.Image]:
    """Return two images."""
    return [Image.fromarray(noise(64, 90, 1)), Image.fromarray(noise(140, 84, 2))]
