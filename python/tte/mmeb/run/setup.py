"""What the commands `run` and `traces` share: their options, and the models and data that these name."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tte import _command, _options, _tte
from tte._models import Embedder, Reasoner
from tte._rerank import Reranker
from tte.mmeb.data import options
from tte.mmeb.data.loaders import Source
from tte.mmeb.run.embed import THINK_MODES, System, ThinkMode, log
from tte.mmeb.run.rerank import Judge
from tte.mmeb.run.scores import top_of
from tte.trace_store import TraceStore


def add_source(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the options that say which data."""
    group = parser.add_argument_group("data")
    options.add_data(group, required=required)
    options.add_tasks(group)
    options.add_loading(group)


def add_reasoner(parser: argparse.ArgumentParser, *, store_required: bool = False) -> None:
    """Add the options of thinking and of where traces are kept."""
    group = parser.add_argument_group("thinking")
    _command.add_reasoner(group)
    group.add_argument(
        "--think", choices=THINK_MODES, help="who gets a trace; default: recipe with a reasoner, else never"
    )
    default = "" if store_required else "; default: traces.sqlite in --out"
    group.add_argument(
        "--traces",
        "--store",
        type=_command.path,
        required=store_required,
        metavar="FILE",
        help=f"trace store (SQLite){default}",
    )
    _command.add_decoding(group)


def add_work(parser: argparse.ArgumentParser, *, in_flight: bool = True) -> None:
    """Add the options of device, memory and share."""
    _command.add_backend(parser)
    _command.add_media_limits(parser)
    group = parser.add_argument_group("work")
    _command.add_numbers(group)
    group.add_argument("--shard", default="1/1", metavar="I/N", help="this process's share, such as 2/4; then `merge`")
    if in_flight:
        group.add_argument("--in-flight", type=_command.count, default=2, metavar="N",
                           help="blocks at the same time (2)")  # fmt: skip


def add_judge(parser: argparse.ArgumentParser) -> None:
    """Add the options of reranking."""
    group = parser.add_argument_group("reranking")
    group.add_argument(
        "--rerank",
        type=_command.name,
        metavar="PATH",
        help="a reasoner that judges the first --top (20) candidates of each query: folder, hub id, or nano",
    )
    group.add_argument("--rerank-think", action="store_true", help="it writes a trace about each pair before")


def judge(arguments: argparse.Namespace) -> Judge | None:
    """What reranks, if anything does."""
    if not arguments.rerank:
        if arguments.rerank_think:
            raise _tte.InputError("--rerank-think is given without --rerank: nothing is reranked.")
        return None
    reasoner = Reasoner(arguments.rerank, **_numbers(arguments))
    return Judge(Reranker(reasoner, think=arguments.rerank_think), top_of(arguments))


def _numbers(arguments: argparse.Namespace) -> dict[str, Any]:
    """Where models run, in which numbers, and what media may cost them."""
    numbers = {name: getattr(arguments, name) for name in ("dtype", "quantization")}
    return {"backend": _command.backend(arguments), "media_limits": _command.media_limits(arguments), **numbers}


@contextmanager
def system(arguments: argparse.Namespace, traces: Path) -> Iterator[System]:
    """Load the models and open the trace store.

    Raises `InputError` for options that contradict each other.
    """
    _command.require_model(arguments, "reasoner")
    think: ThinkMode = arguments.think or ("recipe" if arguments.reasoner else "never")
    decoding = _command.decoding(vars(arguments))
    if think == "never" and (arguments.reasoner or decoding):
        given = "--reasoner" if arguments.reasoner else _command.flag(next(iter(decoding)))
        raise _tte.InputError(f"{given} is given, but nothing is reasoned about: leave it out, or give --think.")
    if think == "never" and arguments.traces is not None:
        raise _tte.InputError(
            f"--traces {arguments.traces} is given without --reasoner: a trace is found by the reasoner, recipe and "
            "settings that wrote it, so give the reasoner too, or leave --traces out."
        )
    if think != "never" and not arguments.reasoner:
        raise _tte.InputError(f"--think {think} needs --reasoner.")
    numbers = _numbers(arguments)
    embedder = reasoner = None
    if getattr(arguments, "embedder", None):
        embedder = Embedder(arguments.embedder, **_command.loading(vars(arguments)), **numbers)
    if think != "never":
        reasoner = _command.reasoner(vars(arguments), numbers)
    store = TraceStore(traces) if reasoner is not None else None
    try:
        yield System(
            embedder,
            reasoner,
            store,
            think,
            decoding,
            truncate_dim=getattr(arguments, "truncate_dim", None),
            tokens=getattr(arguments, "scoring", None) not in (None, "single"),
        )
    finally:
        if store is not None:
            store.close()


def source(arguments: argparse.Namespace, system: System) -> Source:
    """Where the data are, and in which style: as asked, else as the embedder's recipe says, else the reasoner's."""
    models = {"embedder": system.embedder, "reasoner": system.reasoner}
    recipes = {role: _options.rules(model.model.recipe) for role, model in models.items() if model is not None}
    own = {role: str(recipe.get("benchmark_prompts", "plain")) for role, recipe in recipes.items()}
    style = arguments.prompt_style or next(iter(own.values()))
    log.info("prompt style: %s", style)
    if style == "vlm2vec" and own.get("embedder", style) != style:
        log.warning(
            "the embedder's recipe %r adds words of its own to prompts of the style vlm2vec: they are not VLM2Vec's to "
            "the letter",
            recipes["embedder"].get("name"),
        )
    if len(set(own.values())) > 1 and not arguments.prompt_style:
        log.warning(
            "the reasoner's recipe asks for the prompt style %s, the embedder's for %s, which both get: give "
            "`traces` --prompt-style %s too, or `run` does not find its traces",
            own["reasoner"],
            style,
            style,
        )
    return options.source(arguments, style)


class _Terminal(logging.Handler):
    """Writes beside bars without breaking them."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm.auto import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


def logging_on() -> None:
    """Let the log of the evaluation through to the terminal."""
    if not any(isinstance(handler, _Terminal) for handler in log.handlers):
        log.addHandler(_Terminal())
    log.setLevel(logging.INFO)
