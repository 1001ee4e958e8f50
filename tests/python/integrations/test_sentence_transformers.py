"""SentenceTransformer(modules=[TteModule(...)]) gives what tte gives, for everything that either takes."""

from __future__ import annotations

import base64
import copy
import io
import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tte
from adapters import make_adapter
from checkpoints import Shape, make_checkpoint
from PIL import Image
from references import noise
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from tte import _hub
from tte.integrations import missing_extra
from tte.integrations._pair import Pair
from tte.integrations.sentence_transformers import TteModule, load
from zoo import misunderstood


@pytest.fixture(scope="module")
def embedder() -> tte.Embedder:
    return tte.Embedder(_hub.bundled("embedder"), device="cpu")


@pytest.fixture(scope="module")
def plain() -> SentenceTransformer:
    return SentenceTransformer(modules=[TteModule(_hub.bundled("embedder"))], device="cpu")


@pytest.fixture(scope="module")
def thinking() -> SentenceTransformer:
    return SentenceTransformer(modules=[TteModule(max_new_tokens=16)], device="cpu")


IMAGE = noise(60, 84, seed=1)
CLIP = [noise(56, 56, seed=s) for s in range(4)]
CLIP_FILE = Path(__file__).parent.parent.parent / "data" / "media" / "clip.mp4"


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def same_items(folder: Path) -> list[tuple[str, Any, Any]]:
    """Name, the item for sentence-transformers, the same for tte."""
    path = folder / "image.png"
    path.write_bytes(png(IMAGE))
    uri = "data:image/png;base64," + base64.b64encode(png(IMAGE)).decode()
    first = torch.from_numpy(IMAGE).permute(2, 0, 1)
    frames = torch.from_numpy(np.stack(CLIP)).permute(0, 3, 1, 2)
    video = [{"type": "video", "video": CLIP}]
    with_text = [{"type": "text", "text": "a"}, {"type": "image", "image": IMAGE}, {"type": "text", "text": "b"}]
    messages = [{"role": "user", "content": [{"type": "image", "image": IMAGE}, {"type": "text", "text": "red ?"}]}]
    tensor_messages = [
        {"role": "user", "content": [{"type": "image", "image": first}, {"type": "text", "text": "red ?"}]}
    ]
    return [
        ("text", "what is left of the red circle ?", "what is left of the red circle ?"),
        ("text in a dict", {"text": str(path)}, str(path)),
        ("PIL", Image.fromarray(IMAGE), IMAGE),
        ("array HWC", IMAGE, IMAGE),
        ("array CHW", np.ascontiguousarray(IMAGE.transpose(2, 0, 1)), IMAGE),
        ("tensor CHW", first, IMAGE),
        ("path as text", str(path), path),
        ("data URI", uri, IMAGE),
        ("bytes", path.read_bytes(), IMAGE),
        ("image then text", {"image": IMAGE, "text": "what ?"}, {"image": IMAGE, "text": "what ?"}),
        ("text then image", {"text": "what ?", "image": first}, {"text": "what ?", "image": IMAGE}),
        ("lists in a dict", {"text": ["a", "b"], "image": [IMAGE, IMAGE]},
         [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, *[{"type": "image", "image": IMAGE}] * 2]),
        ("instruction", {"image": IMAGE, "text": "what ?", "instruction": "count"},
         {"image": IMAGE, "text": "what ?", "instruction": "count"}),
        ("parts", with_text, with_text),
        ("messages", messages, messages),
        ("one message", messages[0], messages),
        ("messages with tensors", tensor_messages, messages),
        ("video of frames", {"video": CLIP}, video),
        ("video as tuple of PIL", {"video": tuple(Image.fromarray(f) for f in CLIP)}, video),
        ("video array", np.stack(CLIP), video),
        ("video tensor", frames, video),
        ("video with metadata", {"video": {"array": frames, "video_metadata": {"fps": 2.0}}}, video),
        ("two videos", {"video": [np.stack(CLIP), np.stack(CLIP[:2])], "text": "x"},
         {"videos": [CLIP, CLIP[:2]], "text": "x"}),
        ("video file", str(CLIP_FILE), {"video": CLIP_FILE}),
    ]  # fmt: skip


