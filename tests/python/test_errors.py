"""Bad inputs, files and devices: one sentence that names them, never a crash or a silent default."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tte
from references import noise


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (3, "int"),
        (None, "NoneType"),
        ({"img": "x"}, "unknown key 'img'"),
        ({}, "empty"),
        ([{"type": "audio", "audio": "x"}], "audio"),
        ([{"type": "image"}], "exactly one of"),
        ([{"type": "image", "image": "a", "colour": 1}], "colour"),
        ({"text": 5}, "text must be a str"),
        (np.zeros((4, 4, 3), np.float32), "uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"\[4, 4, 2\]"),
        (np.zeros((0, 4, 3), np.uint8), "item 0"),
        (b"", "item 0"),
        (b"not an image", "item 0"),
        (Path("/nowhere/x.png"), "x.png"),
        ({"image": "https://example.org/x.png"}, "does not download"),
        ({"video": []}, "no frames"),
        ({"video": "/nowhere/x.mp4"}, "x.mp4"),
        ({"video": "http://127.0.0.1:1/x.mp4"}, "item 0"),
        ({"image": noise(2, 900)}, "aspect"),
        ("a \ud800 lone surrogate", "UTF-8|surrogate"),
        ([{"role": "user", "content": 7}], "content"),
        ([{"role": "user"}], "content"),
    ],
    ids=str,
)
def test_bad_items_are_named(embedder: tte.Embedder, item: Any, words: str) -> None:
    with pytest.raises(tte.InputError, match=words):
        embedder.embed([item], progress=False)


def test_the_second_item_is_named(embedder: tte.Embedder) -> None:
    with pytest.raises(tte.InputError, match="item 1"):
        embedder.embed(["fine", b"broken"], progress=False)


def test_nothing_in_nothing_out(embedder: tte.Embedder) -> None:
    assert embedder.embed([]).shape == (0, embedder.dim)


def test_an_absent_device_lists_those_that_are_there(folder: Path) -> None:
    with pytest.raises(tte.DeviceError, match="cpu"):
        tte.Embedder(folder, device="cuda:77")
    with pytest.raises((tte.DeviceError, tte.InputError), match="tpu"):
        tte.Backend("tpu")


def test_not_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(tte.ModelError, match=r"config\.json"):
        tte.Embedder(tmp_path, device="cpu")
    with pytest.raises(tte.ModelError, match="not a folder"):
        tte.Embedder("/nowhere/at/all", device="cpu")


def _set(key: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        target = config
        *path, last = key.split(".")
        for name in path:
            target = target[name]
        target[last] = value
        (folder / "config.json").write_text(json.dumps(config))

    return change


def _cut(name: str, size: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[:size])

    return change


def _write(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("model_type", "gpt_neo"), "qwen2_vl"),
        (_set("text_config.hidden_size", 128), "hidden_size|head size|shape"),
        (_set("text_config.num_hidden_layers", 1), "layers.1|not used|no layer"),
        (_set("text_config.num_hidden_layers", 3), "layers.2"),
        (_set("text_config.hidden_size", "many"), "hidden_size"),
        (_set("text_config.num_key_value_heads", 3), "num_key_value_heads"),
        (_set("text_config.num_attention_heads", 0), "num_attention_heads"),
        (_set("text_config.rope_parameters.mrope_section", [1, 1]), "mrope_section"),
        (_cut("model.safetensors", 1000), "model.safetensors"),
        (_cut("model.safetensors", 4), "model.safetensors"),
        (_write("model.safetensors", b"\xff" * 64), "model.safetensors"),
        (_write("config.json", b"{"), "config.json"),
        (_write("config.json", b"[]"), "config.json"),
        (_write("tokenizer.json", b'{"model": {}}'), "tokenizer"),
        (_write("tokenizer.json", b"\x00"), "tokenizer.json"),
        (_write("chat_template.jinja", b"{% for x in %}"), "chat_template.jinja"),
        (_write("recipe.json", b'{"poling": "last"}'), "poling"),
    ],
)
def test_damaged_checkpoints_are_named(
    folder: Path, tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    change(damaged)
    with pytest.raises(tte.ModelError, match=words):
        tte.Embedder(damaged, device="cpu").embed("x")


def test_a_template_that_fails_for_an_item_is_its_error(tmp_path: Path) -> None:
    models = Path(tte.__file__).parent / "models" / "nano"
    shutil.copytree(models / "reasoner", tmp_path / "reasoner")
    template = tmp_path / "reasoner" / "chat_template.jinja"
    fails = {"refused": "raise_exception('no')", "divided": "1 % 0", "deep": "f()"}
    branches = "".join(
        f"{{%- if '{word}' in messages | tojson -%}}{{{{- {how} -}}}}{{%- endif -%}}" for word, how in fails.items()
    )
    template.write_text("{%- macro f() -%}{{- f() -}}{%- endmacro -%}" + branches + template.read_text())
    reasoner = tte.Reasoner(tmp_path / "reasoner", device="cpu")
    items = ["a", "refused", "divided", "b", "deep"]
    options: dict[str, Any] = {"max_new_tokens": 2, "progress": False}
    for word in fails:
        with pytest.raises(tte.InputError, match=r"^item 1: "):
            reasoner.think(["a", word], **options)
    traces = reasoner.think(items, on_error="skip", **options)
    assert [trace.finish == tte.FinishReason.ERROR for trace in traces] == [False, True, True, False, True]
    embedder = tte.Embedder(models / "embedder", backend=reasoner.backend)
    result = tte.think_then_embed(items, reasoner=reasoner, embedder=embedder, on_error="skip", **options)
    assert [error.index for error in result.errors] == [1, 2, 4]
    assert np.isfinite(result.embeddings[[0, 3]]).all()


def test_exceptions_are_also_builtin_ones() -> None:
    assert issubclass(tte.InputError, ValueError)
    assert issubclass(tte.ModelError, RuntimeError)
    for name in ("InputError", "ModelError", "DeviceError", "CancelledError"):
        assert issubclass(getattr(tte, name), tte.Error)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": 3}, "task is 3"),
        ({"instruction": 3}, "instruction is 3"),
        ({"truncate_dim": 1.5}, "truncate_dim is 1.5"),
        ({"think": None}, "think is None"),
        ({"think": 3}, "think is 3"),
        ({"stop": 3}, "stop is 3"),
        ({"stop_token_ids": 5}, "stop_token_ids is 5"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"side": "left"}, "side is 'left'"),
    ],
)
def test_arguments_of_another_type(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(tte.InputError, match=words):
        tte.think_then_embed("a", progress=False, **arguments)


def test_a_checkpoint_that_is_no_path() -> None:
    nothing: Any = None
    with pytest.raises(tte.ModelError, match="not None"):
        tte.Embedder(nothing)


def test_numbers_of_numpy(embedder: tte.Embedder) -> None:
    size: Any = np.int64(8)
    assert embedder.embed("a", truncate_dim=size).shape == (1, 8)


def test_empty_paths_are_told() -> None:
    for use in (tte.Reasoner, tte.Tokenizer, tte.pages, tte.TraceStore, lambda path: tte.Reasoner("nano", recipe=path)):
        with pytest.raises(tte.Error, match=r"is an empty string: give a path"):
            use("")
    for path in (5, None, "a\0b"):
        with pytest.raises(tte.InputError, match=r"^the trace store's path "):
            tte.TraceStore(path)
