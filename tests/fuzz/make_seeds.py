"""Write the inputs that the fuzzers start from, out of the files that the tests have anyway.

python tests/fuzz/make_seeds.py corpus/     makes corpus/text, corpus/image, ...: a folder for each fuzzer
"""

from __future__ import annotations

import io
import json
import random
import struct
import sys
import zipfile
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "tests" / "data" / "text"
NANO = ROOT / "models" / "nano" / "reasoner"

LARGEST = 1 << 16
"""Bytes of a seed: larger ones are slow to change and to try."""

CHAT = [
    'data: {"choices": [{"index": 0, "delta": {"reasoning": "a", "content": "b"}, "finish_reason": "stop"}]}\n\n'
    ': x\r\ndata: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}\r\rdata: [DONE]\n\n',
    '{"choices": [{"message": {"content": [{"type": "text", "text": "a"}], "reasoning_content": "b"}, '
    '"finish_reason": "stop"}], "usage": null}',
    '{"error": {"message": "too long", "code": 400}, "detail": [{"msg": "field required"}]}',
]

# In the order of the first byte of fuzz_checkpoint's inputs.
CHECKPOINT: list[list[str]] = [
    [
        '{"model_type": "qwen2_vl", "hidden_size": 64, "vocab_size": 9, "vision_config": {"patch_size": 4294967310}}',
        '{"model_type": "qwen2_vl", "quantization_config": {"quant_method": "awq"}, "text_config": {"head_dim": 1e3}}',
    ],
    [
        '{"size": {"shortest_edge": 784, "longest_edge": 15680}, "image_mean": [0.5, 0.5, 0.5], "resample": 3}',
        '{"min_pixels": 784.0, "max_pixels": 18446744073709551616, "size": {"height": 2}, "image_std": 0}',
    ],
    ['{"image_processor": {"max_pixels": 784}, "video_processor": {"cap_pixels_per_frame": true}}'],
    [
        '{"eos_token_id": [1, 2], "do_sample": true, "temperature": 0.7, "top_k": 20, "stop_strings": ["a"]}',
        '{"no_repeat_ngram_size": 2, "bad_words_ids": [[1]], "min_length": 3, "typical_p": 0.5, "sequence_bias": {}}',
    ],
    [
        '{"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": {"7": {"content": "<x>", "special": true}}}',
        '{"extra_special_tokens": {"a_token": "<a>"}, "z_token": "<z>", "eos_token": {"content": "<e>", "lstrip": true}}',
        '{"split_special_tokens": true, "additional_special_tokens": ["<a>", {"content": "<b>"}], "pad_token": null}',
    ],
    ['{"sep_token": "<sep>", "additional_special_tokens": ["<a>"]}'],
    ['{"<a>": 1000, "<b>": 1001}', '{"<a>": -1}'],
    ['{"weight_map": {"a": "model.safetensors", "b": "../x"}}'],
    [
        '{"prompt": {"style": "raw", "raw": ["{media}", "{text}"], "image": "{token}"}, "pooling": "last"}',
        '{"tasks": {"visdoc": {"query": {"both": "x", "think": false}}}, "decoding": {"max_new_tokens": 5}, "dims": [8]}',
        '{"video": {"fps": 2, "min_frames": 1}, "trace": {"open": "<t>", "close": "</t>", "suffix": "{eos}"}}',
    ],
    [
        '{"base": "../reasoner", "kind": "layers", "layers": 2, "pooling": "mean", "embedding_dim": 192}',
        '{"base": "a/b", "revision": "c", "kind": "latent_attention", "layers": 0, "attention_heads": 8, '
        '"projection": true, "embedding_dim": 3}',
    ],
]

# In the order of the first byte of fuzz_weights' inputs.
WEIGHTS: list[list[str]] = [
    [
        '{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_dora": true, "target_modules": ["q"]}',
        '{"peft_type": "LORA", "r": 1, "rank_pattern": {"l.q": 2}, "alpha_pattern": {".*q": 3.5}, "use_rslora": true}',
    ],
    [
        '{"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e4m3"}}',
        '{"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": '
        '{"g": {"weights": {"num_bits": 4, "type": "int", "strategy": "group", "block_structure": [2, 2]}}}}}',
        '{"text_config": {"quantization_config": {"quant_method": "compressed-tensors", "sparsity_config": {}}}}',
    ],
]


def torch_files() -> list[bytes]:
    """Files of torch.save, and the pickles in them."""
    heads = [torch.ones(2, 3), torch.zeros(4, dtype=torch.bfloat16)[1:], torch.ones(3, 2).t().half()]
    found = []
    for value in ({"w": heads, "b": ()}, {"w": [torch.nn.Parameter(heads[0])]}, heads[0].numpy(), {1: None, "a": 2.5}):
        file = io.BytesIO()
        torch.save(value, file)
        with zipfile.ZipFile(file) as archive:
            pickle = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            found += [file.getvalue(), archive.read(pickle)]
    return found


def seeds() -> dict[str, list[bytes]]:
    """Inputs by fuzzer."""
    text = [bytes([0]) + path.read_bytes() for path in sorted(TEXT.glob("*/tokenizer.json"))]
    text += [bytes([1]) + path.read_bytes() for path in sorted(TEXT.glob("*/merges.txt"))]
    text += [bytes([2]) + path.read_bytes() for path in sorted(TEXT.glob("*/tokenizer.model"))]
    text += [bytes([3]) + path.read_bytes() for path in sorted(TEXT.glob("*/chat_template.jinja"))]
    text += [bytes([4]) + "a red circle 12 é中 <|im_end|> <think>".encode()]
    checkpoint = [bytes([i]) + seed.encode() for i, group in enumerate(CHECKPOINT) for seed in group]
    names = ["config.json", "preprocessor_config.json", "processor_config.json", "generation_config.json",
             "tokenizer_config.json"]  # fmt: skip
    checkpoint += [bytes([i]) + (NANO / n).read_bytes() for i, n in enumerate(names) if (NANO / n).is_file()]
    checkpoint += [bytes([8]) + path.read_bytes() for path in sorted((ROOT / "models" / "recipes").glob("*.json"))]
    header = json.dumps({
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]},
    }).encode()  # fmt: skip
    file = struct.pack("<Q", len(header)) + header + bytes(22)
    media = ROOT / "tests" / "data" / "media"
    images = [path.read_bytes() for path in sorted((media / "images").iterdir()) if path.stat().st_size < LARGEST]
    videos = [path for path in sorted([*media.iterdir(), *(media / "containers").iterdir()]) if path.is_file()]
    return {
        "text": text,
        "checkpoint": checkpoint,
        "weights": [bytes([i]) + seed.encode() for i, group in enumerate(WEIGHTS) for seed in group],
        "safetensors": [file, bytes([22]) + header],
        "torch_file": torch_files(),
        "image": images,
        "video": [path.read_bytes() for path in videos if path.stat().st_size < LARGEST],
        "template": [random.Random(seed).randbytes(200) for seed in range(100)],
        "chat": [bytes([pieces]) + answer.encode() for answer in CHAT for pieces in (0, 3, 255)],
    }


def main() -> None:
    """Write them."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "corpus")
    for fuzzer, inputs in seeds().items():
        (out / fuzzer).mkdir(parents=True, exist_ok=True)
        for i, data in enumerate(inputs):
            (out / fuzzer / f"seed{i:02}").write_bytes(data)


if __name__ == "__main__":
    main()