def test_every_kind_of_item_gives_the_embedders_vector(
    plain: SentenceTransformer, embedder: tte.Embedder, tmp_path: Path
) -> None:
    cases = same_items(tmp_path)
    vectors = plain.encode([item for _, item, _ in cases], batch_size=5)
    expected = np.concatenate([embedder.embed([item], progress=False) for _, _, item in cases])
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(cases), embedder.dim)
    wrong = [name for (name, _, _), a, b in zip(cases, vectors, expected, strict=True) if np.abs(a - b).max() > 1e-6]
    assert wrong == []


def test_decoder_frames_are_the_files(plain: SentenceTransformer, embedder: tte.Embedder) -> None:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(CLIP_FILE))
    frames = [f.permute(1, 2, 0).numpy() for f in decoder.get_frames_in_range(0, len(decoder)).data]
    expected = embedder.embed([{"video": frames}], progress=False)
    np.testing.assert_allclose(plain.encode([VideoDecoder(str(CLIP_FILE))]), expected, atol=1e-6)
    few = SentenceTransformer(modules=[TteModule(_hub.bundled("embedder"), max_video_frames=2)], device="cpu")
    expected = embedder.embed([{"video": [frames[0], frames[-1]]}], progress=False)
    np.testing.assert_allclose(few.encode([VideoDecoder(str(CLIP_FILE))]), expected, atol=1e-6)


def test_model_describes_itself(plain: SentenceTransformer, embedder: tte.Embedder) -> None:
    assert plain.modalities == ["text", "image", "video", "message"]
    assert plain.supports(("image", "text"))
    assert not plain.supports("audio")
    assert plain.get_embedding_dimension() == embedder.dim
    one = plain.encode("a")
    assert one.shape == (embedder.dim,)
    assert isinstance(plain.encode("a", convert_to_tensor=True), torch.Tensor)
    assert plain.encode([]).shape[0] == 0
    assert plain.similarity(one, one).item() == pytest.approx(1, abs=1e-5)


def test_prompt_is_the_instruction_and_task_the_side(plain: SentenceTransformer, embedder: tte.Embedder) -> None:
    item = {"image": IMAGE, "text": "what ?"}

    def expect(**options: Any) -> np.ndarray:
        return embedder.embed([item], progress=False, **options)

    np.testing.assert_array_equal(plain.encode([item], prompt="count"), expect(instruction="count"))
    own = {**item, "instruction": "add"}
    np.testing.assert_array_equal(plain.encode([own], prompt="count"), embedder.embed([own], progress=False))
    np.testing.assert_array_equal(plain.encode_query([item]), expect(side="query"))
    np.testing.assert_array_equal(plain.encode([item], task="visdoc"), expect(task="visdoc"))
    targets = SentenceTransformer(modules=[TteModule(_hub.bundled("embedder"), family="visdoc")], device="cpu")
    np.testing.assert_array_equal(targets.encode_document([item]), expect(task="visdoc", side="target"))
    messages = [{"role": "user", "content": "hello"}]
    system = [{"role": "system", "content": "count"}, *messages]
    np.testing.assert_array_equal(plain.encode([messages], prompt="count"), embedder.embed([system], progress=False))


def test_truncation_is_matryoshka(plain: SentenceTransformer, embedder: tte.Embedder) -> None:
    vectors = plain.encode(["a", "b"], truncate_dim=64, normalize_embeddings=True)
    np.testing.assert_allclose(vectors, embedder.embed(["a", "b"], truncate_dim=64, progress=False), atol=1e-6)


def test_thinking_is_think_then_embed(thinking: SentenceTransformer) -> None:
    items = ["what is left of the red circle ?", {"image": IMAGE, "text": "what is it ?"}]
    expected = tte.think_then_embed(items, think="recipe", max_new_tokens=16, progress=False)
    assert all(trace is not None for trace in expected.traces)
    np.testing.assert_array_equal(thinking.encode_query(items), expected.embeddings)
    targets = tte.think_then_embed(
        items, think="recipe", task="image_qa", side="target", max_new_tokens=16, progress=False
    )
    assert all(trace is None for trace in targets.traces)
    module = SentenceTransformer(modules=[TteModule(family="image_qa", max_new_tokens=16)], device="cpu")
    np.testing.assert_array_equal(module.encode_document(items), targets.embeddings)


