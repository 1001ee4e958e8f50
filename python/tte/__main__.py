"""Look at checkpoints, think, embed and search. Nothing is downloaded but a hub id that is asked for.

    tte info PATH                 what it is: family, sizes, the recipe in force and why, a sample prompt
    tte show PATH ITEM...         the exact prompt of each item: text, ids, where media, trace and pooled token stand
    tte think PATH ITEM...        the trace of each item, as it is written
    tte embed FILE... -o OUT      vectors of images, videos, PDF pages, lines of text; --reasoner: with traces
    tte search OUT QUERY          what of it is closest to a query
    tte quantize PATH -o FOLDER   the checkpoint with its linear layers rounded to 8 or 4 bits, as a new folder

PATH is a folder as save_pretrained writes it, a PEFT adapter's folder, a hub id (owner/name), or "nano" for the bundled
pair. `python -m tte` is the same command; `python -m tte.mmeb` evaluates. Exit codes: 0 done, 1 the checkpoint or an
item does not work, 2 wrong usage or a path that cannot be used, 3 done in part, 130 stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tte import _command

if TYPE_CHECKING:
    from tte import TraceStore, _index

_INFO = """examples:
  tte info nano
  tte info ./UME-R1-2B                     # which recipe was found, and why
  tte info ./my-model --recipe tte         # the same, with a recipe of your choice
  tte info ./my-lora --json | jq .recipe
