"""What the command lines share: how they end, output that any terminal takes, a sentence for whatever stops them."""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tte import _decoding, _files, _interrupt, _options, _text, _tte
from tte._backend import Backend
from tte._media_limits import DEFAULT_LIMITS, MediaLimits

if TYPE_CHECKING:
    from tte import Reasoner

EXIT_CODES = """exit codes: 0 done; 1 it failed on the way (memory, also of --state-bytes, a full disk, device, server,
nobody reads the output), or nothing could be done; 2 what was given cannot be used (an option, a path, a checkpoint, an
item); 3 done in part; 130 stopped
"""
"""The one rule of all commands: every --help ends with it, and `exit_code` keeps it."""


MOST_TOLD = 20
"""Errors of items that a command prints before it only counts them: items may be millions."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in a short sentence, whatever it was given."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse does it, which (before Python 3.13) takes the value of --name=-- for none, whatever its type."""
        given = sys.argv[1:] if args is None else list(args)
        for text in given[: given.index("--")] if "--" in given else given:
            if text.startswith("--") and text.endswith("=--"):
                self.error(f"argument {text[:-3]}: '--' is no value for it")
        return super().parse_known_args(given, namespace)

    def format_help(self) -> str:
        return f"{super().format_help()}\n{EXIT_CODES}"

    def error(self, message: str) -> NoReturn:
        super().error(_text.shortened(" ".join(message.split()), 400))


@contextmanager
def _wrong_usage() -> Iterator[None]:
    """Let argparse name the option whose value is refused."""
    try:
        yield
    except _tte.Error as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from None


def whole(least: int, most: int) -> Callable[[str], int]:
    """The reader of a whole number."""

    def read(text: str) -> int:
        with _wrong_usage():
            try:
                number: object = int(text)
            except ValueError:  # Also of too many digits.
                number = text
            return _options.whole(number, "it", least, most)

    return read


def real(least: float, most: float) -> Callable[[str], float]:
    """The reader of a number."""

    def read(text: str) -> float:
        with _wrong_usage():
            try:
                number: object = float(text)
            except ValueError:
                number = text
            return _options.real(number, "it", least, most)

    return read


count = whole(1, _options.INT32)
"""Read a number of things, from 1."""


def count_or_all(text: str) -> int:
    """Read a number of things, from 1, or -1, which stands for all of them."""
    return -1 if text == "-1" else count(text)


def decoded(own: str) -> Callable[[str], int | float]:
    """The reader of a number of the decoding options."""

    def read(text: str) -> int | float:
        with _wrong_usage():
            try:
                number: object = _decoding.kind(own)(text)
            except ValueError:
                number = text
            return _decoding.number(number, own, "it")

    return read


def path(text: str) -> Path:
    """Read a path; one that is empty, as an unset variable of a shell leaves it, is not the folder one is in."""
    with _wrong_usage():
        return _text.expanded(text, "it")


def name(text: str) -> str:
    """Read a name, such as that of a checkpoint, which is not empty."""
    if not text:
        raise argparse.ArgumentTypeError("it is an empty string: give a name, or leave it out")
    return text


def options(text: str) -> dict[str, bool | int | str]:
    """Read a JSON object of flags, numbers and texts."""
    try:
        given = _files.parse_json(name(text).encode())
    except (ValueError, RecursionError):
        raise argparse.ArgumentTypeError(f"{_text.shown(text)} is no JSON") from None
    with _wrong_usage():
        return _options.template_options(given)


