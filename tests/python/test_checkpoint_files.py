"""What the files of a checkpoint folder say, against transformers and tokenizers on the same folder."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tte
from checkpoints import SHAPES, Shape
from references import noise
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, GenerationConfig

GetFolder = Callable[[Shape], Path]
TALK = [{"role": "user", "content": [{"type": "text", "text": "the cat and the dog"}]}]


@pytest.fixture
def folder(checkpoint: GetFolder, tmp_path: Path) -> Path:
    """A checkpoint of the test's own."""
    return shutil.copytree(checkpoint(SHAPES[1]), tmp_path / "checkpoint")


def edit(file: Path, change: Callable[[Any], Any]) -> None:
    """Rewrite a JSON file; a missing one is an empty object."""
    old = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(change(old)))


def put(**values: Any) -> Callable[[Any], Any]:
    """Set keys; None takes one away."""
    return lambda old: {k: v for k, v in {**old, **values}.items() if v is not None}


# --- tokenizer.json

PIECES = [
    "<u>", "<u><v>", "<v>", "<v><u>", "uv", "uvw", "vwx", " q", "q ", "  ", "   ", "\n", "\n ", "e\u0301", "\u00e9",
    "Haus", "\ufb03", "im_start", "\U0001f600", "-", "--", "don't", "7", "_", "\u3000",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_added_tokens_are_cut_out_as_the_library_does(seed: int, folder: Path) -> None:
    rng = random.Random(seed)
    path = folder / "tokenizer.json"
    whole = json.loads(path.read_text())
    known = {**whole["model"]["vocab"], **{t["content"]: t["id"] for t in whole["added_tokens"]}}
    chosen = rng.sample(PIECES, 12)
    new = [t for t in chosen if t not in known]

    def flag(share: float) -> bool:
        return seed % 3 > 0 and rng.random() < share

    whole["added_tokens"] += [
        {
            "id": known.get(text, max(known.values()) + 1 + (new.index(text) if text in new else 0)), "content": text,
            "special": rng.random() < 0.3, "normalized": rng.random() < 0.5, "single_word": flag(0.2),
            "lstrip": flag(0.4), "rstrip": flag(0.4),
        }
        for text in chosen
        # These two are one text once they are normalised, of which the library takes either.
        if text != "\u00e9" or "e\u0301" not in chosen
    ]  # fmt: skip
    path.write_text(json.dumps(whole))
    (folder / "tokenizer_config.json").unlink()
    library, mine = Tokenizer.from_file(str(path)), tte.Tokenizer(folder)
    for _ in range(250):
        text = "".join(rng.choice([*PIECES, " ", "z", "  ", "\t", "1", "haus"]) for _ in range(rng.randint(1, 10)))
        try:
            expected = library.encode(text, add_special_tokens=False).ids
        except BaseException:  # The library panics where two tokens take the same blanks.
            continue
        assert mine.encode(text) == expected, repr(text)
        assert mine.decode(expected, skip_special=False) == library.decode(expected, skip_special_tokens=False)


# What Oniguruma reads otherwise than other engines do, and what tokenizers in use have.
PATTERNS = [
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|"
        r"\s+(?!\S)|\s"
    ),
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r" ?[^(\s|[.,!?…。，、।۔،])]+", r"\p{N}{1,3}+", r"[ab]{1,2}+", r"a{2,}+", r"\w+|[^\w\s]+", r"\W+", r"\b", r"\B",
    r"\b\w",
    r".", r".+", r"^a", r"a$", r"\A.", r".\z", r"^\s+", r"\s+$", r"\n$", r"(?m)e.", r"\h", r"\H+", r"\v", r"\R",
    r"\X",
    r"a*", r" ?", r"", r"(?=a)", r"(?<=a)b", r"(?<=^|\s)\w+", r"(?<!\p{L})\p{N}", r"\K", r"a\Kb",
    r"[[:punct:]]", r"[^[:punct:]]", r"[[:^punct:]a]", r"\p{Punct}", r"[[:space:]]", r"[[:word:]]+", r"\p{XDigit}",
    r"(?i)k", r"(?i)å", r"(?i)ss", r"[^\x00-\x7F]+", r"(?<x>a)\k<x>", r"(?~b)", r"(?>a+)b", r"(?s)e.",
    r"\p{Script=Latin}+",
]  # fmt: skip
WORDS = [
    "a", "b", "ab", "aab", "cafe", "caf\u00e9", "e\u0301", "K\u212a", "\u00e5", "\u00df", "\u00bd", "\u2167",
    "1234567", "\u0663",
    " ", "  ", "\n", "\r\n", "\x85", "\u2028", "\u200b", "\t", "\x0b", "\u3000", "$5", "x+y=z", "`<b>`", "it's",
    "I'LL", "!?", "\u6771\u4eac",
]  # fmt: skip


