"""PEFT's LoRA and DoRA adapters, merged as they are loaded, against merge_and_unload()."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tte
from adapters import base_model, make_adapter
from checkpoints import SHAPES, Shape
from conversations import conversations
from peft import PeftModel
from references import Reference, states
from safetensors.torch import load_file, save_file

GetFolder = Callable[[Shape], Path]
Talks = dict[str, list[dict[str, Any]]]

BY_NAME = {shape.name: shape for shape in SHAPES}
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ATTENTION = ["q_proj", "k_proj", "v_proj"]

# A shape, and what LoraConfig is given.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "linears": ("tied-gqa", {"target_modules": LINEARS}),
    "all-linear": ("untied-mha", {"target_modules": "all-linear", "lora_alpha": 3}),
    "tower": ("tied-gqa", {"target_modules": r".*visual.*\.(qkv|proj|fc1|fc2|mlp\.[02])"}),
    "tower-2.5": ("qwen2.5-vl", {"target_modules": r".*visual.*\.(qkv|gate_proj|up_proj|down_proj|mlp\.[02])"}),
    "convolution": ("untied-mha", {"target_modules": r".*patch_embed\.proj"}),
    "dora-convolution": ("untied-mha", {"target_modules": r".*patch_embed\.proj", "use_dora": True}),
    "patterns": (
        "mqa-wide",
        {
            "target_modules": LINEARS,
            "rank_pattern": {"down_proj": 6, r"layers\.[1-9]\.self_attn\.q_proj": 2, "layers.0.mlp.up_proj": 3},
            "alpha_pattern": {"down_proj": 5, ".*self_attn.*": 12, "q_proj": 1},
        },
    ),
    "rslora": (
        "qwen2.5-vl",
        {"target_modules": LINEARS, "use_rslora": True, "lora_alpha": 4, "rank_pattern": {"o_proj": 7}},
    ),
    "dora": ("tied-gqa", {"target_modules": LINEARS, "use_dora": True}),
    "dora-everywhere": ("qwen2.5-vl-untied", {"target_modules": "all-linear", "use_dora": True, "use_rslora": True}),
    "fan-in-fan-out": ("tied-gqa", {"target_modules": ATTENTION, "fan_in_fan_out": True}),
    "bias-all": ("untied-mha", {"target_modules": ATTENTION, "bias": "all"}),
    "bias-lora-only": ("qwen2.5-vl", {"target_modules": ATTENTION, "bias": "lora_only"}),
    "lora-bias": ("tied-gqa", {"target_modules": ATTENTION, "lora_bias": True}),
    "saved-modules": (
        "untied-mha",
        {"target_modules": LINEARS, "modules_to_save": ["embed_tokens", "lm_head", "norm"]},
    ),
    "saved-embedding-tied": ("tied-gqa", {"target_modules": LINEARS, "modules_to_save": ["embed_tokens"]}),
    "saved-head-tied": ("qwen2.5-vl", {"target_modules": LINEARS, "modules_to_save": ["lm_head"]}),
    "saved-norms": ("old-layout", {"target_modules": ["q_proj"], "modules_to_save": ["input_layernorm", "ln_q"]}),
    "embedding": ("untied-mha", {"target_modules": ["embed_tokens", "q_proj"]}),
    "embedding-tied": ("tied-gqa", {"target_modules": ["embed_tokens", "q_proj"]}),
    "dora-embedding": ("qwen2.5-vl-untied", {"target_modules": ["embed_tokens", "v_proj"], "use_dora": True}),
    "head": ("old-layout", {"target_modules": ["lm_head"]}),
    "head-tied": ("tied-gqa", {"target_modules": ["lm_head"]}),
    "embedding-and-head-tied": ("qwen2.5-vl", {"target_modules": ["lm_head", "embed_tokens"]}),
    "qwen3-vl": ("qwen3-vl", {"target_modules": "all-linear", "use_dora": True}),
    "qwen3-vl-untied": ("qwen3-vl-untied", {"target_modules": LINEARS, "modules_to_save": ["q_norm", "lm_head"]}),
    "qwen3.5": ("qwen3.5", {"target_modules": "all-linear", "use_dora": True}),
    "qwen3.5-untied": (
        "qwen3.5-untied",
        {"target_modules": ["in_proj_qkv", "in_proj_a", "q_proj"], "modules_to_save": ["conv1d", "lm_head"]},
    ),
    # All but experts, which PEFT's linears are not.
    "qwen3-vl-moe": ("qwen3-vl-moe", {"target_modules": "all-linear", "use_dora": True}),
    "qwen3.5-moe": ("qwen3.5-moe", {"target_modules": [*LINEARS, "shared_expert_gate"]}),
    # This one changes the tower's last layer, too, whose states nobody reads.
    "llava-next": ("llava-next", {"target_modules": "all-linear", "use_dora": True}),
    "llava-next-llama": ("llava-next-llama", {"target_modules": LINEARS, "modules_to_save": ["lm_head"]}),
    "dora-embedding-and-head-tied": (
        "tied-gqa",
        {"target_modules": ["lm_head", "embed_tokens"], "use_dora": True},
    ),
    "old-layout": ("old-layout", {"target_modules": "all-linear", "use_dora": True}),
}  # fmt: skip


def merged(base: Path, adapter: Path) -> Reference:
    """What PEFT makes of the two."""
    theirs = Reference(base)
    theirs.model = PeftModel.from_pretrained(base_model(base), adapter).merge_and_unload().eval()
    return theirs


def trained(base: Path, adapter: Path) -> Reference:
    """PEFT's forward pass, which trained the adapter; of tied modules its merging changes both."""
    theirs = Reference(base)
    theirs.model = PeftModel.from_pretrained(base_model(base), adapter).get_base_model().eval()
    return theirs


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Talks:
    every = conversations(tmp_path_factory.mktemp("images"))
    return {name: every[name] for name in ("text", "image")}


