"""LLaVA-NeXT: sizes of images, names of tensors, tokenizers that begin a text, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import tte
from checkpoints import SHAPES, Shape
from conversations import conversations, user
from families import DATA, PINPOINTS, TILE
from PIL import Image
from references import Reference, noise, states
from safetensors.torch import load_file, save_file

GetReference = Callable[[Shape], Reference]
GetFolder = Callable[[Shape], Path]
SHAPE = next(shape for shape in SHAPES if shape.family == "llava_next")

# One and two pixels wide, as large as a resolution, between two of them, and strips whose grid is all margin.
SIZES = [
    (1, 1), (1, 500), (500, 1), (2, 3), (42, 42), (42, 84), (84, 42), (84, 84), (126, 42), (43, 85), (83, 83),
    (10, 1000), (1000, 10), (67, 100), (100, 67), (33, 200), (126, 127), (300, 299), (41, 43), (250, 84), (640, 480),
]  # fmt: skip


def test_images_of_all_sizes(reference: GetReference, tmp_path: Path) -> None:
    theirs = reference(SHAPE)
    processor = tte.Processor(theirs.folder)
    embedder = tte.Embedder(theirs.folder, device="cpu")
    for height, width in SIZES:
        file = tmp_path / f"{height}x{width}.png"
        Image.fromarray(noise(height, width, height + width)).save(file)
        messages = [user({"type": "image", "image": str(file)}, "what is this")]
        ours, expected = processor(messages), theirs.seen(messages)
        assert ours["input_ids"].tolist() == expected["input_ids"].tolist(), file.name
        np.testing.assert_array_equal(ours["pixel_values"], expected["pixel_values"].numpy(), err_msg=file.name)
        both = (states(embedder, messages), theirs.hidden(messages))
        rows = [state / np.linalg.norm(state, axis=1, keepdims=True) for state in both]
        np.testing.assert_allclose(*rows, atol=1e-5, rtol=0, err_msg=file.name)


def test_equal_tiles_of_images_of_other_sizes_are_other_features(reference: GetReference) -> None:
    """Black images are the same tiles, of which more or less is margin."""
    theirs = reference(SHAPE)
    embedder = tte.Embedder(theirs.folder, device="cpu")
    images = [np.zeros((84, width, 3), np.uint8) for width in (60, 70, 84)]
    together = embedder.embed([[image, "x"] for image in images], progress=False)
    for row, image in zip(together, images, strict=True):
        alone = tte.Embedder(theirs.folder, device="cpu").embed([[image, "x"]], progress=False)[0]
        np.testing.assert_array_equal(row, alone)
    assert not np.allclose(together[0], together[2], atol=1e-4)


def rename(source: Path, folder: Path, names: dict[str, str]) -> Path:
    """A copy whose tensors have other names: prefixes are replaced, the first that fits."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    renamed = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        old = next(prefix for prefix in names if name.startswith(prefix))
        renamed[names[old] + name[len(old) :]] = tensor
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


PUBLISHED = {"vision_tower.": "vision_tower.vision_model.", "": ""}
IN_MEMORY = {"language_model.lm_head.": "lm_head.", "language_model.model.": "model.language_model.", "": "model."}


@pytest.mark.parametrize("names", [PUBLISHED, IN_MEMORY], ids=["published", "in memory"])
@pytest.mark.parametrize("shape", [s for s in SHAPES if s.family == "llava_next"], ids=lambda shape: shape.name)
def test_names_of_all_generations(shape: Shape, names: dict[str, str], checkpoint: GetFolder, tmp_path: Path) -> None:
    source = checkpoint(shape)
    folder = rename(source, tmp_path / "renamed", names)
    item = [noise(50, 90), "the cat"]
    ours, plain = (tte.Reasoner(path, device="cpu").think([item], max_new_tokens=6)[0] for path in (folder, source))
    assert ours.token_ids == plain.token_ids
    rows = [tte.Embedder(path, device="cpu").embed([item], progress=False) for path in (folder, source)]
    np.testing.assert_array_equal(*rows)


