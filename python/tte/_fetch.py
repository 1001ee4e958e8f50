"""Images from the web, where a call allows it: http and https only, bounded in bytes and time."""

from __future__ import annotations

import time
import urllib.parse
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
    import http.client  # Here, because these two take longer than the rest of `import tte` in Python.
    import urllib.request

    where = f"{name}: {_text.shown(without_secrets(url))}"
    until = time.monotonic() + SECONDS
    headers = {"User-Agent": f"tte/{_tte.__version__}", "Accept": "image/*"}
    data = bytearray()
    try:
        request = urllib.request.Request(url, headers=headers)
        with _opener().open(request, timeout=_SILENCE) as answer:
            while chunk := answer.read1(_CHUNK):
                data += chunk
                if len(data) > MAX_BYTES:
                    raise _tte.InputError(f"{where} is over {MAX_BYTES} bytes: save it to a file and shrink it.")
                if time.monotonic() > until:
                    raise _tte.InputError(f"{where} takes longer than {SECONDS:.0f} seconds: save it to a file first.")
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        why = _text.shortened(str(reason).replace("\n", " ") or type(error).__name__, 120)
        raise _tte.InputError(f"{where} cannot be downloaded ({why}): check the address.") from error
    return bytes(data)


def without_secrets(url: str) -> str:
    """An address for messages: no user, password or query."""
    try:
        parts = urllib.parse.urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        return url.partition("?")[0]


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
