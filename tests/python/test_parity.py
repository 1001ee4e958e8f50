"""tte against transformers on random-weight checkpoints: ids, pixels, positions, hidden states, tokens."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import tte
from checkpoints import SHAPES, Shape
from conversations import conversations
from families import FAMILIES
from references import Reference, states
from safetensors.torch import load_file, save_file

GetReference = Callable[[Shape], Reference]
GetFolder = Callable[[Shape], Path]


@pytest.fixture(scope="module")
def all_talks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    """Conversations with their images on disk."""
    return conversations(tmp_path_factory.mktemp("images"))


@pytest.fixture
def talks(all_talks: dict[str, list[dict]], request: pytest.FixtureRequest) -> dict[str, list[dict]]:
    """Those that the family of the test's shape reads."""
    shape = request.node.callspec.params.get("shape") if hasattr(request.node, "callspec") else None
    if shape is None or FAMILIES[shape.family].videos:
        return all_talks
    return {name: talk for name, talk in all_talks.items() if "video" not in name}


def test_processor_gives_the_same_ids_pixels_and_positions(
    shape: Shape, reference: GetReference, talks: dict[str, list[dict]]
) -> None:
    theirs = reference(shape)
    processor = tte.Processor(theirs.folder)
    for name, messages in talks.items():
        ours, expected = processor(messages), theirs.seen(messages)
        assert ours["input_ids"].tolist() == expected["input_ids"].tolist(), name
        assert ours["mm_token_type_ids"].tolist() == expected["mm_token_type_ids"].tolist(), name
        for key in ("pixel_values", "pixel_values_videos", "image_grid_thw", "video_grid_thw"):
            assert (key in ours) == (key in expected), (name, key)
            if key in ours:
                np.testing.assert_array_equal(ours[key], expected[key].numpy(), err_msg=f"{name}: {key}")
        np.testing.assert_array_equal(ours["position_ids"], theirs.positions(messages), err_msg=name)


def test_hidden_states_are_equal_to_1e_5(shape: Shape, reference: GetReference, talks: dict[str, list[dict]]) -> None:
    theirs = reference(shape)
    embedder = tte.Embedder(theirs.folder, device="cpu")
    for name, messages in talks.items():
        expected = theirs.hidden(messages)
        np.testing.assert_allclose(states(embedder, messages), expected, atol=1e-5, rtol=0, err_msg=name)


def changed(folder: Path, made: Path, place: str | None, **values: object) -> Path:
    """A copy of a checkpoint with other values at the root of its config.json, or below a key."""
    shutil.copytree(folder, made)
    config = json.loads((made / "config.json").read_text())
    (config[place] if place else config).update(values)
    (made / "config.json").write_text(json.dumps(config))
    return made


# LLaVA-NeXT's class alone hands the root's on.
@pytest.mark.parametrize(("name", "place", "both"), [
    *((name, "text_config", True) for name in (
        "tied-gqa", "qwen2.5-vl", "qwen3-vl", "qwen3-vl-moe", "llava-next", "qwen3.5", "qwen3.5-moe",
    )),
    ("llava-next", None, True), *((name, None, False) for name in ("old-layout", "qwen2.5-vl", "qwen3-vl", "qwen3.5")),
])  # fmt: skip
def test_attention_sees_both_ways_where_transformers_does(
    name: str, place: str | None, both: bool, reference: GetReference, all_talks: dict[str, list[dict]], tmp_path: Path
) -> None:
    causal = reference(next(s for s in SHAPES if s.name == name))
    theirs = Reference(changed(causal.folder, tmp_path / "both", place, is_causal=False))
    embedder = tte.Embedder(theirs.folder, device="cpu")
    for talk in (all_talks[key] for key in ("text", "image last", "two images")):
        expected = theirs.hidden(talk)
        np.testing.assert_allclose(states(embedder, talk), expected, atol=1e-5 * max(1, np.abs(expected).max()), rtol=0)
        assert (np.abs(expected - causal.hidden(talk)).max() > 1e-2) == both
    if both:
        with pytest.raises(tte.ModelError, match=r'"is_causal": false makes .* bidirectional'):
            tte.Reasoner(theirs.folder, device="cpu")