def test_a_model_saved_without_its_head_and_with_buffers_of_old_tools(reference: GetReference, tmp_path: Path) -> None:
    theirs = reference(SHAPE)
    folder = tmp_path / "bare"
    shutil.copytree(theirs.folder, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    theirs.model.model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(10)[None]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    item = [noise(50, 90), "the cat"]
    rows = [tte.Embedder(path, device="cpu").embed([item], progress=False) for path in (folder, theirs.folder)]
    np.testing.assert_array_equal(*rows)


@pytest.mark.parametrize("begins", [True, False], ids=["begins", "begins not"])
def test_a_tokenizer_that_begins_texts(begins: bool, reference: GetReference, tmp_path: Path) -> None:
    """sentencepiece, a template as LLaVA-NeXT's, and images before the text."""
    theirs = reference(SHAPE)
    folder = tmp_path / "spm"
    keep = shutil.ignore_patterns("tokenizer*", "*.jinja", "special_tokens_map.json")
    shutil.copytree(theirs.folder, folder, ignore=keep)
    shutil.copy(DATA / "text" / "spm_llama" / "tokenizer.model", folder)
    added = {"430": {"content": "<image>", "special": True}, "431": {"content": "<pad>", "special": True}}
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": begins, "added_tokens_decoder": added,
        "pad_token": "<pad>", "processor_class": "LlavaNextProcessor",
    }))  # fmt: skip
    (folder / "chat_template.jinja").write_text(
        "{% for message in messages %}{% if message.role == 'user' %}{{ '[INST] ' }}"
        "{% for content in message.content | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
        "{% for content in message.content | selectattr('type', 'equalto', 'text') %}{{ content.text }}{% endfor %}"
        "{{ ' [/INST]' }}{% else %}{{ message.content[0].text }}{{ '</s> ' }}{% endif %}{% endfor %}"
    )
    config = json.loads((folder / "config.json").read_text())
    config["image_token_index"] = 430
    config["text_config"]["vocab_size"] = 440
    (folder / "config.json").write_text(json.dumps(config))
    settings = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps({**settings, "image_token": "<image>"}))
    processor = transformers.AutoProcessor.from_pretrained(folder)
    ours = tte.Processor(folder)
    for name, messages in conversations(tmp_path).items():
        if "video" in name or name in {"system", "turns"}:
            continue
        talk = [{**m, "content": [{"type": "text", "text": m["content"]}] if isinstance(m["content"], str) else
                 m["content"]} for m in messages]  # fmt: skip
        expected = processor.apply_chat_template(talk, tokenize=True, return_dict=True)["input_ids"][0]
        assert ours(talk)["input_ids"][0].tolist() == list(expected), name
        assert (expected[0] == 1) == begins, name


def test_videos_and_sizes_are_refused(reference: GetReference) -> None:
    embedder = tte.Embedder(reference(SHAPE).folder, device="cpu")
    frames = np.zeros((4, 40, 40, 3), np.uint8)
    with pytest.raises(tte.InputError, match=r"item 0: it has a video, but the model of .* reads text and images"):
        embedder.embed([{"video": frames}], progress=False)
    with pytest.raises(tte.InputError, match=r"fixed sizes \(image_grid_pinpoints\)"):
        embedder.embed([[{"type": "image", "image": frames[0], "max_pixels": 900}, "a"]], progress=False)
    rows = embedder.embed(["a", {"video": frames}], progress=False, on_error="skip")
    assert np.isfinite(rows[0]).all()


def edited(source: Path, folder: Path, file: str, edit: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy without weights, one of whose files is changed."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    content = json.loads((folder / file).read_text())
    edit(content)
    (folder / file).write_text(json.dumps(content))
    return folder


CONFIG, PROCESSOR = "config.json", "processor_config.json"


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        (CONFIG, lambda c: c.update(vision_feature_select_strategy="full"), r"select_strategy.*\"full\".*\"default\""),
        (CONFIG, lambda c: c.update(vision_feature_layer=-5), r"vision_feature_layer.* -5"),
        (CONFIG, lambda c: c.update(vision_feature_layer=[]), r"vision_feature_layer"),
        (CONFIG, lambda c: c.update(image_grid_pinpoints=[[TILE, 100]]), r"image_grid_pinpoints.*\[42,100\]"),
        (CONFIG, lambda c: c.update(image_grid_pinpoints=[]), r"image_grid_pinpoints"),
        (CONFIG, lambda c: c.update(image_token_index=5000), r"image_token_index.*5000"),
        (CONFIG, lambda c: c["text_config"].update(model_type="gemma"), r"text_config.model_type.*gemma.*mistral"),
        (CONFIG, lambda c: c["text_config"].update(sliding_window=-1), r"text_config.sliding_window"),
        (CONFIG, lambda c: c["vision_config"].update(model_type="siglip_vision_model"), r"siglip.*clip_vision_model"),
        (CONFIG, lambda c: c["vision_config"].update(patch_size=16), r"vision_config.patch_size.*divide"),
        (PROCESSOR, lambda c: c["image_processor"].update(size={"shortest_edge": 56}), r"size.*image_size, 42"),
        (PROCESSOR, lambda c: c["image_processor"].update(crop_size=56), r"crop_size.*image_size, 42"),
        (PROCESSOR, lambda c: c["image_processor"].update(resample=2), r"resample.*bicubic"),
        (PROCESSOR, lambda c: c["image_processor"].update(image_grid_pinpoints=PINPOINTS[1:]), r"pinpoints.*differ"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_named(
    file: str, edit: Callable[[dict[str, Any]], Any], message: str, checkpoint: GetFolder, tmp_path: Path
) -> None:
    folder = edited(checkpoint(SHAPE), tmp_path / "edited", file, edit)
    with pytest.raises(tte.ModelError, match=message) as raised:
        tte.Processor(folder)
    assert str(folder) in str(raised.value)
    assert len(str(raised.value)) < 500
