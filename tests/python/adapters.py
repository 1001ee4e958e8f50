"""PEFT adapters of random-weight checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText


def base_model(folder: Path) -> Any:
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()


def make_adapter(folder: Path, base: Path, seed: int = 0, **options: Any) -> Path:
    """Write an adapter whose every trained tensor differs from where it started."""
    torch.manual_seed(seed)  # What PEFT starts from is random.
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, **options})
    model = get_peft_model(base_model(base), config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            if "magnitude" in name:
                parameter.mul_(1 + 0.2 * noise)
            else:
                parameter.add_(0.1 * noise)
    model.save_pretrained(folder)
    return folder
