"""An OpenAI-compatible server on loopback that answers as a test says, well or badly."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import tte

Answer = Callable[["Handler"], None]


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def messages(self) -> list[dict[str, Any]]:
        return self.body["messages"]


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """A chat.completion.chunk."""
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def event(data: dict[str, Any] | str, end: str = "\n") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"data: {text}{end}{end}".encode()


def events(
    *pieces: str,
    thinking: tuple[str, ...] = (),
    field: str = "reasoning_content",
    finish: str = "stop",
    usage: dict[str, Any] | None = None,
) -> list[bytes]:
    """The stream of an answer, event by event."""
    out = [event(chunk({"role": "assistant", "content": ""}))]
    out += [event(chunk({field: piece})) for piece in thinking]
    out += [event(chunk({"content": piece})) for piece in pieces]
    out.append(event(chunk({}, finish)))
    out.append(event({"choices": [], "usage": usage or {"prompt_tokens": 11, "completion_tokens": len(pieces)}}))
    return [*out, event("[DONE]")]


def stream(*pieces: str, **how: Any) -> Answer:
    return lambda handler: handler.send_stream(events(*pieces, **how))


def sent(pieces: list[bytes], *, whole: bool = True, content_type: str = "text/event-stream") -> Answer:
    """A body in these pieces; not whole: the connection is cut after the last."""
    return lambda handler: handler.send_stream(pieces, whole=whole, content_type=content_type)


def whole(text: str | None, **message: Any) -> Answer:
    """A chat.completion in one piece."""
    body = {
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 5}},
    }
    return lambda handler: handler.send_json(200, body)


def status(code: int, message: str = "no", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.send_json(code, {"error": {"message": message, "type": "x"}}, named)


def raw(data: bytes) -> Answer:
    """Bytes as they are, then the end of the connection."""

    def answer(handler: Handler) -> None:
        handler.close_connection = True
        handler.wfile.write(data)

    return answer


def silent(handler: Handler) -> None:
    """Nothing, until the test is over."""
    handler.close_connection = True
    handler.chat.over.wait()


def slow(handler: Handler) -> None:
    """Half of an answer, then nothing until the test is over."""
    handler.start_stream()
    for piece in events("half", "whole")[:2]:
        handler.send_chunk(piece)
    handler.chat.half_sent.set()
    handler.close_connection = True
    handler.chat.over.wait()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    chat: ChatServer

    def setup(self) -> None:
        super().setup()
        with self.chat.lock:
            self.chat.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = Request(self.path, {k.lower(): v for k, v in self.headers.items()}, json.loads(body))
        with self.chat.lock:
            self.chat.requests.append(request)
            self.chat.running += 1
            self.chat.most_running = max(self.chat.most_running, self.chat.running)
            answer = self.chat.script.popleft() if self.chat.script else self.chat.default
        try:
            answer(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with self.chat.lock:
                self.chat.running -= 1

    def send_json(self, code: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        for name, value in {"Content-Type": "application/json; charset=utf-8", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def start_stream(self, content_type: str = "text/event-stream; charset=utf-8") -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send_chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def send_stream(self, pieces: list[bytes], *, whole: bool = True, content_type: str = "text/event-stream") -> None:
        self.start_stream(content_type)
        for piece in pieces:
            self.send_chunk(piece)
        if whole:
            self.send_chunk(b"")
        else:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@dataclass
class ChatServer:
    url: str = ""
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    script: deque[Answer] = field(default_factory=deque)
    """What it answers next, one each; then `default`."""
    default: Answer = field(default_factory=lambda: stream("<think>a</think>", "b"))
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)
    half_sent: threading.Event = field(default_factory=threading.Event)
    running: int = 0
    most_running: int = 0
    connections: int = 0

    def then(self, *answers: Answer) -> ChatServer:
        self.script.extend(answers)
        return self


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    """A server for the time of a test."""
    chat = ChatServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneHandler", (Handler,), {"chat": chat}))
    server.daemon_threads = True
    chat.port = server.server_address[1]
    chat.url = f"http://127.0.0.1:{chat.port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield chat
    finally:
        chat.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def remote(server: ChatServer, **options: Any) -> tte.RemoteReasoner:
    """One that waits for nothing between its tries."""
    waits = {"retry_delay": 0.0, "max_retry_delay": 0.0, "retry_seed": 1}
    return tte.RemoteReasoner(server.url, "some/model", **{**waits, **options})


def think(server: ChatServer, items: Any = "what is it ?", **options: Any) -> list[tte.Trace]:
    return remote(server).think(items, progress=False, **options)
