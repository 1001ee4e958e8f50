"""Qwen3.5 beyond what all families are tested for: its states, its text model alone, its template's options."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
import tte
from checkpoints import SHAPES, Shape, make_tokenizer
from conversations import conversations
from references import Reference, states
from safetensors.torch import load_file, save_file

SHAPE = next(shape for shape in SHAPES if shape.family == "qwen3_5")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = ["the cat and dog", "Grüße 東京 😀 1234", "think about it then answer with one word " * 20, "x"]

GetReference = Callable[[Shape], Reference]


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    return conversations(tmp_path_factory.mktemp("images"))


def test_neither_the_batch_nor_the_size_of_steps_changes_a_bit(
    reference: GetReference, talks: dict[str, list[dict[str, Any]]]
) -> None:
    folder = reference(SHAPE).folder
    items = list(talks.values())
    together = tte.Embedder(folder, device="cpu").embed(items, progress=False)
    alone = np.concatenate([tte.Embedder(folder, device="cpu").embed(item) for item in items])
    np.testing.assert_array_equal(alone, together)
    for tokens in (1, 7, 64):
        backend = tte.Backend("cpu", max_step_tokens=tokens)
        rows = tte.Embedder(folder, backend=backend).embed(items, progress=False)
        np.testing.assert_array_equal(rows, together, err_msg=f"steps of {tokens} tokens")


def test_an_embedder_goes_on_where_the_reasoner_stopped(
    reference: GetReference, talks: dict[str, list[dict[str, Any]]]
) -> None:
    folder = reference(SHAPE).folder
    items = [talks["text"], talks["image"], talks["video"]]
    backend = tte.Backend("cpu")
    both = tte.think_then_embed(
        items, reasoner=tte.Reasoner(folder, backend=backend), embedder=tte.Embedder(folder, backend=backend),
        max_new_tokens=12, ignore_eos=True, progress=False,
    )  # fmt: skip
    embedder = tte.Embedder(folder, device="cpu")
    rows = embedder.embed(items, traces=both.traces, progress=False)
    np.testing.assert_allclose(both.embeddings, rows, atol=1e-6, rtol=0)


def test_states_share_little_room(reference: GetReference, talks: dict[str, list[dict[str, Any]]]) -> None:
    folder = reference(SHAPE).folder
    items = list(talks.values()) * 2
    expected = tte.Embedder(folder, device="cpu").embed(items, progress=False)
    backend = tte.Backend("cpu", state_bytes=1 << 20)
    np.testing.assert_array_equal(tte.Embedder(folder, backend=backend).embed(items, progress=False), expected)
    with pytest.raises((tte.DeviceError, tte.InputError), match="state_bytes"):
        tte.Embedder(folder, backend=tte.Backend("cpu", state_bytes=1000)).embed(items[:1])


def test_layers_that_guess_several_tokens_are_not_read(reference: GetReference, tmp_path: Path) -> None:
    theirs = reference(SHAPE)
    folder = tmp_path / "mtp"
    shutil.copytree(theirs.folder, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["mtp.fc.weight"] = torch.zeros(64, 128)
    tensors["mtp.layers.0.self_attn.q_proj.weight"] = torch.zeros(8, 64)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    np.testing.assert_array_equal(
        tte.Embedder(folder, device="cpu").embed("a cat"), tte.Embedder(theirs.folder, device="cpu").embed("a cat")
    )
    tensors["model.language_model.layers.0.self_attn.q_proj.weight"] = torch.zeros(8, 64)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(tte.ModelError, match=r"layers\.0\.self_attn\.q_proj"):
        tte.Embedder(folder, device="cpu")


class TextReference:
    """transformers' text model."""

    def __init__(self, folder: Path) -> None:
        tokenizer = make_tokenizer(marks_in_words=True)
        tokenizer.chat_template = TEMPLATE
        config = transformers.Qwen3_5TextConfig(
            hidden_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
            intermediate_size=96, vocab_size=len(tokenizer) + 13, max_position_embeddings=4096, rms_norm_eps=1e-5,
            linear_num_key_heads=1, linear_num_value_heads=3, linear_key_head_dim=16, linear_value_head_dim=16,
            tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        torch.manual_seed(5)
        self.model = transformers.Qwen3_5ForCausalLM(config).eval()
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if parameter.ndim >= 2:
                    parameter.mul_(3)
                else:
                    parameter.add_(torch.randn_like(parameter) * 0.1 - 4 * name.endswith("A_log"))
        self.model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        self.folder = folder
        self.tokenizer = tokenizer

    def ids(self, text: str) -> list[int]:
        messages = [{"role": "user", "content": text}]
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]

    @torch.inference_mode()
    def hidden(self, text: str) -> np.ndarray:
        return self.model.model(torch.tensor([self.ids(text)])).last_hidden_state[0].numpy()

    @torch.inference_mode()
    def greedy(self, text: str, tokens: int) -> list[int]:
        ids = torch.tensor([self.ids(text)])
        out = self.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False,
            eos_token_id=None,
        )  # fmt: skip
        return out[0, ids.shape[1] :].tolist()


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> TextReference:
    return TextReference(tmp_path_factory.mktemp("qwen3_5_text"))


