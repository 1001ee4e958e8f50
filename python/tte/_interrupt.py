"""Ctrl-C ends a command line of tte with a line and exit code 130, at any moment: no traceback.

While a command runs, the first one is a KeyboardInterrupt, so that what is done is kept, and the second one ends it.
Before, while modules are imported, there is nothing to keep; afterwards, while the interpreter closes, nothing to stop.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

EXIT_CODE = 130


def _is_command() -> bool:
    """Whether the program is `tte` or `python -m tte...`, not somebody's that imports it."""
    if sys.argv[:1] != ["-m"]:  # What it is while the modules above the one that is run are imported.
        return os.path.basename(sys.argv[0] if sys.argv else "") == "tte"
    given = sys.orig_argv
    return "-m" in given[:-1] and given[given.index("-m") + 1].split(".")[0] == "tte"


def _end(*_: Any) -> NoReturn:
    os.write(2, b"stopped\n")
    os._exit(EXIT_CODE)


def leave() -> None:
    """End the program, if it is a command of tte, without a shutdown that interrupted modules may not survive."""
    if _is_ours:
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(EXIT_CODE)


def _raise_once(*_: Any) -> NoReturn:
    signal.signal(signal.SIGINT, _end)
    raise KeyboardInterrupt


@contextmanager
def raised_once() -> Iterator[None]:
    """Let the first Ctrl-C be a KeyboardInterrupt, where nobody else has a use for it."""
    before = signal.getsignal(signal.SIGINT)
    free = _is_free()
    if free:
        signal.signal(signal.SIGINT, _raise_once)
    try:
        yield
    finally:
        if free:
            signal.signal(signal.SIGINT, before)


def _is_free() -> bool:
    """Whether the signal has no handler of somebody else's, and this is the thread that may give it one."""
    handler = signal.getsignal(signal.SIGINT)
    return handler in (signal.default_int_handler, _end) and threading.current_thread() is threading.main_thread()


_is_ours = _is_command() and _is_free()
if _is_ours:
    signal.signal(signal.SIGINT, _end)
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # Nothing is left then that could be stopped.