_LOADING: dict[str, dict[str, Any]] = {
    "recipe": {"type": name, "metavar": "RECIPE", "help": "a bundled recipe, or a file; default: as `tte info` says"},
    "adapter": {"type": name, "metavar": "PATH", "help": "a PEFT adapter of it (LoRA, DoRA)"},
    "template_options": {
        "type": options, "metavar": "JSON",
        "help": """what the chat template reads, such as '{"enable_thinking": false}'""",
    },
}  # fmt: skip
_DECODING = {
    "max_new_tokens": "most tokens of a trace; default: the recipe's, the checkpoint's, else 512",
    "max_think_tokens": "when spent inside <think>, the closing tag is forced",
    "temperature": "0 is greedy; default: the recipe's, else 0",
    "top_p": "keep the smallest set of tokens with this probability",
    "top_k": "keep this many tokens",
    "min_p": "keep tokens with at least this fraction of the best one's probability",
    "repetition_penalty": "1 is off; default: the recipe's, else the checkpoint's",
    "seed": "makes sampling repeatable",
    "checkpoint_sampling": "sample as the checkpoint's generation_config.json says",
}
_MEMORY: dict[str, tuple[Callable[[str], int], str]] = {
    "replicas": (count, "replicas of each model that share the work; default: one, on several GPUs one on each"),
    "tensor_parallel": (whole(1, 8), "devices that share each replica's layers, as models that fit no single GPU need"),
    "threads": (whole(0, _options.INT32), "threads of an operation; default: one per core"),
    "media_threads": (whole(0, _options.INT32), "threads that decode media; default: a quarter of the cores"),
    "state_bytes": (whole(0, _options.INT64), "memory for the states of sequences; default: a quarter of the device's"),
    "vision_cache_bytes": (whole(0, _options.INT64), "memory for vision features that are kept; default: 256 MiB"),
    "max_step_tokens": (count, "tokens in one step; default: 512 on a CPU, 2048 on a GPU"),
    "max_running": (count, "sequences that run at the same time; default: 256"),
}


_MEDIA = {
    "max_pixels": "pixels of an image or of a frame",
    "max_file_bytes": "bytes of one file",
    "max_item_bytes": "memory for the images and videos of one item",
    "max_item_pixels": "pixels that are decoded for one item",
}


def add_loading(
    parser: argparse._ActionsContainer, role: str = "", *, also: str = "", only: Sequence[str] = tuple(_LOADING)
) -> None:
    """Add the options of how a model is loaded, with its role before their names; with `also`, under two names."""
    for own in only:
        names = [_dest(own, role), *([_dest(own, also)] if also else [])]
        text = f"of the {role or also}: {_LOADING[own]['help']}" if role or also else _LOADING[own]["help"]
        parser.add_argument(*map(flag, names), dest=names[0], **{**_LOADING[own], "help": text})


def loading_names(role: str = "") -> list[str]:
    """Under which names `add_loading` of the role keeps what it read."""
    return [_dest(own, role) for own in _LOADING]


def require_model(arguments: argparse.Namespace, role: str, *more: str) -> None:
    """Refuse options of a model that is not given; `more`: further ones that need it."""
    for dest in (*loading_names(role), f"{role}_model", *more):
        if getattr(arguments, dest, None) is not None and getattr(arguments, role) is None:
            raise _tte.InputError(f"{flag(dest)} is given without {flag(role)}: give that too, or leave it out.")


def loading(given: Mapping[str, Any], role: str = "") -> dict[str, Any]:
    """What `add_loading` of the role read, as keywords of models."""
    return {own: given.get(_dest(own, role)) for own in _LOADING}


def add_reasoner(parser: argparse._ActionsContainer) -> None:
    """Add the options of a reasoner: a checkpoint or a server."""
    parser.add_argument(
        "--reasoner", type=name, metavar="PATH|URL",
        help='folder or hub id; "nano": the bundled one; http(s)://...: an OpenAI-compatible server',
    )  # fmt: skip
    parser.add_argument("--reasoner-model", type=name, metavar="NAME", help="name of the model on that server")
    _add_key(parser)
    parser.add_argument(
        "--reasoner-requests", type=whole(1, 256), default=8, metavar="N", help="requests at the same time (8)"
    )  # fmt: skip
    add_loading(parser, "reasoner")


