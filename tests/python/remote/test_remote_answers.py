"""What a reasoner behind a server makes of the answers, be they streamed or whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tte
from chat_server import (
    ChatServer,
    Handler,
    chunk,
    event,
    events,
    remote,
    sent,
    stream,
    think,
    whole,
)

WHOLE = {"choices": [{"message": {"content": "ab"}, "finish_reason": "stop"}]}


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
        (sent(events("a", "b"), content_type="text/plain"), "ab"),
        (sent([b"".join(events("a", "b"))], content_type="application/json"), "ab"),
        (sent([json.dumps(WHOLE).encode()]), "ab"),
        (sent([json.dumps(WHOLE).encode()], content_type="text/plain"), "ab"),
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