@pytest.mark.parametrize("place", ["split", "replace", "inverted", "merged", "contiguous"])
def test_patterns_are_read_as_the_library_reads_them(place: str, folder: Path) -> None:
    """A pattern of a tokenizer.json gives the library's ids, short texts and long, or is refused by name."""
    rng = random.Random(place)
    texts = ["".join(rng.choices(WORDS, k=rng.randint(1, 8))) for _ in range(60)]
    texts += ["".join(rng.choices(WORDS, k=1500)), "a\nb\nc", "", "\n", "a"]
    (folder / CONFIG).write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')  # Others have patterns of their own.
    path = folder / "tokenizer.json"
    whole = json.loads(path.read_text())
    bytes_alone = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    refused = set()
    for pattern in PATTERNS:
        regex = {"Regex": pattern}
        behavior = {"merged": "MergedWithNext", "contiguous": "Contiguous"}.get(place, "Isolated")
        split = {"type": "Split", "pattern": regex, "behavior": behavior, "invert": place == "inverted"}
        whole["normalizer"] = {"type": "Replace", "pattern": regex, "content": "#"} if place == "replace" else None
        steps = [bytes_alone] if place == "replace" else [split, bytes_alone]
        whole["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
        path.write_text(json.dumps(whole))
        try:
            right = Tokenizer.from_file(str(path))
        except Exception:  # The library refuses it.
            with pytest.raises(tte.ModelError, match="is not a regular expression"):
                tte.Tokenizer(folder)
            refused.add(pattern)
            continue
        tokenizer = tte.Tokenizer(folder)
        for text in texts:
            try:
                ids = right.encode(text, add_special_tokens=False).ids
            except BaseException:  # The library panics, as it does where \\K leaves a match without an end.
                continue
            assert tokenizer.encode(text) == ids, (pattern, text[:80])
    assert refused == {r"(?s)e.", r"\p{Script=Latin}+"}


@pytest.mark.parametrize("pattern", [r"\Ga", r"\p{Word}", r"[\P{ w-o_rd }]"])
def test_patterns_that_other_versions_read_otherwise_are_refused(pattern: str, folder: Path) -> None:
    (folder / CONFIG).write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    edit(folder / TOKENIZER, put(normalizer={"type": "Replace", "pattern": {"Regex": pattern}, "content": "#"}))
    with pytest.raises(tte.ModelError, match=r"tokenizer\.json: .* is not a regular expression that tte reads"):
        tte.Tokenizer(folder)


def test_many_and_long_added_tokens_take_no_time(folder: Path) -> None:
    path = folder / "tokenizer.json"
    whole = json.loads(path.read_text())
    first = 1 + max(t["id"] for t in whole["added_tokens"])
    texts = [f"<t{i}>" for i in range(100_000)] + ["a" * 4095 + "b"]
    whole["added_tokens"] += [
        {"id": first + i, "content": text, "special": False, "normalized": i % 2 == 0, "single_word": False,
         "lstrip": False, "rstrip": False} for i, text in enumerate(texts)
    ]  # fmt: skip
    path.write_text(json.dumps(whole))
    tokenizer = tte.Tokenizer(folder)
    assert tokenizer.encode("<t77>" + "a" * 4095 + "b" + "<t99999>") == [first + 77, first + 100_000, first + 99_999]
    assert len(tokenizer.encode("a" * 1_000_000)) > 1000


# --- tokenizer_config.json and its kin

NEW = ["<|emb|>", "<|vision_start|>", "<|call|>"]


def token(content: str, **flags: bool) -> dict[str, Any]:
    """An entry of added_tokens_decoder."""
    return {"content": content, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False,
            "special": False, **flags}  # fmt: skip


def typed(content: str, **flags: bool) -> dict[str, Any]:
    """A token as an object elsewhere in tokenizer_config.json."""
    return {"__type": "AddedToken", **token(content, **flags)}


def decoder(**entries: dict[str, Any]) -> Callable[[Any], Any]:
    """Set entries of added_tokens_decoder by id."""
    return lambda old: {**old, "added_tokens_decoder": {**old.get("added_tokens_decoder", {}), **entries}}


def flags_of(content: str, **flags: bool) -> Callable[[Any], Any]:
    """Change flags of a token of added_tokens_decoder."""

    def change(old: Any) -> Any:
        for entry in old["added_tokens_decoder"].values():
            if entry["content"] == content:
                entry.update(flags)
        return old

    return change


def json_flags(content: str, **flags: bool) -> Callable[[Any], Any]:
    """Change flags of a token of tokenizer.json."""

    def change(old: Any) -> Any:
        for entry in old["added_tokens"]:
            if entry["content"] == content:
                entry.update(flags)
        return old

    return change


def numbered(**ids: int) -> Callable[[Any], Any]:
    """Put tokens <|name|> behind those of tokenizer.json."""
    more = [{"id": number, **token(f"<|{name}|>", special=True)} for name, number in ids.items()]
    return lambda old: {**old, "added_tokens": [*old["added_tokens"], *more]}


def backwards(old: Any) -> Any:
    """Let the ids of tokenizer.json's tokens descend."""
    ids = [t["id"] for t in old["added_tokens"]]
    return {**old, "added_tokens": [{**t, "id": i} for t, i in zip(old["added_tokens"], reversed(ids), strict=True)]}


def far_piece(old: Any) -> Any:
    """Give the vocabulary's last piece an id far behind."""
    vocab = old["model"]["vocab"]
    return {**old, "model": {**old["model"], "vocab": {**vocab, max(vocab, key=vocab.get): 3000}}}


CONFIG, TOKENIZER = "tokenizer_config.json", "tokenizer.json"
OLD_IDS = {"<think>": 413, "<|emb|>": 415}
DECLARATIONS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "as it is": {},
    "a list": {CONFIG: put(extra_special_tokens=NEW)},
    "an object": {CONFIG: put(extra_special_tokens={"z_token": "<|emb|>", "a_token": "<|call|>"})},
    "an object the other way round": {CONFIG: put(extra_special_tokens={"a_token": "<|call|>", "z_token": "<|emb|>"})},
    "the old list": {CONFIG: put(extra_special_tokens=None, additional_special_tokens=NEW)},
    "an empty list beside the old one": {CONFIG: put(extra_special_tokens=[], additional_special_tokens=NEW)},
    "both lists": {CONFIG: put(extra_special_tokens=["<|call|>"], additional_special_tokens=["<|emb|>"])},
    "named tokens": {CONFIG: put(zz_token="<|emb|>", aa_token="<|call|>")},
    "named tokens and an object": {CONFIG: put(zz_token="<|emb|>", extra_special_tokens={"aa_token": "<|call|>"})},
    "a list and a name": {CONFIG: put(extra_special_tokens=["<|call|>"], aa_token="<|emb|>")},
    "a named object": {CONFIG: put(aa_token=typed("<|emb|>", lstrip=True), zz_token="<|call|>")},
    "the decoder makes a token special": {CONFIG: flags_of("<think>", special=True)},
    "the decoder makes one plain": {CONFIG: flags_of("<|box_start|>", special=False)},
    "the decoder strips": {CONFIG: flags_of("<think>", lstrip=True, rstrip=True)},
    "the decoder strips the end token": {CONFIG: flags_of("<|im_end|>", rstrip=True)},
    "tokenizer.json makes a token special": {TOKENIZER: json_flags("<think>", special=True)},
    "tokenizer.json strips": {TOKENIZER: json_flags("<think>", rstrip=True)},
    "tokenizer.json alone": {CONFIG: put(added_tokens_decoder=None), TOKENIZER: json_flags("<think>", rstrip=True)},
    "the list names a known token": {CONFIG: put(extra_special_tokens=["<think>"])},
    "pad_token is a known token": {CONFIG: put(pad_token="<think>")},
    "eos_token is an object": {CONFIG: put(eos_token=typed("<|im_end|>", lstrip=True, rstrip=True, special=True))},
    "mask_token is new": {CONFIG: put(mask_token="<|mask|>")},
    "special tokens are split": {CONFIG: put(split_special_tokens=True)},
    "the old list of ids": {CONFIG: put(added_tokens_decoder=None), "added_tokens.json": lambda _: OLD_IDS},
    "the old map": {
        CONFIG: put(added_tokens_decoder=None, extra_special_tokens=None),
        "special_tokens_map.json": put(additional_special_tokens=NEW, sep_token="<|sep|>"),
    },
    # New tokens are numbered on, whatever the files say.
    "a hole in the ids": {TOKENIZER: numbered(emb=500)},
    "holes, the last first": {TOKENIZER: numbered(emb=500, call=470)},
    "the id of a piece": {TOKENIZER: numbered(emb=5)},
    "a hole in tokenizer.json alone": {CONFIG: put(added_tokens_decoder=None), TOKENIZER: numbered(emb=500, call=470)},
    "a hole in the decoder alone": {CONFIG: decoder(**{"500": token("<|emb|>"), "470": token("<|call|>")})},
    "a hole in both": {
        CONFIG: decoder(**{"500": token("<|emb|>"), "470": token("<|call|>")}), TOKENIZER: numbered(emb=500, call=470),
    },
    "other ids in both": {CONFIG: decoder(**{"480": token("<|emb|>")}), TOKENIZER: numbered(emb=500, call=430)},
    "a hole in the old list of ids": {
        CONFIG: put(added_tokens_decoder=None), "added_tokens.json": lambda _: {"<|emb|>": 500, "<|call|>": 470},
    },
    "the same id in both lists": {
        CONFIG: put(added_tokens_decoder=None), TOKENIZER: numbered(emb=500),
        "added_tokens.json": lambda _: {"<|call|>": 500},
    },
    "descending ids": {TOKENIZER: backwards},
    "descending ids alone": {CONFIG: put(added_tokens_decoder=None), TOKENIZER: backwards},
    "a piece far behind": {TOKENIZER: far_piece},
    "a piece far behind, and a new token": {TOKENIZER: far_piece, CONFIG: put(extra_special_tokens=["<|emb|>"])},
    "the old map beside the decoder": {"special_tokens_map.json": put(additional_special_tokens=["<|old|>"])},
}  # fmt: skip