def add_server(parser: argparse._ActionsContainer) -> None:
    """Add the options by which a server is asked that a file names."""
    parser.add_argument(
        "--reasoner", type=name, metavar="URL", help="the server that wrote OUT's traces, if one did: QUERY goes there"
    )
    _add_key(parser)


def _add_key(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--reasoner-key-env", type=name, default="OPENAI_API_KEY", metavar="NAME",
        help="environment variable that has the server's key (OPENAI_API_KEY)",
    )  # fmt: skip


def is_server(source: str) -> bool:
    """Whether a reasoner is a server's address."""
    return source.lower().startswith(("http://", "https://"))


def reasoner(given: Mapping[str, Any], numbers: Mapping[str, Any]) -> Reasoner:
    """The reasoner that `add_reasoner` read; `numbers` are a checkpoint's backend, media limits, dtype, quantization.

    Raises `InputError` for options that contradict each other.
    """
    from tte import Reasoner, RemoteReasoner

    source, model, loads = given["reasoner"], given.get("reasoner_model"), loading(given, "reasoner")
    if is_server(source):
        if not model:
            raise _tte.InputError("--reasoner is a server: give --reasoner-model, the model's name there.")
        if loads.pop("adapter"):
            raise _tte.InputError("--reasoner-adapter is of a checkpoint, but --reasoner is a server: leave it out.")
        return RemoteReasoner(
            source, model, api_key_env=given["reasoner_key_env"], max_concurrent=given["reasoner_requests"],
            media_limits=numbers["media_limits"], **loads,
        )  # fmt: skip
    if model:
        raise _tte.InputError("--reasoner-model is of a server: give --reasoner its URL, http(s)://...")
    return Reasoner(source, **loads, **numbers)


def add_decoding(parser: argparse._ActionsContainer) -> None:
    """Add the options of how traces are written."""
    for own, text in _DECODING.items():
        is_flag = own in _decoding.OF_THE_CALL
        option: dict[str, Any] = (
            {"action": "store_const", "const": True} if is_flag else {"type": decoded(own), "metavar": "N"}
        )
        parser.add_argument(flag(own), help=text, **option)


def decoding(given: Mapping[str, Any]) -> dict[str, Any]:
    """What of `add_decoding` is given, as keywords of calls."""
    return {own: given[own] for own in _DECODING if given.get(own) is not None}


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add the options of where models run and how much memory they take, which messages name as tte.Backend's."""
    group = parser.add_argument_group("device and memory")
    group.add_argument(
        "--device", type=name, default="auto",
        help='"auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "cuda:0,cuda:1", "cuda:all"',
    )  # fmt: skip
    for own, (kind, text) in _MEMORY.items():
        group.add_argument(flag(own), type=kind, metavar="N", help=text)


def backend(arguments: argparse.Namespace) -> Backend:
    """The backend that `add_backend` read."""
    given = {own: getattr(arguments, own) for own in ("device", *_MEMORY)}
    return Backend(**{own: value for own, value in given.items() if value is not None})


def add_media(parser: argparse.ArgumentParser) -> None:
    """Add the options of where media come from and what they may cost, of commands that take items."""
    parser.add_argument("--allow-urls", action="store_true", help="download images that http(s) addresses name")
    add_media_limits(parser)


def add_media_limits(parser: argparse.ArgumentParser) -> None:
    """Add the options of what media may cost."""
    group = parser.add_argument_group("limits of media")
    for own, text in _MEDIA.items():
        help_ = f"{text}; default: {getattr(DEFAULT_LIMITS, own)}"
        group.add_argument(
            flag(own), type=whole(1, 1 << 40), default=getattr(DEFAULT_LIMITS, own), metavar="N", help=help_
        )


def media_limits(arguments: argparse.Namespace) -> MediaLimits:
    """The limits that `add_media_limits` read."""
    return MediaLimits(**{own: getattr(arguments, own) for own in _MEDIA})


