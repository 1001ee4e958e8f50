"""A reasoner behind a server: what it is sent, what is made of its answers, and what is done about bad ones."""

from __future__ import annotations

import base64
import copy
import io
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tte
from chat_server import (
    ChatServer,
    Handler,
    chat_server,
    chunk,
    event,
    events,
    raw,
    sent,
    silent,
    slow,
    status,
    stream,
    whole,
)
from PIL import Image
from references import picture

KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as chat:
        yield chat


def remote(server: ChatServer, **options: Any) -> tte.RemoteReasoner:
    """One that waits for nothing between its tries."""
    waits = {"retry_delay": 0.0, "max_retry_delay": 0.0, "retry_seed": 1}
    return tte.RemoteReasoner(server.url, "some/model", **{**waits, **options})


def think(server: ChatServer, items: Any = "what is it ?", **options: Any) -> list[tte.Trace]:
    return remote(server).think(items, progress=False, **options)


# What is sent.


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
        seed=2**64 - 1, min_new_tokens=2, max_think_tokens=5, stop=["a", "b"], stop_token_ids=[4], ignore_eos=True,
    )  # fmt: skip
    body = server.requests[0].body
    assert {k: v for k, v in body.items() if k not in ("model", "messages", "stream", "stream_options")} == {
        "max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1,
        "seed": 2**63 - 1, "min_tokens": 2, "thinking_token_budget": 5, "stop": ["a", "b"], "stop_token_ids": [4],
        "ignore_eos": True,
    }  # fmt: skip
    think(server, checkpoint_sampling=True)
    assert "temperature" not in server.requests[1].body


def test_further_fields_win_and_none_takes_one_out(server: ChatServer) -> None:
    extra = {"chat_template_kwargs": {"enable_thinking": True}, "max_tokens": None, "max_completion_tokens": 9}
    remote(server, extra=extra).think("a")
    body = server.requests[0].body
    assert body["chat_template_kwargs"] == {"enable_thinking": True}
    assert (body["max_completion_tokens"], "max_tokens" in body) == (9, False)
    with pytest.raises(tte.InputError, match='"messages", which is tte\'s own'):
        remote(server, extra={"messages": []})


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
    data = encoded(Image.fromarray(picture(30, 41)), kind)
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
    array = picture(20, 30)
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
    array = picture(100, 200)
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
        {"role": "user", "content": [{"type": "text", "text": "what ?"}, {"type": "image", "image": picture(4, 4)}]},
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
    cut = encoded(Image.fromarray(picture(30, 30)), "PNG")[:-40]
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
        remote(server, media_limits=small).think({"image": picture(20, 30)})


# What is made of answers.


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thinking_that_is_split_off_is_put_back_in_front(server: ChatServer, field: str) -> None:
    server.then(stream("so ", "a cat", thinking=("it has ", "ears"), field=field))
    server.then(whole("so a cat", **{field: "it has ears"}))
    pieces: list[tuple[int, str, int]] = []
    (streamed,) = think(server, on_token=lambda *piece: pieces.append(piece))
    (at_once,) = think(server)
    assert streamed.text == at_once.text == "<think>it has ears</think>so a cat"
    assert (streamed.thinking, streamed.conclusion) == ("it has ears", "so a cat")
    assert pieces == [(0, "<think>it has ", -1), (0, "ears", -1), (0, "</think>so ", -1), (0, "a cat", -1)]
    assert (at_once.prompt_tokens, at_once.generated_tokens, at_once.reused_tokens) == (7, 3, 5)


def test_thinking_that_was_cut_stays_open(server: ChatServer) -> None:
    server.then(stream(thinking=("on and on",), finish="length"), stream(thinking=("done",)))
    cut, done = (think(server)[0] for _ in range(2))
    assert (cut.text, cut.thinking, cut.conclusion, cut.finish.name) == ("<think>on and on", "on and on", "", "LENGTH")
    assert (done.text, done.conclusion, done.finish.name) == ("<think>done</think>", "", "STOP")