@pytest.mark.parametrize("tokenizer_class", ["Qwen2Tokenizer", "Qwen2TokenizerFast", "PreTrainedTokenizerFast", None])
@pytest.mark.parametrize("name", DECLARATIONS)
def test_declared_tokens_are_transformers(name: str, tokenizer_class: str | None, folder: Path) -> None:
    decoder_of_json = {
        str(t["id"]): {k: v for k, v in t.items() if k != "id"}
        for t in json.loads((folder / TOKENIZER).read_text())["added_tokens"]
    }
    edit(folder / CONFIG, put(tokenizer_class=tokenizer_class, added_tokens_decoder=decoder_of_json))
    for file, change in DECLARATIONS[name].items():
        edit(folder / file, change)
    theirs, mine = AutoTokenizer.from_pretrained(folder), tte.Tokenizer(folder)
    for text in ("a<|emb|>b <|call|>", "  <|vision_start|> <|image_pad|>x<|vision_end|>", "<|emb |> <|mask|><|sep|>",
                 "a <think> b </think> c<|im_end|>", " <|im_end|>  x <|box_start|> <|old|>"):  # fmt: skip
        expected = theirs(text, add_special_tokens=False)["input_ids"]
        assert mine.encode(text) == expected, text
        for skip in (False, True):
            assert mine.decode(expected, skip_special=skip) == theirs.decode(expected, skip_special_tokens=skip), text


