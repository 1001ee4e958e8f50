"""Images from the web, where a call allows it: http and https only, bounded in bytes and time."""

from __future__ import annotations

import time
import urllib.parse
from contextlib import suppress
from typing import TYPE_CHECKING

from tte import _text, _tte

if TYPE_CHECKING:
    import urllib.request

MAX_BYTES = 64 << 20
"""Most bytes of one image from the web."""
SECONDS = 60.0
"""Most seconds for one image from the web."""
_SILENCE = 15.0
_CHUNK = 1 << 16


def fetch(url: str, name: str) -> bytes:
    """Return what is at an http or https address, redirects (to such addresses only) followed.

    Raises `InputError` naming `name` for what cannot be had, is over `MAX_BYTES` or takes longer than `SECONDS`.
    """
    import http.client  # Here, because these take longer than the rest of `import tte` in Python.
    import urllib.error
    import urllib.request

    where = f"{name}: {_text.shown(without_secrets(url))}"
    address = _address(url, where)
    until = time.monotonic() + SECONDS
    headers = {"User-Agent": f"tte/{_tte.__version__}", "Accept": "image/*"}
    data = bytearray()
    try:
        request = urllib.request.Request(address, headers=headers)
        with _opener().open(request, timeout=_SILENCE) as answer:
            while chunk := answer.read1(_CHUNK):
                data += chunk
                if len(data) > MAX_BYTES:
                    raise _tte.InputError(f"{where} is over {MAX_BYTES} bytes: save it to a file and shrink it.")
                if time.monotonic() > until:
                    raise _tte.InputError(f"{where} takes longer than {SECONDS:.0f} seconds: save it to a file first.")
    except _tte.Error:
        raise
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", None) or error).strip() or type(error).__name__
        status = f"status {error.code}, " if isinstance(error, urllib.error.HTTPError) else ""
        why = status + (_text.shown(reason, 100) if status else _text.shown(reason, 120)[1:-1])
        raise _tte.InputError(f"{where} cannot be downloaded ({why}): check the address.") from error
    return bytes(data)


def _address(url: str, where: str) -> str:
    """The address as servers take it: letters beyond ASCII and spaces encoded, as browsers do it."""
    try:
        parts = urllib.parse.urlsplit(url.strip())
        host, number = parts.hostname or "", None
        if "@" in parts.netloc:
            raise ValueError("user names and passwords in addresses are not taken")
        if not host:
            raise ValueError("it names no host")
        name = f"[{host}]" if ":" in host else host if host.isascii() else host.encode("idna").decode()
        with suppress(ValueError):  # Which may quote a password.
            port = parts.port
            number = "" if port is None else f":{port}"
        if number is None:
            raise ValueError("its port is no number from 0 to 65535")
    except ValueError as error:
        why = "its host's name is none" if isinstance(error, UnicodeError) else _text.shortened(str(error), 120)
        raise _tte.InputError(f"{where} cannot be downloaded ({why}): check the address.") from error
    path, query = (urllib.parse.quote(each, safe=_KEPT) for each in (parts.path, parts.query))
    return urllib.parse.urlunsplit((parts.scheme, name + number, path, query, ""))


_KEPT = "%/:?#[]@!$&'()*+,;=~|"


def without_secrets(url: str) -> str:
    """An address for messages: no user, password or query."""
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port  # Which raises where a password with a slash stands in its place.
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        return url.partition("?")[0].rpartition("@")[2]


def _opener() -> urllib.request.OpenerDirector:
    """An opener that knows http and https, and nothing else that a redirect could name: no file:, ftp: or data:."""
    import urllib.request

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.UnknownHandler, urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler, urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener
