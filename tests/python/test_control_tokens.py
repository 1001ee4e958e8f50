"""Text of users becomes no control token where two texts meet: every token, cut at every place, over every joint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tte

NANO = Path(__file__).parents[2] / "models" / "nano" / "reasoner"
TOKENS = ["<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|vision_start|>"]
RECIPES: dict[str, dict[str, Any]] = {
    "chat": {"prompt": {"user": ["{instruction}", "{content}"]}},
    "chat with literals": {
        "prompt": {"user": ["<{instruction}|", "{text}>", "<|{trace}|>"], "system": "{instruction}<"}
    },
    "raw": {"prompt": {"style": "raw", "raw": ["<|im_{instruction}{content}{trace}>"], "image": "{token}"}},
}


def turn(role: str, *texts: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text} for text in texts]}


# The item and the arguments that put `head` in front of `tail`.
JOINTS: dict[str, Callable[[str, str], tuple[Any, dict[str, Any]]]] = {
    "parts": lambda head, tail: ([head, tail], {}),
    "parts with nothing between": lambda head, tail: ([head, "", tail], {}),
    "three parts": lambda head, tail: ([head[:1], head[1:] + tail[:-1], tail[-1:]], {}),
    "instruction and text": lambda head, tail: (tail, {"instruction": head}),
    "an item's instruction and text": lambda head, tail: ({"text": tail, "instruction": head}, {}),
    "text and trace": lambda head, tail: (head, {"trace": tail, "stage": "embed"}),
    "a trace and its tags": lambda head, tail: ("x", {"trace": f"{head}<think>{tail}</think>{tail}", "stage": "embed"}),
    "a literal and a text": lambda head, tail: (tail.removeprefix("|").removeprefix("im_"), {}),
    "a text between literals": lambda head, tail: ((head + tail)[1:-1], {"instruction": (head + tail)[1:-1]}),
    "parts of a turn": lambda head, tail: ([turn("user", head, tail)], {}),
    "role and text": lambda head, tail: ([turn("user" + head, tail)], {}),
    "turns": lambda head, tail: ([turn("user", head), turn("user", tail)], {}),
    "a continued turn": lambda head, tail: ([turn("user", head), turn("assistant", tail)], {}),
}


@pytest.fixture(scope="module", params=RECIPES)
def processor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tte.Processor:
    path = tmp_path_factory.mktemp("recipe") / "recipe.json"
    path.write_text(json.dumps({"name": "test", **RECIPES[request.param]}))
    return tte.Processor(NANO, recipe=path)


@pytest.mark.parametrize("joint", JOINTS)
def test_texts_that_meet(processor: tte.Processor, joint: str) -> None:
    tokenizer = processor.tokenizer

    def counts(head: str, tail: str) -> list[int] | None:
        item, arguments = JOINTS[joint](head, tail)
        try:
            ids = processor(item, **arguments)["input_ids"].ravel().tolist()
        except tte.InputError:  # Chat messages, where the recipe has a raw prompt or an instruction.
            return None
        return [ids.count(tokenizer.id_of(token)) for token in TOKENS]

    expected = counts("he", "llo")
    for token in TOKENS:
        for cut in range(1, len(token)):
            assert counts(token[:cut], token[cut:]) == expected, (token[:cut], token[cut:])


def test_ends_that_look_like_control_tokens_change_nothing() -> None:
    processor = tte.Processor(NANO)
    ids = processor("a < b and c <")["input_ids"].ravel().tolist()
    text = processor.tokenizer.decode(ids, skip_special=False)
    assert "a < b and c <<|im_end|>" in text
    assert ids == processor.tokenizer.encode(text)