@pytest.mark.parametrize(("name", "place", "values", "says"), [
    ("llava-next", None, {"is_causal": True}, r"is_causal\" is true.*leave it out"),
    ("llava-next", "vision_config", {"is_causal": True}, r"vision_config.is_causal\" is true.*leave it out"),
    ("llava-next", None, {"multimodal_projector_bias": False}, r'a tensor ".*linear_1\.bias.*projector_bias" is false'),
    ("qwen3-vl", "text_config", {"attention_bias": True}, r'no tensor ".*\.bias", .*"attention_bias" is true'),
])  # fmt: skip
def test_keys_that_are_not_followed_are_named(
    name: str, place: str | None, values: dict[str, bool], says: str, checkpoint: GetFolder, tmp_path: Path
) -> None:
    folder = changed(checkpoint(next(s for s in SHAPES if s.name == name)), tmp_path / "changed", place, **values)
    with pytest.raises(tte.ModelError, match=says):
        tte.Embedder(folder, device="cpu")


def test_a_bias_of_patches_that_the_family_has_not_is_named(checkpoint: GetFolder, tmp_path: Path) -> None:
    for name in ("tied-gqa", "qwen2.5-vl"):
        folder = changed(checkpoint(next(s for s in SHAPES if s.name == name)), tmp_path / name, None)
        tensors = load_file(folder / "model.safetensors")
        weight = next(key for key in tensors if key.endswith("patch_embed.proj.weight"))
        tensors[weight.replace(".weight", ".bias")] = torch.ones(tensors[weight].shape[0])
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(tte.ModelError, match=r'a tensor "visual\.patch_embed\.proj\.bias".*have no bias there'):
            tte.Embedder(folder, device="cpu")


@pytest.mark.parametrize("name", ["tied-gqa", "qwen2.5-vl", "qwen3-vl", "qwen3.5"])
def test_a_towers_other_names_for_its_sizes_come_first(
    name: str, reference: GetReference, all_talks: dict[str, list[dict]], tmp_path: Path
) -> None:
    shape = next(s for s in SHAPES if s.name == name)
    folder = reference(shape).folder
    vision = json.loads((folder / "config.json").read_text())["vision_config"]
    sizes = {"depth": vision["depth"] + 1, "num_hidden_layers": vision["depth"],
             "num_heads": 2 * vision["num_heads"], "num_attention_heads": vision["num_heads"]}  # fmt: skip
    theirs = Reference(changed(folder, tmp_path / "names", "vision_config", **sizes))
    embedder = tte.Embedder(theirs.folder, device="cpu")
    talk = all_talks["image"]
    np.testing.assert_allclose(states(embedder, talk), theirs.hidden(talk), atol=1e-5, rtol=0)


def test_embeddings_are_the_last_token_whatever_the_batch(
    shape: Shape, reference: GetReference, talks: dict[str, list[dict]]
) -> None:
    theirs = reference(shape)
    embedder = tte.Embedder(theirs.folder, device="cpu")
    together = embedder.embed(list(talks.values()), progress=False)
    for row, (name, messages) in zip(together, talks.items(), strict=True):
        expected = theirs.hidden(messages)[-1]
        expected = expected / np.linalg.norm(expected)
        np.testing.assert_allclose(row, expected, atol=1e-5, rtol=0, err_msg=name)
        np.testing.assert_allclose(embedder.embed(messages)[0], row, atol=1e-6, rtol=0, err_msg=f"{name} alone")


def test_greedy_tokens_are_equal_alone_and_in_a_batch(
    shape: Shape, reference: GetReference, talks: dict[str, list[dict]]
) -> None:
    theirs = reference(shape)
    reasoner = tte.Reasoner(theirs.folder, device="cpu")
    together = reasoner.think(list(talks.values()), max_new_tokens=32, ignore_eos=True, progress=False)
    for trace, (name, messages) in zip(together, talks.items(), strict=True):
        expected = theirs.greedy(messages, 32)
        assert trace.token_ids == expected, name
        assert reasoner.think(messages, max_new_tokens=32, ignore_eos=True)[0].token_ids == expected, name
        assert trace.text == theirs.processor.tokenizer.decode(expected, skip_special_tokens=True), name


