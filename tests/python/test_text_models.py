"""Models of text only against transformers: generators, and embedders saved without their head."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import tte
from checkpoints import make_tokenizer
from families import DATA
from references import states
from safetensors.torch import load_file, save_file
from tokenizers import processors

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = ["the cat and dog", "Grüße 東京 😀 1234", "think about it then answer with one word " * 6, "x"]


@dataclass(frozen=True)
class Kind:
    """A model of text: its classes, and what its config says beside the sizes that all have."""

    name: str
    config: type[transformers.PreTrainedConfig]
    model: type[transformers.PreTrainedModel]
    options: dict[str, Any] = field(default_factory=dict)


LLAMA = (transformers.LlamaConfig, transformers.LlamaForCausalLM)
# The longest of the texts turn past what the model was first trained on, where scaled frequencies differ.
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
KINDS = [
    # Heads larger than the hidden size allows.
    Kind("qwen3", transformers.Qwen3Config, transformers.Qwen3ForCausalLM, {"head_dim": 24}),
    # Layers of a plain MLP beside those of experts, whose shares are divided by their sum, or not.
    Kind("qwen3-moe", transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM, {
        "head_dim": 24, "num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 40,
        "norm_topk_prob": True, "decoder_sparse_step": 2,
    }),
    Kind("qwen3-moe-shares", transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM, {
        "num_experts": 4, "num_experts_per_tok": 3, "moe_intermediate_size": 24, "mlp_only_layers": [1],
        "tie_word_embeddings": False,
    }),
    Kind("qwen3-biases", transformers.Qwen3Config, transformers.Qwen3ForCausalLM, {"attention_bias": True}),
    Kind("qwen2", transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    Kind("qwen2-untied", transformers.Qwen2Config, transformers.Qwen2ForCausalLM, {
        "num_key_value_heads": None, "tie_word_embeddings": False,
    }),
    # Heads of a size that no vector is a multiple of; as many keys as queries.
    Kind("llama", *LLAMA, {
        "hidden_size": 72, "num_attention_heads": 3, "num_key_value_heads": None, "intermediate_size": 100,
        "tie_word_embeddings": False, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    }),
    Kind("llama-heads-of-48", *LLAMA, {
        "hidden_size": 288, "num_attention_heads": 6, "num_key_value_heads": 6, "intermediate_size": 768,
    }),
    Kind("llama-heads-of-8", *LLAMA, {
        "num_hidden_layers": 5, "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 172,
    }),
    Kind("llama-3.1", *LLAMA, {"rope_parameters": LLAMA3, "attention_bias": True, "mlp_bias": True}),
    Kind("llama-linear", *LLAMA, {
        "head_dim": 20, "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
    }),
    Kind("mistral", transformers.MistralConfig, transformers.MistralForCausalLM, {
        "head_dim": 24, "sliding_window": None, "tie_word_embeddings": False,
    }),
]  # fmt: skip


@dataclass(frozen=True)
class Reference:
    folder: Path
    model: transformers.PreTrainedModel
    tokenizer: transformers.PreTrainedTokenizerBase

    def ids(self, text: str) -> list[int]:
        if self.tokenizer.chat_template is None:
            return self.tokenizer(text)["input_ids"]
        messages = [{"role": "user", "content": text}]
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]

    @torch.inference_mode()
    def hidden(self, text: str) -> np.ndarray:
        return self.model.model(torch.tensor([self.ids(text)])).last_hidden_state[0].numpy()

    @torch.inference_mode()
    def greedy(self, text: str, tokens: int, **options: Any) -> list[int]:
        ids = torch.tensor([self.ids(text)])
        options = {"min_new_tokens": tokens, "eos_token_id": None, **options}
        out = self.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, pad_token_id=0, **options
        )
        return out[0, ids.shape[1] :].tolist()


def make(folder: Path, kind: Kind, tokenizer: transformers.PreTrainedTokenizerBase) -> Reference:
    """Write a random model of a kind."""
    sizes = {
        "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 96, "vocab_size": len(tokenizer) + 13, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    }  # fmt: skip
    torch.manual_seed(3)
    model = kind.model(kind.config(**{**sizes, **kind.options})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.mul_(3)
            else:
                parameter.add_(torch.randn_like(parameter) * (0.1 if "norm" in name else 0.5))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Reference(folder, model, tokenizer)


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Reference]:
    """Return the random checkpoint of a kind, written once."""
    made: dict[str, Reference] = {}

    def get(kind: Kind) -> Reference:
        if kind.name not in made:
            tokenizer = make_tokenizer()
            tokenizer.chat_template = TEMPLATE
            made[kind.name] = make(tmp_path_factory.mktemp(kind.name), kind, tokenizer)
        return made[kind.name]

    return get


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def theirs(request: pytest.FixtureRequest, references: Callable[[Kind], Reference]) -> Reference:
    """Each of the kinds."""
    return references(request.param)


def test_ids_and_positions(theirs: Reference) -> None:
    processor = tte.Processor(theirs.folder)
    for text in TEXTS:
        ours = processor(text)
        ids = theirs.ids(text)
        assert ours["input_ids"].tolist() == [ids]
        assert not ours["mm_token_type_ids"].any()
        np.testing.assert_array_equal(ours["position_ids"], np.broadcast_to(np.arange(len(ids)), (3, 1, len(ids))))


def test_hidden_states_and_embeddings(theirs: Reference) -> None:
    embedder = tte.Embedder(theirs.folder, device="cpu")
    together = embedder.embed(TEXTS, progress=False)
    for text, row in zip(TEXTS, together, strict=True):
        expected = theirs.hidden(text)
        np.testing.assert_allclose(states(embedder, text), expected, atol=1e-5, rtol=0, err_msg=text)
        last = expected[-1] / np.linalg.norm(expected[-1])
        np.testing.assert_allclose(row, last, atol=1e-5, rtol=0, err_msg=text)
        np.testing.assert_array_equal(embedder.embed(text)[0], row, err_msg=f"{text} alone")


def test_greedy_tokens(theirs: Reference) -> None:
    reasoner = tte.Reasoner(theirs.folder, device="cpu")
    traces = reasoner.think(TEXTS, max_new_tokens=32, ignore_eos=True, progress=False)
    for text, trace in zip(TEXTS, traces, strict=True):
        assert trace.token_ids == theirs.greedy(text, 32), text


def test_any_of_several_end_tokens_ends(theirs: Reference, tmp_path: Path) -> None:
    folder = tmp_path / "ends"
    shutil.copytree(theirs.folder, folder)
    free = theirs.greedy(TEXTS[0], 12)
    ends = [free[9], free[4]]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    expected = theirs.greedy(TEXTS[0], 12, min_new_tokens=None, eos_token_id=ends)
    trace = tte.Reasoner(folder, device="cpu").think(TEXTS[0], max_new_tokens=12)[0]
    assert len(expected) < 12
    assert (trace.token_ids, trace.finish) == (expected, tte.FinishReason.STOP)


def test_sharded_checkpoints_and_bfloat16(theirs: Reference, tmp_path: Path) -> None:
    folder = tmp_path / "sharded"
    shutil.copytree(theirs.folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    theirs.model.save_pretrained(folder, max_shard_size="50KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    whole = tte.Embedder(theirs.folder, device="cpu").embed(TEXTS, progress=False)
    np.testing.assert_array_equal(tte.Embedder(folder, device="cpu").embed(TEXTS, progress=False), whole)


def test_a_model_saved_without_its_head(theirs: Reference, tmp_path: Path) -> None:
    folder = tmp_path / "embedder"
    shutil.copytree(theirs.folder, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    theirs.model.model.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == theirs.model.config.model_type
    whole = tte.Embedder(theirs.folder, device="cpu").embed(TEXTS, progress=False)
    np.testing.assert_array_equal(tte.Embedder(folder, device="cpu").embed(TEXTS, progress=False), whole)


def test_images_and_videos_are_refused(theirs: Reference) -> None:
    embedder = tte.Embedder(theirs.folder, device="cpu")
    image = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(tte.InputError, match=r"item 1: it has an image, but the model of .* reads text only") as raised:
        embedder.embed(["a", [image, "b"]], progress=False)
    assert str(theirs.folder) in str(raised.value)
    with pytest.raises(tte.InputError, match=r"item 0: it has a video, but the model of .* reads text only"):
        embedder.embed([{"video": np.stack([image] * 4)}], progress=False)
    rows = embedder.embed(["a", [image, "b"]], progress=False, on_error="skip")
    assert np.isfinite(rows[0]).all()


def test_a_recipe_with_a_blank_image_is_refused(theirs: Reference, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"name": "blank", "prompt": {"blank_image": 28}}))
    with pytest.raises(tte.ModelError, match=r'"blank".*reads text only'):
        tte.Embedder(theirs.folder, recipe=str(recipe), device="cpu")


def edited(theirs: Reference, folder: Path, **config: Any) -> Path:
    """A copy without weights whose config.json says something else; ... takes a key out."""
    shutil.copytree(theirs.folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    file = folder / "config.json"
    text = {**json.loads(file.read_text()), **config}
    file.write_text(json.dumps({key: value for key, value in text.items() if value is not ...}))
    return folder


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"sliding_window": 0}, r"sliding_window\" is 0"),
        ({"use_sliding_window": True}, r"use_sliding_window"),
        ({"layer_types": ["sliding_attention"] * 3}, r"layer_types.*full_attention"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, r"\"yarn\".*\"llama3\""),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, r"\"dynamic\".*\"linear\""),
        ({"rope_scaling": {"rope_type": "linear"}}, r"rope_scaling.factor\" is missing"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, r"factor\" is 0"),
        ({"rope_scaling": {**LLAMA3, "high_freq_factor": 1.0}}, r"high_freq_factor.*above low_freq_factor"),
        ({"hidden_act": "gelu"}, r"hidden_act.*silu"),
        ({"num_key_value_heads": 3}, r"num_key_value_heads.*divide"),
        ({"head_dim": 23}, r"head_dim.*odd"),
        # With which transformers' kinds of attention go each its own way.
        ({"is_causal": None}, r"is_causal\" is null.*true or false"),
        ({"is_causal": "no"}, r"is_causal\" is \"no\""),
        ({"per_layer_config": {"0": {"intermediate_size": 8}}}, r"per_layer_config\" gives layers settings"),
        ({"transformers_weights": "other.safetensors"}, r"transformers_weights\" is \"other\.safetensors\""),
    ],
)
def test_what_is_not_supported_is_named(
    config: dict[str, Any], message: str, references: Callable[[Kind], Reference], tmp_path: Path
) -> None:
    theirs = references(KINDS[-1])
    longer = {"max_position_embeddings": 32768, **config}
    with pytest.raises(tte.ModelError, match=message) as raised:
        tte.Processor(edited(theirs, tmp_path / "edited", **longer))
    assert "config.json" in str(raised.value)


def again(theirs: Reference, folder: Path, attention: str = "sdpa", **config: Any) -> Reference:
    """The checkpoint with another config.json, and what transformers makes of it."""
    edited(theirs, folder, **config)
    shutil.copy(theirs.folder / "model.safetensors", folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention).eval()
    return Reference(folder, model, theirs.tokenizer)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_config_that_is_not_causal_sees_both_ways(theirs: Reference, attention: str, tmp_path: Path) -> None:
    both = again(theirs, tmp_path / "both", attention, is_causal=False)
    embedder = tte.Embedder(both.folder, device="cpu")
    rows = embedder.embed(TEXTS, progress=False)
    for text, row in zip(TEXTS, rows, strict=True):
        expected = both.hidden(text)
        np.testing.assert_allclose(states(embedder, text), expected, atol=1e-5 * max(1, np.abs(expected).max()), rtol=0)
        np.testing.assert_allclose(row, expected[-1] / np.linalg.norm(expected[-1]), atol=1e-5, rtol=0)
    assert np.abs(states(embedder, TEXTS[0]) - theirs.hidden(TEXTS[0])).max() > 1e-2
    with pytest.raises(tte.ModelError, match=r'"is_causal": false makes .* bidirectional.* an Embedder\.$'):
        tte.Reasoner(both.folder, device="cpu")


@pytest.mark.parametrize(
    ("name", "config", "tensor", "says"),
    [
        ("llama-3.1", {"mlp_bias": False}, None, r'a tensor ".*mlp\.\w+\.bias", but by .*"mlp_bias" is false'),
        ("llama-3.1", {"attention_bias": ...}, None, r'a tensor ".*self_attn\.\w+\.bias", .*"attention_bias" is false'),
        ("qwen3-biases", {"attention_bias": False}, None, r'a tensor ".*self_attn.*"attention_bias" is false'),
        ("llama", {"mlp_bias": True}, None, r'no tensor ".*mlp\.\w+\.bias", but by .*"mlp_bias" is true'),
        ("qwen3", {"attention_bias": True}, None, r'no tensor ".*self_attn\.\w+\.bias", .*"attention_bias" is true'),
        ("qwen2", {}, "-model.layers.1.self_attn.k_proj.bias", r"no tensor .*its model_type have a bias there"),
        ("qwen2", {}, "model.layers.1.self_attn.o_proj.bias", r"a tensor .*its model_type have no bias there"),
        ("mistral", {}, "model.layers.0.self_attn.o_proj.bias", r"a tensor .*models of its model_type have no bias"),
        ("qwen3-moe", {}, "model.layers.1.mlp.gate.bias", r"a tensor .*its model_type have no bias there"),
        ("llama", {}, "lm_head.bias", r'uses: "lm_head\.bias"'),
    ],
)
def test_biases_that_config_and_tensors_disagree_about(
    name: str, config: dict[str, Any], tensor: str | None, says: str,
    references: Callable[[Kind], Reference], tmp_path: Path,
) -> None:  # fmt: skip
    theirs = references(next(kind for kind in KINDS if kind.name == name))
    other = again(theirs, tmp_path / "other", **config)
    if tensor is not None:
        tensors = load_file(other.folder / "model.safetensors")
        if tensor.startswith("-"):
            del tensors[tensor[1:]]
        else:
            tensors[tensor] = torch.ones(tensors[tensor.replace(".bias", ".weight")].shape[0])
        save_file(tensors, other.folder / "model.safetensors", metadata={"format": "pt"})
        other = again(other, tmp_path / "again")
    if "a tensor" in says:  # transformers leaves it out.
        has = {key for key, _ in other.model.named_parameters()}
        stored = set(load_file(other.folder / "model.safetensors"))
        assert any(key.endswith(".bias") for key in stored - has)
    with pytest.raises(tte.ModelError, match=says) as raised:
        tte.Embedder(other.folder, device="cpu")
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("key", ["sliding_window", "attention_chunk_size"])
def test_a_window_that_only_the_cache_of_transformers_has(
    key: str, references: Callable[[Kind], Reference], tmp_path: Path
) -> None:
    theirs = references(next(kind for kind in KINDS if kind.name == "llama-linear"))
    length = len(theirs.ids(TEXTS[0]))
    most = length + 6
    window = again(theirs, tmp_path / "window", **{key: most})
    assert window.greedy(TEXTS[0], 40) != theirs.greedy(TEXTS[0], 40), "it does change what is written"
    reasoner = tte.Reasoner(window.folder, device="cpu")
    trace = reasoner.think(TEXTS[0], ignore_eos=True)[0]
    assert trace.token_ids == window.greedy(TEXTS[0], most - length)
    with pytest.raises(tte.InputError, match=f"but the model knows {most};"):
        reasoner.think(TEXTS[0], max_new_tokens=40)


def test_a_sliding_window_is_as_long_as_prompts_may_be(references: Callable[[Kind], Reference], tmp_path: Path) -> None:
    theirs = references(KINDS[-1])
    length = len(theirs.ids(TEXTS[0]))
    folder = edited(theirs, tmp_path / "window", sliding_window=length)
    shutil.copy(theirs.folder / "model.safetensors", folder)
    window = Reference(folder, transformers.AutoModelForCausalLM.from_pretrained(folder).eval(), theirs.tokenizer)
    assert window.model.config.sliding_window == length
    embedder = tte.Embedder(folder, device="cpu")
    np.testing.assert_allclose(states(embedder, TEXTS[0]), window.hidden(TEXTS[0]), atol=1e-5, rtol=0)
    with pytest.raises(tte.InputError, match=f"positions, but the model knows {length};"):
        embedder.embed(TEXTS[0] + " and a cat")


def test_a_file_that_names_no_window_has_the_familys(references: Callable[[Kind], Reference], tmp_path: Path) -> None:
    theirs = references(KINDS[-1])
    for name, window, most in (("own", ..., 4096), ("none", None, 32768), ("long", 40000, 32768)):
        folder = edited(theirs, tmp_path / name, max_position_embeddings=32768, sliding_window=window)
        shutil.copy(theirs.folder / "model.safetensors", folder)
        with pytest.raises(tte.InputError, match=f"positions, but the model knows {most};"):
            tte.Embedder(folder, device="cpu").embed("\n 1" * 20000)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("llama", {"rope_theta": 1e4, "rope_scaling": None, "num_key_value_heads": None, "head_dim": None}),
        ("llama", {"rope_theta": 1e4, "num_key_value_heads": ..., "head_dim": ..., "pretraining_tp": 1}),
        ("llama-3.1", {"rope_theta": 5e5, "rope_scaling": {k: v for k, v in LLAMA3.items() if k != "rope_theta"}}),
        ("llama-linear", {"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 4.0}}),
    ],
)
def test_config_files_of_old_tools_say_the_same(
    name: str, config: dict[str, Any], references: Callable[[Kind], Reference], tmp_path: Path
) -> None:
    theirs = references(next(kind for kind in KINDS if kind.name == name))
    folder = edited(theirs, tmp_path / "old", rope_parameters=..., **config)
    shutil.copy(theirs.folder / "model.safetensors", folder)
    whole = tte.Embedder(theirs.folder, device="cpu").embed(TEXTS, progress=False)
    np.testing.assert_array_equal(tte.Embedder(folder, device="cpu").embed(TEXTS, progress=False), whole)


def test_a_short_model_writes_as_long_as_it_can(references: Callable[[Kind], Reference], tmp_path: Path) -> None:
    theirs = references(KINDS[1])
    folder = edited(theirs, tmp_path / "short", max_position_embeddings=40)
    shutil.copy(theirs.folder / "model.safetensors", folder)
    reasoner = tte.Reasoner(folder, device="cpu")
    trace = reasoner.think("x", ignore_eos=True)[0]
    left = 40 - len(theirs.ids("x"))
    assert (len(trace.token_ids), trace.finish) == (left, tte.FinishReason.LENGTH)
    assert trace.token_ids == theirs.greedy("x", left)
    with pytest.raises(tte.InputError, match=r"max_new_tokens = 64 .* but the model knows 40"):
        reasoner.think("x", max_new_tokens=64)


# Tokenizers and prompts.

HOSTILE = [
    "Once upon a time, there was a little girl", " leading", "  two", "trailing ", "\n\nlines\n", "", " ", "\t", "▁",
    "a▁ b", "<s> is </s> text <unk>", "<0x41> bytes 東京 😀 é e\u0301", "a  b   c", "don't  stop-it 1234567", "ſ",
    "\u2028\x00\x7f", "é<unk>▁▁ <s> b</s>▁",
]  # fmt: skip


def sentencepiece_folder(folder: Path, **config: Any) -> Path:
    """A folder of tokenizer.model and tokenizer_config.json."""
    folder.mkdir()
    shutil.copy(DATA / "text" / "spm_llama" / "tokenizer.model", folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def byte_level(**template: Any) -> transformers.PreTrainedTokenizerBase:
    """Llama 3's kind: byte-level pieces, and a begin token that the post-processor writes."""
    tokenizer = make_tokenizer()
    tokenizer._tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(**template),
    ])  # fmt: skip
    tokenizer.bos_token = "<|endoftext|>"
    return tokenizer