def test_a_class_of_its_own_does_not_take_the_files_pipeline(folder: Path) -> None:
    """Qwen's class makes normaliser, pattern and decoder itself; others take those of tokenizer.json."""
    edit(folder / TOKENIZER, put(normalizer={"type": "NFKC"}))
    for name in ("Qwen2Tokenizer", "PreTrainedTokenizerFast"):
        edit(folder / CONFIG, put(tokenizer_class=name))
        text = "\ufb01x \u2460 e\u0301"
        expected = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"]
        assert tte.Tokenizer(folder).encode(text) == expected, name


BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
SPACES = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
OTHER = {"type": "Replace", "pattern": {"String": "a"}, "content": "zz"}


@pytest.mark.parametrize(("steps", "taken"), [
    ([BYTES], True), ([BYTES, {"type": "Fuse"}], True), ([{"type": "Fuse"}, BYTES], False), ([OTHER, BYTES], False),
    ([BYTES, OTHER], False), ([BYTES, SPACES], False), ([{"type": "ByteFallback"}, BYTES], False),
    ([BYTES, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}], False),
    ([BYTES, BYTES], False), ([{"type": "Sequence", "decoders": [{"type": "Fuse"}]}, BYTES], False),
])  # fmt: skip
def test_a_byte_level_decoder_stands_alone(steps: list[dict[str, Any]], taken: bool, folder: Path) -> None:
    edit(folder / TOKENIZER, put(decoder={"type": "Sequence", "decoders": steps}))
    edit(folder / CONFIG, put(tokenizer_class="PreTrainedTokenizerFast"))
    if not taken:
        with pytest.raises(tte.ModelError, match=r"the decoder beside .* is not supported"):
            tte.Tokenizer(folder)
        return
    theirs, mine = AutoTokenizer.from_pretrained(folder), tte.Tokenizer(folder)
    ids = theirs(" a b \u00e9 ab <think>", add_special_tokens=False)["input_ids"]
    assert mine.decode(ids) == theirs.decode(ids)


# --- preprocessor_config.json