def test_saved_folder_is_complete_and_loads(thinking: SentenceTransformer, tmp_path: Path) -> None:
    items = ["what is left of the red circle ?", Image.fromarray(IMAGE)]
    thinking.save_pretrained(str(tmp_path / "saved"))
    (tmp_path / "saved").rename(tmp_path / "moved")
    again = load(tmp_path / "moved")
    np.testing.assert_array_equal(again.encode(items), thinking.encode(items))
    assert again[0].decoding == {"max_new_tokens": 16}
    trusted = SentenceTransformer(str(tmp_path / "moved"), trust_remote_code=True, model_kwargs={"think": False})
    assert trusted[0].think is False
    again.save_pretrained(str(tmp_path / "moved"))  # Over itself.
    np.testing.assert_array_equal(load(tmp_path / "moved").encode(items), thinking.encode(items))


def test_recipe_in_force_is_saved(tmp_path: Path) -> None:
    raw = SentenceTransformer(modules=[TteModule(_hub.bundled("embedder"), embedder_recipe="raw")], device="cpu")
    raw.save_pretrained(str(tmp_path))
    expected = tte.Embedder(_hub.bundled("embedder"), recipe="raw", device="cpu").embed(["a red cat"], progress=False)
    np.testing.assert_array_equal(load(tmp_path).encode(["a red cat"]), expected)


CONTROL = ["the blue square <|im_end|> up", {"image": IMAGE, "text": "which ?"}]


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "float32"},
        {"quantization": "int8"},
        {"parse_control_tokens": True},
        {"recipe": "raw"},
        {"template_options": {"enable_thinking": False}, "recipe": "raw", "dtype": "bfloat16"},
    ],
)
def test_a_given_model_is_saved_with_what_its_vectors_depend_on(options: dict[str, Any], tmp_path: Path) -> None:
    folder = _hub.bundled("embedder")
    if "template_options" in options:
        folder = shutil.copytree(folder, tmp_path / "checkpoint")
        template = folder / "chat_template.jinja"
        template.write_text("{% if enable_thinking is defined %}no{% endif %}" + template.read_text())
    given = tte.Embedder(folder, device="cpu", **options)
    expected = given.embed(CONTROL, progress=False)
    SentenceTransformer(modules=[TteModule(given)], device="cpu").save_pretrained(str(tmp_path / "saved"))
    again = load(tmp_path / "saved", device="cpu")
    np.testing.assert_array_equal(again.encode(CONTROL), expected)
    again.save_pretrained(str(tmp_path / "twice"))
    np.testing.assert_array_equal(load(tmp_path / "twice", device="cpu").encode(CONTROL), expected)


def test_options_of_both_models_are_taken_with_paths_and_saved(tmp_path: Path) -> None:
    limits = tte.MediaLimits(max_pixels=10)
    pair = TteModule(
        _hub.bundled("embedder"), _hub.bundled("reasoner"), embedder_options={"dtype": "float32"}, max_new_tokens=8,
        reasoner_options={"quantization": "int4", "media_limits": limits, "parse_control_tokens": True},
    )  # fmt: skip
    model = SentenceTransformer(modules=[pair], device="cpu")
    reasoner = tte.Reasoner(
        _hub.bundled("reasoner"), device="cpu", quantization="int4", media_limits=limits, parse_control_tokens=True
    )
    embedder = tte.Embedder(_hub.bundled("embedder"), device="cpu", dtype="float32")
    text = CONTROL[:1]
    result = tte.think_then_embed(
        text, reasoner=reasoner, embedder=embedder, max_new_tokens=8, think="recipe", progress=False
    )
    given = SentenceTransformer(modules=[TteModule(embedder, reasoner, max_new_tokens=8)], device="cpu")
    for number, each in enumerate((model, given)):
        np.testing.assert_array_equal(each.encode(text), result.embeddings)
        each.save_pretrained(str(tmp_path / str(number)))
        again = load(tmp_path / str(number), device="cpu")
        np.testing.assert_array_equal(again.encode(text), result.embeddings)
        with pytest.raises(tte.InputError, match="max_pixels"):
            again.encode(CONTROL[1:])
    assert load(tmp_path / "0", model_kwargs={"dtype": "bfloat16"})[0].pair.embedder.model.dtype == "bfloat16"


def moved_away(model: SentenceTransformer, tmp_path: Path, *gone: Path) -> np.ndarray:
    """The vectors of a model that was saved and moved, once what it was made from is gone."""
    model.save_pretrained(str(tmp_path / "saved"))
    (tmp_path / "saved").rename(tmp_path / "moved")
    for folder in gone:
        shutil.rmtree(folder)
    return np.asarray(load(tmp_path / "moved", device="cpu").encode(CONTROL))


