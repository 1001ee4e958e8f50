"""Checkpoints by their hub ids: what is fetched, and what is said when it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import tte
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

NANO = Path(tte.__file__).parent / "models" / "nano"


@pytest.mark.parametrize(
    ("name", "revision"), [("owner/name", None), ("owner/name@main", "main"), ("owner/name@", None)]
)
def test_a_hub_id_is_fetched_and_loaded(name: str, revision: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def fetch(repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert {"*.safetensors", "sparse_weights.pt"} <= set(allow_patterns)
        asked.append((repository, revision))
        return str(NANO / "embedder")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert tte.Embedder(name, device="cpu").dim == 192
    assert asked == [("owner/name", revision)]


@pytest.mark.parametrize(
    "error",
    [
        OSError(), LocalEntryNotFoundError("not here\nand nowhere else"), HFValidationError("x" * 5000),
        ConnectionResetError(104, "Connection reset by peer"), ValueError(), RuntimeError("\n\n"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_cannot_be_fetched_is_a_sentence(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    for name in ("owner/name", "o" * 120 + "/" + "n" * 120):
        for load in (tte.Reasoner, tte.Embedder, tte.Processor, tte.Tokenizer):
            with pytest.raises(tte.ModelError) as raised:
                load(name)
            message = str(raised.value)
            assert type(error).__name__ in message
            assert "check the name" in message
            assert len(message) < 500
            assert "\n" not in message


def test_nothing_else_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("it was asked for"))
    monkeypatch.chdir(tmp_path)
    for name in ("name", "a/b/c", "./a/b", "/a/b", "~/a", "a/\0"):
        with pytest.raises(tte.ModelError):
            tte.Embedder(name)
    with pytest.raises(tte.ModelError, match="is not a folder"):
        tte.Embedder("nano", adapter="nano")


@pytest.mark.parametrize("base", [" ", "a\nb", "x" * 300, "owner/" + "n" * 5000])
def test_a_base_that_is_not_found_is_a_sentence(base: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fetch(*_: Any, **__: Any) -> str:
        raise OSError("no network.")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}))
    with pytest.raises(tte.ModelError, match=r"is an adapter of .*, which was not found: give") as raised:
        tte.Embedder(tmp_path)
    message = str(raised.value)
    assert message.endswith(").")
    assert len(message) < 500
    assert "\n" not in message
