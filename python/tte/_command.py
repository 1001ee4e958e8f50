"""What the command lines share: how they end, output that any terminal takes, a sentence for whatever stops them."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from tte import _files, _interrupt, _options, _text, _tte


class Parser(argparse.ArgumentParser):
    """Says what is wrong in a short sentence, whatever it was given."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse does it, which (before Python 3.13) takes the value of --name=-- for none, whatever its type."""
        given = sys.argv[1:] if args is None else list(args)
        for text in given[: given.index("--")] if "--" in given else given:
            if text.startswith("--") and text.endswith("=--"):
                self.error(f"argument {text[:-3]}: '--' is no value for it")
        return super().parse_known_args(given, namespace)

    def error(self, message: str) -> NoReturn:
        super().error(_text.shortened(" ".join(message.split()), 400))


def count(text: str) -> int:
    """Read a number of things, from 1."""
    try:
        return _options.whole(int(text), "N", 1, _options.INT32)
    except (ValueError, _tte.Error):
        raise argparse.ArgumentTypeError(f"{_text.shown(text)} is no whole number from 1 to {_options.INT32}") from None


def path(text: str) -> Path:
    """Read a path; one that is empty, as an unset variable of a shell leaves it, is not the folder one is in."""
    try:
        return Path(_text.path(text, "it"))
    except _tte.Error as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from None


def name(text: str) -> str:
    """Read a name, such as that of a checkpoint, which is not empty."""
    if not text:
        raise argparse.ArgumentTypeError("it is an empty string: give a name, or leave it out")
    return text


def options(text: str) -> dict[str, bool | int | str]:
    """Read a JSON object of flags, numbers and texts."""
    try:
        given = _files.parse_json(text.encode())
    except (ValueError, RecursionError):
        raise argparse.ArgumentTypeError(f"{_text.shown(text)} is no JSON") from None
    try:
        return _options.template_options(given)
    except _tte.Error as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from None


def add_quantization(parser: argparse.ArgumentParser | argparse._ArgumentGroup, *, required: bool = False) -> None:
    """Add the option that rounds models."""
    parser.add_argument(
        "--quantization",
        choices=_options.QUANTIZATIONS,
        required=required,
        help="round the models to 8 or 4 bits: less memory, faster; CPU only",
    )


def run(command: Callable[[], int], stopped: str = "stopped") -> int:
    """Run a command; what ends it becomes a sentence on stderr, and an exit code.

    1: an error of tte's, or nobody reads on; 2: a path that cannot be used; 130: Ctrl-C, with the sentence `stopped`.
    """
    _tolerate_any_stream()
    with _interrupt.raised_once():
        return _ended(command, stopped)


def _ended(command: Callable[[], int], stopped: str) -> int:
    try:
        code = command()
        sys.stdout.flush()  # Here it is told, and not where nobody can catch it, that nobody reads on.
        return code
    except _tte.Error as error:
        print(f"error: {told(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr, flush=True)
        _interrupt.leave()
        return _interrupt.EXIT_CODE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 2


def _tolerate_any_stream() -> None:
    """Let a letter that the terminal's encoding lacks become a question mark, and what is closed take everything."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):  # Not where it is captured.
            stream.reconfigure(errors="replace")


def told(error: Exception) -> str:
    """An error as a sentence, whether it is ours or the system's; not longer, whatever paths are in it."""
    return sentence(error) if isinstance(error, OSError) else _text.shortened(str(error), 450)


def sentence(error: OSError) -> str:
    """What the system says of a path, such as an --out that is a file or a folder that cannot be written to."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" at {_quoted(error.filename)}" if error.filename is not None else ""
        return f"the disk is full{where}: free some space and give the same command again, what is done is kept."
    names = " -> ".join(_quoted(name) for name in (error.filename, error.filename2) if name is not None)
    if not names:
        return f"the system refuses: {error.strerror or error}."
    return f"{names} cannot be used ({error.strerror or error}): check the path, and that it can be written to."


def _quoted(name: object) -> str:
    return _text.shown(str(name), 160)