"""
_SHOW = """An ITEM is a text, the path of an image or a video, a page of a document (report.pdf#page=3), or JSON as
Python's calls take it. With --together all of them are the parts of one item.

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
that there are; until all are, they wait in corpus.npy.part. What fails is told, has a row of NaN, and makes the exit
code 3. Beside corpus.npy, corpus.json has the names of the rows; a .parquet file has them itself.

examples:
  tte embed photos/ report.pdf -o corpus.npy --embedder ./my-embedder
  tte embed questions.txt -o corpus.parquet --reasoner nano --task visdoc --side query
  tte search corpus.npy "a red bicycle"
"""

_QUANTIZE = """The folder loads like any checkpoint, without being rounded again, and gives what the original gives with
--quantization. It appears when all of it is written.

examples:
  tte quantize ./my-model --quantization int8 -o ./my-model-int8
  tte quantize ./my-model --adapter ./my-lora --quantization int4 -o ./my-lora-int4
  tte embed photos/ -o corpus.npy --embedder ./my-model-int8
"""


def _loading(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in ("adapter", "recipe", "template_options")}


def _info(arguments: argparse.Namespace) -> None:
    from tte import _inspect

    found = _inspect.info(arguments.path, **_loading(arguments))
    print(json.dumps(found, indent=2, ensure_ascii=False) if arguments.json else _inspect.told(found))


def _show(arguments: argparse.Namespace) -> None:
    from tte import Processor, _inspect

    processor = Processor(arguments.path, **_loading(arguments))
    given = arguments.item
    items: list[Any] = [_inspect.together(given)] if arguments.together else [_inspect.item_of(one) for one in given]
    request = {name: getattr(arguments, name) for name in ("instruction", "task", "side")}
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

    reasoner = Reasoner(arguments.path, quantization=arguments.quantization, **_loading(arguments))
    given = arguments.item
    items: list[Any] = [_inspect.together(given)] if arguments.together else [_inspect.item_of(one) for one in given]
    for number, item in enumerate(items):
        if number:
            print("\n--")

        def write(_index: int, text: str, _token: int) -> None:
            print(text, end="", flush=True)

        trace = reasoner.think(
            [item], instruction=arguments.instruction, task=arguments.task, side=arguments.side, progress=False,
            max_new_tokens=arguments.max_new_tokens, temperature=arguments.temperature, on_token=write,
        )[0]  # fmt: skip
        print(f"\n-- {len(trace.token_ids)} tokens, {trace.finish.name.lower()}")


def _embedding(settings: dict[str, Any], side: str) -> tuple[_index.Embed, int]:
    """The function that embeds items with their names, with the reasoner's traces if there is one; size of a vector."""
    from tte import Embedder, InputError, Reasoner, _index, _text, think_then_embed

    bits = settings.get("quantization")
    embedder = Embedder(settings["embedder"], recipe=settings["recipe"], quantization=bits)
    # One model has a fingerprint for each kind of device.
    kind, fingerprint = embedder.backend.device.partition(":")[0], embedder.model.fingerprint
    was = settings.setdefault("fingerprint", {kind: fingerprint})
    if isinstance(was, dict) and was.get(kind, fingerprint) != fingerprint:
        raise InputError(
            f"{_text.shown(settings['embedder'])} is not the model any more whose vectors these are: embed them again."
        )
    thinks = settings["reasoner"] is not None
    # Without one nobody thinks, and the same weights stand in for it: think_then_embed tells what was wrong with items.
    reasoner = Reasoner(settings["reasoner"] if thinks else settings["embedder"], quantization=bits)

    def embed(items: list[tuple[str, Any]], store: TraceStore | None, keep: _index.Keep) -> dict[int, str]:
        result = think_then_embed(
            [_index.made(name, item) for name, item in items], reasoner=reasoner, embedder=embedder, think=thinks,
            task=settings["task"], side=side, on_error="skip", progress=False, store=store, on_vector=keep,
        )  # fmt: skip
        return {error.index: error.message for error in result.errors}

    return embed, embedder.dim


def _embed(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from tte import InputError, _index

    out = _index.target(arguments.out)
    settings = {name: getattr(arguments, name) for name in ("task", "side", "quantization")}
    # Found again by whoever searches from elsewhere; names of the hub and of what is bundled stay as they are.
    for name, is_there in (("embedder", os.path.isdir), ("reasoner", os.path.isdir), ("recipe", os.path.isfile)):
        given = getattr(arguments, name)
        settings[name] = os.path.abspath(given) if given and is_there(given) else given
    items = list(_index.items_of(arguments.file))
    if not items:
        raise InputError("There is nothing to embed: the files have no lines.")
    embed, dim = _embedding(settings, arguments.side)
    with tqdm(total=len(items), desc="embed", disable=not sys.stderr.isatty()) as bar:
        errors = _index.write(out, items, settings, dim, embed, bar.update)
    made = len(items) - len(errors)
    print(f"{made} of {len(items)} vectors" + (f" in {arguments.out}" if made else ": nothing is written"))
    for message in errors:
        print(f"error: {message}", file=sys.stderr)
    return 0 if not errors else 3 if made else 1


def _search(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    import numpy as np

    from tte import InputError, _index, _inspect, _text

    names, vectors, settings = _index.read(Path(_text.path(arguments.index, "OUT")))
    embed, dim = _embedding(settings, arguments.side)
    found: dict[int, Any] = {}
    errors = embed([("the query", _inspect.item_of(arguments.query))], None, found.__setitem__)
    if errors:
        raise InputError(errors[0])
    if dim != vectors.shape[1]:
        raise InputError(
            f"{_text.shown_path(arguments.index)} has vectors of {vectors.shape[1]} dimensions, and "
            f"{_text.shown(settings['embedder'])} makes {dim}: embed the files again."
        )
    query = found[0]
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    scores = np.nan_to_num(vectors @ query / np.maximum(norms, 1e-12), nan=-np.inf)
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
    parser.add_argument("--adapter", metavar="PATH", help="a PEFT adapter of it (LoRA, DoRA)")


def _common(parser: argparse.ArgumentParser) -> None:
    _checkpoint(parser)
    parser.add_argument("--recipe", metavar="NAME", help="a bundled recipe, or a file; default: found as info says")
    parser.add_argument(
        "--template-options", type=_command.options, metavar="JSON",
        help="""what the chat template reads, such as '{"enable_thinking": false}'""",
    )  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    raw = argparse.RawDescriptionHelpFormatter
    top = _command.Parser(prog="tte", description=__doc__, formatter_class=raw)
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    info = commands.add_parser("info", help="what a checkpoint is", epilog=_INFO, formatter_class=raw)
    _common(info)
    info.add_argument("--json", action="store_true", help="everything, for programs")
    info.set_defaults(run=_info)

    show = commands.add_parser("show", help="what the model sees", epilog=_SHOW, formatter_class=raw)
    _common(show)
    show.add_argument("item", metavar="ITEM", nargs="+", help="a text, a file, or JSON")
    show.add_argument("--together", action="store_true", help="the ITEMs are parts of one item")
    show.add_argument("--embed", action="store_true", help="the embedder's prompt (with --trace always)")
    show.add_argument("--trace", metavar="TEXT", help="a trace, which the embedder reads after the item")
    show.add_argument("--instruction", metavar="TEXT", help="instead of the recipe's")
    _preset(show)
    show.add_argument("--ids", action="store_true", help="a line for each token, with its id and positions")
    show.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="default: on a terminal")
    show.set_defaults(run=_show)

    think = commands.add_parser("think", help="traces", epilog=_THINK, formatter_class=raw)
    _common(think)
    think.add_argument("item", metavar="ITEM", nargs="+", help="a text, a file, or JSON, as of `show`")
    think.add_argument("--together", action="store_true", help="the ITEMs are parts of one item")
    think.add_argument("--instruction", metavar="TEXT", help="instead of the recipe's")
    think.add_argument("--max-new-tokens", type=int, metavar="N", help="most tokens; default: the recipe's, else 512")
    think.add_argument("--temperature", type=float, metavar="T", help="default: the recipe's, else greedy")
    _command.add_quantization(think)
    _preset(think)
    think.set_defaults(run=_think)

    embed = commands.add_parser("embed", help="vectors of files", epilog=_EMBED, formatter_class=raw)
    embed.add_argument(
        "file", metavar="FILE", nargs="+", help="an image, video, .pdf, .txt or .jsonl; a folder of them"
    )
    embed.add_argument("-o", "--out", required=True, metavar="OUT", help="the .npy or .parquet file to write")
    embed.add_argument("--embedder", default="nano", metavar="PATH", help="default: nano")
    embed.add_argument("--reasoner", metavar="PATH", help="thinks about each item before it is embedded")
    embed.add_argument("--recipe", metavar="NAME", help="the embedder's; default: found as info says")
    _command.add_quantization(embed)
    _preset(embed, side="target")
    embed.set_defaults(run=_embed)

    search = commands.add_parser("search", help="the closest of what `embed` wrote", formatter_class=raw)
    search.add_argument("index", metavar="OUT", help="what `tte embed` wrote")
    search.add_argument("query", metavar="QUERY", help="a text, a file, or JSON, as of `show`")
    search.add_argument("--top", type=_command.count, default=10, metavar="N", help="default: 10")
    search.set_defaults(run=_search, side="query")
    _add_quantize(commands)
    return top


def _add_quantize(commands: Any) -> None:
    quantize = commands.add_parser(
        "quantize", help="a checkpoint, rounded", epilog=_QUANTIZE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _checkpoint(quantize)
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
    stopped = "stopped; the same command goes on where it was" if arguments.run is _embed else "stopped"
    return _command.run(lambda: int(arguments.run(arguments) or 0), stopped)


if __name__ == "__main__":
    sys.exit(main())