@pytest.mark.parametrize(
    "shape",
    [
        Shape("bf16", dtype="bfloat16", scale=1.0, layers=3),
        Shape("llava-next-bf16", family="llava_next", dtype="bfloat16", scale=1.0, layers=3, vision_depth=3),
    ],
    ids=lambda shape: shape.name,
)
def test_bfloat16_embeddings_point_the_same_way(
    shape: Shape, checkpoint: GetFolder, reference: GetReference, talks: dict[str, list[dict]]
) -> None:
    theirs = reference(shape)
    rows = tte.Embedder(checkpoint(shape), device="cpu").embed(list(talks.values()), progress=False)
    for row, (name, messages) in zip(rows, talks.items(), strict=True):
        expected = theirs.hidden(messages)[-1]
        cosine = float(row @ expected / np.linalg.norm(expected))
        assert cosine >= 0.9999, (name, cosine)


def test_an_assistant_turn_can_be_continued(shape: Shape, reference: GetReference) -> None:
    theirs = reference(shape)
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "think about it"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "<think>the cat"}]},
    ]
    expected = theirs.inputs(
        messages, add_generation_prompt=False, continue_final_message=True, sanitize_control_tokens=True
    )
    assert tte.Processor(theirs.folder)(messages)["input_ids"].tolist() == expected["input_ids"].tolist()


@pytest.mark.parametrize("sanitize", [True, False])
def test_control_tokens_in_text(sanitize: bool, reference: GetReference) -> None:
    theirs = reference(SHAPES[0])
    messages = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "a <|im_end|> b <think>x</think> <|im_start|>y"}],
        }
    ]
    expected = theirs.inputs(messages, sanitize_control_tokens=sanitize)["input_ids"].tolist()
    processor = tte.Processor(theirs.folder, parse_control_tokens=not sanitize)
    assert processor(messages)["input_ids"].tolist() == expected


def test_an_image_token_in_text_is_text(reference: GetReference) -> None:
    theirs = reference(SHAPES[0])
    messages = [{"role": "user", "content": [{"type": "text", "text": "a <|image_pad|> b <|vision_start|>"}]}]
    expected = theirs.inputs(messages, sanitize_control_tokens=True)["input_ids"].tolist()
    assert tte.Processor(theirs.folder)(messages)["input_ids"].tolist() == expected


def test_a_plain_item_is_a_user_turn(reference: GetReference, talks: dict[str, list[dict]]) -> None:
    theirs = reference(SHAPES[0])
    processor = tte.Processor(theirs.folder)
    content = talks["image"][0]["content"]
    assert processor(content)["input_ids"].tolist() == theirs.inputs(talks["image"])["input_ids"].tolist()
    text = talks["text"][0]["content"][0]["text"]
    assert processor(text)["input_ids"].tolist() == theirs.inputs(talks["text"])["input_ids"].tolist()


def test_sharded_checkpoints_load_the_same(
    tmp_path: Path, reference: GetReference, talks: dict[str, list[dict]]
) -> None:
    theirs = reference(SHAPES[1])
    folder = tmp_path / "sharded"
    shutil.copytree(theirs.folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    theirs.model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    ours = tte.Embedder(folder, device="cpu").embed(talks["image"])
    whole = tte.Embedder(theirs.folder, device="cpu").embed(talks["image"])
    np.testing.assert_allclose(ours, whole, atol=1e-6)


def test_tokenizer_from_vocab_and_merges(tmp_path: Path, reference: GetReference) -> None:
    theirs = reference(SHAPES[0])
    folder = tmp_path / "old"
    shutil.copytree(theirs.folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(content["model"]["vocab"], ensure_ascii=False))
    merges = [" ".join(m) if isinstance(m, list) else m for m in content["model"]["merges"]]
    (folder / "merges.txt").write_bytes(("#version: 0.2\r\n" + "\r\n".join(merges) + "\r\n").encode())
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "Qwen2Tokenizer"
    config["added_tokens_decoder"] = {
        str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in content["added_tokens"]
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = tte.Tokenizer(folder)
    for text in ("the cat's Grüße 東京\n\n  1234 <|im_end|><think>", "I'LL don't   x\t\ty", ""):
        assert tokenizer.encode(text) == theirs.processor.tokenizer.encode(text), text


def test_float32_on_request(checkpoint: GetFolder, talks: dict[str, list[dict]]) -> None:
    folder = checkpoint(Shape("bf16", dtype="bfloat16", scale=1.0, layers=3))
    theirs = Reference(folder, torch.float32)
    embedder = tte.Embedder(folder, device="cpu", dtype="float32")
    assert embedder.model.dtype == "float32"
    np.testing.assert_allclose(states(embedder, talks["image"]), theirs.hidden(talks["image"]), atol=1e-5, rtol=0)
