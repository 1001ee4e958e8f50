"""Random Qwen2-VL checkpoints, inputs for them, and what transformers computes: shared by the goldens and the live comparison."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessor

IMAGE, VIDEO, VISION_START, VISION_END = 150, 151, 152, 153
VOCAB = 160


@dataclass(frozen=True)
class Shape:
    """Sizes and naming generation of a checkpoint; `scale` multiplies every matrix, so that mistakes show."""

    name: str
    generation: str = "new"  # "new", "flat" (2024), or "nested" (model.language_model.*, lm_head though tied)
    hidden: int = 32
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 48
    tied: bool = True
    mrope: tuple[int, int, int] = (1, 1, 2)
    theta: float = 10000.0
    eps: float = 1e-6
    vision_embed: int = 16
    vision_depth: int = 2
    vision_heads: int = 2
    vision_act: str = "quick_gelu"
    mlp_ratio: int = 2
    patch: int = 4
    scale: float = 8.0
    seed: int = 0


@dataclass
class Item:
    """Token ids with one placeholder per visual; visuals are (video?, t, h, w, patches)."""

    ids: list[int]
    visuals: list[tuple[bool, int, int, int, torch.Tensor]]


def make_model(shape: Shape) -> Qwen2VLForConditionalGeneration:
    """Build the model with weights that bfloat16 holds exactly."""
    config = Qwen2VLConfig(
        text_config={
            "hidden_size": shape.hidden, "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads, "intermediate_size": shape.ffn, "vocab_size": VOCAB,
            "max_position_embeddings": 4096, "rms_norm_eps": shape.eps, "bos_token_id": 0, "eos_token_id": 1,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": shape.theta, "mrope_section": list(shape.mrope),
            },
        },
        vision_config={
            "embed_dim": shape.vision_embed, "depth": shape.vision_depth, "num_heads": shape.vision_heads,
            "hidden_size": shape.hidden, "mlp_ratio": shape.mlp_ratio, "patch_size": shape.patch,
            "hidden_act": shape.vision_act,
        },
        image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END, tie_word_embeddings=shape.tied,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(shape.seed)
    torch.manual_seed(shape.seed)
    model = Qwen2VLForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                parameter.copy_((noise * 0.02 * shape.scale).bfloat16())
            elif name.endswith("bias"):
                parameter.copy_((noise * 0.05 * shape.scale / 4).bfloat16())
            else:
                parameter.copy_((1 + 0.2 * noise).bfloat16())
    return model


def save(shape: Shape, folder: Path) -> None:
    """Write the checkpoint in bfloat16 under the names of its generation, with a preprocessor file."""
    make_model(shape).to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    Qwen2VLImageProcessor(patch_size=shape.patch, min_pixels=64, max_pixels=64 * 256).save_pretrained(folder)
    if shape.generation == "new":
        return
    config = json.loads((folder / "config.json").read_text())
    text: dict[str, Any] = config["text_config"]
    rope = text.pop("rope_parameters")
    text["rope_theta"] = rope["rope_theta"]
    text["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    config["torch_dtype"] = config.pop("dtype")
    tensors = load_file(folder / "model.safetensors")
    if shape.generation == "flat":
        del config["text_config"]
        for key in ("model_type", "dtype", "layer_types", "tie_word_embeddings"):
            text.pop(key, None)
        config.update(text)
        config["vision_config"]["model_type"] = "qwen2_vl"
        config["vision_config"].pop("rope_parameters")
    else:
        text["rope_scaling"].update(type="default", rope_type="default")
        tensors = {
            name.replace("model.", "model.language_model.", 1).replace("visual.", "model.visual.", 1): tensor
            for name, tensor in tensors.items()
        }
        tensors["lm_head.weight"] = tensors["model.language_model.embed_tokens.weight"].clone()
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def load(folder: Path, dtype: torch.dtype, attention: str = "sdpa") -> Qwen2VLForConditionalGeneration:
    """Load as a user of transformers does: a cast of a built model would round its rotary frequencies too."""
    return Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=dtype, attn_implementation=attention).eval()


def make_item(parts: list[int | tuple[int, int, int] | tuple[int, int]], patch: int, seed: int) -> Item:
    """Parts in order: a number of text tokens, an image (h, w) or a video (t, h, w), in patches."""
    generator = torch.Generator().manual_seed(seed)
    item = Item([], [])
    for part in parts:
        if isinstance(part, int):
            item.ids += torch.randint(2, IMAGE, (part,), generator=generator).tolist()
            continue
        video = len(part) == 3
        t, h, w = part if video else (1, *part)
        item.ids += [VISION_START, VIDEO if video else IMAGE, VISION_END]
        item.visuals.append((video, t, h, w, torch.randn(t * h * w, 6 * patch * patch, generator=generator)))
    return item


def write_items(items: dict[str, Item], file: Path) -> None:
    """<item>.ids, <item>.visual<i>.patches, <item>.visual<i>.grid = [video?, t, h, w], all as float32."""
    tensors = {}
    for name, item in items.items():
        tensors[f"{name}.ids"] = torch.tensor(item.ids).float()
        for i, (video, t, h, w, patches) in enumerate(item.visuals):
            tensors[f"{name}.visual{i}.patches"] = patches
            tensors[f"{name}.visual{i}.grid"] = torch.tensor([int(video), t, h, w]).float()
    save_file(tensors, file)


@torch.no_grad()
def reference(model: Qwen2VLForConditionalGeneration, item: Item, new_tokens: int) -> dict[str, torch.Tensor]:
    """hidden [rows, hidden], positions [3, rows], tokens [new_tokens] (greedy), next [1], margin [1]."""
    ids, kinds, visuals = [], [], iter(item.visuals)
    for token in item.ids:
        count = 1
        if token in (IMAGE, VIDEO):
            _, t, h, w, _ = next(visuals)
            count = t * h * w // 4
        ids += [token] * count
        kinds += [1 if token == IMAGE else 2 if token == VIDEO else 0] * count
    inputs: dict[str, torch.Tensor] = {
        "input_ids": torch.tensor([ids]), "mm_token_type_ids": torch.tensor([kinds], dtype=torch.int),
    }  # fmt: skip
    for is_video, pixels, grid in ((False, "pixel_values", "image_grid_thw"),
                                   (True, "pixel_values_videos", "video_grid_thw")):  # fmt: skip
        chosen = [v for v in item.visuals if v[0] == is_video]
        if chosen:
            inputs[pixels] = torch.cat([v[4] for v in chosen])
            inputs[grid] = torch.tensor([v[1:4] for v in chosen])
    model.model.rope_deltas = None
    if item.visuals:
        grids = {k: v for k, v in inputs.items() if k.endswith("grid_thw")}
        positions, _ = model.model.get_rope_index(
            inputs["input_ids"], mm_token_type_ids=inputs["mm_token_type_ids"], **grids
        )
    else:
        positions = torch.arange(len(ids)).expand(3, 1, -1)
    following = int(positions[:, 0, -1].max()) + 1  # What generate() gives the first new token.
    hidden = model.model(**inputs).last_hidden_state[0].float()
    model.model.rope_deltas = None
    out = model.generate(
        **inputs, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False, eos_token_id=[],
        pad_token_id=0, return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    top = torch.stack(out.logits).float().topk(2, dim=-1).values
    return {
        "hidden": hidden.contiguous(), "positions": positions[:, 0].contiguous(),
        "next": torch.tensor([following]), "tokens": out.sequences[0, len(ids) :].contiguous(),
        "margin": (top[..., 0] - top[..., 1]).min().reshape(1),
    }  # fmt: skip