@pytest.mark.parametrize("given", [False, True])
def test_a_head_is_saved_with_its_base(given: bool, tmp_path: Path) -> None:
    made_from = shutil.copytree(Path(__file__).parents[3] / "models" / "nano", tmp_path / "nano")
    head = made_from / "head"
    module = TteModule(tte.Embedder(head, device="cpu") if given else head)
    model = SentenceTransformer(modules=[module], device="cpu")
    expected = np.asarray(model.encode(CONTROL))
    np.testing.assert_array_equal(moved_away(model, tmp_path, made_from), expected)


@pytest.mark.parametrize("how", ["path", "option", "given", "another base"])
def test_an_adapter_is_saved_with_its_base(how: str, tmp_path: Path) -> None:
    shape = Shape("b", vision_depth=3)
    base, other = make_checkpoint(tmp_path / "base", shape), make_checkpoint(tmp_path / "other", shape, seed=5)
    adapter = make_adapter(tmp_path / "adapter", base, target_modules="all-linear")
    module = {
        "path": lambda: TteModule(adapter, embedder_recipe="raw"),
        "option": lambda: TteModule(other, embedder_recipe="raw", embedder_options={"adapter": adapter}),
        "given": lambda: TteModule(tte.Embedder(adapter, recipe="raw", device="cpu")),
        "another base": lambda: TteModule(tte.Embedder(other, adapter=adapter, recipe="raw", device="cpu")),
    }[how]()
    model = SentenceTransformer(modules=[module], device="cpu")
    expected = np.asarray(model.encode(CONTROL))
    plain = tte.Embedder(base if how in ("path", "given") else other, adapter=adapter, recipe="raw", device="cpu")
    np.testing.assert_array_equal(plain.embed(CONTROL, progress=False), expected)
    np.testing.assert_array_equal(moved_away(model, tmp_path, base, other, adapter), expected)


def test_what_no_folder_can_have_is_refused_before_anything_is_copied(tmp_path: Path) -> None:
    split = tte.Backend("cpu", threads=2, tensor_parallel=2)
    rounded = tte.Embedder(_hub.bundled("embedder"), backend=split, quantization="int8")
    with pytest.raises(tte.InputError, match="rounded in 2 parts"):
        TteModule(rounded).save(str(tmp_path / "saved"))
    server = tte.RemoteReasoner("http://localhost:1/v1", "m")
    with pytest.raises(tte.InputError, match="behind a server"):
        TteModule(_hub.bundled("embedder"), server).save(str(tmp_path / "saved"))
    assert not (tmp_path / "saved").exists()


def test_numpys_numbers_are_plain_once_they_are_taken(tmp_path: Path) -> None:
    decoding = {"max_new_tokens": np.int64(6), "temperature": np.float32(0), "stop_token_ids": np.array([5]),
                "stop": ("left",), "ignore_eos": np.bool_(False)}  # fmt: skip
    module = TteModule(max_video_frames=np.int32(4), **decoding)
    model = SentenceTransformer(modules=[module], device="cpu")
    model.save_pretrained(str(tmp_path))
    again = load(tmp_path, device="cpu")
    np.testing.assert_array_equal(again.encode(["a red cat"]), model.encode(["a red cat"]))
    assert again[0].decoding == module.decoding
    assert json.dumps(Pair(device="cpu", decoding=decoding).settings())


def test_copies_and_pickles_load_their_own_models(plain: SentenceTransformer, embedder: tte.Embedder) -> None:
    expected = plain.encode(["a"])
    np.testing.assert_array_equal(copy.deepcopy(plain).encode(["a"]), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(plain)).encode(["a"]), expected)
    given = SentenceTransformer(modules=[TteModule(embedder)], device="cpu")
    np.testing.assert_array_equal(given.encode(["a"]), expected)
    with pytest.raises(tte.InputError, match="from the checkpoint's path"):
        pickle.dumps(given)


TTE = "tte.integrations.sentence_transformers.TteModule"
THEIRS = "sentence_transformers.base.modules"
RUNS = """
open({marker!r}, "w").close()
import torch, transformers
class Config(transformers.PretrainedConfig):
    model_type = "evil"
class Model(transformers.PreTrainedModel):
    config_class = Config
class Module(torch.nn.Module):
    pass
TteModule = Processor = Tokenizer = Module
"""


class Runs:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return open, (str(self.marker), "w")


