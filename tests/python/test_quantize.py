"""Checkpoints that `tte quantize` rounds once: what they give, what they are, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tte
from adapters import make_adapter
from checkpoints import Shape
from compressed_tensors.quantization import QuantizationConfig
from heads import write_head
from references import noise
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tte.__main__ import main

GetFolder = Callable[[Shape], Path]

# Layers of at least 64 inputs and outputs; a head that is the embedding, and one of its own; a size no group divides.
TIED = Shape("wide-qwen2-vl", hidden=128, heads=4, kv_heads=2, ffn=200, mrope=(4, 6, 6), vision_embed=96,
             vision_heads=3)  # fmt: skip
UNTIED = Shape("wide-untied", family="qwen3_5", hidden=128, layers=4, mrope=(2, 1, 1), scale=2.0, tied=False)
OLD = Shape("wide-old", hidden=128, heads=4, kv_heads=2, ffn=200, mrope=(4, 6, 6), flat=True, tied=False)
LLAVA = Shape("wide-llava", family="llava_next", hidden=128, heads=4, kv_heads=2, ffn=200, vision_embed=96,
              vision_heads=3, vision_depth=3)  # fmt: skip
MOE = Shape("wide-moe", family="qwen3_5_moe", hidden=128, layers=4, mrope=(2, 1, 1), scale=2.0, tied=False,
            options={"moe_intermediate_size": 96})  # fmt: skip
SHAPES = [TIED, UNTIED, OLD, LLAVA, MOE]
BITS = ("int8", "int4")
ITEMS: list[Any] = ["look at the cat", [noise(70, 84), "describe the red square"]]


def answers(path: Path, quantization: str | None = None, **options: Any) -> tuple[np.ndarray, list[list[int]]]:
    """Vectors and greedy tokens."""
    options |= {"device": "cpu", "quantization": quantization}
    embedder, reasoner = tte.Embedder(path, **options), tte.Reasoner(path, **options)
    traces = reasoner.think(ITEMS, max_new_tokens=6, ignore_eos=True, progress=False)
    return embedder.embed(ITEMS, progress=False), [trace.token_ids for trace in traces]


def same(one: tuple[np.ndarray, list[list[int]]], other: tuple[np.ndarray, list[list[int]]]) -> bool:
    return np.array_equal(one[0], other[0]) and one[1] == other[1]


def bytes_of(folder: Path) -> int:
    return (folder / "model.safetensors").stat().st_size


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_it_gives_what_rounding_at_load_gives(shape: Shape, bits: str, checkpoint: GetFolder, tmp_path: Path) -> None:
    original = checkpoint(shape)
    folder = tte.quantize(original, tmp_path / "rounded", quantization=bits)
    right = answers(original, bits)
    assert same(answers(folder), right), "as the file says"
    assert same(answers(folder, bits), right), "as the caller and the file say"
    assert bytes_of(folder) < bytes_of(original)
    assert tte.Embedder(folder, device="cpu").model.quantization == bits


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_in_the_checkpoints_own_dtype(dtype: str, checkpoint: GetFolder, tmp_path: Path) -> None:
    shape = Shape(f"wide-{dtype}", hidden=128, heads=4, kv_heads=2, ffn=200, mrope=(4, 6, 6), dtype=dtype)
    folder = tte.quantize(checkpoint(shape), tmp_path / "rounded", quantization="int4")
    assert same(answers(folder), answers(checkpoint(shape), "int4"))


@pytest.mark.parametrize("bits", BITS)
def test_what_the_files_say(bits: str, checkpoint: GetFolder, tmp_path: Path) -> None:
    original = shutil.copytree(checkpoint(TIED), tmp_path / "original")
    (original / "notes.txt").write_text("mine")
    folder = tte.quantize(original, tmp_path / "rounded", quantization=bits)
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {
            "format": "pt",
            "tte.quantization": bits,
            "tte.group_size": "128" if bits == "int4" else "0",
            "tte.version": "1",
        }
    described = json.loads((folder / "config.json").read_text()).pop("quantization_config")
    if bits == "int8":
        assert QuantizationConfig.model_validate(described).quant_method == "compressed-tensors"
    else:  # Its factors are ours.
        assert described["quant_method"] == "tte"
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("0.mlp.down_proj.weight_scale")).removesuffix("_scale")
    if bits == "int8":
        assert tensors[name].dtype == torch.int8
        assert tensors[name].shape == (128, 200)
        assert tensors[f"{name}_scale"].shape == (128, 1)
    else:
        assert tensors[f"{name}_packed"].shape == (128, 25)
        assert tensors[f"{name}_scale"].shape == (128, 2)
        assert tensors[f"{name}_factor"].shape == (128, 8)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in original.iterdir())
    for path in original.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            assert (folder / path.name).read_bytes() == path.read_bytes()


def test_it_is_told_apart(checkpoint: GetFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original, folder = checkpoint(TIED), tmp_path / "rounded"
    assert main(["quantize", str(original), "--quantization", "int8", "-o", str(folder)]) == 0
    assert "rounded to int8" in capsys.readouterr().out
    for path, bits in ((original, None), (folder, "int8")):
        assert main(["info", str(path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["weights"]["quantization"] == bits
    assert main(["info", str(folder)]) == 0
    assert "rounded to int8 by `tte quantize`" in capsys.readouterr().out
    backend = tte.Backend("cpu")
    models = [tte.Embedder(path, backend=backend).model for path in (original, folder)]
    assert models[0].fingerprint != models[1].fingerprint


def test_a_recipe_that_was_found_by_name_stays(checkpoint: GetFolder, tmp_path: Path) -> None:
    original = shutil.copytree(checkpoint(TIED), tmp_path / "VLM2Vec-V2.0")
    found = tte.Processor(original).recipe
    folder = tte.quantize(original, tmp_path / "mine")
    assert tte.Processor(folder).recipe == found


def test_an_adapter_is_merged_before(checkpoint: GetFolder, tmp_path: Path) -> None:
    base = checkpoint(TIED)
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=["q_proj", "down_proj"])
    right = answers(base, "int8", adapter=adapter)
    assert same(answers(tte.quantize(base, tmp_path / "given", adapter=adapter)), right)
    assert same(answers(tte.quantize(adapter, tmp_path / "alone")), right), "its base is named in its folder"
    assert not (tmp_path / "alone" / "adapter_config.json").exists()
    assert not same(answers(tte.quantize(base, tmp_path / "base")), right)
    with pytest.raises(tte.ModelError, match="are int8, to which an adapter cannot add: merge it"):
        tte.Embedder(tmp_path / "base", adapter=adapter, device="cpu")


def test_weights_of_few_bits_are_rounded_from_their_numbers(checkpoint: GetFolder, tmp_path: Path) -> None:
    # A checkpoint of 8 bits that is no file of ours, because it does not say so.
    published = tte.quantize(checkpoint(TIED), tmp_path / "published")
    tensors = load_file(published / "model.safetensors")
    save_file(tensors, published / "model.safetensors", metadata={"format": "pt"})
    assert tte.Embedder(published, device="cpu").model.quantization == "none"
    folder = tte.quantize(published, tmp_path / "rounded", quantization="int4")
    assert same(answers(folder), answers(published, "int4"))


@pytest.mark.parametrize("bits", BITS)
def test_published_codes_that_fit_are_taken_as_they_are(bits: str, checkpoint: GetFolder, tmp_path: Path) -> None:
    ours = tte.quantize(checkpoint(TIED), tmp_path / "ours", quantization=bits)
    right = answers(ours)
    published = shutil.copytree(ours, tmp_path / "published")
    save_file(load_file(ours / "model.safetensors"), published / "model.safetensors", metadata={"format": "pt"})
    assert same(answers(published, bits), right)


def test_a_head_is_put_on_a_rounded_base(checkpoint: GetFolder, tmp_path: Path) -> None:
    base = checkpoint(TIED)
    tensors = load_file(base / "model.safetensors")
    last = f".layers.{TIED.layers - 1}."
    own = {f"layers.0.{name.partition(last)[2]}": 1.1 * tensor for name, tensor in tensors.items() if last in name}
    own["norm.weight"] = next(tensor for name, tensor in tensors.items() if name.endswith("model.norm.weight"))
    head = write_head(tmp_path / "head", base, own, kind="layers", layers=1, embedding_dim=128)
    with pytest.raises(tte.ModelError, match="is an embedding head: quantise the model whose head it is"):
        tte.quantize(head, tmp_path / "rounded")
    right = tte.Embedder(head, device="cpu", quantization="int8").embed(ITEMS, progress=False)
    folder = tte.quantize(base, tmp_path / "base")
    got = tte.Embedder(folder, adapter=head, device="cpu").embed(ITEMS, progress=False)
    assert np.array_equal(got, right)


@pytest.mark.parametrize("bits", BITS)
def test_what_contradicts_the_file_is_refused(bits: str, checkpoint: GetFolder, tmp_path: Path) -> None:
    folder = tte.quantize(checkpoint(TIED), tmp_path / "rounded", quantization=bits)
    other = "int4" if bits == "int8" else "int8"
    with pytest.raises(tte.InputError, match=rf'quantization is "{other}", but the weights of .* are {bits}'):
        tte.Embedder(folder, device="cpu", quantization=other)
    for again in BITS:
        with pytest.raises(tte.ModelError, match=f"is {bits} already"):
            tte.quantize(folder, tmp_path / "again", quantization=again)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rounded"]


def rewritten(folder: Path, to: Path, **metadata: str) -> Path:
    """A copy whose file says something else of itself."""
    shutil.copytree(folder, to)
    with safe_open(folder / "model.safetensors", "pt") as file:
        said = file.metadata() | {name.replace("_", ".", 1): value for name, value in metadata.items()}
    save_file(load_file(folder / "model.safetensors"), to / "model.safetensors", metadata=said)
    return to


def test_damaged_files_are_refused(checkpoint: GetFolder, tmp_path: Path) -> None:
    folder = tte.quantize(checkpoint(TIED), tmp_path / "rounded", quantization="int4")

    def refused(path: Path, why: str) -> None:
        with pytest.raises(tte.ModelError, match=why) as error:
            tte.Embedder(path, device="cpu")
        assert len(str(error.value)) < 500

    refused(rewritten(folder, tmp_path / "later", tte_version="2"), r'another version of `tte quantize` \("2"')
    refused(rewritten(folder, tmp_path / "odd", tte_quantization="int3" * 300), "which tte does not know")
    refused(rewritten(folder, tmp_path / "groups", tte_group_size="32"), "which tte does not know")

    bare = shutil.copytree(folder, tmp_path / "bare")
    config = json.loads((bare / "config.json").read_text())
    del config["quantization_config"]
    (bare / "config.json").write_text(json.dumps(config))
    refused(bare, "has no quantization_config")

    cut = shutil.copytree(folder, tmp_path / "cut")
    with (cut / "model.safetensors").open("r+b") as file:
        file.truncate(bytes_of(folder) // 2)
    refused(cut, "fetch the file again|cut short|damaged")

    for change in ("missing", "reshaped"):
        damaged = shutil.copytree(folder, tmp_path / change)
        with safe_open(folder / "model.safetensors", "pt") as file:
            said = file.metadata()
        tensors = load_file(folder / "model.safetensors")
        name = next(name for name in tensors if name.endswith("0.mlp.down_proj.weight_scale"))
        scale = tensors.pop(name)
        if change == "reshaped":
            tensors[name] = scale[:, :1].contiguous()
        save_file(tensors, damaged / "model.safetensors", metadata=said)
        refused(damaged, "has no tensor|cannot be read")


def test_a_folder_that_is_there_is_left_alone(checkpoint: GetFolder, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "file").write_text("mine")
    with pytest.raises(tte.InputError, match="is there and not empty"):
        tte.quantize(checkpoint(TIED), there)
    assert [path.name for path in there.iterdir()] == ["file"]
    with pytest.raises(tte.InputError, match=r"cannot be made \(No such file or directory\)"):
        tte.quantize(checkpoint(TIED), tmp_path / "no" / "such")
    (there / "file").unlink()
    tte.quantize(checkpoint(TIED), f"{there}/")
    assert tte.Embedder(there, device="cpu").model.quantization == "int8"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_folder_within_the_checkpoint_is_refused(checkpoint: GetFolder, tmp_path: Path) -> None:
    original = shutil.copytree(checkpoint(TIED), tmp_path / "original")
    (tmp_path / "link").symlink_to(original)
    (original / "empty").mkdir()
    (tmp_path / "to_empty").symlink_to(original / "empty")
    adapter = make_adapter(tmp_path / "adapter", original, target_modules=["q_proj"])
    before = sorted(original.rglob("*"))
    inside = [original / "new", original / "empty", tmp_path / "link" / "new", tmp_path / "to_empty",
              original / ".." / "original" / "new", tmp_path / "adapter" / "new"]  # fmt: skip
    for folder in inside:
        for given in ((original, adapter), (tmp_path / "link", adapter), (adapter, None)):
            with pytest.raises(
                tte.InputError, match=r"is within the checkpoint .*: give a folder outside of it"
            ) as told:
                tte.quantize(given[0], folder, adapter=given[1])
            assert len(str(told.value)) < 500
    for folder in (original, tmp_path / "link"):
        with pytest.raises(tte.InputError, match="is within the checkpoint"):
            tte.quantize(original, folder)
    assert sorted(original.rglob("*")) == before
    tte.quantize(original, tmp_path / "original-int8")  # A name that begins alike is no folder within.


@pytest.mark.parametrize(("most", "told"), [(100_000, "written"), (5_000_000, "written or copied")])
def test_a_full_disk_leaves_nothing(checkpoint: GetFolder, tmp_path: Path, most: int, told: str) -> None:
    code = (
        "import resource, signal, sys\n"
        "from tte.__main__ import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))\n"
        "sys.exit(main(['quantize', sys.argv[1], '-o', sys.argv[2], '--quantization', 'int8']))\n"
    )
    original = shutil.copytree(checkpoint(TIED), tmp_path / "original")
    (original / "notes.txt").write_bytes(bytes(6_000_000))  # Copied after weights of less than the larger limit.
    assert bytes_of(original) > 100_000
    done = subprocess.run(
        [sys.executable, "-c", code, str(original), str(tmp_path / "rounded")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    # What copies files says of any limit that there was an error.
    assert re.search(rf"cannot be {told} \((File too large|Input/output error)\): see that its disk has", done.stderr)
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == [original]


@pytest.mark.parametrize("value", ["int3", "", None, 8])
def test_other_values_are_refused(value: Any, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(tte.InputError, match=r"^quantization is .*: it must be"):
        tte.quantize(folder, tmp_path / "rounded", quantization=value)