@pytest.fixture
def base(checkpoint: GetFolder) -> Path:
    return checkpoint(BY_NAME["tied-gqa"])


def edit(folder: Path, **values: Any) -> Path:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    return folder


def rename(folder: Path, rule: Callable[[str], str]) -> Path:
    file = folder / "adapter_model.safetensors"
    save_file({rule(name): tensor for name, tensor in load_file(file).items()}, file)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_hidden_states_and_greedy_tokens_are_those_of_the_model_that_was_trained(
    case: str, tmp_path: Path, checkpoint: GetFolder, talks: Talks
) -> None:
    shape, options = CASES[case]
    base = checkpoint(BY_NAME[shape])
    adapter = make_adapter(tmp_path / "adapter", base, **options)
    theirs, plain = trained(base, adapter), Reference(base)
    embedder, reasoner = tte.Embedder(adapter, device="cpu"), tte.Reasoner(adapter, device="cpu")
    changed = 0.0
    for name, messages in talks.items():
        expected = theirs.hidden(messages)
        np.testing.assert_allclose(states(embedder, messages), expected, atol=1e-5, rtol=0, err_msg=name)
        ours = reasoner.think(messages, max_new_tokens=16, ignore_eos=True, progress=False)[0].token_ids
        assert ours == theirs.greedy(messages, 16), name
        changed = max(changed, float(np.abs(expected - plain.hidden(messages)).max()))
    assert changed > 1e-3 or case in ("head", "head-tied", "saved-head-tied")


