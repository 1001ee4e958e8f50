"""Random-weight checkpoints as `save_pretrained` writes them: what tte and transformers both load in the tests."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from families import FAMILIES, Shape
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MARKS_PATTERN = PATTERN.replace(r"]?\p{L}+", r"]?[\p{L}\p{M}]+").replace(r"\s\p{L}", r"\s\p{L}\p{M}")
WORDS = (
    "the cat and dog look at a red circle left of blue square what is in this picture describe represent user input "
    "think about it then answer with one word Grüße naïve 東京 привет 😀 1234 import numpy as np\n\n def f(x): return x"
)


SHAPES = [
    Shape("tied-gqa"),
    Shape("untied-mha", heads=4, kv_heads=4, tied=False, layers=3),
    Shape("mqa-wide", hidden=96, heads=6, kv_heads=1, mrope=(2, 4, 2), vision_embed=48, vision_heads=3),
    Shape("old-layout", flat=True, tied=False),
    Shape("qwen2.5-vl", family="qwen2_5_vl", vision_depth=3),
    Shape("qwen2.5-vl-untied", family="qwen2_5_vl", tied=False, vision_embed=48, vision_heads=3, vision_depth=3),
    # As many blocks reach the decoder as it has layers; fewer; and heads larger than hidden size allows.
    Shape("qwen3-vl", family="qwen3_vl", vision_depth=3),
    Shape("qwen3-vl-untied", family="qwen3_vl", tied=False, layers=3, head_dim=24, mrope=(6, 3, 3), kv_heads=4,
          vision_embed=48, vision_heads=3, vision_depth=4, deepstack=(1,)),
    Shape("llava-next", family="llava_next", vision_depth=3),
    # Llama's decoder; features of two layers side by side, the tower's last among them.
    Shape("llava-next-llama", family="llava_next", tied=False, layers=3, kv_heads=4, head_dim=24, vision_embed=48,
          vision_heads=3, vision_depth=3, feature_layer=[1, -1], options={"model_type": "llama"}),
    # Three linear layers and one of attention; the last layer linear, and heads of which 16 dimensions are rotated.
    # With larger weights transformers itself, which solves for 64 tokens at once, is more than 1e-5 from float64.
    Shape("qwen3.5", family="qwen3_5", layers=4, mrope=(2, 1, 1), scale=2.0),
    Shape("qwen3.5-untied", family="qwen3_5", layers=3, mrope=(4, 2, 2), head_dim=64, kv_heads=1, tied=False, scale=2.0,
          vision_embed=48, vision_heads=3, options={
              "layer_types": ["linear_attention", "full_attention", "linear_attention"], "linear_num_key_heads": 4,
              "linear_conv_kernel_dim": 3, "linear_value_head_dim": 40,
          }),
    # Layers of a plain MLP beside those of experts; experts that all rows share.
    Shape("qwen3-vl-moe", family="qwen3_vl_moe", layers=3, vision_depth=3, tied=False,
          options={"mlp_only_layers": [1]}),
    Shape("qwen3.5-moe", family="qwen3_5_moe", layers=4, mrope=(2, 1, 1), scale=2.0, tied=False),
]  # fmt: skip


def make_tokenizer(*, marks_in_words: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE with Qwen2's normaliser, pattern and special tokens, trained on a few sentences."""
    pattern = MARKS_PATTERN if marks_in_words else PATTERN
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(__import__("tokenizers").Regex(pattern), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([WORDS] * 4, trainer)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in ("<think>", "</think>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL[1:], model_max_length=32768,
    )  # fmt: skip


def make_checkpoint(folder: Path, shape: Shape, seed: int = 0) -> Path:
    """Write a random-weight model with tokenizer, processors and chat template to `folder`."""
    family = FAMILIES[shape.family]
    tokenizer = make_tokenizer(marks_in_words=family.marks_in_words)
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=True) for token in shape.tokens])
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    config = family.config(
        text_config={
            "hidden_size": shape.hidden, "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads, "intermediate_size": shape.ffn, "vocab_size": len(tokenizer) + 13,
            "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_parameters": family.rope(shape),
            "bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"], **family.text(shape),
            **shape.options,
        },
        vision_config=family.vision(shape),
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=shape.tied, **family.top(shape),
    )  # fmt: skip
    torch.manual_seed(seed)
    model = family.model(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.mul_(shape.scale)
            elif name.endswith("A_log"):
                parameter.sub_(4)  # Memories that fade within a token hide mistakes.
            elif "norm" in name and name.endswith("weight"):
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    model = model.to(getattr(torch, shape.dtype))
    model.generation_config.eos_token_id = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    model.save_pretrained(folder)
    family.processor(tokenizer, family.template.read_text()).save_pretrained(folder)
    if shape.flat:
        _to_old_layout(folder)
    return folder


def _to_old_layout(folder: Path) -> None:
    """Rewrite config.json and tensor names as repositories of 2024 have them."""
    from safetensors.torch import load_file, save_file

    config = json.loads((folder / "config.json").read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    for key in ("model_type", "dtype", "torch_dtype", "layer_types", "tie_word_embeddings"):
        text.pop(key, None)
    config.update(text)
    config["rope_theta"] = rope["rope_theta"]
    config["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    tensors = load_file(folder / "model.safetensors")
    renamed = {
        name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): tensor
        for name, tensor in tensors.items()
    }
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
