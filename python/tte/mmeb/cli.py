"""Evaluate an embedder, with or without thinking, on the 78 tasks of MMEB-V2 from a local copy of the data.

    python -m tte.mmeb mini                                        the whole benchmark in miniature, with the nano pair
    python -m tte.mmeb tasks                                       the tasks and what they are
    python -m tte.mmeb check --data DIR                            what is missing where
    python -m tte.mmeb run --data DIR --embedder PATH --out DIR    traces, embeddings and scores; resumes where it was
    python -m tte.mmeb report DIR                                  the leaderboard's JSON and a page

`python -m tte.mmeb COMMAND --help` explains each. A data set that fails stops no other. What is done in part (exit code
3) has data sets or items that failed, or that are not whole.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from tte import _command

_COMMANDS = (
    ("tasks", "tte.mmeb.data.check"),
    ("check", "tte.mmeb.data.check"),
    ("prompts", "tte.mmeb.data.export"),
    ("traces", "tte.mmeb.run.traces"),
    ("run", "tte.mmeb.run.run"),
    ("score", "tte.mmeb.run.scores"),
    ("merge", "tte.mmeb.run.run"),
    ("report", "tte.mmeb.report"),
    ("mini", "tte.mmeb.mini.mini"),
)
"""Commands in the order of `--help`, each with the module that holds its `add_<command>(subparsers)`.

That function adds a parser with `set_defaults(command=function)`; the function takes the parsed arguments and
returns an exit code.
"""


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """Build the parser of all commands, or of one of them."""
    top = _command.Parser(
        prog="python -m tte.mmeb", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = top.add_subparsers(dest="command_name", metavar="COMMAND", required=True)
    for name, module in _COMMANDS:
        if only in (None, name):
            getattr(importlib.import_module(module), f"add_{name}")(subparsers)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, by the rule of :data:`tte._command.EXIT_CODES`."""
    given = sys.argv[1:] if argv is None else list(argv)
    known = [name for name, _ in _COMMANDS]
    arguments = parser(given[0] if given and given[0] in known else None).parse_args(given)
    return _command.run(lambda: int(arguments.command(arguments)), resumes=getattr(arguments, "resumes", False))