LIMITS: dict[str, dict[str, Any]] = {
    "both": {"min_pixels": 784, "max_pixels": 15680},
    "max alone": {"max_pixels": 15680},
    "max alone, below the default least": {"max_pixels": 784},
    "min alone": {"min_pixels": 3136},
    "min alone, above the default most": {"min_pixels": 28 * 28 * 1400},
    "the least above the most": {"min_pixels": 31360, "max_pixels": 15680},
    "neither": {},
    "size": {"size": {"shortest_edge": 784, "longest_edge": 15680}},
    "size and limits that contradict it": {
        "min_pixels": 784, "max_pixels": 15680, "size": {"shortest_edge": 1568, "longest_edge": 78400},
    },
    "max and a size without it": {"max_pixels": 15680, "size": {"shortest_edge": 784}},
    "min and a size without it": {"min_pixels": 784, "size": {"longest_edge": 15680}},
    "size with old names and limits": {
        "min_pixels": 784, "max_pixels": 15680, "size": {"min_pixels": 3136, "max_pixels": 78400},
    },
    "floats": {"min_pixels": 784.0, "max_pixels": 15680.0},
    "one mean": {"image_mean": 0.25, "image_std": [0.5]},
    "rescale by one": {"rescale_factor": 1},
}  # fmt: skip
REFUSED: dict[str, dict[str, Any]] = {
    "size with one edge": {"size": {"longest_edge": 15680}},
    "an empty size": {"size": {}},
    "height and width": {"size": {"height": 224, "width": 224}},
    "height and width beside limits": {"min_pixels": 784, "max_pixels": 15680, "size": {"height": 2, "width": 2}},
    "a number as size": {"size": 224},
    "half a pixel": {"min_pixels": 784.5},
    "nothing at least": {"min_pixels": 0},
    "a negative least": {"min_pixels": -5},
    "a flag as a number": {"min_pixels": True},
    "a number as a flag": {"do_resize": 1},
    "a text as a number": {"max_pixels": "15680"},
    "an image of terabytes": {"min_pixels": 10**12, "max_pixels": 10**13},
    "2^32 and the right size": {"patch_size": 2**32 + 14},
    "half a patch": {"patch_size": 14.5},
    "past 64 bits": {"max_pixels": 2**64},
    "no deviation": {"image_std": 0},
    "two means": {"image_mean": [0.5, 0.5]},
}


def set_limits(folder: Path, values: dict[str, Any]) -> None:
    """Leave one old preprocessor_config.json with these values."""
    for name in ("processor_config.json", "video_preprocessor_config.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({
            "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2VLProcessor", "patch_size": 14,
            "merge_size": 2, "temporal_patch_size": 2, **values,
        })
    )  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_limits_of_pixels_are_transformers(name: str, folder: Path) -> None:
    set_limits(folder, LIMITS[name])
    theirs, mine = AutoProcessor.from_pretrained(folder), tte.Processor(folder)
    frames = np.stack([noise(60, 100, seed) for seed in range(3)])
    for kind, value, key in (("image", noise(150, 210), "pixel_values"), ("video", frames, "pixel_values_videos")):
        messages = [{"role": "user", "content": [{"type": kind, kind: value}]}]
        expected = theirs.apply_chat_template(
            [messages], tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
        )[key].numpy()
        assert np.array_equal(mine(messages)[key], expected), kind


@pytest.mark.parametrize("name", REFUSED)
def test_limits_that_make_no_sense_are_one_sentence(name: str, folder: Path) -> None:
    set_limits(folder, REFUSED[name])
    key = next(k for k in ("size", *REFUSED[name]) if k in REFUSED[name])
    with pytest.raises(tte.ModelError, match=rf"preprocessor_config\.json.*{key}") as error:
        tte.Processor(folder)
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


# --- the head


def test_an_embedder_needs_no_head(folder: Path) -> None:
    whole = tte.Embedder(folder, device="cpu").embed([TALK], progress=False)
    tensors = load_file(folder / "model.safetensors")
    assert tensors.pop("lm_head.weight", None) is not None
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = AutoProcessor.from_pretrained(folder).apply_chat_template(
        [TALK], tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
    )
    with torch.inference_mode():
        state = model(**inputs).last_hidden_state[0, -1].numpy()
    assert np.abs(whole[0] - state / np.linalg.norm(state)).max() < 1e-5
    for architecture in ("Qwen2VLForConditionalGeneration", "Qwen2VLModel"):
        edit(folder / "config.json", put(architectures=[architecture]))
        assert np.array_equal(tte.Embedder(folder, device="cpu").embed([TALK], progress=False), whole)
        with pytest.raises(tte.ModelError, match=r"lm_head\.weight"):
            tte.Reasoner(folder, device="cpu")


# --- generation_config.json

# Values at which a key changes nothing, and one at which it would: refused by name.
REFUSED_KEYS: dict[str, tuple[list[Any], Any]] = {
    "bad_words_ids": ([None, []], [[5]]),
    "begin_suppress_tokens": ([None, []], [5]),
    "constraints": ([None], [1]),
    "diversity_penalty": ([None, 0.0], 0.5),
    "dola_layers": ([None], "low"),
    "encoder_no_repeat_ngram_size": ([None, 0], 2),
    "encoder_repetition_penalty": ([None, 1.0, 1], 1.5),
    "exponential_decay_length_penalty": ([None], [2, 1.5]),
    "force_words_ids": ([None, []], [[5]]),
    "forced_bos_token_id": ([None], 5),
    "forced_eos_token_id": ([None], 5),
    "guidance_scale": ([None, 1, 1.0], 2.0),
    "max_time": ([None], 1.0),
    "min_length": ([None, 0], 60),
    "no_repeat_ngram_size": ([None, 0], 1),
    "num_beam_groups": ([None, 1], 2),
    "num_beams": ([None, 1], 4),
    "num_return_sequences": ([None, 1], 2),
    "penalty_alpha": ([None, 0.0], 0.6),
    "sequence_bias": ([None, {}, []], [[[5], -1.0]]),
    "suppress_tokens": ([None, []], [5]),
    "token_healing": ([None, False], True),
    "watermarking_config": ([None], {"bias": 2.0}),
}
REFUSED_WHEN_SAMPLING = {
    "epsilon_cutoff": (0.0, 0.01), "eta_cutoff": (0.0, 0.01), "top_h": (None, 0.4), "typical_p": (1.0, 0.5),
}  # fmt: skip
READ = {
    "max_new_tokens", "min_new_tokens", "stop_strings", "do_sample", "temperature", "top_k", "top_p", "min_p",
    "repetition_penalty", "eos_token_id", "max_length",
}  # fmt: skip
# Nothing here decodes otherwise for them: caches, beams (of which there is one), assistants, outputs, notes.
WITHOUT_EFFECT = {
    "early_stopping", "use_mtp", "use_cache", "cache_implementation", "cache_config", "max_cache_len",
    "length_penalty", "renormalize_logits", "remove_invalid_values", "output_attentions", "output_hidden_states",
    "output_scores", "output_logits", "return_dict_in_generate", "pad_token_id", "bos_token_id",
    "decoder_start_token_id", "is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule",
    "assistant_confidence_threshold", "prompt_lookup_num_tokens", "max_matching_ngram_size", "assistant_early_exit",
    "assistant_lookbehind", "target_lookbehind", "assistant_ensemble_weight", "speculation_type", "compile_config",
    "disable_compile", "continuous_batching_config", "low_memory", "prefill_chunk_size", "transformers_version",
}  # fmt: skip


def test_every_key_of_transformers_is_decided() -> None:
    keys = {key for key in vars(GenerationConfig()) if not key.startswith("_")}
    assert keys == set(REFUSED_KEYS) | set(REFUSED_WHEN_SAMPLING) | READ | WITHOUT_EFFECT


def think(folder: Path, **options: Any) -> Any:
    """Three tokens with the checkpoint's own settings."""
    options = {"max_new_tokens": 3, "checkpoint_sampling": True, "progress": False, **options}
    return tte.Reasoner(folder, device="cpu").think([TALK], **options)[0]


def test_keys_that_would_change_the_text_are_refused_by_name(folder: Path) -> None:
    neutral = {key: values[-1] for key, (values, _) in REFUSED_KEYS.items()}
    plain = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**plain, **neutral}))
    expected = think(folder).token_ids
    for key, (values, changing) in REFUSED_KEYS.items():
        for value in values:
            (folder / "generation_config.json").write_text(json.dumps({**plain, key: value}))
            tte.Processor(folder)
        (folder / "generation_config.json").write_text(json.dumps({**plain, key: changing}))
        for sampling in (False, True):
            with pytest.raises(tte.ModelError, match=rf'generation_config\.json asks .* "{key}"'):
                think(folder, checkpoint_sampling=sampling)
    tte.Embedder(folder, device="cpu").embed([TALK], progress=False)  # Which generates nothing.
    for key, (nothing, changing) in REFUSED_WHEN_SAMPLING.items():
        sampled = {**plain, "do_sample": True, "top_k": 1}
        for settings in ({**plain, key: changing}, {**sampled, key: nothing}):
            (folder / "generation_config.json").write_text(json.dumps(settings))
            assert think(folder).token_ids == expected, key
        (folder / "generation_config.json").write_text(json.dumps({**sampled, key: changing}))
        with pytest.raises(tte.ModelError, match=rf'generation_config\.json asks .* "{key}"'):
            think(folder)
        assert think(folder, temperature=0).token_ids == expected, "greedy by the caller's wish"
        assert think(folder, checkpoint_sampling=False).token_ids == expected, "greedy where nobody samples"


