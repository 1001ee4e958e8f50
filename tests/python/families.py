"""What a random-weight checkpoint of each family is made of: transformers' classes, and the sizes of its tower."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transformers


@dataclass(frozen=True)
class Shape:
    """Sizes of a random model; `scale` multiplies every matrix, so that mistakes show."""

    name: str
    family: str = "qwen2_vl"
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 96
    tied: bool = True
    mrope: tuple[int, int, int] = (2, 3, 3)
    vision_embed: int = 32
    vision_depth: int = 2
    vision_heads: int = 2
    head_dim: int | None = None
    deepstack: tuple[int, ...] = (0, 2)
    feature_layer: int | list[int] = -2
    scale: float = 3.0
    dtype: str = "float32"
    flat: bool = False
    tokens: tuple[str, ...] = ()  # That a system adds to its family's.
    options: dict[str, Any] = field(default_factory=dict)


DATA = Path(__file__).parent.parent / "data"


@dataclass(frozen=True)
class Family:
    """How a family's checkpoint is made."""

    config: Callable[..., transformers.PreTrainedConfig]
    model: Callable[..., transformers.PreTrainedModel]
    vision: Callable[[Shape], dict[str, Any]]
    processor: Callable[[Any, str], transformers.ProcessorMixin]
    text: Callable[[Shape], dict[str, Any]] = lambda shape: {}
    rope: Callable[[Shape], dict[str, Any]] = lambda shape: {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": list(shape.mrope),
    }
    template: Path = DATA / "templates" / "qwen2_vl.jinja"
    top: Callable[[Shape], dict[str, Any]] = lambda shape: {}  # What config.json has outside of its parts.
    videos: bool = True
    marks_in_words: bool = False  # The pattern of the tokenizer has [\\p{L}\\p{M}] where Qwen2's has \\p{L}.


LIMITS = {"min_pixels": 56 * 56, "max_pixels": 28 * 28 * 64}


def _qwen2_processor(kind: type) -> Callable[[Any, str], transformers.ProcessorMixin]:
    return lambda tokenizer, template: kind(
        image_processor=transformers.Qwen2VLImageProcessor(**LIMITS),
        video_processor=transformers.Qwen2VLVideoProcessor(**LIMITS),
        tokenizer=tokenizer,
        chat_template=template,
    )


def _qwen3_vl_processor(tokenizer: Any, template: str) -> transformers.ProcessorMixin:
    means = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "patch_size": 16}
    return transformers.Qwen3VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(
            size={"shortest_edge": 4 * 32 * 32, "longest_edge": 64 * 32 * 32}, **means
        ),
        # A limit on all frames together, which is less than the larger clips have.
        video_processor=transformers.Qwen3VLVideoProcessor(
            size={"shortest_edge": 8 * 32 * 32, "longest_edge": 32 * 32 * 32}, **means
        ),
        tokenizer=tokenizer,
        chat_template=template,
    )


# Tiles of 3 x 3 patches: what is cut off as margin is an odd number of them, or none.
TILE = 42
PINPOINTS = [[TILE, 2 * TILE], [2 * TILE, TILE], [2 * TILE, 2 * TILE], [3 * TILE, TILE], [TILE, 3 * TILE]]


