"""The text decoder of a Qwen2-VL checkpoint as a GGUF file of the architecture qwen2, for peers.py.

python decoder_gguf.py CHECKPOINT OUT.gguf BF16|F16|Q8_0|Q4_0
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
import numpy as np


class Tensors:
    """Tensors of bfloat16 in a safetensors file."""

    def __init__(self, file: Path) -> None:
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            self.header = json.loads(opened.read(size))
        self.data = np.memmap(file, np.uint8, "r", 8 + size)
        embedding = "embed_tokens.weight"
        self.prefix = next(name for name in self.header if name.endswith(embedding)).removesuffix(embedding)

    def bits(self, name: str) -> np.ndarray:
        """The bits of a tensor of the decoder."""
        info = self.header[self.prefix + name]
        if info["dtype"] != "BF16":
            raise SystemExit(f"{name} is {info['dtype']}, not BF16")
        begin, end = info["data_offsets"]
        return self.data[begin:end].view(np.uint16).reshape(info["shape"])


def write_settings(out: gguf.GGUFWriter, text: dict) -> None:
    """Write sizes, and a vocabulary of bytes and of names that mean nothing: prompts are made of ids."""
    out.add_context_length(text["max_position_embeddings"])
    out.add_embedding_length(text["hidden_size"])
    out.add_block_count(text["num_hidden_layers"])
    out.add_feed_forward_length(text["intermediate_size"])
    out.add_head_count(text["num_attention_heads"])
    out.add_head_count_kv(text["num_key_value_heads"])
    out.add_layer_norm_rms_eps(text["rms_norm_eps"])
    out.add_rope_freq_base(1e6)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    size = text["vocab_size"]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("qwen2")
    out.add_token_list(letters + [f"<|{i}|>" for i in range(256, size)])
    out.add_token_types([gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL] * (size - 256))
    out.add_token_merges(["a b"])
    out.add_bos_token_id(size - 1)
    out.add_eos_token_id(size - 1)


def main() -> None:
    """Write matrices in the format, vectors as float32."""
    kind = gguf.GGMLQuantizationType[sys.argv[3]]
    folder = Path(sys.argv[1])
    config = json.loads((folder / "config.json").read_text())
    text = config.get("text_config", config)
    tensors = Tensors(folder / "model.safetensors")
    out = gguf.GGUFWriter(sys.argv[2], "qwen2")
    out.add_file_type(gguf.LlamaFileType[f"MOSTLY_{sys.argv[3]}"])
    write_settings(out, text)

    def add(name: str, key: str) -> None:
        bits = tensors.bits(key)
        if bits.ndim == 2 and kind == gguf.GGMLQuantizationType.BF16:
            out.add_tensor(name, bits.view(np.uint8), raw_dtype=kind)
            return
        values = (bits.astype(np.uint32) << 16).view(np.float32)
        if bits.ndim == 1:
            out.add_tensor(name, values)
        else:
            out.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", "embed_tokens.weight")
    add("output_norm.weight", "norm.weight")
    for i in range(text["num_hidden_layers"]):
        ours, theirs = f"layers.{i}.", f"blk.{i}."
        add(theirs + "attn_norm.weight", ours + "input_layernorm.weight")
        add(theirs + "ffn_norm.weight", ours + "post_attention_layernorm.weight")
        for name in "qkv":
            for part in ("weight", "bias"):
                add(f"{theirs}attn_{name}.{part}", f"{ours}self_attn.{name}_proj.{part}")
        add(theirs + "attn_output.weight", ours + "self_attn.o_proj.weight")
        for name in ("gate", "up", "down"):
            add(f"{theirs}ffn_{name}.weight", f"{ours}mlp.{name}_proj.weight")
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


if __name__ == "__main__":
    main()