def test_keys_that_are_read_do_what_they_say(folder: Path) -> None:
    file = folder / "generation_config.json"
    edit(file, put(eos_token_id=None))
    plain = think(folder, max_new_tokens=8).token_ids
    edit(file, put(max_new_tokens=5))
    assert think(folder, max_new_tokens=None).token_ids == plain[:5]
    edit(file, put(eos_token_id=int(plain[1])))
    assert len(think(folder, max_new_tokens=8).token_ids) <= 2
    edit(file, put(min_new_tokens=6, max_new_tokens=None))
    assert len(think(folder, max_new_tokens=8).token_ids) >= 6
    assert len(think(folder, max_new_tokens=4).token_ids) == 4, "fewer by the caller's wish"
    edit(file, put(min_new_tokens=None, eos_token_id=None, stop_strings=tte.Tokenizer(folder).decode(plain[3:5])))
    assert think(folder, max_new_tokens=8).finish == tte.FinishReason.STOP


def written_by_transformers(folder: Path) -> list[int]:
    """What generate() writes by the checkpoint's own settings, without sampling."""
    inputs = AutoProcessor.from_pretrained(folder).apply_chat_template(
        [TALK], tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
    )
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return model.generate(**inputs, do_sample=False)[0, inputs["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("place", [None, "text_config"])
def test_config_json_says_how_to_decode_where_no_other_file_does(place: str | None, folder: Path) -> None:
    (folder / "generation_config.json").unlink()

    def setting(**values: Any) -> Callable[[Any], Any]:
        return lambda old: {**old, **values} if place is None else {**old, place: {**old[place], **values}}

    edit(folder / "config.json", setting(max_new_tokens=8, eos_token_id=None))
    plain = written_by_transformers(folder)
    edit(folder / "config.json", setting(repetition_penalty=5.0))
    expected = written_by_transformers(folder)
    assert expected != plain
    assert think(folder, max_new_tokens=None).token_ids == expected
    edit(folder / "config.json", setting(no_repeat_ngram_size=1))
    with pytest.raises(tte.ModelError, match=r'/config\.json asks .* "no_repeat_ngram_size"'):
        think(folder)
    (folder / "generation_config.json").write_text("{}")
    assert think(folder, max_new_tokens=8).token_ids == plain


def test_max_length_counts_the_prompt(folder: Path) -> None:
    file = folder / "generation_config.json"
    edit(file, put(eos_token_id=None))
    plain = think(folder, max_new_tokens=8)
    length = plain.prompt_tokens
    edit(file, put(max_length=length + 5))
    expected = written_by_transformers(folder)
    assert len(expected) == 5
    trace = think(folder, max_new_tokens=None)
    assert (trace.token_ids, trace.finish) == (expected, tte.FinishReason.LENGTH)
    assert think(folder, max_new_tokens=8).token_ids == plain.token_ids, "the caller says how many"
    edit(file, put(max_new_tokens=2))
    assert think(folder, max_new_tokens=None).token_ids == expected[:2], "the file's other key wins"
    edit(file, put(max_new_tokens=None, max_length=length))
    with pytest.raises(tte.InputError, match=rf'a prompt of {length} tokens leaves no room in .* "max_length"'):
        think(folder, max_new_tokens=None)


def test_the_files_sampling_holds_only_if_it_is_asked_for(folder: Path) -> None:
    file = folder / "generation_config.json"
    edit(file, put(eos_token_id=None))
    greedy = think(folder, max_new_tokens=8, checkpoint_sampling=False).token_ids
    edit(file, put(do_sample=True, temperature=5.0, top_k=0))
    assert think(folder, max_new_tokens=8, checkpoint_sampling=False).token_ids == greedy
    sampled = think(folder, max_new_tokens=8, seed=1).token_ids
    assert sampled != greedy
    assert think(folder, max_new_tokens=8, temperature=0).token_ids == greedy
    (folder / "recipe.json").write_text('{"decoding": {"checkpoint_sampling": true}}')
    asked = think(folder, max_new_tokens=8, seed=1, checkpoint_sampling=False).token_ids
    assert asked == sampled, "the recipe asks for it"


def test_the_file_holds_where_nobody_says_otherwise(folder: Path) -> None:
    file = folder / "generation_config.json"
    edit(file, put(eos_token_id=None))
    greedy = think(folder, max_new_tokens=8, checkpoint_sampling=False).token_ids
    edit(file, put(repetition_penalty=50.0, max_new_tokens=5))
    penalised = think(folder, max_new_tokens=8, checkpoint_sampling=False).token_ids
    assert penalised != greedy
    assert think(folder, max_new_tokens=None, checkpoint_sampling=False).token_ids == penalised[:5]
    assert think(folder, max_new_tokens=8, repetition_penalty=1, checkpoint_sampling=False).token_ids == greedy
    (folder / "recipe.json").write_text('{"decoding": {"repetition_penalty": 1}}')
    assert think(folder, max_new_tokens=8, checkpoint_sampling=False).token_ids == greedy, "the recipe says otherwise"


def test_a_recipes_decoding_holds_where_the_caller_says_nothing(folder: Path) -> None:
    recipe = folder / "recipe.json"
    recipe.write_text('{"decoding": {"temperature": 5.0, "max_new_tokens": 6, "ignore_eos": true}}')
    reasoner = tte.Reasoner(folder, device="cpu")
    sampled = reasoner.think([TALK], seed=1, progress=False)[0]
    assert len(sampled.token_ids) == 6
    assert sampled.token_ids != reasoner.think([TALK], temperature=0, progress=False)[0].token_ids
    assert sampled.token_ids == reasoner.think([TALK], temperature=5.0, seed=1, progress=False)[0].token_ids


# --- what is no checkpoint


def test_what_is_no_checkpoint_is_told(tmp_path: Path, folder: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen2-VL-2B-Instruct"}')
    (adapter / "adapter_model.safetensors").write_bytes(b"x")
    gguf = tmp_path / "gguf"
    gguf.mkdir()
    (gguf / "model-q4.gguf").write_bytes(b"GGUF")
    pickled = shutil.copytree(folder, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "weights.pth")
    quantised = shutil.copytree(folder, tmp_path / "quantised")
    edit(quantised / "config.json", put(quantization_config={"quant_method": "gptq", "bits": 4}))
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    cases = {
        adapter: r"is an adapter of .Qwen/Qwen2-VL-2B-Instruct.* was not found: give the model",
        gguf: r"GGUF file \(model-q4\.gguf\)",
        gguf / "model-q4.gguf": "is a GGUF file",
        pickled: r"pickled weights \(weights\.pth\)",
        quantised: r"quantised \(gptq\)",
        tmp_path / "none": "is not a folder",
        folder / "config.json": "is not a folder",
        loop: "folder",
        tmp_path: "has no config.json",
    }
    for path, words in cases.items():
        for load in (tte.Embedder, tte.Reasoner):
            with pytest.raises(tte.ModelError, match=words) as error:
                load(path, device="cpu")
            assert len(str(error.value)) < 500
            assert "\n" not in str(error.value)


def test_a_folder_with_a_tokenizer_alone_is_enough_for_it(folder: Path) -> None:
    expected = tte.Tokenizer(folder).encode("the cat <|im_end|>")
    for file in ("config.json", "model.safetensors"):
        (folder / file).unlink()
    assert tte.Tokenizer(folder).encode("the cat <|im_end|>") == expected


def test_a_text_of_many_megabytes_is_refused(folder: Path) -> None:
    text = "word " * 2_000_000
    with pytest.raises(tte.InputError, match="The text has 10000000 bytes: at most 8388608"):
        tte.Tokenizer(folder).encode(text)
    embedder = tte.Embedder(folder, device="cpu")
    with pytest.raises(tte.InputError, match=r"item 1.*10000000 bytes"):
        embedder.embed(["a", text], progress=False)


# --- fingerprints


def test_fingerprints_know_every_byte(folder: Path) -> None:
    before = tte.Embedder(folder, device="cpu").model
    tensors = load_file(folder / "model.safetensors")
    name = next(n for n in tensors if n.endswith("embed_tokens.weight"))
    tensors[name][-9, 3] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    after = tte.Embedder(folder, device="cpu").model
    assert after.fingerprint != before.fingerprint
    assert after.vision_fingerprint == before.vision_fingerprint


def test_two_towers_that_differ_in_one_value_are_two(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    name = next(n for n in tensors if "visual" in n and n.endswith("blocks.0.attn.qkv.weight"))
    tensors[name].view(-1)[tensors[name].numel() // 2 + 17] += 4
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    item = [{"role": "user", "content": [{"type": "image", "image": noise(84, 84)}]}]
    alone = tte.Embedder(other, backend=tte.Backend(device="cpu")).embed([item], progress=False)
    backend = tte.Backend(device="cpu")
    first = tte.Embedder(folder, backend=backend)
    first.embed([item], progress=False)
    second = tte.Embedder(other, backend=backend)
    assert second.model.vision_fingerprint != first.model.vision_fingerprint
    assert np.array_equal(second.embed([item], progress=False), alone)


def test_weights_that_are_written_to_stop_the_model(folder: Path) -> None:
    embedder = tte.Embedder(folder, device="cpu")
    embedder.embed([TALK], progress=False)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\0")
    with pytest.raises(tte.ModelError, match=r"model\.safetensors was written to"):
        embedder.embed([TALK], progress=False)