def _llava_next_processor(tokenizer: Any, template: str) -> transformers.ProcessorMixin:
    return transformers.LlavaNextProcessor(
        image_processor=transformers.LlavaNextImageProcessor(
            size={"shortest_edge": TILE}, crop_size={"height": TILE, "width": TILE}, image_grid_pinpoints=PINPOINTS
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=template,
        image_token="<|image_pad|>",
        num_additional_image_tokens=1,
    )


FAMILIES = {
    "qwen2_vl": Family(
        transformers.Qwen2VLConfig,
        transformers.Qwen2VLForConditionalGeneration,
        lambda shape: {
            "embed_dim": shape.vision_embed, "depth": shape.vision_depth, "num_heads": shape.vision_heads,
            "hidden_size": shape.hidden, "mlp_ratio": 2, "patch_size": 14, "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        _qwen2_processor(transformers.Qwen2VLProcessor),
    ),
    # Windows of 2 x 2 merged tokens: most images have several, some cut; one block sees whole frames.
    "qwen2_5_vl": Family(
        transformers.Qwen2_5_VLConfig,
        transformers.Qwen2_5_VLForConditionalGeneration,
        lambda shape: {
            "hidden_size": shape.vision_embed, "depth": shape.vision_depth, "num_heads": shape.vision_heads,
            "out_hidden_size": shape.hidden, "intermediate_size": 2 * shape.vision_embed, "patch_size": 14,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 56, "fullatt_block_indexes": [1],
            "tokens_per_second": 12,
        },
        _qwen2_processor(transformers.Qwen2_5_VLProcessor),
    ),
    # A grid of 5 x 5 learned positions: those of nearly every image lie between them.
    "qwen3_vl": Family(
        transformers.Qwen3VLConfig,
        transformers.Qwen3VLForConditionalGeneration,
        lambda shape: {
            "hidden_size": shape.vision_embed, "depth": shape.vision_depth, "num_heads": shape.vision_heads,
            "out_hidden_size": shape.hidden, "intermediate_size": 2 * shape.vision_embed, "patch_size": 16,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 25,
            "deepstack_visual_indexes": list(shape.deepstack),
        },
        _qwen3_vl_processor,
        lambda shape: {"head_dim": shape.head_dim or shape.hidden // shape.heads},
        template=DATA / "text" / "templates" / "qwen3_vl_embedding.jinja",
    ),
    # The same with mixtures of experts.
    "qwen3_vl_moe": Family(
        transformers.Qwen3VLMoeConfig,
        transformers.Qwen3VLMoeForConditionalGeneration,
        lambda shape: FAMILIES["qwen3_vl"].vision(shape),
        _qwen3_vl_processor,
        lambda shape: {
            "head_dim": shape.head_dim or shape.hidden // shape.heads, "num_experts": 6, "num_experts_per_tok": 2,
            "moe_intermediate_size": 40,
        },
        template=DATA / "text" / "templates" / "qwen3_vl_embedding.jinja",
    ),
    "llava_next": Family(
        transformers.LlavaNextConfig,
        transformers.LlavaNextForConditionalGeneration,
        lambda shape: {
            "model_type": "clip_vision_model", "hidden_size": shape.vision_embed, "intermediate_size": 80,
            "num_hidden_layers": shape.vision_depth, "num_attention_heads": shape.vision_heads, "image_size": TILE,
            "patch_size": 14, "projection_dim": 16,
        },
        _llava_next_processor,
        lambda shape: {"model_type": "mistral", "sliding_window": None, "head_dim": shape.head_dim},
        lambda shape: {"rope_type": "default", "rope_theta": 10000.0},
        top=lambda shape: {"image_grid_pinpoints": PINPOINTS, "vision_feature_layer": shape.feature_layer},
        videos=False,
    ),
    # A quarter of each head is rotated; the values of the linear layers have more heads than their keys.
    "qwen3_5": Family(
        transformers.Qwen3_5Config,
        transformers.Qwen3_5ForConditionalGeneration,
        lambda shape: {
            "hidden_size": shape.vision_embed, "depth": shape.vision_depth, "num_heads": shape.vision_heads,
            "out_hidden_size": shape.hidden, "intermediate_size": 2 * shape.vision_embed, "patch_size": 16,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 25,
        },
        _qwen3_vl_processor,
        lambda shape: {
            "head_dim": shape.head_dim or 32, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
            "linear_key_head_dim": 16, "linear_value_head_dim": 24,
        },
        lambda shape: {
            "rope_type": "default", "rope_theta": 10000.0, "mrope_section": list(shape.mrope),
            "partial_rotary_factor": 0.25,
        },
        template=DATA / "templates" / "qwen3_5.jinja",
        marks_in_words=True,
    ),
    "qwen3_5_moe": Family(
        transformers.Qwen3_5MoeConfig,
        transformers.Qwen3_5MoeForConditionalGeneration,
        lambda shape: FAMILIES["qwen3_5"].vision(shape),
        _qwen3_vl_processor,
        lambda shape: {
            **FAMILIES["qwen3_5"].text(shape), "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 40,
            "shared_expert_intermediate_size": 56,
        },
        lambda shape: FAMILIES["qwen3_5"].rope(shape),
        template=DATA / "templates" / "qwen3_5.jinja",
        marks_in_words=True,
    ),
}  # fmt: skip
