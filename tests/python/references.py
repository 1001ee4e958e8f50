"""What results are compared with: transformers on a checkpoint. And pictures to give to both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor


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

    def positions(self, messages: list[dict[str, Any]]) -> np.ndarray:
        """M-RoPE positions [3, 1, L]."""
        inputs = self.inputs(messages)
        keys = ("input_ids", "mm_token_type_ids", "image_grid_thw", "video_grid_thw", "second_per_grid_ts",
                "attention_mask")  # fmt: skip
        positions, _ = self.model.model.get_rope_index(**{k: inputs[k] for k in keys if k in inputs})
        return positions.numpy()


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise over a gradient: uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x + y) % 256], axis=-1)
    return ((base + rng.integers(0, 64, base.shape)) % 256).astype(np.uint8)
