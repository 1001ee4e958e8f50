"""Mixtures of experts: every layout of their tensors, in any batch; what makes no sense is refused by name."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tte
from checkpoints import SHAPES, Shape
from references import Reference, noise
from safetensors.torch import load_file, save_file

BY_NAME = {shape.name: shape for shape in SHAPES}
NAMES = ["qwen3-vl-moe", "qwen3.5-moe"]
GetFolder = Callable[[Shape], Path]
ITEMS = ["look at the cat", [noise(70, 84), "describe the red square"], "a", [noise(56, 56, seed=3)], "1234 " * 30]


def one_by_one(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each expert's matrices by themselves, as transformers writes those of Qwen3.5."""
    out = {}
    for name, tensor in tensors.items():
        if name.endswith("experts.gate_up_proj"):
            for i, matrix in enumerate(_multiplied(name, tensor, tensors)):
                gate, up = matrix.chunk(2)
                base = name.removesuffix("gate_up_proj")
                out |= {f"{base}{i}.gate_proj.weight": gate.clone(), f"{base}{i}.up_proj.weight": up.clone()}
        elif name.endswith("experts.down_proj"):
            for i, matrix in enumerate(_multiplied(name, tensor, tensors)):
                out[f"{name.removesuffix('down_proj')}{i}.down_proj.weight"] = matrix.clone()
        else:
            out[name] = tensor
    return out