def test_names_of_every_generation(tmp_path: Path, base: Path, checkpoint: GetFolder, talks: Talks) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, target_modules="all-linear", use_dora=True)
    expected = tte.Embedder(adapter, device="cpu").embed(talks["image"])
    rules: dict[str, Callable[[str], str]] = {
        "old": lambda name: name.replace(".model.language_model.", ".model.").replace(".model.visual.", ".visual."),
        "bare": lambda name: name.replace(".model.language_model.", ".language_model."),
        "default": lambda name: re.sub(r"(lora_\w+)", r"\1.default", name),
        "magnitude": lambda name: name.replace("magnitude_vector", "magnitude_vector.weight"),
    }  # fmt: skip
    for name, rule in rules.items():
        other = rename(shutil.copytree(adapter, tmp_path / name), rule)
        assert (
            load_file(other / "adapter_model.safetensors").keys()
            != load_file(adapter / "adapter_model.safetensors").keys()
        )
        np.testing.assert_array_equal(tte.Embedder(other, device="cpu").embed(talks["image"]), expected, err_msg=name)
    # And a base of another generation than the adapter.
    flat = Shape("old-tied", flat=True)
    np.testing.assert_array_equal(
        tte.Embedder(checkpoint(flat), adapter=adapter, device="cpu").embed(talks["image"]), expected
    )


def test_bfloat16_merges_in_float32(tmp_path: Path, base: Path, talks: Talks) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=LINEARS)
    theirs = merged(base, adapter)
    theirs.model.save_pretrained(tmp_path / "merged")
    for file in base.iterdir():
        if not (tmp_path / "merged" / file.name).exists():
            shutil.copy(file, tmp_path / "merged")
    ours = tte.Embedder(adapter, device="cpu", dtype="bfloat16").embed(talks["image"])
    whole = tte.Embedder(tmp_path / "merged", device="cpu", dtype="bfloat16").embed(talks["image"])
    assert float(ours[0] @ whole[0]) > 0.9999


def test_two_adapters_of_one_base_are_two_models(tmp_path: Path, base: Path, talks: Talks) -> None:
    one = make_adapter(tmp_path / "one", base, seed=1, target_modules=LINEARS)
    two = make_adapter(tmp_path / "two", base, seed=2, target_modules=LINEARS)
    models = [tte.Embedder(base, device="cpu"), tte.Embedder(one, device="cpu"), tte.Embedder(two, device="cpu")]
    vectors = [model.embed(talks["image"])[0] for model in models]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(vectors[first] - vectors[second]).max() > 1e-3
        assert models[first].model.fingerprint != models[second].model.fingerprint
    assert len({model.model.vision_fingerprint for model in models}) == 1
    assert (models[0].model.base, models[1].model.base) == (None, base)
    assert models[1].model.path == one
    np.testing.assert_array_equal(tte.Embedder(base, device="cpu").embed(talks["image"])[0], vectors[0])
    # The same adapter written again is another model.
    make_adapter(one, base, seed=3, target_modules=LINEARS)
    assert np.abs(tte.Embedder(one, device="cpu").embed(talks["image"])[0] - vectors[1]).max() > 1e-3


def test_the_base_may_be_given(tmp_path: Path, base: Path, talks: Talks) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=LINEARS)
    expected = tte.Embedder(adapter, device="cpu").embed(talks["text"])
    edit(adapter, base_model_name_or_path="owner/nowhere")
    for kind in (tte.Embedder, tte.Reasoner):
        with pytest.raises(tte.ModelError, match=r"adapter of .*owner/nowhere.*adapter=") as error:
            kind(adapter, device="cpu")
        assert len(str(error.value)) < 500
    embedder = tte.Embedder(base, adapter=adapter, device="cpu")
    np.testing.assert_array_equal(embedder.embed(talks["text"]), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(embedder)).embed(talks["text"]), expected)
    assert tte.Processor(base, adapter=adapter)(talks["text"])["input_ids"].size > 0
    # Beside the adapter.
    shutil.copytree(base, tmp_path / "its-base")
    edit(adapter, base_model_name_or_path="its-base")
    np.testing.assert_array_equal(tte.Embedder(adapter, device="cpu").embed(talks["text"]), expected)


