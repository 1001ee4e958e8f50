"""Look at checkpoints, think, embed and search. Nothing is downloaded but hub ids, and images with --allow-urls.

    tte info PATH                 what it is: family, sizes, the recipe in force and why, a sample prompt
    tte show PATH ITEM...         the exact prompt of each item: text, ids, where media, trace and pooled token stand
    tte think PATH ITEM...        the trace of each item, as it is written
    tte embed FILE... -o OUT      vectors of images, videos, PDF pages, lines of text; --reasoner: with traces
    tte search OUT QUERY          what of it is closest to a query
    tte quantize PATH -o FOLDER   the checkpoint with its linear layers rounded to 8 or 4 bits, as a new folder

PATH is a folder as save_pretrained writes it, a PEFT adapter's folder, a hub id (owner/name), or "nano" for the bundled
pair. `python -m tte` is the same command; `python -m tte.mmeb` evaluates.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tte import _command, _tte

if TYPE_CHECKING:
    from tte import Embedder, Reasoner, TraceStore, _index

_INFO = """examples:
  tte info nano
  tte info ./UME-R1-2B                     # which recipe was found, and why
  tte info ./my-model --recipe tte         # the same, with a recipe of your choice
  tte info ./my-lora --json | jq .recipe
"""
_SHOW = """An ITEM is a text, the path of an image or a video, a folder of a video's frames, a page of a document
(report.pdf#page=3), or JSON as Python's calls take it. With --together all of them are the parts of one item.

examples:
  tte show nano "what is left of the red circle ?"
  tte show nano --together cat.jpg "what is it ?"
  tte show nano '{"image": "cat.jpg", "text": "what is it ?", "instruction": "Answer."}'
  tte show nano "a cat" --trace "<think>an animal</think> a cat"     # what the embedder reads
  tte show nano "a cat" --ids                                       # a line for each token
"""
_THINK = """examples:
  tte think nano --together cat.jpg "what is left of the red circle ?" --task image_qa
"""
_EMBED = """A call that was stopped or killed goes on where it was when it is given again, with the vectors and traces
that there are of what did not change since; until all are, they wait in corpus.npy.part. What fails is told, has a row
of NaN, and makes the exit code 3. Beside corpus.npy, corpus.json has the names of the rows and the errors; a .parquet
file has them itself. A folder stands for the files in it, each an item; with --frames for one video. A line of a .jsonl
file is an item as Python's calls take it, such as {"video": "clips/one", "fps": 2}.

examples:
  tte embed photos/ report.pdf -o corpus.npy --embedder ./my-embedder
  tte embed questions.txt -o corpus.parquet --reasoner nano --task visdoc --side query
  tte embed photos/ -o corpus.npy --reasoner http://localhost:8000/v1 --reasoner-model Qwen/Qwen3-VL-8B-Thinking
  tte embed --frames clips/* -o clips.npy  # each folder in clips holds the frames of one video
  tte search corpus.npy "a red bicycle"
"""

_QUANTIZE = """The folder loads like any checkpoint, without being rounded again, and gives what the original gives with
--quantization. It appears when all of it is written.

examples:
  tte quantize ./my-model --quantization int8 -o ./my-model-int8
  tte quantize ./my-model --adapter ./my-lora --quantization int4 -o ./my-lora-int4
  tte embed photos/ -o corpus.npy --embedder ./my-model-int8
"""


def _info(arguments: argparse.Namespace) -> None:
    from tte import _inspect

    found = _inspect.info(arguments.path, **_command.loading(vars(arguments)))
    print(json.dumps(found, indent=2, ensure_ascii=False) if arguments.json else _inspect.told(found))


def _show(arguments: argparse.Namespace) -> None:
    from tte import Processor, _inspect

    limits = _command.media_limits(arguments)
    processor = Processor(arguments.path, media_limits=limits, **_command.loading(vars(arguments)))
    given = arguments.item
    items: list[Any] = [_inspect.together(given)] if arguments.together else [_inspect.item_of(one) for one in given]
    request = {name: getattr(arguments, name) for name in ("instruction", "task", "side", "allow_urls")}
    if arguments.embed:
        request["stage"] = "embed"
    colour = _inspect.colourful(arguments.color)
    for number, item in enumerate(items):
        shown = _inspect.Show(processor, item, trace=arguments.trace, **request)
        if number:
            print()
        if arguments.ids:
            print("\n".join(shown.rows()))
        else:
            print(shown.text(colour))
        print(f"-- {shown.summary()}")


def _think(arguments: argparse.Namespace) -> None:
    from tte import Reasoner, _inspect

    reasoner = Reasoner(
        arguments.path, backend=_command.backend(arguments), dtype=arguments.dtype,
        quantization=arguments.quantization, media_limits=_command.media_limits(arguments),
        **_command.loading(vars(arguments)),
    )  # fmt: skip
    given = arguments.item
    items: list[Any] = [_inspect.together(given)] if arguments.together else [_inspect.item_of(one) for one in given]
    for number, item in enumerate(items):
        if number:
            print("\n--")

        def write(_index: int, text: str, _token: int) -> None:
            print(text, end="", flush=True)

        trace = reasoner.think(
            [item], instruction=arguments.instruction, task=arguments.task, side=arguments.side, progress=False,
            on_token=write, allow_urls=arguments.allow_urls, **_command.decoding(vars(arguments)),
        )[0]  # fmt: skip
        print(f"\n-- {len(trace.token_ids)} tokens, {trace.finish.name.lower()}")


def _require_same(settings: dict[str, Any], role: str, model: Embedder | Reasoner) -> None:
    """Keep what tells a model and its recipe from others among the settings, or compare it with what is there."""
    from tte import InputError, _content, _text

    # A model has a fingerprint for each kind of device.
    kind, fingerprint = model.model.device.partition(":")[0], model.model.fingerprint
    prefix = "" if role == "embedder" else f"{role}_"
    was = settings.setdefault(f"{prefix}fingerprint", {kind: fingerprint})
    other = isinstance(was, dict) and was.get(kind, fingerprint) != fingerprint
    what = "is not the model" if other else ""
    for name, value, part in (
        ("files", _content.model_identity(model.model)["files"], "tokenizer, template and preprocessor files"),
        ("recipe_digest", _content.recipe_digest(model.model), "recipe"),
    ):
        if settings.setdefault(f"{prefix}{name}", value) != value:
            what = what or f"does not have the {part}"
    if what:
        raise InputError(f"{_text.shown(settings[role])} {what} any more that made these vectors: embed them again.")


def _require_task(task: str | None, recipes: list[str]) -> None:
    """Refuse a task that no recipe has, by which every item would fail."""
    from tte import InputError, _options, _text

    known = sorted({name for recipe in recipes for name in _options.rules(recipe).get("tasks", {})})
    if task is not None and task not in known:
        names = _text.shortened(", ".join(known), 200) or "none: leave it out"
        raise InputError(f"--task is {_text.shown(task)}, but the tasks of the recipes are {names}.")


def _embedding(settings: dict[str, Any], arguments: argparse.Namespace) -> tuple[_index.Embed, int]:
    """The function that embeds items, with the reasoner's traces if there is one; size of a vector."""
    from tte import Embedder, Reasoner, _hub, _index, _models, think_then_embed

    numbers: dict[str, Any] = {
        "backend": _command.backend(arguments),
        "media_limits": _command.media_limits(arguments),
        "dtype": settings.get("dtype", "auto"),
        "quantization": settings.get("quantization"),
    }
    embedder = Embedder(settings["embedder"], **numbers, **_command.loading(settings))
    _require_same(settings, "embedder", embedder)
    thinks = settings["reasoner"] is not None
    if thinks:
        own = {name: getattr(arguments, name) for name in ("reasoner_key_env", "reasoner_requests")}
        reasoner = _command.reasoner({**settings, **own}, numbers)
        _require_same(settings, "reasoner", reasoner)
    else:
        # Nobody thinks, and the same weights stand in for it: think_then_embed tells what was wrong with items.
        model = embedder.model
        whole = {**_command.loading(settings), **_models.folders(model)}
        reasoner = Reasoner(**({"path_or_id": model.base} if _hub.is_head(model.path) else whole), **numbers)
    _require_task(settings["task"], [embedder.model.recipe, *([reasoner.model.recipe] if thinks else [])])

    def embed(items: list[_index.Entry], store: TraceStore | None, keep: _index.Keep) -> dict[int, str]:
        result = think_then_embed(
            [_index.made(item, arguments.allow_urls) for item in items], reasoner=reasoner, embedder=embedder,
            think=thinks, task=settings["task"], side=arguments.side, on_error="skip", progress=False, store=store,
            on_vector=keep, **_command.decoding(settings),
        )  # fmt: skip
        return {error.index: error.message for error in result.errors}

    return embed, embedder.dim


def _embed(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from tte import InputError, _index

    out = _index.target(arguments.out)
    decoding = _command.decoding(vars(arguments))
    _command.require_model(arguments, "reasoner", *decoding)
    names = "task", "side", "dtype", "quantization", "embedder", "reasoner"
    loading = *_command.loading_names(), *_command.loading_names("reasoner"), "reasoner_model"
    settings = {name: getattr(arguments, name) for name in (*names, *loading)} | decoding
    # Found again by whoever searches from elsewhere; names of the hub and of what is bundled stay as they are.
    for name, given in settings.items():
        is_there = os.path.isfile if name.endswith("recipe") else os.path.isdir
        if name.endswith(("embedder", "reasoner", "recipe", "adapter")) and given and is_there(given):
            settings[name] = os.path.abspath(given)
    items = list(_index.items_of(arguments.file, frames=arguments.frames))
    if not items:
        raise InputError("There is nothing to embed: the files have no lines.")
    embed, dim = _embedding(settings, arguments)
    with tqdm(total=len(items), desc="embed", disable=not sys.stderr.isatty()) as bar:
        errors = _index.write(out, items, settings, dim, embed, bar.update)
    made = len(items) - len(errors)
    print(f"{made} of {len(items)} vectors" + (f" in {arguments.out}" if made else ": nothing is written"))
    _tell(list(errors.values()), out if made else None)
    return 0 if not errors else 3 if made else 1


def _tell(errors: list[str], out: Path | None) -> None:
    """Print the errors of items: the first of them, how many there are more, and where those are."""
    from tte import _text

    for message in errors[: _command.MOST_TOLD]:
        print(f"error: {_command.with_flags(message)}", file=sys.stderr)
    if len(errors) <= _command.MOST_TOLD:
        return
    where = ""
    if out is not None:
        about = out if out.suffix == ".parquet" else out.with_suffix(".json")
        where = f": {_text.shown_path(about)} has the errors of all"
    print(f"error: {len(errors) - _command.MOST_TOLD} more items failed{where}", file=sys.stderr)


def _require_server(reasoner: Any, arguments: argparse.Namespace) -> None:
    """Refuse to ask a server that only the file names, which may be anybody's."""
    from tte import InputError, _text

    asked = reasoner if isinstance(reasoner, str) and _command.is_server(reasoner) else None
    if asked == arguments.reasoner:
        return
    out = _text.shown_path(arguments.index)
    if asked is None:
        raise InputError(f"{out} has no traces of a server: leave --reasoner out.")
    raise InputError(f"{out} has traces of a server: give --reasoner {_text.shown(asked, 200)} to send QUERY there.")


def _search(arguments: argparse.Namespace) -> None:
    import numpy as np

    from tte import InputError, _index, _inspect, _text

    names, vectors, settings = _index.read(_text.expanded(arguments.index, "OUT"))
    _require_server(settings["reasoner"], arguments)
    embed, dim = _embedding(settings, arguments)
    found: dict[int, Any] = {}
    query = _index.Entry("the query", _inspect.item_of(arguments.query), "")
    errors = embed([query], None, found.__setitem__)
    if errors:
        raise InputError(errors[0])
    if dim != vectors.shape[1]:
        raise InputError(
            f"{_text.shown_path(arguments.index)} has vectors of {vectors.shape[1]} dimensions, and "
            f"{_text.shown(settings['embedder'])} makes {dim}: embed the files again."
        )
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(found[0])
    scores = np.nan_to_num(vectors @ found[0] / np.maximum(norms, 1e-12), nan=-np.inf)
    for row in np.argsort(-scores, kind="stable")[: arguments.top]:
        if np.isfinite(scores[row]):
            # A file's name may have line breaks in it, and what commands a terminal.
            name = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in names[row])
            print(f"{scores[row]:.4f}  {name}")


def _quantize(arguments: argparse.Namespace) -> None:
    from tte import _inspect, quantize

    quantize(arguments.path, arguments.out, quantization=arguments.quantization, adapter=arguments.adapter)
    print(_inspect.told_of_weights(arguments.out))


def _checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="folder or hub id of the checkpoint")
    _command.add_loading(parser)


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    raw = argparse.RawDescriptionHelpFormatter
    top = _command.Parser(prog="tte", description=__doc__, formatter_class=raw)
    top.add_argument("--version", action="version", version=f"tte {_tte.__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    info = commands.add_parser("info", help="what a checkpoint is", epilog=_INFO, formatter_class=raw)
    _checkpoint(info)
    info.add_argument("--json", action="store_true", help="everything, for programs")
    info.set_defaults(run=_info)

    show = commands.add_parser("show", help="what the model sees", epilog=_SHOW, formatter_class=raw)
    _checkpoint(show)
    show.add_argument("item", metavar="ITEM", nargs="+", help="a text, a file, or JSON")
    show.add_argument("--together", action="store_true", help="the ITEMs are parts of one item")
    show.add_argument("--embed", action="store_true", help="the embedder's prompt (with --trace always)")
    show.add_argument("--trace", metavar="TEXT", help="a trace, which the embedder reads after the item")
    show.add_argument("--instruction", metavar="TEXT", help="instead of the recipe's")
    _preset(show)
    show.add_argument("--ids", action="store_true", help="a line for each token, with its id and positions")
    show.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="default: on a terminal")
    _command.add_media(show)
    show.set_defaults(run=_show)

    think = commands.add_parser("think", help="traces", epilog=_THINK, formatter_class=raw)
    _checkpoint(think)
    think.add_argument("item", metavar="ITEM", nargs="+", help="a text, a file, or JSON, as of `show`")
    think.add_argument("--together", action="store_true", help="the ITEMs are parts of one item")
    think.add_argument("--instruction", metavar="TEXT", help="instead of the recipe's")
    _command.add_decoding(think)
    _command.add_numbers(think)
    _preset(think)
    _command.add_backend(think)
    _command.add_media(think)
    think.set_defaults(run=_think)

    _add_embed(commands)
    search = commands.add_parser("search", help="the closest of what `embed` wrote", formatter_class=raw)
    search.add_argument("index", metavar="OUT", help="what `tte embed` wrote")
    search.add_argument("query", metavar="QUERY", help="a text, a file, or JSON, as of `show`")
    search.add_argument("--top", type=_command.count, default=10, metavar="N", help="default: 10")
    _command.add_server(search)
    _command.add_backend(search)
    _command.add_media(search)
    search.set_defaults(run=_search, side="query", reasoner_requests=1)
    _add_quantize(commands)
    return top


def _add_embed(commands: Any) -> None:
    embed = commands.add_parser(
        "embed", help="vectors of files", epilog=_EMBED, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    embed.add_argument(
        "file", metavar="FILE", nargs="+", help="an image, video, .pdf, .txt or .jsonl; a folder of them"
    )
    embed.add_argument("-o", "--out", required=True, metavar="OUT", help="the .npy or .parquet file to write")
    embed.add_argument("--embedder", type=_command.name, default="nano", metavar="PATH", help="default: nano")
    _command.add_loading(embed, also="embedder")
    thinking = embed.add_argument_group("thinking about each item before it is embedded")
    _command.add_reasoner(thinking)
    _command.add_decoding(thinking)
    embed.add_argument("--frames", action="store_true", help="a folder is one video, and the images in it its frames")
    _command.add_numbers(embed)
    _preset(embed, side="target")
    _command.add_backend(embed)
    _command.add_media(embed)
    embed.set_defaults(run=_embed, resumes=True)


def _add_quantize(commands: Any) -> None:
    quantize = commands.add_parser(
        "quantize", help="a checkpoint, rounded", epilog=_QUANTIZE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    quantize.add_argument("path", metavar="PATH", help="folder or hub id of the checkpoint")
    _command.add_loading(quantize, only=("adapter",))
    _command.add_quantization(quantize, required=True)
    quantize.add_argument(
        "-o", "--out", type=_command.path, required=True, metavar="FOLDER", help="the new folder to write"
    )
    quantize.set_defaults(run=_quantize)


def _preset(parser: argparse.ArgumentParser, side: str = "query") -> None:
    parser.add_argument("--task", metavar="NAME", help="one of the recipe's presets; `info` lists them")
    parser.add_argument("--side", choices=("query", "target"), default=side, help=f"of the preset; default: {side}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = parser().parse_args(argv)
    return _command.run(lambda: int(arguments.run(arguments) or 0), resumes=getattr(arguments, "resumes", False))


if __name__ == "__main__":
    sys.exit(main())
