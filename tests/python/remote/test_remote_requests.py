"""What a reasoner behind a server sends: messages, options, images and videos."""

from __future__ import annotations

import base64
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tte
from chat_server import (
    ChatServer,
    remote,
    stream,
    think,
)
from PIL import Image
from references import noise


def test_a_text_is_a_message_and_the_answer_a_trace(server: ChatServer) -> None:
    server.then(stream("<think>it is ", "round</think> a ", "ball", usage={"prompt_tokens": 9, "completion_tokens": 4}))
    (trace,) = think(server)
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.messages == [{"role": "user", "content": "what is it ?"}]
    assert request.body == {
        "model": "some/model", "max_tokens": 512, "temperature": 0, "stream": True,
        "stream_options": {"include_usage": True}, "messages": request.messages,
    }  # fmt: skip
    assert "authorization" not in request.headers
    assert trace.text == "<think>it is round</think> a ball"
    assert (trace.thinking, trace.conclusion) == ("it is round", "a ball")
    assert trace.finish == tte.FinishReason.STOP
    assert (trace.prompt_tokens, trace.generated_tokens, trace.token_ids) == (9, 4, [])


def test_decoding_options_become_fields_where_they_are_given(server: ChatServer) -> None:
    think(
        server, max_new_tokens=7, temperature=0.5, top_p=0.9, top_k=3, min_p=0.1, repetition_penalty=1.1,
        seed=2**63 - 1, min_new_tokens=2, max_think_tokens=5, stop=["a", "b"], stop_token_ids=[4], ignore_eos=True,
    )  # fmt: skip
    body = server.requests[0].body
    assert {k: v for k, v in body.items() if k not in ("model", "messages", "stream", "stream_options")} == {
        "max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1,
        "seed": 2**63 - 1, "min_tokens": 2, "thinking_token_budget": 5, "stop": ["a", "b"], "stop_token_ids": [4],
        "ignore_eos": True,
    }  # fmt: skip
    think(server, checkpoint_sampling=True)
    assert "temperature" not in server.requests[1].body