def test_characters_and_events_may_be_cut_anywhere(server: ChatServer) -> None:
    data = b"".join([b"\xef\xbb\xbf: hello\r\n\r\n", *events("Grüße ", "東京 ", "😀", "\u2028end")])
    for size in (1, 3, 7):
        server.then(sent([data[i : i + size] for i in range(0, len(data), size)]))
    assert [think(server)[0].text for _ in range(3)] == ["Grüße 東京 😀\u2028end"] * 3


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_the_standard_allows(server: ChatServer, end: str) -> None:
    two_lines = b"id: 3" + end.encode() + b"event: message" + end.encode()
    parts = [
        two_lines + event(chunk({"content": "a"}), end),
        event(chunk({"content": "b"}, "stop"), end),
        b"data:[DONE]",
    ]
    server.then(sent(parts))
    assert think(server)[0].text == "ab"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (sent(events("a", "b")[:-1]), "ab"),  # Without [DONE].
        (sent([event(chunk({"content": "ab"})), event("[DONE]")]), "ab"),  # Without a finish_reason.
        (sent([*events("ab"), event(chunk({"content": "more"}))]), "ab"),  # Something after the end.
        (sent([event({"choices": [], "usage": None}), *events("ab")]), "ab"),
        (sent([event(chunk({"content": [{"type": "text", "text": "ab"}]}, "stop"))]), "ab"),
        (sent([event(chunk({"content": None}, "stop"))]), ""),
        (whole(None), ""),
        (sent(events("a", "b"), content_type="text/plain"), "ab"),
        (sent([b"".join(events("a", "b"))], content_type="application/json"), "ab"),
        (sent([json.dumps({"choices": [{"message": {"content": "ab"}}]}).encode()]), "ab"),
        (sent([json.dumps({"choices": [{"message": {"content": "ab"}}]}).encode()], content_type="text/plain"), "ab"),
    ],
)
def test_answers_that_are_odd_but_whole_are_taken(server: ChatServer, answer: Any, text: str) -> None:
    server.then(answer)
    assert think(server)[0].text == text
    assert len(server.requests) == 1


def test_a_callback_stops_a_trace_with_exactly_its_piece(server: ChatServer) -> None:
    def answer(handler: Handler) -> None:
        handler.start_stream()
        for piece in events("one ", "two ", "three "):
            handler.send_chunk(piece)
        handler.chat.over.wait()

    server.then(answer)
    seen: list[str] = []
    (trace,) = think(server, on_token=lambda i, text, id: seen.append(text) or len(seen) < 2)
    assert seen == ["one ", "two "]
    assert trace.text == "one two "
    assert trace.finish == tte.FinishReason.CALLBACK


def test_whole_answers_can_be_asked_for(server: ChatServer) -> None:
    server.then(whole("a b"))
    seen: list[str] = []
    (trace,) = remote(server, stream=False).think("x", on_token=lambda i, text, id: seen.append(text))
    assert (trace.text, seen) == ("a b", ["a b"])
    assert (server.requests[0].body["stream"], "stream_options" in server.requests[0].body) == (False, False)


# What is done about bad ones.

