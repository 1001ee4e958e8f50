"""Checkpoints of few bits: FP8 blocks and compressed-tensors, against the libraries that write them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tte
from checkpoints import SHAPES, Shape
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from references import noise
from safetensors.torch import load_file, save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

GetFolder = Callable[[Shape], Path]
Tensors = dict[str, torch.Tensor]

SHAPE = next(shape for shape in SHAPES if shape.name == "qwen2.5-vl")
EXPERTS = next(shape for shape in SHAPES if shape.name == "qwen3.5-moe")
TALK = [{"role": "user", "content": [{"type": "text", "text": "look at the cat"}]}]
ITEM = [noise(70, 84), "describe the red square"]

# What a checkpoint says of its weights, and in which shape their scales are.
GROUPS: dict[str, dict[str, Any]] = {
    "w4a16": {"num_bits": 4, "strategy": "group", "group_size": 16},
    "w4a16-asymmetric": {"num_bits": 4, "strategy": "group", "group_size": 8, "symmetric": False},
    "w4a16-channel": {"num_bits": 4, "strategy": "channel"},
    "w8a16": {"num_bits": 8, "strategy": "group", "group_size": 32},
    "w8a16-asymmetric": {"num_bits": 8, "strategy": "channel", "symmetric": False},
    "w3a16": {"num_bits": 3, "strategy": "channel"},
    "w5a16-asymmetric": {"num_bits": 5, "strategy": "channel", "symmetric": False},
    "int8-channel": {"num_bits": 8, "strategy": "channel"},
    "int8-tensor": {"num_bits": 8, "strategy": "tensor"},
    "fp8-channel": {"num_bits": 8, "type": "float", "strategy": "channel"},
    "fp8-tensor": {"num_bits": 8, "type": "float", "strategy": "tensor"},
    "fp8-block": {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [16, 24]},
}


def format_of(name: str) -> str:
    """The name of the format that a checkpoint of GROUPS is written in."""
    return "float-quantized" if name.startswith("fp8") else "int-quantized" if "int8" in name else "pack-quantized"


def is_linear(name: str) -> bool:
    """Whether a tensor of the language model is a matrix that tools quantise."""
    return name.endswith("proj.weight") and "visual" not in name


def blocks(weight: torch.Tensor, block: tuple[int, int]) -> torch.Tensor:
    """Largest and smallest values of blocks: [2, rows, columns]."""
    rows, columns = (-(-size // part) for size, part in zip(weight.shape, block, strict=True))
    padded = torch.zeros(rows * block[0], columns * block[1])
    padded[: weight.shape[0], : weight.shape[1]] = weight.float()
    parts = padded.view(rows, block[0], columns, block[1])
    return torch.stack([parts.amin((1, 3)), parts.amax((1, 3))])


def compress(weight: torch.Tensor, scheme: QuantizationScheme, dtype: torch.dtype) -> Tensors:
    """The tensors of one weight as compressed-tensors stores them."""
    arguments = scheme.weights
    block = {
        "tensor": tuple(weight.shape),
        "channel": (1, weight.shape[1]),
        "group": (1, arguments.group_size or 1),
        "block": tuple(arguments.block_structure or (1, 1)),
    }[arguments.strategy]
    low, high = blocks(weight, block)
    if arguments.strategy == "tensor":
        low, high = low.view(1), high.view(1)
    scale, zero = calculate_qparams(low, high, arguments)
    state = {"weight": weight, "weight_scale": scale.to(dtype), "weight_zero_point": zero}
    return BaseCompressor.get_value_from_registry(scheme.format).compress(state, scheme)


def write(folder: Path, tensors: Tensors, **config: Any) -> Path:
    """Put tensors and keys of config.json into a folder."""
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return folder


def vectors(folder: Path, **options: Any) -> np.ndarray:
    """Embeddings of a text and of an image, and the model's own dtype."""
    embedder = tte.Embedder(folder, device="cpu", **options)
    return np.asarray(embedder.embed([TALK, ITEM], progress=False))


@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", GROUPS)
def test_compressed_tensors(checkpoint: GetFolder, tmp_path: Path, name: str, scale_dtype: torch.dtype) -> None:
    scheme = QuantizationScheme(
        targets=["Linear"], weights={"type": "int", "symmetric": True, **GROUPS[name]}, format=format_of(name)
    )
    few = shutil.copytree(checkpoint(SHAPE), tmp_path / "few")
    plain = shutil.copytree(checkpoint(SHAPE), tmp_path / "plain")
    stored, numbers = Tensors(), Tensors()
    for key, tensor in load_file(few / "model.safetensors").items():
        if not is_linear(key):
            stored[key] = numbers[key] = tensor
            continue
        state = compress(tensor, scheme, scale_dtype)
        stored |= {key.removesuffix("weight") + part: value for part, value in state.items()}
        decompressed = BaseCompressor.get_value_from_registry(scheme.format).decompress(state, scheme)
        numbers[key] = decompressed["weight"].float()
    config = {
        "quant_method": "compressed-tensors", "format": scheme.format, "quantization_status": "compressed",
        "config_groups": {"group_0": json.loads(scheme.model_dump_json())}, "ignore": ["lm_head", "re:.*visual.*"],
        "kv_cache_scheme": None, "sparsity_config": {}, "transform_config": {},
    }  # fmt: skip
    write(few, stored, quantization_config=config)
    write(plain, numbers)
    assert np.array_equal(vectors(few), vectors(plain))
    assert not np.array_equal(vectors(few), vectors(checkpoint(SHAPE)))