def test_another_base_than_the_adapters_is_told(
    tmp_path: Path, base: Path, checkpoint: GetFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=LINEARS)
    says = "says that it is an adapter of"  # Beside what is told of recipes.

    def told(name: str, folder: Path, **values: Any) -> str:
        edit(adapter, base_model_name_or_path=name, **values)
        capfd.readouterr()
        tte.Embedder(folder, adapter=adapter, device="cpu")
        return "\n".join(line for line in capfd.readouterr().err.splitlines() if says in line)

    # The base itself by any name that it has: nothing is said.
    hub = tmp_path / "models--owner--Its-Base" / "snapshots" / "0123"
    shutil.copytree(base, hub)
    (tmp_path / "link").symlink_to(base)
    for name, folder in (
        (str(base), base), (f"{base}/", base), (str(tmp_path / "link"), base), (f"/elsewhere/{base.name}", base),
        ("owner/Its-Base", hub), (str(hub), shutil.copytree(base, tmp_path / "its_base")),
    ):  # fmt: skip
        assert told(name, folder) == "", name
    moved = shutil.copytree(base, tmp_path / "moved")
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**config, "_name_or_path": "owner/Its-Base"}))
    assert told("owner/its-base", moved) == ""
    # A folder that may have been renamed: a warning, once.
    said = told("owner/another", base)
    assert said.count(says) == 1
    assert '"owner/another"' in said
    assert told("owner/another", base) == ""
    assert told("owner/a-third", base).count(says) == 1
    # A class that is another family's is no question of names; PEFT writes it where no task is named.
    family = {"base_model_class": "Qwen2_5_VLForConditionalGeneration", "parent_library": "transformers"}
    for name in (str(base), "owner/another"):
        with pytest.raises(tte.ModelError, match=r"is an adapter of a Qwen2_5_VLFor.*qwen2_vl") as error:
            told(name, base, auto_mapping=family)
        assert len(str(error.value)) < 500
    with pytest.raises(tte.ModelError, match="is an adapter of a Qwen2_5_VLFor"):
        tte.quantize(base, tmp_path / "rounded", quantization="int8", adapter=adapter)
    for known in ("Qwen2VLModel", "Qwen2VLForConditionalGeneration", "Qwen2VLTextModel", "ColQwen2", "MMEBModel"):
        assert told(str(base), base, auto_mapping={**family, "base_model_class": known}) == "", known
    # As deep as another model: what fits its first layers is no adapter of it.
    deep = checkpoint(Shape("deep", layers=3))
    shallow = make_adapter(tmp_path / "shallow", checkpoint(Shape("shallow", layers=2)), target_modules=LINEARS)
    with pytest.raises(tte.ModelError, match=r"changes 2 of the 3 tensors .*is of another model"):
        tte.Embedder(deep, adapter=shallow, device="cpu")
    for name, values in (
        ("some", {"layers_to_transform": [0, 1]}), ("pattern", {"target_modules": r".*layers\.[01]\..*_proj"}),
        ("full", {"target_modules": ["layers.0.mlp.up_proj", "layers.1.mlp.up_proj"]}),
    ):  # fmt: skip
        tte.Embedder(deep, adapter=edit(shutil.copytree(shallow, tmp_path / name), **values), device="cpu")


