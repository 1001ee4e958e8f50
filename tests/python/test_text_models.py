"""Text-only Qwen3 against transformers: generators, and embedders saved without their head's name."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import tte
from checkpoints import make_tokenizer

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = ["the cat and dog", "Grüße 東京 😀 1234", "think about it then answer with one word " * 6, "x"]


@dataclass(frozen=True)
class Reference:
    folder: Path
    model: transformers.PreTrainedModel
    tokenizer: transformers.PreTrainedTokenizerBase

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
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """A random Qwen3 with heads larger than the hidden size allows."""
    tokenizer = make_tokenizer()
    tokenizer.chat_template = TEMPLATE
    config = transformers.Qwen3Config(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=24,
        intermediate_size=96, vocab_size=len(tokenizer) + 13, max_position_embeddings=4096, rms_norm_eps=1e-5,
        tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )  # fmt: skip
    torch.manual_seed(3)
    model = transformers.Qwen3ForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(3)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    folder = tmp_path_factory.mktemp("qwen3")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Reference(folder, model, tokenizer)


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
        np.testing.assert_allclose(embedder.embed_tokens(text)[0], expected, atol=1e-5, rtol=0, err_msg=text)
        last = expected[-1] / np.linalg.norm(expected[-1])
        np.testing.assert_allclose(row, last, atol=1e-5, rtol=0, err_msg=text)


def test_greedy_tokens(theirs: Reference) -> None:
    reasoner = tte.Reasoner(theirs.folder, device="cpu")
    traces = reasoner.think(TEXTS, max_new_tokens=32, ignore_eos=True, progress=False)
    for text, trace in zip(TEXTS, traces, strict=True):
        assert trace.token_ids == theirs.greedy(text, 32), text


def test_a_model_saved_without_its_head(theirs: Reference, tmp_path: Path) -> None:
    folder = tmp_path / "embedder"
    shutil.copytree(theirs.folder, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    theirs.model.model.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "qwen3"
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