@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_sees_what_goes_to_http(
    server: ChatServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in ("http_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, server.url.removesuffix("/v1"))
    options = {"model": "m", "api_key": "secret", "max_retries": 0}
    for host in ("example.invalid", "localhost:1"):
        (trace,) = tte.RemoteReasoner(f"http://{host}/v1", **options).think(["a"], progress=False)
        request = server.requests.pop()
        assert trace.text
        assert request.path == f"http://{host}/v1/chat/completions"
        assert request.headers["authorization"] == "Bearer secret"
    with pytest.raises(tte.RemoteError) as error:  # Asked for a tunnel, which nobody but the server reads.
        tte.RemoteReasoner("https://example.invalid/v1", **options).think(["a"], progress=False)
    assert "secret" not in str(error.value)
    monkeypatch.setenv("NO_PROXY", "localhost")
    with pytest.raises(tte.RemoteError, match="localhost"):
        tte.RemoteReasoner("http://localhost:1/v1", **options).think(["a"], progress=False)
    assert not server.requests


def test_a_seed_that_a_server_cannot_be_sent_is_refused(server: ChatServer) -> None:
    for seed in (2**63, 2**64 - 1, [2**64 - 1]):
        with pytest.raises(tte.InputError, match=r"item 0: seed is \d+, which a server cannot be sent: .* at most"):
            think(server, seed=seed, temperature=1)
    assert not server.requests


def test_further_fields_win_and_none_takes_one_out(server: ChatServer) -> None:
    extra = {"chat_template_kwargs": {"enable_thinking": True}, "max_tokens": None, "max_completion_tokens": 9}
    remote(server, extra=extra).think("a")
    body = server.requests[0].body
    assert body["chat_template_kwargs"] == {"enable_thinking": True}
    assert (body["max_completion_tokens"], "max_tokens" in body) == (9, False)
    with pytest.raises(tte.InputError, match='"messages", which is tte\'s own'):
        remote(server, extra={"messages": []})


def test_options_of_the_template_are_sent(server: ChatServer, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"prompt": {"template_options": {"enable_thinking": true, "level": 2}}}')
    options = {"enable_thinking": np.bool_(False), "effort": "low"}
    reasoner = remote(server, recipe=tmp_path / "recipe.json", template_options=options)
    for each in (reasoner, pickle.loads(pickle.dumps(reasoner))):
        each.think("a")
        sent = {"enable_thinking": False, "level": 2, "effort": "low"}
        assert server.requests[-1].body["chat_template_kwargs"] == sent
    remote(server, template_options=options, extra={"chat_template_kwargs": None}).think("a")
    assert "chat_template_kwargs" not in server.requests[-1].body
    assert tte.TraceStore(tmp_path / "t.sqlite").request(reasoner, "a").key != (
        tte.TraceStore(tmp_path / "t.sqlite").request(remote(server, recipe=tmp_path / "recipe.json"), "a").key
    )


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"a": 0.5}, tte.InputError, r"template_options\['a'\] is 0\.5: it must be True, False"),
        ([1], tte.InputError, "template_options is .*: it must be a dict"),
        ({"messages": "x"}, tte.ModelError, r"template_options\.messages.*tte sets it"),
    ],
)
def test_options_that_no_template_has_are_refused(
    server: ChatServer, options: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        remote(server, template_options=options)


def test_a_recipe_is_written_as_messages(server: ChatServer, tmp_path: Path) -> None:
    recipe = {
        "name": "mine",
        "prompt": {"system": "You are {instruction}", "user": ["{media}", "Say: {text}"]},
        "instruction": "kind",
        "tasks": {"qa": {"query": "clever"}},
        "trace": {"open": "<r>", "close": "</r>"},
        "decoding": {"max_new_tokens": 33, "temperature": 0.7},
    }
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    server.default = stream("fine", thinking=("hm",))
    reasoner = remote(server, recipe=tmp_path / "recipe.json")
    traces = reasoner.think(["a", {"text": "b", "instruction": "own"}], task=["qa", None], seed=3)
    by_text = {r.messages[1]["content"]: r.messages[0]["content"] for r in server.requests}
    assert by_text == {"Say: a": "You are clever", "Say: b": "You are own"}
    assert server.requests[0].body["max_tokens"] == 33
    assert server.requests[0].body["temperature"] == 0.7
    assert [t.text for t in traces] == ["<r>hm</r>fine"] * 2
    assert [(t.thinking, t.conclusion) for t in traces] == [("hm", "fine")] * 2
    assert json.loads(reasoner.model.recipe)["name"] == "mine"


def images_of(content: list[dict[str, Any]]) -> list[tuple[str, bytes]]:
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    return [(url.partition(";")[0], base64.b64decode(url.partition(",")[2], validate=True)) for url in urls]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pixels_of(file: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_file_is_sent_as_it_is(server: ChatServer, tmp_path: Path, kind: str) -> None:
    data = encoded(Image.fromarray(noise(30, 41)), kind)
    (tmp_path / "image.bin").write_bytes(data)
    think(
        server,
        [
            {"image": tmp_path / "image.bin", "text": "x"},
            [{"type": "text", "text": "y"}, {"type": "image", "image": data}],
        ],
    )
    by_first = {r.messages[0]["content"][0]["type"]: r.messages[0]["content"] for r in server.requests}
    assert images_of(by_first["image_url"]) == images_of(by_first["text"]) == [(f"data:image/{kind.lower()}", data)]
    assert by_first["image_url"][1] == {"type": "text", "text": "x"}


def test_other_images_are_sent_as_png_of_the_pixels_that_a_model_here_would_see(server: ChatServer) -> None:
    array = noise(20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # Turned by 90 degrees.
    turned = encoded(Image.fromarray(array), "PNG", exif=exif)
    webp = encoded(Image.fromarray(array), "WEBP", lossless=True)
    clear = np.dstack([array, np.zeros((20, 30), np.uint8)])
    think(server, [{"images": [array, turned, webp, Image.fromarray(clear)]}])
    found = images_of(server.requests[0].messages[0]["content"])
    assert [mime for mime, _ in found] == ["data:image/png"] * 4
    for (_, file), wanted in zip(found, [array, np.rot90(array, -1), array, np.full_like(array, 255)], strict=True):
        np.testing.assert_array_equal(pixels_of(file), wanted)


def test_sizes_are_those_that_item_and_recipe_ask_for(server: ChatServer, tmp_path: Path) -> None:
    array = noise(100, 200)
    (tmp_path / "r.json").write_text(json.dumps({"image": {"max_pixels": 5000}, "video": {"num_frames": 2}}))
    reasoner = remote(server, recipe=tmp_path / "r.json")
    own = {"type": "image", "image": array, "resized_height": 10, "resized_width": 20}
    reasoner.think([[{"type": "image", "image": array}, own]])
    shapes = [pixels_of(file).shape for _, file in images_of(server.requests[0].messages[0]["content"])]
    assert shapes == [(50, 100, 3), (10, 20, 3)]


def test_a_video_is_its_frames_in_their_order(server: ChatServer, tmp_path: Path) -> None:
    frames = [np.full((8, 8, 3), 10 * i, np.uint8) for i in range(20)]
    (tmp_path / "r.json").write_text(json.dumps({"video": {"fps": 1}}))

    def sent_frames(reasoner: tte.RemoteReasoner, **video: Any) -> list[int]:
        server.requests.clear()
        reasoner.think([[{"type": "video", "video": frames, **video}, {"type": "text", "text": "x"}]])
        content = server.requests[0].messages[0]["content"]
        assert content[-1] == {"type": "text", "text": "x"}
        return [int(pixels_of(file)[0, 0, 0]) // 10 for _, file in images_of(content)]

    assert sent_frames(remote(server)) == [0, 2, 5, 7, 10, 12, 15, 17]
    assert sent_frames(remote(server), num_frames=4) == [0, 5, 10, 15]
    assert sent_frames(remote(server, recipe=tmp_path / "r.json"), source_fps=4) == [0, 4, 8, 12, 16]


def test_chat_messages_are_sent_as_they_are(server: ChatServer) -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "what ?"}, {"type": "image", "image": noise(4, 4)}]},
    ]
    think(server, messages)
    think(server, [*messages, {"role": "assistant", "content": "It is"}])
    first, second = server.requests
    assert first.messages[0] == messages[0]
    assert first.messages[1]["content"][0] == {"type": "text", "text": "what ?"}
    assert images_of(first.messages[1]["content"])[0][0] == "data:image/png"
    assert "continue_final_message" not in first.body
    assert second.messages[2] == {"role": "assistant", "content": "It is"}
    assert (second.body["continue_final_message"], second.body["add_generation_prompt"]) == (True, False)
    with pytest.raises(tte.InputError, match="item 0: it has chat messages and an instruction"):
        think(server, messages, instruction="x")


def test_bad_items_are_named_and_nothing_is_sent(server: ChatServer, tmp_path: Path) -> None:
    cut = encoded(Image.fromarray(noise(30, 30)), "PNG")[:-40]
    for item, words in [
        ("", None),
        ({"image": cut}, "item 0: the encoded image"),
        ({"image": tmp_path / "no.png"}, "no.png"),
    ]:
        if words is None:
            think(server, item)
            assert server.requests.pop().messages == [{"role": "user", "content": ""}]
            continue
        with pytest.raises(tte.InputError, match=words):
            think(server, item)
    (trace, good) = think(server, [{"image": cut}, "a"], on_error="skip")
    assert (trace.finish, good.finish) == (tte.FinishReason.ERROR, tte.FinishReason.STOP)
    assert len(server.requests) == 1
    small = tte.MediaLimits(max_item_bytes=2000)
    with pytest.raises(tte.InputError, match="max_item_bytes"):
        remote(server, media_limits=small).think({"image": noise(20, 30)})