def module(kind: str, path: str = "") -> dict[str, Any]:
    return {"idx": 0, "name": "0", "path": path, "type": kind}


@pytest.fixture
def saved(plain: SentenceTransformer, tmp_path: Path) -> Path:
    plain.save_pretrained(str(tmp_path / "saved"))
    return tmp_path / "saved"


def bring_code(folder: Path, marker: Path) -> None:
    """Put code beside everything that somebody might load, and name it wherever a loader looks for names of code."""
    names = ("AutoConfig", "AutoModel", "AutoTokenizer", "AutoProcessor", "AutoImageProcessor", "AutoVideoProcessor")
    auto_map: dict[str, Any] = dict.fromkeys(names, "evil.Model") | {
        "AutoConfig": "evil.Config", "AutoTokenizer": ["evil.Tokenizer", None]
    }  # fmt: skip
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        for name in ("evil", "tte", "sentence_transformers", "modeling_evil", "__init__", "setup", "conftest"):
            (place / f"{name}.py").write_text(RUNS.format(marker=str(marker)))
        for name in ("config", "tokenizer_config", "processor_config", "preprocessor_config", "video_processor_config"):
            file = place / f"{name}.json"
            content = json.loads(file.read_text()) if file.exists() else {"model_type": "evil"}
            file.write_text(json.dumps({**content, "auto_map": auto_map}))
        for name in ("pytorch_model.bin", "model.pkl", "training_args.bin"):
            (place / name).write_bytes(pickle.dumps(Runs(marker)))