CUT = sent(events("a", "b")[:2], whole=False)
BAD = {
    "429": status(429, "slow down", Retry_After="1"),
    "429 with a date": status(429, "slow down", Retry_After=formatdate(usegmt=True)),
    "408": status(408),
    "409": status(409),
    "425": status(425),
    "500": status(500),
    "503": status(503),
    "a cut stream": CUT,
    "a stream that ends early": sent(events("a", "b")[:2]),
    "a closed connection": raw(b""),
    "no HTTP": raw(b"hello\r\n\r\n"),
    "half of a body": raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"),
    "a bad chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "wrong JSON": sent([b"data: {nope\n\n"]),
    "a page": sent([b"<html>hello</html>"], content_type="text/html"),
    "no choices": sent([event({"object": "x"})]),
    "no choices at all": lambda h: h.send_json(200, {"id": 1}),
    "choices that are none": lambda h: h.send_json(200, {"choices": [1, None, {"message": 3}]}),
    "an empty stream": sent([]),
    "only [DONE]": sent([event("[DONE]")]),
    "an error in the stream": sent([*events("a")[:2], event({"error": {"message": "engine died", "code": 500}})]),
    "an abort": stream("a", finish="abort"),
    "a lone surrogate": sent([b'data: {"choices": [{"delta": {"content": "\\ud800"}}]}\n\n']),
    "bytes that are not UTF-8": sent([b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n']),
    "deep JSON": sent([b"data: " + b"[" * 5000 + b"\n\n"]),
}


@pytest.mark.parametrize("what", BAD)
def test_what_may_pass_is_tried_again(server: ChatServer, what: str) -> None:
    server.then(BAD[what], BAD[what], stream("good"))
    assert think(server)[0].text == "good"
    assert len(server.requests) == 3


@pytest.mark.parametrize("what", BAD)
def test_and_ends_the_call_with_what_the_server_said(server: ChatServer, what: str) -> None:
    server.default = BAD[what]
    with pytest.raises(tte.RemoteError, match=f"^item 0: the server {server.url} .*, asked 3 times: .*[.]$") as caught:
        remote(server, max_retries=2).think("x")
    assert len(server.requests) == 3
    assert len(str(caught.value)) < 500
    assert caught.value.status == (
        int(what[:3]) if what[:3].isdigit() else 500 if what == "an error in the stream" else 0
    )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (status(401, "bad key"), r"answers 401 \(bad key\): check the API key"),
        (status(403), "answers 403"),
        (status(404, "no model"), r"answers 404 \(no model\): check the model's name, and base_url"),
        (status(400, "too long"), r"answers 400 \(too long\): change the item"),
        (status(418), "answers 418"),
        (lambda h: h.send_json(422, {"detail": [{"loc": ["body"], "msg": "field required"}]}), "field required"),
        (lambda h: h.send_json(400, {"object": "error", "message": "vllm says"}), r"\(vllm says\)"),
        (lambda h: h.send_json(400, "just words"), r"\(just words\)"),
        (raw(b"HTTP/1.1 400 Bad\r\nContent-Length: 4\r\n\r\nw\nt\xff"), r"answers 400 \(w\\x0at\\xff\)"),
        (stream("a", finish="content_filter"), "content filter"),
        (sent([event({"error": {"message": "too long", "code": 400}})]), r"answers 400 \(too long\)"),
        (sent([b"data: " + b"x" * 70_000]), "an event of more than 65536 bytes"),
        (sent([b"data: x\ndata: y" + b"z" * 600 + b"\n"] * 200), "an event of more than 65536 bytes"),
        (sent([event(chunk({"content": "x" * 60_000}))] * 20), "more than 1048576 bytes"),
        (sent([b"x" * 60_000] * 20, content_type="application/json"), "more than 1048576 bytes"),
        (
            raw(b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: %s\r\n" % (i, b"y" * 1000) for i in range(300)) + b"\r\n"),
            "of headers",
        ),
    ],
)
def test_what_would_be_the_same_again_is_not_asked_again(server: ChatServer, answer: Any, words: str) -> None:
    server.default = answer
    with pytest.raises(tte.RemoteError, match=words) as caught:
        remote(server, max_response_bytes=1 << 20).think("x")
    assert len(server.requests) == 1
    assert len(str(caught.value)) < 500


def test_a_refused_item_is_skipped_and_the_others_go_on(server: ChatServer) -> None:
    def answer(handler: Handler) -> None:
        bad = handler.chat.requests[-1] if len(handler.chat.requests) == 1 else None
        (status(400, "not this one") if bad else stream("good"))(handler)

    server.default = answer
    traces = remote(server, max_concurrent=1).think(["a", "b", "c"], on_error="skip", progress=False)
    assert [t.finish.name for t in traces] == ["ERROR", "STOP", "STOP"]
    assert "not this one" in traces[0].error
    server.requests.clear()
    with pytest.raises(tte.RemoteError, match=r"item 0: .*not this one"):
        remote(server, max_concurrent=1).think(["a", "b", "c"], progress=False)


def test_a_dead_server_ends_the_call_and_finished_traces_are_kept(server: ChatServer) -> None:
    server.then(stream("one"), stream("two"))
    server.default = raw(b"")
    kept: dict[int, str] = {}
    with pytest.raises(tte.RemoteError, match="item 2: the server"):
        remote(server, max_concurrent=1).think(
            ["a", "b", "c", "d"], on_error="skip", on_result=lambda i, t: kept.update({i: t.text}), progress=False
        )
    assert kept == {0: "one", 1: "two"}


def test_nobody_listens() -> None:
    with chat_server() as gone:
        url = gone.url
    reasoner = tte.RemoteReasoner(url, "m", max_retries=1, retry_delay=0)
    with pytest.raises(tte.RemoteError, match=f"the server {url} cannot be reached .*, asked 2 times"):
        reasoner.think("x")


@pytest.mark.parametrize("answer", [silent, slow], ids=["no bytes", "half of an answer"])
def test_silence_ends_a_try(server: ChatServer, answer: Any) -> None:
    server.then(answer, stream("good"))
    assert remote(server, idle_timeout=0.2).think("x")[0].text == "good"
    server.then(answer)
    with pytest.raises(tte.RemoteError, match=r"was silent for 0\.2 seconds.*raise idle_timeout"):
        remote(server, idle_timeout=0.2, max_retries=0).think("x")
    server.then(answer)
    with pytest.raises(tte.RemoteError, match="total_timeout"):
        remote(server, total_timeout=0.2).think("x")


def test_a_try_after_a_cut_one_goes_on_where_the_callback_was(server: ChatServer) -> None:
    server.then(CUT, stream("ab", "c"))
    pieces: list[str] = []
    (trace,) = think(server, on_token=lambda i, text, id: pieces.append(text))
    assert pieces == ["a", "b", "c"]
    assert trace.text == "abc"
    server.then(CUT, stream("other"))
    with pytest.raises(tte.RemoteError, match="wrote another one the second time"):
        think(server, on_token=lambda i, text, id: None)
    server.then(CUT, stream("other"))
    assert think(server)[0].text == "other"  # Where nobody has seen the first, it is as good.


def test_cancelling_ends_requests_that_are_under_way(server: ChatServer) -> None:
    server.default = slow
    cancel = tte.CancelToken()
    threading.Thread(target=lambda: (server.half_sent.wait(), cancel.cancel())).start()
    with pytest.raises(tte.CancelledError, match="after 0 of 3 items"):
        think(server, ["a", "b", "c"], cancel=cancel)
    server.default = status(503)
    reasoner = tte.RemoteReasoner(server.url, "m", retry_delay=1e6, max_retry_delay=1e6)

    def stop(request_count: int) -> None:
        while len(server.requests) <= request_count:
            pass
        waiting.cancel()

    waiting = tte.CancelToken()
    threading.Thread(target=stop, args=(len(server.requests),)).start()
    with pytest.raises(tte.CancelledError):
        reasoner.think("x", cancel=waiting)
    del reasoner  # Waits for its threads, which wait for nothing any more.


def test_ctrl_c_ends_requests_that_are_under_way(server: ChatServer) -> None:
    server.default = slow
    code = (
        "import tte, sys\n"
        "reasoner = tte.RemoteReasoner(sys.argv[1], 'm')\n"
        "try:\n    reasoner.think(['a', 'b'], on_token=lambda *a: print('begun', flush=True))\n"
        "except KeyboardInterrupt:\n    print('stopped')\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, server.url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(2)
        assert process.stdout.read().endswith("stopped\n")
    assert process.returncode == 0


def test_requests_under_way_are_bounded_over_all_calls(server: ChatServer) -> None:
    reasoner = remote(server, max_concurrent=2)
    both = [threading.Thread(target=reasoner.think, args=(["a"] * 9,), kwargs={"progress": False}) for _ in range(3)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(server.requests) == 27
    assert server.most_running <= 2


def test_a_connection_is_kept_for_the_next_request(server: ChatServer) -> None:
    reasoner = remote(server, max_concurrent=1)
    reasoner.think(["a", "b", "c"], progress=False)
    reasoner.think("d")
    assert (len(server.requests), server.connections) == (4, 1)


# The key.


def test_the_key_is_the_environments_or_the_given_one(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    monkeypatch.setenv("MY_KEY", "mine")
    remote(server).think("x")
    remote(server, api_key_env="MY_KEY").think("x")
    remote(server, api_key=KEY).think("x")
    remote(server, api_key_env=None).think("x")
    sent_keys = [request.headers.get("authorization") for request in server.requests]
    assert sent_keys == ["Bearer from-environment", "Bearer mine", f"Bearer {KEY}", None]


def test_the_key_shows_nowhere(server: ChatServer) -> None:
    reasoner = remote(server, api_key=KEY)
    described = [repr(reasoner), str(reasoner.model), reasoner.model.fingerprint, reasoner.model.recipe]
    assert not [text for text in described if KEY in text]
    assert KEY.encode() not in pickle.dumps(reasoner)
    assert reasoner.model.fingerprint == remote(server).model.fingerprint
    server.default = status(401, f"the key Bearer {KEY} is wrong")
    with pytest.raises(tte.RemoteError, match=r"the key Bearer \*\*\* is wrong") as caught:
        reasoner.think("x")
    assert KEY not in str(caught.value)
    copied = copy.deepcopy(reasoner)
    server.default = stream("a")
    copied.think("x")
    assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", ["a b", "a\r\nX-Other: b", "ä", "a\0b", "x" * 9000])
def test_a_key_that_no_header_can_have_is_refused_unseen(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(tte.InputError, match="api_key has what no key has") as caught:
        tte.RemoteReasoner("http://localhost", "m", api_key=key)
    assert key not in str(caught.value)
    if "\0" not in key:
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(tte.InputError, match="the environment variable OPENAI_API_KEY has what no key has"):
            tte.RemoteReasoner("http://localhost", "m")


def test_redirects_are_not_followed_and_show_no_secrets(server: ChatServer) -> None:
    with chat_server() as other:
        target = f"http://user:pass@127.0.0.1:{other.port}/v1/chat/completions?token=hidden"
        for code in (301, 302, 303, 307, 308):
            server.default = status(code, Location=target)
            with pytest.raises(tte.RemoteError, match=f"{code} .a redirect to http://127.0.0.1:{other.port}") as caught:
                remote(server, api_key=KEY).think("x")
            assert not {"pass", "hidden"} & set(str(caught.value).replace("@", " ").replace("=", " ").split())
        assert other.requests == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "is empty"),
        ("localhost:8000", "is no URL"),
        ("ftp://a/v1", "neither http nor https"),
        ("http://", "no"),
        ("file:///etc/passwd", "neither|no URL"),
        ("http://user:hunter2@a/v1", "user name or password"),
        ("http://hunter2@a/v1", "user name or password"),
        ("http://a/v1?key=hunter2", "query"),
        ("http://a/v1#x", "fragment"),
        ("http://a/v1\r\nX: y", "space"),
        ("http://a b/v1", "space"),
        ("http://ä/v1", "ASCII"),
        ("http://a:99999/v1", "no URL"),
        ("http://" + "a" * 5000, "longer"),
        ("http://us er:hunter2@a/", "space"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused_without_their_secrets(url: str, why: str) -> None:
    with pytest.raises(tte.InputError, match=f"base_url is .*{why}") as caught:
        tte.RemoteReasoner(url, "m")
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("url", ["{}", "{}/", "{}/chat/completions"])
def test_an_address_may_end_as_people_write_it(server: ChatServer, url: str) -> None:
    tte.RemoteReasoner(url.format(server.url), "m").think("x")
    assert server.requests[0].path == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": ""}, "model is"),
        ({"model": "a\nb"}, "model is"),
        ({"model": 3}, "model is 3"),
        ({"max_concurrent": 0}, "max_concurrent"),
        ({"max_retries": -1}, "max_retries"),
        ({"retry_delay": -1}, "retry_delay"),
        ({"idle_timeout": 0}, "idle_timeout"),
        ({"total_timeout": float("nan")}, "total_timeout"),
        ({"stream": 1}, "stream"),
        ({"extra": [1]}, "extra"),
        ({"extra": {"a": {1}}}, "extra"),
        ({"extra": {"stream": False}}, "stream"),
        ({"api_key": 5}, "api_key is a int"),
        ({"api_key": ""}, "api_key is empty"),
        ({"media_limits": 5}, "media_limits"),
        ({"max_response_bytes": 5}, "max_response_bytes"),
    ],
)
def test_arguments_are_checked_in_one_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(tte.InputError, match=words):
        tte.RemoteReasoner("http://localhost/v1", **{"model": "m", **options})


def test_a_raw_recipe_is_refused() -> None:
    with pytest.raises(tte.ModelError, match='style "raw"'):
        tte.RemoteReasoner("http://localhost/v1", "m", recipe="qwen2_vl_vlm2vec")


# A reasoner like any other.


def test_it_says_what_it_is_and_what_it_has_not() -> None:
    reasoner = tte.RemoteReasoner("http://LocalHost:1/v1", "Qwen/Some-7B", max_concurrent=3)
    assert repr(reasoner) == "RemoteReasoner('http://LocalHost:1/v1', 'Qwen/Some-7B')"
    assert (str(reasoner.model.path), reasoner.model.server) == ("Qwen/Some-7B", "http://LocalHost:1/v1")
    for member in ("backend", "tokenizer"):
        with pytest.raises(tte.Error, match=f"Qwen/Some-7B is behind the server .* has no {member} here"):
            getattr(reasoner, member)
    again = pickle.loads(pickle.dumps(reasoner))
    assert (repr(again), again._given["max_concurrent"]) == (repr(reasoner), 3)
    same = tte.RemoteReasoner("https://localhost:2/other", "Qwen/Some-7B").model.fingerprint
    assert same == reasoner.model.fingerprint
    others = [
        ("http://other/v1", "Qwen/Some-7B", None),
        ("http://localhost:1/v1", "b", None),
        ("http://localhost", "Qwen/Some-7B", {"a": 1}),
    ]
    assert same not in [tte.RemoteReasoner(url, name, extra=extra).model.fingerprint for url, name, extra in others]


def test_it_thinks_and_an_embedder_here_embeds(server: ChatServer) -> None:
    embedder = tte.Embedder("nano")
    items = ["the red circle", {"image": picture(40, 40), "text": "what ?"}]
    server.default = stream("<think>is it", " red ?</think>", " yes")
    result = tte.think_then_embed(items, reasoner=remote(server), embedder=embedder, progress=False)
    traces = remote(server).think(items, progress=False)
    assert [t and t.text for t in result.traces] == [t.text for t in traces] == ["<think>is it red ?</think> yes"] * 2
    np.testing.assert_allclose(result.embeddings, embedder.embed(items, traces, progress=False), atol=2e-5)
    assert result.stats.thought == 2
    assert result.stats.generated_tokens == 6
    loaded = tte.think_then_embed(items, reasoner=remote(server), embedder=embedder.model.path, think="queries")
    np.testing.assert_allclose(loaded.embeddings, result.embeddings, atol=2e-5)


def test_one_refused_item_takes_no_vector_with_it(server: ChatServer) -> None:
    server.default = lambda h: (status(400, "no") if "bad" in str(h.chat.requests[-1].messages) else stream("ok"))(h)
    result = tte.think_then_embed(
        ["a", "bad", "b"], reasoner=remote(server, max_concurrent=1), embedder=tte.Embedder("nano"), on_error="skip",
        progress=False,
    )  # fmt: skip
    assert np.isfinite(result.embeddings).all(axis=1).tolist() == [True, False, True]
    assert [e.index for e in result.errors] == [1]


def test_traces_are_kept_by_model_host_and_prompt(server: ChatServer, tmp_path: Path) -> None:
    items = ["a", "b", {"image": picture(9, 9)}]
    with tte.TraceStore(tmp_path / "t.sqlite") as store:
        first = store.think(remote(server), items, progress=False)
        assert len(server.requests) == 3
        again = store.think(remote(server, max_concurrent=2), items, progress=False)
        result = tte.think_then_embed(
            items, reasoner=remote(server), embedder=tte.Embedder("nano"), store=store, progress=False
        )
        assert len(server.requests) == 3
        assert first == again == result.traces
        store.think(tte.RemoteReasoner(server.url, "another"), "a")
        store.think(remote(server, extra={"top_k": 1}), "a")
        store.think(remote(server), "a", max_new_tokens=3)
        assert len(server.requests) == 6


def test_a_store_keeps_what_came_before_the_server_died(server: ChatServer, tmp_path: Path) -> None:
    server.then(stream("one"))
    server.default = raw(b"")
    with tte.TraceStore(tmp_path / "t.sqlite") as store:
        with pytest.raises(tte.RemoteError):
            store.think(remote(server, max_concurrent=1, max_retries=0), ["a", "b"], progress=False)
        assert len(store) == 1
        server.default = stream("two")
        assert [t.text for t in store.think(remote(server), ["a", "b"], progress=False)] == ["one", "two"]
