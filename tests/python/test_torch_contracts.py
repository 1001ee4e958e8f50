"""The operators of torch that the CUDA kernels call, as the installed torch has them: no GPU is needed to see a change.

They are private to torch, so their schemas may change with any version. The C++ code copes with each of the ones below.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

VERSION = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])

# In the order in which src/kernels/cuda/attention.cpp passes them, by the first version of torch that has them so.
FLASH = [
    *("query", "key", "value", "cum_seq_q", "cum_seq_k", "max_q", "max_k", "dropout_p", "is_causal"),
    *("return_debug_mask", "scale", "window_size_left", "window_size_right", "seqused_k", "alibi_slopes"),
]
PAGED = [*FLASH, "block_table", "num_splits"]
SCHEMAS = {
    "_flash_attention_forward.default": {(2, 11): [FLASH, PAGED], (2, 12): [PAGED]},
    "mm.dtype": {(2, 11): [["self", "mat2", "out_dtype"]]},
    "linear.default": {(2, 11): [["input", "weight", "bias"]]},
    "scaled_dot_product_attention.default": {
        (2, 11): [["query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa"]]
    },
}


def operator(name: str) -> torch._ops.OpOverload:
    """Return aten's operator `name.overload`."""
    packet, overload = name.split(".")
    return getattr(getattr(torch.ops.aten, packet), overload)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_arguments_are_those_that_are_passed(name: str) -> None:
    """Names and order; new arguments may only follow, with defaults."""
    arguments = operator(name)._schema.arguments
    known = SCHEMAS[name][max(version for version in SCHEMAS[name] if version <= VERSION)]
    fits = [
        names
        for names in known
        if [argument.name for argument in arguments[: len(names)]] == names
        and all(argument.has_default_value() for argument in arguments[len(names) :])
    ]
    assert fits, f"torch {torch.__version__} has {operator(name)._schema}"


def test_gpu_implementations_are_registered() -> None:
    """The flash kernels and products with a float32 result, where this torch was built with CUDA."""
    if torch.version.cuda is None:
        return
    for name in ("_flash_attention_forward.default", "mm.dtype"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(operator(name).name(), "CUDA"), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("paged", [False, True])
def test_flash_attention_takes_ragged_rows(dtype: torch.dtype, paged: bool) -> None:
    """Shapes and types of a call as attention.cpp makes it, and of its result."""
    names = [argument.name for argument in operator("_flash_attention_forward.default")._schema.arguments]
    if paged and "block_table" not in names:
        return  # Pages are gathered there.
    with FakeTensorMode():
        ints = {"dtype": torch.int32, "device": "cuda"}
        query = torch.empty(5, 12, 128, dtype=dtype, device="cuda")
        pages = torch.empty((4, 256, 2, 128) if paged else (5, 2, 128), dtype=dtype, device="cuda")
        options = {"seqused_k": torch.empty(2, **ints), "block_table": torch.empty(2, 2, **ints)} if paged else {}
        if paged and VERSION >= (2, 13):
            options["num_splits"] = 1
        out = torch.ops.aten._flash_attention_forward(
            query, pages, pages, torch.empty(3, **ints), torch.empty(3, **ints), 4, 300, 0.0, True, False,
            scale=0.1, **options,
        )[0]  # fmt: skip
    assert (out.shape, out.dtype, out.device.type) == (query.shape, dtype, "cuda")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_with_a_float32_result(dtype: torch.dtype) -> None:
    """Logits are mm of a transposed weight, with out_dtype."""
    with FakeTensorMode():
        x = torch.empty(3, 64, dtype=dtype, device="cuda")
        weight = torch.empty(100, 64, dtype=dtype, device="cuda")
        out = torch.ops.aten.mm.dtype(x, weight.t(), torch.float32)
    assert (out.shape, out.dtype) == ((3, 100), torch.float32)


def test_the_flash_kernels_can_be_called_past_the_dispatcher() -> None:
    """at::cuda's function, which Python code that replaces the operator does not touch."""
    header = Path(torch.__file__).parent / "include/ATen/ops/_flash_attention_forward_cuda_dispatch.h"
    declarations = re.findall(r" _flash_attention_forward\((.*)\);", header.read_text(encoding="utf-8"))
    parameters = [re.findall(r"(\w+)(?:=[^,]*)?(?:,|$)", declaration) for declaration in declarations]
    assert any(names[: len(FLASH)] == FLASH for names in parameters), declarations