def test_what_the_adapters_folder_has_counts(tmp_path: Path, base: Path, talks: Talks) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=LINEARS)
    vocabulary = tte.Tokenizer(base).vocab_size
    assert tte.Tokenizer(adapter).vocab_size == tte.Processor(adapter).tokenizer.vocab_size == vocabulary
    plain = tte.Processor(adapter)(talks["image"])
    (adapter / "recipe.json").write_text('{"dims": [8]}')
    assert tte.Embedder(adapter, device="cpu").embed(talks["text"]).shape[1] > 0
    assert json.loads(tte.Embedder(adapter, device="cpu").model.recipe)["dims"] == [8]
    (adapter / "chat_template.jinja").write_text("{% for m in messages %}the cat{% endfor %}")
    assert tte.Tokenizer(adapter).apply_chat_template(talks["text"]) == "the cat"
    (adapter / "chat_template.jinja").unlink()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / file, adapter)
    tokens = json.loads((adapter / "tokenizer.json").read_text())
    tokens["added_tokens"].append({**tokens["added_tokens"][-1], "id": vocabulary, "content": "<mine>"})
    (adapter / "tokenizer.json").write_text(json.dumps(tokens))
    assert tte.Tokenizer(adapter).vocab_size == tte.Processor(adapter).tokenizer.vocab_size == vocabulary + 1
    limits = {"min_pixels": 28 * 28, "max_pixels": 28 * 28 * 4}
    name = "preprocessor_config.json"
    source = base / ("processor_config.json" if not (base / name).exists() else name)
    config = json.loads(source.read_text())
    config = config.get("image_processor", config)
    config.pop("size", None)
    (adapter / name).write_text(json.dumps({**config, **limits}))
    assert tte.Processor(adapter)(talks["image"])["pixel_values"].shape[0] < plain["pixel_values"].shape[0]


def test_a_model_with_an_adapter_in_its_folder(tmp_path: Path, base: Path, talks: Talks) -> None:
    both = shutil.copytree(base, tmp_path / "both")
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=LINEARS)
    expected = tte.Embedder(adapter, device="cpu").embed(talks["text"])
    for file in adapter.glob("adapter_*"):
        shutil.copy(file, both)
    edit(both, base_model_name_or_path="owner/nowhere")
    np.testing.assert_array_equal(tte.Embedder(both, device="cpu").embed(talks["text"]), expected)
    (both / "adapter_model.safetensors").unlink()  # One that was merged, with a file left behind.
    np.testing.assert_array_equal(
        tte.Embedder(both, device="cpu").embed(talks["text"]), tte.Embedder(base, device="cpu").embed(talks["text"])
    )


def test_what_is_no_adapter_of_the_base_is_told(tmp_path: Path, base: Path, checkpoint: GetFolder) -> None:
    good = make_adapter(tmp_path / "good", base, target_modules=LINEARS)

    def bad(name: str) -> Path:
        return shutil.copytree(good, tmp_path / name)

    def without(folder: Path, end: str) -> Path:
        file = folder / "adapter_model.safetensors"
        tensors = load_file(file)
        tensors.pop(next(name for name in tensors if name.endswith(end)))
        save_file(tensors, file)
        return folder

    pickled = bad("pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    nothing = bad("nothing")
    (nothing / "adapter_config.json").write_text("")
    cases = {
        edit(bad("type"), peft_type="IA3"): "adapter_config.json: .peft_type. is .IA3.",
        edit(bad("rank"), r=5): r"lora_A\.weight.* rank 5",
        edit(bad("zero"), r=0): ".r. is 0",
        edit(bad("pissa"), init_lora_weights="pissa"): "init_lora_weights",
        edit(bad("unnamed"), base_model_name_or_path=None): "does not name",
        edit(bad("dora"), use_dora=True): "lora_magnitude_vector",
        without(bad("half"), "lora_B.weight"): r"lora_A\.weight.*but not the lora_B",
        rename(bad("elsewhere"), lambda name: name.replace("layers.0", "layers.9")): r"layers\.9\.\S*lora_A\.weight",
        edit(bad("larger"), base_model_name_or_path=str(checkpoint(BY_NAME["mqa-wide"]))): "is of another model",
        pickled: "pickled",
        nothing: "adapter_config.json",
    }  # fmt: skip
    for folder, words in cases.items():
        for kind in (tte.Embedder, tte.Reasoner):
            with pytest.raises(tte.ModelError, match=words) as error:
                kind(folder, device="cpu")
            assert len(str(error.value)) < 500, words
            assert "\n" not in str(error.value)
    with pytest.raises(tte.ModelError, match="is no adapter"):
        tte.Embedder(base, adapter=base, device="cpu")
    with pytest.raises(tte.ModelError, match="holds a PEFT adapter"):
        tte.Embedder(good, adapter=good, device="cpu")