def add_numbers(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the options of the numbers that models are kept in."""
    parser.add_argument(
        "--dtype", type=name, default="auto", help='"auto" (the checkpoint\'s own), "float32", "bfloat16", "float16"'
    )
    add_quantization(parser)


def _dest(own: str, role: str) -> str:
    return f"{role}_{own}" if role else own


def flag(dest: str) -> str:
    """Return the name of the option that sets `dest`."""
    return f"--{dest.replace('_', '-')}"


def add_quantization(parser: argparse.ArgumentParser | argparse._ArgumentGroup, *, required: bool = False) -> None:
    """Add the option that rounds models."""
    parser.add_argument(
        "--quantization",
        choices=_options.QUANTIZATIONS,
        required=required,
        help="round the models to 8 or 4 bits: less memory, faster",
    )


def run(command: Callable[[], int], *, resumes: bool = False) -> int:
    """Run a command; what ends it becomes a sentence on stderr, and an exit code by the rule of `EXIT_CODES`.

    With `resumes` the sentence says that the same command goes on where it was.
    """
    _tolerate_any_stream()
    before, warnings.formatwarning = warnings.formatwarning, _warning
    try:
        with _interrupt.raised_once():
            return _ended(command, resumes)
    finally:
        warnings.formatwarning = before


def _warning(message: Warning | str, *_: object, **__: object) -> str:
    """A sentence, without the line of the program that nobody asked for."""
    return f"warning: {message}\n"


def _ended(command: Callable[[], int], resumes: bool) -> int:
    try:
        code = command()
        sys.stdout.flush()  # Here it is told, and not where nobody can catch it, that nobody reads on.
        return code
    except KeyboardInterrupt:
        print(f"stopped{_GOES_ON if resumes else ''}", file=sys.stderr, flush=True)
        _interrupt.leave()
        return _interrupt.EXIT_CODE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (_tte.Error, OSError) as error:
        print(f"error: {told(error, resumes=resumes)}", file=sys.stderr)
        return exit_code(error)


_GOES_ON = "; the same command goes on where it was"


def exit_code(error: _tte.Error | OSError) -> int:
    """Whether what was given cannot be used (2), or it failed on the way (1)."""
    if _files.errno_of(error) in _ON_THE_WAY:
        return 1
    return 2 if isinstance(error, (OSError, _tte.InputError, _tte.ModelError)) else 1


_ON_THE_WAY = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a disk says that takes no more, or that breaks."""


def _tolerate_any_stream() -> None:
    """Let a letter that the terminal's encoding lacks become a question mark, and what is closed take everything."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):  # Not where it is captured.
            stream.reconfigure(errors="replace")


def told(error: Exception, *, resumes: bool = False, of: str = "") -> str:
    """An error as a sentence, whether it is ours or the system's; not longer, whatever paths are in it.

    With `of`, a name that stands before the sentence already, it does not begin with that.
    """
    said = sentence(error, resumes) if isinstance(error, OSError) else _text.shortened(with_flags(str(error)), 450)
    return said.removeprefix(f"{of}: ") if of else said


def with_flags(message: str) -> str:
    """A message with the options of commands where it names limits of tte.MediaLimits."""
    return re.sub(r"\b(max_\w+) of MediaLimits", lambda found: flag(found[1]), message)


def sentence(error: OSError, resumes: bool = False) -> str:
    """What the system says of a path, such as an --out that is a file or a folder that cannot be written to."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" at {_quoted(error.filename)}" if error.filename is not None else ""
        kept = ", which goes on where it was" if resumes else ""
        return f"the disk is full{where}: free some space and give the same command again{kept}."
    names = " -> ".join(_quoted(name) for name in (error.filename, error.filename2) if name is not None)
    if not names:
        return f"the system refuses: {error.strerror or error}."
    return f"{names} cannot be used ({error.strerror or error}): check the path, and that it can be written to."


def _quoted(name: object) -> str:
    return _text.shown(str(name), 160)
