"""Bad answers, dead and silent servers, retries, and calls that are cancelled."""

from __future__ import annotations

import subprocess
import sys
import threading
from email.utils import formatdate
from typing import Any

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
    remote,
    sent,
    silent,
    slow,
    status,
    stream,
    think,
    whole,
)

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
    "a number": lambda h: h.send_json(200, {"choices": [{"message": {"content": 5}, "finish_reason": "stop"}]}),
    "numbers in the stream": sent([event(chunk({"content": [7]}, "stop")), event("[DONE]")]),
    "a text without an end": lambda h: h.send_json(200, {"choices": [{"message": {"content": "half a tho"}}]}),
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
        (stream("a", finish="tool_calls"), "called a tool"),
        (stream(finish="length"), r"wrote no text \(finish_reason \"length\"\): raise max_new_tokens"),
        (whole(None), r"wrote no text \(finish_reason \"stop\"\): leave the item out"),
        (whole(None, refusal="I cannot help."), r"refuses \(\"I cannot help\.\"\): leave the item out"),
        (lambda h: h.send_json(200, {"choices": [{"message": None, "finish_reason": "stop"}]}), "wrote no text"),
        (lambda h: h.send_json(200, {"choices": [{"finish_reason": "stop"}]}), "wrote no text"),
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


OF_SERVER = {name: BAD[name] for name in ("429", "429 with a date", "503", "no HTTP")}
OF_SERVER |= {"401": status(401), "404": status(404), "a redirect": status(302, Location="http://127.0.0.1:9/v1")}
OF_ITEM = {"403": status(403), "no text": whole(None), "megabytes": sent([b"x" * 60_000] * 20)}
OF_ITEM |= {name: answer for name, answer in BAD.items() if name not in OF_SERVER}


@pytest.mark.parametrize("what", [*OF_ITEM, *OF_SERVER])
def test_what_any_item_would_meet_ends_the_call_and_all_else_is_of_the_item(server: ChatServer, what: str) -> None:
    answer = {**OF_ITEM, **OF_SERVER}[what]
    server.default = lambda h: (answer if h.chat.requests[-1].messages[-1]["content"] == "b" else stream("good"))(h)
    reasoner = remote(server, max_concurrent=1, max_retries=1, max_response_bytes=1 << 20)
    kept: dict[int, str] = {}

    def call() -> list[tte.Trace]:
        return reasoner.think(
            ["a", "b", "c"], on_error="skip", on_result=lambda i, t: kept.update({i: t.text}), progress=False
        )

    if what in OF_SERVER:
        with pytest.raises(tte.RemoteError, match="item 1: the server"):
            call()
        assert kept == {0: "good"}
        return
    traces = call()
    assert [t.finish.name for t in traces] == ["STOP", "ERROR", "STOP"]
    assert traces[1].error.startswith(f"item 1: the server {server.url} ")
    assert kept == {0: "good", 2: "good"}


def test_a_server_without_a_text_for_many_items_in_a_row_is_gone(server: ChatServer) -> None:
    reasoner = remote(server, max_concurrent=1, max_retries=0)

    def call() -> list[str]:
        return [t.finish.name for t in reasoner.think(["a"] * 40, on_error="skip", progress=False)]

    server.then(*[status(500)] * 15, stream("good"), *[status(500)] * 15)
    server.default = stream("good")
    assert call() == ["ERROR"] * 15 + ["STOP"] + ["ERROR"] * 15 + ["STOP"] * 9
    server.default = status(400)  # Said of each item: there may be many such.
    assert call() == ["ERROR"] * 40
    server.default = status(500, "broken")
    server.requests.clear()
    with pytest.raises(tte.RemoteError, match=r"item 15: .*500 \(broken\), and had no text for 16 items in a row: "):
        call()
    assert len(server.requests) < 20
    server.default = stream("good")
    assert call() == ["STOP"] * 40


def test_a_dead_server_ends_the_call_and_finished_traces_are_kept(server: ChatServer) -> None:
    server.then(stream("one"), stream("two"))
    server.default = raw(b"")
    kept: dict[int, str] = {}
    with pytest.raises(tte.RemoteError, match=r"item 17: the server .* ended the connection .*16 items in a row"):
        remote(server, max_concurrent=1, max_retries=0).think(
            ["a"] * 40, on_error="skip", on_result=lambda i, t: kept.update({i: t.text}), progress=False
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
    assert remote(server, idle_timeout=3).think("x")[0].text == "good"
    server.then(answer)
    with pytest.raises(tte.RemoteError, match=r"was silent for 0\.2 seconds.*raise idle_timeout"):
        remote(server, idle_timeout=0.2, max_retries=0).think("x")
    server.then(answer)  # The item's, as an answer that never ends is: another may be quicker.
    (trace,) = remote(server, idle_timeout=0.2, max_retries=0).think(["x"], on_error="skip", progress=False)
    assert "was silent" in trace.error
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
