"""RemoteReasoner: a model behind an OpenAI-compatible server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tte import _options, _text, _tte
from tte._keywords import named
from tte._media_limits import DEFAULT_LIMITS, MediaLimits, native
from tte._models import Reasoner
from tte._options import PathLike
from tte._pickled import again, given_arguments


@named
class RemoteReasoner(Reasoner):
    """A reasoner whose model is behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp, a provider's API.

    It is used wherever a :class:`Reasoner` is, and each item becomes one request to ``<base_url>/chat/completions``:
    the recipe's system and user pieces are the messages, the server's chat template does the rest. Images are sent as
    data URLs (PNG and JPEG files that are upright and that nothing resizes as they are, the others as PNG), videos as
    their frames, as many as the item or the recipe says, else 8. Thinking that the server splits off
    (``reasoning_content``, ``reasoning``) is put back in front, between the recipe's tags.

    Traces have texts and the server's counts, but no token ids; `on_token` gets pieces of text with the id -1. Decoding
    options become fields of the request: `max_tokens` and `temperature` (0 where nothing is said) always, the others
    where they are given, under vLLM's names where OpenAI has none (`max_think_tokens` is `thinking_token_budget`). With
    `checkpoint_sampling` the server's own sampling holds for what is not given.

    It can be pickled, without its key: where it is unpickled, the key is that of the environment there.

    Args:
        base_url: the server's address, such as "http://localhost:8000/v1"; http or https, no user, password or query.
            Redirects are not followed.
        model: the model's name on the server.
        api_key: sent to the server and to nobody else; it appears in no message, repr, pickle or fingerprint. Default:
            the value of the environment variable `api_key_env`, and no key where that is not set.
        api_key_env: name of that variable; None: no key unless `api_key` is given.
        recipe: a recipe file or the name of a bundled recipe, of style "chat"; default: the item as it is.
        template_options: what the server's chat template reads beside the messages, such as ``{"enable_thinking":
            False}``, on top of the recipe's: the field `chat_template_kwargs` of vLLM and SGLang.
        extra: further fields of each request, such as ``{"service_tier": "flex"}``; they win over those of tte, and
            None takes one out.
        stream: ask for the text piece by piece; False: for the whole answer, which `on_token` gets at once.
        max_concurrent: requests under way at the same time, from 1 to 256.
        max_retries: how often a request is made again after a lost connection, a cut or senseless answer, or one of the
            statuses 408, 409, 425, 429 and 5xx.
        retry_delay: seconds before the first retry, doubled for each further one; a random part of up to a half is
            taken off.
        max_retry_delay: seconds of any wait, also one that the server asks for (Retry-After).
        retry_seed: makes the random parts repeatable.
        connect_timeout: seconds until a connection stands.
        idle_timeout: seconds without a single byte.
        total_timeout: seconds of an item, all its tries together.
        max_response_bytes: bytes of one answer.
        media_limits: what the images and videos of one item may cost, and the most that a request may be.

    Raises:
        InputError: an argument cannot be used.
        ModelError: the recipe cannot be read, or is of style "raw".

    Besides what :meth:`Reasoner.think` raises, `think` raises :class:`RemoteError` once the retries are spent, also for
    an answer without any text (a refusal, a call of a tool, thinking that the server keeps to itself). With
    ``on_error="skip"`` whatever the server answers is the error of the item, except what any item would meet: a
    redirect, 401, 404, 405, and the statuses of too many requests, 429 and 503. These end the call, and so does a
    server that does not begin to answer, or that has no text for 16 items in a row (those that it refuses, with 400,
    413, 414, 415, 422, its content filter or no text, do not count); `on_result` has had the traces that were finished.

    Example:
        >>> import tte
        >>> reasoner = tte.RemoteReasoner("http://localhost:8000/v1", "Qwen/Qwen3-VL-8B-Thinking", recipe="tte")
        >>> reasoner
        RemoteReasoner('http://localhost:8000/v1', 'Qwen/Qwen3-VL-8B-Thinking')

    """

    def __init__(  # noqa: PLR0913
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        api_key_env: str | None = "OPENAI_API_KEY",
        recipe: PathLike | None = None,
        template_options: Mapping[str, bool | int | str] | None = None,
        extra: Mapping[str, Any] | None = None,
        stream: bool = True,
        max_concurrent: int = 8,
        max_retries: int = 5,
        retry_delay: float = 0.5,
        max_retry_delay: float = 60.0,
        retry_seed: int | None = None,
        connect_timeout: float = 10.0,
        idle_timeout: float = 300.0,
        total_timeout: float = 3600.0,
        max_response_bytes: int = 64 << 20,
        media_limits: MediaLimits | None = None,
    ) -> None:
        self._given = {name: value for name, value in given_arguments(locals()).items() if name != "api_key"}
        options = _tte.RemoteOptions()
        options.base_url = _options.string(base_url, "base_url")
        options.model = _options.string(model, "model")
        options.api_key = _key(api_key)
        options.api_key_env = _options.text(api_key_env, "api_key_env") or ""
        options.recipe = _options.recipe(recipe)
        options.template_options = _options.template_options(template_options)
        options.extra = _json(extra)
        options.stream = _options.flag(stream, "stream")
        options.max_concurrent = _options.whole(max_concurrent, "max_concurrent", 1, 256)
        options.max_retries = _options.whole(max_retries, "max_retries", 0, 100)
        options.retry_delay = _options.real(retry_delay, "retry_delay", 0.0, _MOST_SECONDS)
        options.max_retry_delay = _options.real(max_retry_delay, "max_retry_delay", 0.0, _MOST_SECONDS)
        options.retry_seed = _options.optional(_options.whole, retry_seed, "retry_seed")
        options.connect_timeout = _options.real(connect_timeout, "connect_timeout", 1e-3, _MOST_SECONDS)
        options.idle_timeout = _options.real(idle_timeout, "idle_timeout", 1e-3, _MOST_SECONDS)
        options.total_timeout = _options.real(total_timeout, "total_timeout", 1e-3, _MOST_SECONDS)
        options.max_response_bytes = _options.whole(max_response_bytes, "max_response_bytes", 1 << 10, 1 << 32)
        native(media_limits)  # Refuses what are none.
        self._limits = media_limits or DEFAULT_LIMITS
        options.media_limits = self._limits._native()
        self._native = _tte.Reasoner.remote(options)

    def __reduce__(self) -> Any:
        return again, (type(self), self._given)

    def __copy__(self) -> RemoteReasoner:
        return self  # Nothing of it changes, and another one would not have its key.

    def __deepcopy__(self, _memo: Any) -> RemoteReasoner:
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model.server!r}, {str(self.model.path)!r})"


_MOST_SECONDS = 1e7


def _key(value: object) -> str:
    """Check a key; no message shows it."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _tte.InputError(f"api_key is a {type(value).__name__}: it must be a str, or None.")
    key = _text.utf8(value, "api_key")
    if not key:
        raise _tte.InputError("api_key is empty: leave it out to take the environment's.")
    return key


def _json(extra: object) -> str:
    if extra is None:
        return ""
    if not isinstance(extra, Mapping):
        raise _options.refuse("extra", extra, "a dict with further fields of the request, or None")
    try:
        given = dict(extra)
        written = json.dumps(given, allow_nan=False)
        _require_texts_as_keys(given)
        return written
    except Exception:  # A mapping of the caller's own may raise anything.
        raise _options.refuse("extra", extra, "a dict that JSON can write") from None


def _require_texts_as_keys(value: object) -> None:
    """Raise `TypeError` where JSON would make a text of what is none: two keys could become one."""
    if isinstance(value, Mapping) and not all(isinstance(key, str) for key in value):
        raise TypeError
    if isinstance(value, (Mapping, list, tuple)):
        for each in value.values() if isinstance(value, Mapping) else value:
            _require_texts_as_keys(each)