def begin_token(tokenizer: transformers.PreTrainedTokenizerBase) -> list[tuple[str, int]]:
    token = "<|endoftext|>"
    return [(token, tokenizer.convert_tokens_to_ids(token))]


def tokenizers(folder: Path) -> dict[str, transformers.PreTrainedTokenizerBase]:
    """What Llama's and Mistral's checkpoints have, from their files."""
    made: dict[str, transformers.PreTrainedTokenizerBase] = {}
    for name, config in {
        "model": {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True},
        "model legacy": {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": True},
        "model both": {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": True},
        "model no prefix": {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_prefix_space": False},
        "model bare": {"tokenizer_class": "LlamaTokenizer"},
        "model normalized": {
            "tokenizer_class": "LlamaTokenizer",
            "add_bos_token": True,
            "added_tokens_decoder": {
                str(i): {"content": token, "special": True, "normalized": True}
                for i, token in enumerate(("<unk>", "<s>", "</s>"))
            },
        },
        "model no class": {},
        # As Llama 2's: its named tokens are normalised, and are pieces of the model that are not.
        "model named": {
            "tokenizer_class": "LlamaTokenizer",
            "add_bos_token": True,
            **{
                f"{name}_token": {"__type": "AddedToken", "content": content, "normalized": True}
                for name, content in (("bos", "<s>"), ("eos", "</s>"), ("unk", "<unk>"))
            },
        },
    }.items():
        path = sentencepiece_folder(folder / name.replace(" ", "-"), **config)
        made[name] = transformers.AutoTokenizer.from_pretrained(path)
    begin = begin_token(make_tokenizer())
    made["bytes"] = byte_level(single="<|endoftext|> $A", pair="$A $B", special_tokens=begin)
    made["bytes both"] = byte_level(single="<|endoftext|> $A <|endoftext|>", pair="$A $B", special_tokens=begin)
    return made


@pytest.mark.parametrize("model_type", ["llama", "mistral"])
@pytest.mark.parametrize("saved", [False, True], ids=["tokenizer.model", "tokenizer.json"])
def test_a_checkpoint_without_a_template_reads_the_text_as_its_tokenizer_does(
    model_type: str, saved: bool, tmp_path: Path
) -> None:
    """As the files are, and as save_pretrained makes tokenizer.json of them."""
    for name, tokenizer in tokenizers(tmp_path).items():
        folder = Path(tokenizer.name_or_path)
        if saved or not folder.name:
            folder = tmp_path / f"saved-{name}"
            tokenizer.save_pretrained(folder)
        (folder / "config.json").write_text(json.dumps({"model_type": model_type, "sliding_window": None}))
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        processor, plain = tte.Processor(folder), tte.Tokenizer(folder)
        for text in HOSTILE:
            expected = theirs(text, add_special_tokens=False)["input_ids"]
            assert plain.encode(text) == expected, (name, text)
            assert plain.decode(expected) == theirs.decode(expected, skip_special_tokens=True), (name, text)
            if not text or "<" in text:  # Control tokens in a text of users are text.
                continue
            whole = theirs(text)["input_ids"]
            assert processor(text, stage="embed")["input_ids"][0].tolist() == whole, (name, text)
            # What a reasoner goes on from has no end.
            assert processor(text)["input_ids"][0].tolist() == whole[: -1 if name.endswith("both") else None], (
                name,
                text,
            )


CHATS = {
    "llama-2": (
        "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
        "{% set system = '<<SYS>>\\n' ~ messages[0]['content'] ~ '\\n<</SYS>>\\n\\n' %}"
        "{% else %}{% set rest = messages %}{% set system = '' %}{% endif %}"
        "{% for message in rest %}{% if message['role'] == 'user' %}"
        "{{ bos_token + '[INST] ' + (system if loop.first else '') + message['content'].strip() + ' [/INST]' }}"
        "{% else %}{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "llama-3": (
        "{{- bos_token }}\n{%- for message in messages %}\n"
        "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
        " + message['content'] | trim + '<|eot_id|>' }}\n"
        "{%- endfor %}\n{%- if add_generation_prompt %}\n"
        "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n"
    ),
    "mistral": (
        "{%- if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
        "{% set loop_messages = messages[1:] %}"
        "{%- else %}{% set loop_messages = messages %}{%- endif %}{{- bos_token }}"
        "{%- for message in loop_messages %}"
        "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{- raise_exception('roles must alternate') }}{%- endif %}"
        "{%- if message['role'] == 'user' %}{%- if loop.first and system is defined %}"
        "{{- ' [INST] ' + system + '\\n\\n' + message['content'] + ' [/INST]' }}"
        "{%- else %}{{- ' [INST] ' + message['content'] + ' [/INST]' }}{%- endif %}"
        "{%- else %}{{- ' ' + message['content'] + eos_token }}{%- endif %}{%- endfor %}"
    ),
}
# What Llama 3.1's template does around its turns.
CHATS["llama-3.1"] = r"""{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- The system turn has a place of its own. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if builtin_tools is defined or tools is not none %}
    {{- "Environment: ipython\n" }}
    {{- "Tools: " + builtin_tools | reject('equalto', 'code_interpreter') | join(", ") + "\n\n"}}
{%- endif %}
{{- "Today: " + date_string + "\n\n" }}
{%- if tools is not none and not tools_in_user_message %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'
            + message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one call at a time") }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""
TALKS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": " What is this? \n"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2 "}, {"role": "user", "content": "3"}],
]


@pytest.mark.parametrize("template", CHATS)
@pytest.mark.parametrize("kind", ["model", "model legacy", "bytes"])
def test_chats_begin_once(kind: str, template: str, tmp_path: Path) -> None:
    """The template writes the begin token, which the tokenizer would write too."""
    tokenizer = tokenizers(tmp_path)[kind]
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]}
    )
    tokenizer.chat_template = CHATS[template]
    folder = tmp_path / "chat"
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    processor = tte.Processor(folder)
    for talk in TALKS:
        expected = theirs.apply_chat_template(talk, add_generation_prompt=True)["input_ids"]
        ours = processor(talk)["input_ids"][0].tolist()
        assert ours == expected, talk
        assert ours[0] == theirs.bos_token_id != ours[1]


def test_a_text_goes_on_as_transformers_generates(tmp_path: Path) -> None:
    """No chat template: the reasoner completes the text itself, and the embedder reads it."""
    tokenizer = tokenizers(tmp_path)["model"]
    theirs = make(tmp_path / "stories", KINDS[2], tokenizer)
    assert not (theirs.folder / "chat_template.jinja").exists()
    reasoner, embedder = tte.Reasoner(theirs.folder, device="cpu"), tte.Embedder(theirs.folder, device="cpu")
    texts = [text for text in HOSTILE if text and "<" not in text]
    traces = reasoner.think(texts, max_new_tokens=24, ignore_eos=True, progress=False)
    for text, trace, row in zip(texts, traces, embedder.embed(texts, progress=False), strict=True):
        ids = theirs.greedy(text, 24)
        assert trace.token_ids == ids, text
        assert trace.text == theirs.tokenizer.decode(ids, skip_special_tokens=True), text
        last = theirs.hidden(text)[-1]
        np.testing.assert_allclose(row, last / np.linalg.norm(last), atol=1e-5, rtol=0, err_msg=text)
