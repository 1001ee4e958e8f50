"""Train the sentencepiece tokenizer of the nano pair and write it for sentencepiece and transformers alike."""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path

import sentencepiece as spm

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python" / "tte"))

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
TAGS = ("<think>", "</think>")
MARKS = ("\n", "?", ".", ",", ":", "!")
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' -}}"
    "{%- if message.content is string -%}{{- message.content -}}"
    "{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}"
    "{%- elif part.type == 'video' -%}{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}"
    "{%- elif part.type == 'text' -%}{{- part.text -}}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}{{- '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def train(path: Path) -> None:
    """A BPE model in which every word of the nano language is one piece; other text falls back to letters and bytes."""
    from nano import sentences

    lines = sorted(set(sentences(seed=0, n=600)))
    words = sorted({w for line in lines for w in line.replace("<think>", "").replace("</think>", "").split(" ")})
    from nano.world import ALL_THINGS, NUMBERS  # names of all splits are words; only training pairs are sentences

    words = sorted({*words, *NUMBERS, *(w for t in ALL_THINGS for w in (t.colour, t.kind))} - {""})
    lines += [f" {w}" for w in words for _ in range(40)] + ["user\n", "assistant\n", "system\n"] * 200
    lines += [t.name for t in ALL_THINGS if any(line == t.name for line in lines)]
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus.txt")
        corpus.write_text("\n".join(line.replace("\n", "") for line in lines), encoding="utf-8")
        best = None
        for size in range(480, 1200, 16):
            spm.SentencePieceTrainer.train(
                input=str(corpus), model_prefix=str(Path(folder, "sp")), model_type="bpe", vocab_size=size,
                byte_fallback=True, add_dummy_prefix=False, remove_extra_whitespaces=False,
                normalization_rule_name="identity", split_by_number=False, split_by_unicode_script=False,
                character_coverage=1.0, pad_id=0, unk_id=1, bos_id=-1, eos_id=-1,
                user_defined_symbols=[*SPECIAL, *TAGS, *MARKS], num_threads=1, minloglevel=2,
            )  # fmt: skip
            best = spm.SentencePieceProcessor(model_file=str(Path(folder, "sp.model")))
            firsts = {line.split(" ")[0].strip() for line in lines if not line.startswith(("<", " "))} - {""}
            if all(len(best.encode(f" {w}")) == 1 for w in words if w not in MARKS) and all(
                len(best.encode(w)) == 1 for w in firsts
            ):
                break
        assert best is not None
        path.write_bytes(Path(folder, "sp.model").read_bytes())
        print("vocabulary", best.get_piece_size(), "words", len(words))


def write_fast(folder: Path) -> None:
    """Write tokenizer.json, derived from tokenizer.model, and the configuration files of the processor."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    sp = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    vocab = {sp.id_to_piece(i): i for i in range(sp.get_piece_size())}
    merges: list[tuple[float, str, str]] = []
    for piece, i in vocab.items():
        if sp.is_control(i) or sp.is_byte(i) or sp.is_unknown(i) or piece in (*SPECIAL, *TAGS, *MARKS):
            continue
        merges += [
            (-sp.get_score(i), piece[:k], piece[k:])
            for k in range(1, len(piece))
            if piece[:k] in vocab and piece[k:] in vocab
        ]
    merges.sort(key=lambda m: (m[0], vocab[m[1]], vocab[m[2]]))
    tok = Tokenizer(
        models.BPE(
            vocab=vocab, merges=[(a, b) for _, a, b in merges], unk_token="<unk>", byte_fallback=True, fuse_unk=False
        )
    )
    tok.normalizer = normalizers.Replace(" ", "▁")
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tok.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ("<pad>", *SPECIAL)])
    tok.add_tokens([AddedToken(t, normalized=False, special=False) for t in (*TAGS, *MARKS)])
    tok.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": "Qwen2VLProcessor",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "eos_token": "<|im_end|>",
        "additional_special_tokens": [*SPECIAL],
        "model_max_length": 2048,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    common = {
        "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
        "size": {"shortest_edge": 784, "longest_edge": 28 * 28 * 64},
        "min_pixels": 784, "max_pixels": 28 * 28 * 64,
        "do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "do_convert_rgb": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3, "processor_class": "Qwen2VLProcessor",
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(
        json.dumps({**common, "image_processor_type": "Qwen2VLImageProcessor"}, indent=2) + "\n"
    )
    video = {**common, "video_processor_type": "Qwen2VLVideoProcessor", "do_sample_frames": False}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(video, indent=2) + "\n")


def check(folder: Path) -> int:
    """Assert that transformers and sentencepiece give the same ids on nano sentences and on random text."""
    from nano import sentences
    from transformers import AutoTokenizer

    sp = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    fast = AutoTokenizer.from_pretrained(str(folder))
    rng = random.Random(0)
    texts = sentences(seed=1, n=30)
    texts += [
        f"<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{t}<|im_end|>\n<|im_start|>assistant\n"
        for t in texts
    ]
    alphabet = "abcdefghijklmnopqrstuvwxyz  ABC123?.,\n-_▁éß漢字🙂"
    texts += ["".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 40))) for _ in range(2000)]
    for text in texts:
        a, b = sp.encode(text), fast(text, add_special_tokens=False)["input_ids"]
        assert a == b, (text, sp.encode(text, out_type=str), fast.convert_ids_to_tokens(b))
    return len(texts)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    if not (target / "tokenizer.model").exists():
        train(target / "tokenizer.model")
    write_fast(target)
    print("equal on", check(target), "texts")