@pytest.mark.parametrize(
    "modules",
    [
        [module(f"{THEIRS}.transformer.Transformer")],
        [module("sentence_transformers.models.Transformer")],
        [module(TTE, "0_TteModule"), module(f"{THEIRS}.transformer.Transformer")],
        [module(f"{THEIRS}.normalize.Normalize"), module(f"{THEIRS}.transformer.Transformer")],
        [module(f"{THEIRS}.router.Router", "1_Router")],
        [module(TTE, "0_TteModule"), module(f"{THEIRS}.dense.Dense", "2_Dense")],
        [module(TTE, "0_TteModule"), module("sentence_transformers.evil.Module")],
        [module("evil.Module")],
        [module("evil.TteModule", "0_TteModule")],
        [module("0_TteModule.evil.Module")],
        [module("tte.TteModule")],
        [module(TTE, "0_TteModule"), module("builtins.exec")],
    ],
    ids=lambda modules: ", ".join(each["type"] for each in modules),
)
def test_nothing_of_a_folder_is_run(saved: Path, tmp_path: Path, modules: list[dict[str, Any]]) -> None:
    marker = tmp_path / "ran"
    (saved / "1_Router" / "query").mkdir(parents=True)
    (saved / "2_Dense").mkdir()
    types = {"types": {"query": "evil.Module"}, "structure": {"query": ["query"]}, "parameters": {}}
    (saved / "1_Router" / "router_config.json").write_text(json.dumps(types))
    dense = {"in_features": 192, "out_features": 8, "activation_function": "evil.Module"}
    (saved / "2_Dense" / "config.json").write_text(json.dumps(dense))
    bring_code(saved, marker)
    (saved / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(tte.ModelError, match=r"modules.json (names the class '.*', which load|has other modules)"):
        load(saved)
    assert not marker.exists()


@pytest.mark.parametrize("model_type", ["SentenceTransformer", "SparseEncoder", "CrossEncoder"])
def test_code_beside_a_module_is_left_alone(
    plain: SentenceTransformer, saved: Path, tmp_path: Path, model_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "ran"
    about = json.loads((saved / "config_sentence_transformers.json").read_text())
    (saved / "config_sentence_transformers.json").write_text(json.dumps({**about, "model_type": model_type}))
    bring_code(saved, marker)
    monkeypatch.chdir(saved)
    np.testing.assert_array_equal(load(saved).encode(["a"]), plain.encode(["a"]))
    assert not marker.exists()


def test_what_was_saved_of_the_model_holds_and_can_be_overridden(tmp_path: Path) -> None:
    prompts = {"count": "count them", "add": "add them"}
    model = SentenceTransformer(
        modules=[TteModule(_hub.bundled("embedder")), Normalize()], device="cpu", prompts=prompts,
        default_prompt_name="count", similarity_fn_name="dot", truncate_dim=64,
    )  # fmt: skip
    model.save_pretrained(str(tmp_path))
    again = load(tmp_path)
    np.testing.assert_array_equal(again.encode(["a"]), model.encode(["a"]))
    assert (again.prompts, again.default_prompt_name) == (model.prompts, "count")
    assert (again.similarity_fn_name, again.truncate_dim, len(again)) == ("dot", 64, 2)
    other = load(
        tmp_path, device="cpu", prompts={"add": "sum"}, default_prompt_name="add", truncate_dim=32,
        similarity_fn_name="cosine", model_kwargs={"dtype": torch.float32, "family": "visdoc"},
    )  # fmt: skip
    assert (other.prompts["count"], other.prompts["add"]) == ("count them", "sum")
    assert (other.default_prompt_name, other.truncate_dim, other.similarity_fn_name) == ("add", 32, "cosine")
    assert other[0].family == "visdoc"
    for name in ("trust_remote_code", "modules", "model_name_or_path", "devize"):
        with pytest.raises(tte.InputError, match=rf"load\(\) has no argument '{name}'"):
            load(tmp_path, **{name: True})
    for wrong in (5, {5: 5}, {"embedder": "x"}, {"max_tokens": 5}, {"think": True}):
        with pytest.raises(tte.InputError, match=r"model_kwargs is|max_tokens|think=True needs a reasoner"):
            load(tmp_path, model_kwargs=wrong)  # type: ignore[arg-type]


NO_JSON: list[str | bytes] = ["", "{", "NaN", '"\\ud800"', b"\xff\xfe", "[" * 20_000, '{"a":' * 20_000]
DAMAGED: dict[str, list[Any]] = {
    "modules.json": [
        {}, [], None, 5, [5], [[]], [{}], [{"type": TTE}], [{"path": ""}], [module(TTE, 5)], [module(5)],
        [module(TTE, "../../etc")], [module(TTE, "/etc")], [module(TTE, "..")], [module(TTE, "a\0b")],
        [module(TTE, "0_TteModule/embedder")], [module(TTE, "x" * 5000)], [module("x" * 5000)],
        [module(TTE, "0_TteModule")] * 2, [module(f"{THEIRS}.normalize.Normalize")],
    ],
    "0_TteModule/tte_config.json": [
        [], None, 5, "x", {"think": 5}, {"think": True}, {"bogus": 1}, {"dtype": 5}, {"embedder": "/etc"},
        {"reasoner": "/etc"}, {"embedder_recipe": "raw"}, {"reasoner_recipe": "/etc/passwd"}, {"device": 5},
        {"embedder_options": 5}, {"embedder_options": {"adapter": "/etc"}}, {"embedder_options": {"recipe": "x"}},
        {"embedder_options": {"media_limits": {"x": 1}}}, {"embedder_options": {"adapter": "embedder_adapter"}},
        {"reasoner_options": {"dtype": 5}}, {"reasoner_options": {"quantization": "x" * 5000}},
        {"reasoner_options": {"dtype": "float32"}},
        {"max_video_frames": -1}, {"family": []}, {"max_new_tokens": "x"}, {"has_reasoner": True}, {"self": 1},
        {"x" * 5000: 1}, {"family": ["x" * 5000]}, {"stop": 5},
    ],
    "config_sentence_transformers.json": [
        [], None, 5, {"prompts": 5}, {"prompts": {"a": 5}}, {"default_prompt_name": "nope"}, {"truncate_dim": 0},
        {"default_prompt_name": {}}, {"similarity_fn_name": "x"}, {"truncate_dim": True}, {"truncate_dim": "x" * 5000},
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused_in_a_sentence(saved: Path, name: str) -> None:
    for content in [*NO_JSON, *map(json.dumps, DAMAGED[name])]:
        (saved / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(tte.Error, match=re.escape(name.partition("/")[2] or name)) as error:
            load(saved)
        assert len(str(error.value)) < 500, content[:80]
        assert "\n" not in str(error.value)
        assert re.search("save the model again|if you trust|the path|give a folder", str(error.value))
    (saved / name).unlink()
    (saved / name).mkdir()
    with pytest.raises(tte.Error, match=re.escape(name.partition("/")[2] or name)):
        load(saved)


def test_what_a_folder_lacks_is_named(saved: Path, tmp_path: Path) -> None:
    index = (saved / "modules.json").read_text()
    (saved / "modules.json").write_text(json.dumps([module(TTE)]))
    with pytest.raises(tte.ModelError, match=r"saved has no tte_config\.json"):
        load(saved)
    (saved / "modules.json").write_text(index)
    (saved / "config_sentence_transformers.json").unlink()
    assert load(saved).encode(["a"]).shape == (1, 192)
    (saved / "0_TteModule" / "tte_config.json").rename(tmp_path / "settings")
    with pytest.raises(tte.ModelError, match=r"0_TteModule has no tte_config\.json: save the model again"):
        load(saved)
    (tmp_path / "settings").rename(saved / "0_TteModule" / "tte_config.json")
    (saved / "0_TteModule" / "embedder").rename(tmp_path / "embedder")
    with pytest.raises(tte.ModelError, match="0_TteModule has no embedder"):
        load(saved)
    with pytest.raises(tte.ModelError, match=r"modules\.json does not exist"):
        load(tmp_path / "nothing")
    wrong = misunderstood(load, {}, ["folder"])
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("https://example.org/cat.png", "does not download images"),
        ({"video": "https://example.org/clip.mp4"}, "does not download videos"),
        ({"image": IMAGE.astype(np.float32)}, "float32 of shape"),
        ({"image": "data:image/png;base64,%%%"}, "is not base64"),
        ({"video": np.zeros((3, 8, 8), np.uint8)}, "a video is a file"),
        ({"text": "x", "colour": 1}, "unknown key 'colour'"),
        ({"text": None}, "is empty"),
        ([[["a", "b"]]], "is a list"),
        ([None], r"is None \(Unsupported input type: NoneType.*: give a text, an image.*, or leave it out"),
    ],
)
def test_bad_items_are_named(plain: SentenceTransformer, item: Any, message: str) -> None:
    batch = item if isinstance(item, list) else [item]
    with pytest.raises(tte.InputError, match=f"item 0.*{message}"):
        plain.encode(batch)


@pytest.mark.parametrize("name", ["config.json", "recipe.json"])
def test_a_folder_that_cannot_be_written_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "embedder").mkdir()
    (tmp_path / "embedder" / name).symlink_to("no/where")
    with pytest.raises(tte.InputError, match=r"embedder cannot be written \(.*No such file") as error:
        TteModule(_hub.bundled("embedder")).save(str(tmp_path))
    assert len(str(error.value)) < 500


def test_every_argument_and_item_is_taken_or_refused() -> None:
    options = ("think", "family", "device", "dtype", "embedder_recipe", "max_video_frames", "max_new_tokens")
    options += ("embedder_options", "reasoner_options")
    wrong = misunderstood(lambda **given: TteModule(_hub.bundled("embedder"), **given), {}, options)
    module = TteModule(_hub.bundled("embedder"))
    wrong += misunderstood(lambda item: module.preprocess([item]), {}, ["item"])
    wrong += misunderstood(lambda **given: module.preprocess(["a"], **given), {}, ["prompt", "task"])
    for key in ("text", "image", "images", "video", "videos", "instruction", "colour"):
        wrong += misunderstood(lambda item, key=key: module.preprocess([{key: item}]), {}, ["item"])
    assert not wrong, "\n".join(wrong)


def test_audio_and_unknown_options_are_refused(plain: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match="audio"):
        plain.encode([{"audio": np.zeros(100, np.float32)}])
    with pytest.raises(tte.InputError, match="processing_kwargs is not an option"):
        plain.encode(["a"], processing_kwargs={"text": {"max_length": 8}})
    with pytest.raises(tte.InputError, match="needs a reasoner"):
        TteModule(_hub.bundled("embedder"), think=True)
    with pytest.raises(tte.InputError, match="max_tokens"):
        TteModule(max_tokens=3)
    with pytest.raises(tte.ModelError, match="not a folder"):
        TteModule("/no/such/folder")


def test_what_to_install_is_said() -> None:
    gone = ModuleNotFoundError("No module named 'sentence_transformers'", name="sentence_transformers")
    assert str(missing_extra("module", "sentence-transformers", gone)) == (
        "module needs sentence_transformers, which is not installed: pip install sentence-transformers torchvision"
    )
    # A torch of which only the libraries are there, as tte itself needs no more.
    light = ModuleNotFoundError("No module named 'torch._C'", name="torch._C")
    assert str(missing_extra("module", "sentence-transformers", light)) == (
        "module needs the whole of torch, but the torch that is here cannot be imported (No module named 'torch._C'): "
        "install the complete wheel of torch, and then sentence-transformers torchvision."
    )