def test_the_text_model_alone(text_model: TextReference) -> None:
    assert json.loads((text_model.folder / "config.json").read_text())["model_type"] == "qwen3_5_text"
    embedder = tte.Embedder(text_model.folder, device="cpu")
    reasoner = tte.Reasoner(text_model.folder, device="cpu")
    traces = reasoner.think(TEXTS, max_new_tokens=32, ignore_eos=True, progress=False)
    for text, row, trace in zip(TEXTS, embedder.embed(TEXTS, progress=False), traces, strict=True):
        expected = text_model.hidden(text)
        assert tte.Processor(text_model.folder)(text)["input_ids"].tolist() == [text_model.ids(text)]
        np.testing.assert_allclose(states(embedder, text), expected, atol=1e-5, rtol=0, err_msg=text)
        last = expected[-1] / np.linalg.norm(expected[-1])
        np.testing.assert_allclose(row, last, atol=1e-5, rtol=0, err_msg=text)
        assert trace.token_ids == text_model.greedy(text, 32), text


def test_the_text_model_without_its_head(text_model: TextReference, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(text_model.folder, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    text_model.model.model.save_pretrained(folder)
    whole = tte.Embedder(text_model.folder, device="cpu").embed(TEXTS, progress=False)
    np.testing.assert_array_equal(tte.Embedder(folder, device="cpu").embed(TEXTS, progress=False), whole)
    with pytest.raises(tte.InputError, match="reads text only"):
        tte.Embedder(folder, device="cpu").embed([[np.zeros((40, 40, 3), np.uint8), "b"]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_types": ["linear_attention"] * 4}, "at least one layer"),
        ({"layer_types": ["full_attention"] * 3}, "4 layers"),
        ({"layer_types": ["sliding_attention"] * 4}, "layer_types"),
        ({"linear_num_value_heads": 5}, "linear_num_value_heads"),
        ({"linear_conv_kernel_dim": 0}, "linear_conv_kernel_dim"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.03}}, "partial_rotary_factor"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "yarn"),
    ],
)
def test_configs_that_make_no_sense(
    reference: GetReference, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(reference(SHAPE).folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"].update(changes)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(tte.ModelError, match=message) as raised:
        tte.Embedder(folder, device="cpu")
    assert "config.json" in str(raised.value)


def _recipe(folder: Path, options: dict[str, Any], **more: Any) -> str:
    path = folder / "recipe.json"
    path.write_text(json.dumps({"name": "options", "prompt": {"template_options": options} | more}))
    return str(path)


@pytest.mark.parametrize(
    "options",
    [
        {"enable_thinking": False},
        {"enable_thinking": True},
        {"reasoning_effort": "low"},
        {"reasoning_effort": 3, "enable_thinking": False},
    ],
)
def test_options_of_the_template(
    reference: GetReference, talks: dict[str, list[dict[str, Any]]], tmp_path: Path, options: dict[str, Any]
) -> None:
    theirs = reference(SHAPE)
    processor = tte.Processor(theirs.folder, recipe=_recipe(tmp_path, options))
    for name, messages in talks.items():
        expected = theirs.inputs(messages, **options)["input_ids"].tolist()
        assert processor(messages)["input_ids"].tolist() == expected, name
    text = talks["text"][0]["content"][0]["text"]
    assert processor(text)["input_ids"].tolist() == theirs.inputs(talks["text"], **options)["input_ids"].tolist()


def test_options_of_the_template_as_a_keyword(
    reference: GetReference, talks: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    """They come on top of the recipe's, also where they are values of numpy, and a pickled processor keeps them."""
    theirs = reference(SHAPE)
    text = talks["text"][0]["content"][0]["text"]
    for recipe in (None, _recipe(tmp_path, {"enable_thinking": True})):
        plain = tte.Processor(theirs.folder, recipe=recipe)
        processor = tte.Processor(
            theirs.folder,
            recipe=recipe,
            template_options={"enable_thinking": np.bool_(False), "reasoning_effort": "low"},
        )
        expected = theirs.inputs(talks["text"], enable_thinking=False, reasoning_effort="low")["input_ids"].tolist()
        assert processor(text)["input_ids"].tolist() == expected
        assert pickle.loads(pickle.dumps(processor))(text)["input_ids"].tolist() == expected
        assert plain(text)["input_ids"].tolist() != expected
        assert processor.recipe_reason == plain.recipe_reason
        options = processor.recipe["prompt"]["template_options"]
        assert options == {"enable_thinking": False, "reasoning_effort": "low"}


def test_options_of_the_template_change_what_a_reasoner_is_asked(reference: GetReference) -> None:
    folder = reference(SHAPE).folder
    asked, kept = (
        {"dtype": "float32", "device": "cpu", "template_options": given} for given in ({"enable_thinking": False}, {})
    )
    quick, usual = tte.Reasoner(folder, **asked), tte.Reasoner(folder, **kept)
    assert usual.model.recipe != quick.model.recipe
    assert "enable_thinking" in quick.model.recipe


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"enable_thinkin": False}, r'"enable_thinkin".*is none that the chat template'),
        ({"messages": "x"}, r"template_options\.messages.*tte sets it"),
        ({"enable_thinking": 0.5}, r"template_options\['enable_thinking'\] is 0\.5: it must be True"),
        ({"enable_thinking": 2**63}, r"template_options\['enable_thinking'\] is 9223372036854775808"),
        ({3: False}, r"the name of a template option is 3"),
        ([("enable_thinking", False)], r"template_options is .*: it must be a dict"),
        ({str(i): i for i in range(101)}, r"of at most 100 options"),
    ],
)
def test_options_of_the_template_that_are_refused(reference: GetReference, options: Any, message: str) -> None:
    with pytest.raises(tte.Error, match=message):
        tte.Processor(reference(SHAPE).folder, template_options=options)


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        ({"enable_thinkin": False}, {}, r'"enable_thinkin".*is none that the chat template'),
        ({"thinking": False}, {}, r'"thinking".*is none that the chat template'),
        ({"messages": "x"}, {}, r"template_options\.messages.*tte sets it"),
        ({"enable_thinking": [1]}, {}, r"template_options\.enable_thinking.*\[1\]"),
        ({"enable_thinking": 0.5}, {}, r"template_options\.enable_thinking.*0\.5"),
        ({"enable_thinking": False}, {"style": "raw", "raw": "{content}"}, r"template_options.*style"),
    ],
)
def test_options_that_the_template_does_not_have(
    reference: GetReference, tmp_path: Path, options: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(tte.ModelError, match=message):
        tte.Processor(reference(SHAPE).folder, recipe=_recipe(tmp_path, options, **more))


def test_the_normaliser_is_the_files_own(reference: GetReference, tmp_path: Path) -> None:
    folder = tmp_path / "normaliser"
    shutil.copytree(reference(SHAPE).folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    content = json.loads((folder / "tokenizer.json").read_text())
    last_line = {"type": "Replace", "pattern": {"Regex": "\n$"}, "content": ""}
    content["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}, last_line]}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    theirs, ours = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")), tte.Tokenizer(folder)
    for text in ("a cat\n", "a\n\n", "\n", "e\u0301 नमस्ते ก็ 𑄌\n1", "a\nb", "a\r\n", "", "the dog\n<|im_end|>\n"):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids, repr(text)