@pytest.mark.parametrize("block", [(16, 16), (32, 48), None], ids=["divides", "does-not-divide", "one-scale"])
@pytest.mark.parametrize("shape", [SHAPE, EXPERTS], ids=lambda shape: shape.name)
def test_blocks_of_fp8(checkpoint: GetFolder, tmp_path: Path, block: tuple[int, int] | None, shape: Shape) -> None:
    few = shutil.copytree(checkpoint(shape), tmp_path / "few")
    plain = shutil.copytree(checkpoint(shape), tmp_path / "plain")
    stored, numbers = Tensors(), Tensors()
    for key, tensor in load_file(few / "model.safetensors").items():
        stored[key] = numbers[key] = tensor
        if not is_linear(key):
            continue
        rows, columns = tensor.shape
        size = block or (rows, columns)
        scale = blocks(tensor, size).abs().amax(0) / 448
        spread = scale.repeat_interleave(size[0], 0).repeat_interleave(size[1], 1)[:rows, :columns]
        stored[key] = (tensor.float() / spread).to(torch.float8_e4m3fn)
        stored[f"{key}_scale_inv"] = scale if block else scale.reshape(())
        if rows % size[0] == 0 and columns % size[1] == 0:
            numbers[key] = Fp8Dequantize(None)._dequantize_one(stored[key], scale, torch.float32)
        else:  # The same, where transformers refuses what does not divide.
            numbers[key] = stored[key].float() * spread
    config = {"quant_method": "fp8", "activation_scheme": "dynamic", "modules_to_not_convert": ["visual", "lm_head"]}
    write(few, stored, quantization_config=config | ({"weight_block_size": list(block)} if block else {}))
    write(plain, numbers)
    for dtype in ("float32", "bfloat16"):
        assert np.array_equal(vectors(few, dtype=dtype), vectors(plain, dtype=dtype))


def test_an_adapter_is_merged_into_weights_of_few_bits(checkpoint: GetFolder, tmp_path: Path) -> None:
    few = shutil.copytree(checkpoint(SHAPE), tmp_path / "few")
    plain = shutil.copytree(checkpoint(SHAPE), tmp_path / "plain")
    key = next(k for k in load_file(few / "model.safetensors") if k.endswith("q_proj.weight"))
    tensors = load_file(few / "model.safetensors")
    scale = tensors[key].abs().amax(1, keepdim=True).float() / 127
    codes = (tensors[key] / scale).round().to(torch.int8)
    config = {"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {}}
    write(few, tensors | {key: codes, f"{key}_scale": scale}, quantization_config=config)
    write(plain, tensors | {key: codes.float() * scale})
    found = []
    for base in (few, plain):
        adapter = tmp_path / f"adapter-{base.name}"
        adapter.mkdir()
        module = f"base_model.model.{key.removesuffix('.weight')}"
        a, b = torch.ones(2, codes.shape[1]), torch.ones(codes.shape[0], 2)
        save_file({f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}, adapter / "adapter_model.safetensors")
        settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": str(base)}
        (adapter / "adapter_config.json").write_text(json.dumps(settings))
        found.append(vectors(adapter))
    assert np.array_equal(*found)
    assert not np.array_equal(found[0], vectors(few))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "gptq": ({"quant_method": "gptq"}, r"quantised \(gptq\), which tte does not read"),
    "awq": ({"quant_method": "awq", "bits": 4}, r"quantised \(awq\)"),
    "bitsandbytes": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, r"quantised \(bitsandbytes\)"),
    "none": ({"load_in_4bit": True}, r"quantised \(unknown\)"),
    "a long name": ({"quant_method": "x" * 10_000}, "xxx"),
    "not text": ({"quant_method": 3}, "quant_method"),
    "e5m2": ({"quant_method": "fp8", "fmt": "e5m2"}, 'fmt" is "e5m2"'),
    "block": ({"quant_method": "fp8", "weight_block_size": [128]}, "weight_block_size"),
    "no block": ({"quant_method": "fp8", "weight_block_size": [0, 128]}, "weight_block_size"),
    "nvfp4": ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, "nvfp4"),
    "frozen": ({"quant_method": "compressed-tensors", "quantization_status": "frozen"}, "frozen"),
    "cache": ({"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme"),
    "sparse": ({"quant_method": "compressed-tensors", "sparsity_config": {"format": "sparse-24-bitmask"}}, "sparse-24"),
    "transform": (
        {"quant_method": "compressed-tensors", "transform_config": {"config_groups": {"u": {}}}},
        "transform_config",
    ),
    "bits": (
        {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 9}}}},
        "num_bits",
    ),
    "float4": (
        {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 4, "type": "float"}}}},
        "type",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_by_name(checkpoint: GetFolder, tmp_path: Path, name: str) -> None:
    config, words = REFUSED[name]
    folder = shutil.copytree(checkpoint(SHAPE), tmp_path / "few")
    write(folder, load_file(folder / "model.safetensors"), quantization_config=config)
    for load in (tte.Embedder, tte.Reasoner):
        with pytest.raises(tte.ModelError, match=words) as error:
            load(folder, device="cpu")
        assert len(str(error.value)) < 500