def _multiplied(name: str, tensor: torch.Tensor, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """[experts, out, in]."""
    hidden = tensors[re.sub(r"experts\..*", "gate.weight", name)].shape[1]
    places = 2 if "gate_up" in name else 1
    return tensor if tensor.shape[places] == hidden else tensor.transpose(1, 2)


def together(tensors: dict[str, torch.Tensor], exchanged: bool) -> dict[str, torch.Tensor]:
    """All experts' matrices as one tensor, perhaps with rows and columns exchanged, as Qwen3-VL's were published."""
    alone = one_by_one(tensors)
    out = {name: tensor for name, tensor in alone.items() if not re.search(r"experts\.\d", name)}
    bases = {name.split("experts.")[0] + "experts." for name in alone if re.search(r"experts\.\d", name)}
    for base in bases:
        count = sum(name.startswith(base) for name in alone) // 3
        gate_up = torch.stack([
            torch.cat([alone[f"{base}{i}.{part}_proj.weight"] for part in ("gate", "up")]) for i in range(count)
        ])  # fmt: skip
        down = torch.stack([alone[f"{base}{i}.down_proj.weight"] for i in range(count)])
        for name, tensor in (("gate_up_proj", gate_up), ("down_proj", down)):
            out[base + name] = (tensor.transpose(1, 2) if exchanged else tensor).contiguous()
    return out


@pytest.mark.parametrize("name", NAMES)
def test_every_layout_gives_the_same_bits_in_any_batch(checkpoint: GetFolder, tmp_path: Path, name: str) -> None:
    folder = checkpoint(BY_NAME[name])
    embedder = tte.Embedder(folder, device="cpu")
    rows = embedder.embed(ITEMS, progress=False)
    for row, item in zip(rows, ITEMS, strict=True):
        np.testing.assert_array_equal(embedder.embed([item])[0], row)
    reasoner = tte.Reasoner(folder, device="cpu")
    traces = reasoner.think(ITEMS, max_new_tokens=9, ignore_eos=True, progress=False)
    tensors = load_file(folder / "model.safetensors")
    layouts = {
        "one by one": one_by_one(tensors), "together": together(tensors, exchanged=False),
        "exchanged": together(tensors, exchanged=True),
    }  # fmt: skip
    assert len({frozenset((n, t.shape) for n, t in layout.items()) for layout in layouts.values()}) == 3
    for layout, changed in layouts.items():
        other = tmp_path / layout
        shutil.copytree(folder, other, ignore=shutil.ignore_patterns("*.safetensors"))
        save_file(changed, other / "model.safetensors", metadata={"format": "pt"})
        np.testing.assert_array_equal(tte.Embedder(other, device="cpu").embed(ITEMS, progress=False), rows, layout)
        again = tte.Reasoner(other, device="cpu").think(ITEMS, max_new_tokens=9, ignore_eos=True, progress=False)
        assert [t.token_ids for t in again] == [t.token_ids for t in traces], layout


@pytest.mark.parametrize("name", NAMES)
def test_experts_of_other_types(checkpoint: GetFolder, name: str) -> None:
    """bfloat16 points the same way; 8 and 4 bits round the experts, and not the router."""
    shape = BY_NAME[name]
    wide = Shape(**{**shape.__dict__, "name": f"wide-{name}", "hidden": 128, "scale": 1.0, "options": {
        **shape.options, "moe_intermediate_size": 64}})  # fmt: skip
    folder = checkpoint(wide)
    whole = tte.Embedder(folder, device="cpu").embed(ITEMS, progress=False)
    for how, least in (
        ({"dtype": "bfloat16"}, 0.999),
        ({"quantization": "int8"}, 0.999),
        ({"quantization": "int4"}, 0.9),
    ):
        rows = tte.Embedder(folder, device="cpu", **how).embed(ITEMS, progress=False)
        assert (rows * whole).sum(1).min() > least, how
        assert np.abs(rows - whole).max() > 0, how


def test_the_text_model_alone(tmp_path: Path, checkpoint: GetFolder) -> None:
    import transformers

    whole = checkpoint(BY_NAME["qwen3.5-moe"])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32).eval()
    folder = tmp_path / "text"
    theirs.save_pretrained(folder)
    for file in whole.glob("token*"):
        shutil.copy(file, folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "qwen3_5_moe_text"
    embedder = tte.Embedder(folder, device="cpu", recipe="plain")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text in ("look at the cat", "1234 東京"):
        with torch.inference_mode():
            expected = theirs.model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, -1].numpy()
        np.testing.assert_allclose(embedder.embed(text)[0], expected / np.linalg.norm(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "changes", "says"), [
    ("qwen3-vl-moe", {"num_experts_per_tok": 7}, "num_experts_per_tok.*6 experts"),
        ("qwen3-vl-moe", {"num_experts": 5, "num_local_experts": None}, r"gate\.weight"),
    ("qwen3-vl-moe", {"moe_intermediate_size": 0}, "moe_intermediate_size"),
    ("qwen3-vl-moe", {"mlp_only_layers": [3]}, "mlp_only_layers"),
    ("qwen3-vl-moe", {"mlp_only_layers": []}, r"layers\.1\.mlp"),
    ("qwen3-vl-moe", {"decoder_sparse_step": 0}, "decoder_sparse_step"),
    ("qwen3.5-moe", {"shared_expert_intermediate_size": 57}, "shared_expert"),
    ("qwen3.5-moe", {"moe_intermediate_size": 41}, r"experts\.0"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(
    checkpoint: GetFolder, tmp_path: Path, name: str, changes: dict[str, Any], says: str
) -> None:
    folder = tmp_path / "wrong"
    shutil.copytree(checkpoint(BY_NAME[name]), folder)
    config = json.loads((folder / "config.json").read_text())
    text = {k: v for k, v in {**config["text_config"], **changes}.items() if v is not None}
    (folder / "config.json").write_text(json.dumps({**config, "text_config": text}))
    with pytest.raises(tte.ModelError, match=says):
        tte.Embedder(folder, device="cpu")


def test_another_familys_mixture_is_refused_by_name(checkpoint: GetFolder, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(checkpoint(BY_NAME["qwen3-vl-moe"]), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "qwen3_omni_moe"}))
    with pytest.raises(tte.ModelError, match=r'"qwen3_omni_moe".*qwen3_vl_moe'):
        tte.Embedder(folder, device="cpu")


def test_the_reference_goes_through_several_experts(reference: Callable[[Shape], Reference]) -> None:
    """Otherwise the other tests would see no routing."""
    theirs = reference(BY_NAME["qwen3-vl-moe"])
    seen: list[torch.Tensor] = []
    gates = [m for n, m in theirs.model.named_modules() if n.endswith("mlp.gate")]
    hooks = [gate.register_forward_hook(lambda _, __, out: seen.append(out[2])) for gate in gates]
    theirs.hidden([{"role": "user", "content": [{"type": "text", "text": "look at the cat and the red circle"}]}])
    for hook in hooks:
        hook.remove()
    assert len(gates) == 2
    assert all(len(set(chosen.flatten().tolist())) >= 4 for chosen in seen)
