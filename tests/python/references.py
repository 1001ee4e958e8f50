"""What results are compared with: transformers on a checkpoint. And images to give to both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import tte
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches


class Reference:
    """What transformers makes of a checkpoint."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        self.folder = folder
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).eval()
        self.processor = AutoProcessor.from_pretrained(folder)

    def inputs(self, messages: list[dict[str, Any]], **options: Any) -> dict[str, torch.Tensor]:
        """Tensors of one conversation."""
        options = {"add_generation_prompt": True, **options}
        batch = self.processor.apply_chat_template(
            [messages], tokenize=True, return_dict=True, return_tensors="pt", **options
        )
        return {k: torch.as_tensor(v) for k, v in batch.items()}

    @torch.inference_mode()
    def hidden(self, messages: list[dict[str, Any]], **options: Any) -> np.ndarray:
        """Last hidden states [tokens, hidden] after the final norm."""
        self.model.model.rope_deltas = None
        return self.model.model(**self.inputs(messages, **options)).last_hidden_state[0].float().numpy()

    @torch.inference_mode()
    def greedy(self, messages: list[dict[str, Any]], tokens: int) -> list[int]:
        """New token ids, end tokens ignored."""
        inputs = self.inputs(messages)
        self.model.model.rope_deltas = None
        out = self.model.generate(
            **inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, repetition_penalty=1.0,
            eos_token_id=None,
        )  # fmt: skip
        return out[0, inputs["input_ids"].shape[1] :].tolist()

    def seen(self, messages: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Tensors of one conversation, images that are given as tiles as patches."""
        inputs = self.inputs(messages, processor_kwargs={"return_mm_token_type_ids": True})
        if "image_sizes" not in inputs:
            return inputs
        config, patches, grids = self.model.config, [], []
        for tiles, size in zip(inputs["pixel_values"], inputs.pop("image_sizes"), strict=True):
            count = image_size_to_num_patches(size, config.image_grid_pinpoints, config.vision_config.image_size)
            step = config.vision_config.patch_size
            cut = tiles[:count].unfold(2, step, step).unfold(3, step, step)
            patches.append(cut.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3 * step * step))
            grids.append([count, cut.shape[2], cut.shape[3]])
        return {**inputs, "pixel_values": torch.cat(patches), "image_grid_thw": torch.tensor(grids)}

    def positions(self, messages: list[dict[str, Any]]) -> np.ndarray:
        """Positions on three axes, [3, 1, L]."""
        inputs = self.inputs(messages)
        if not hasattr(self.model.model, "get_rope_index"):
            length = inputs["input_ids"].shape[1]
            return np.broadcast_to(np.arange(length), (3, 1, length))
        keys = ("input_ids", "mm_token_type_ids", "image_grid_thw", "video_grid_thw", "second_per_grid_ts",
                "attention_mask")  # fmt: skip
        positions, _ = self.model.model.get_rope_index(**{k: inputs[k] for k in keys if k in inputs})
        return positions.numpy()


def states(embedder: tte.Embedder, item: Any) -> np.ndarray:
    """All hidden states of an item's prompt as the model gives them: float32 [tokens, hidden]."""
    return embedder.embed_tokens([item], keep="all", normalize=False, dtype="float32", progress=False)[0]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise over a gradient: uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x + y) % 256], axis=-1)
    return ((base + rng.integers(0, 64, base.shape)) % 256).astype(np.uint8)
