"""Look at checkpoints and at what their models see. Nothing is downloaded but a hub id that is asked for.

    tte info PATH                 what it is: family, sizes, the recipe in force and why, a sample prompt
    tte show PATH ITEM...         the exact prompt of each item: text, ids, where media, trace and pooled token stand

PATH is a folder as save_pretrained writes it, a PEFT adapter's folder, a hub id (owner/name), or "nano" for the bundled
pair. `python -m tte` is the same command; `python -m tte.mmeb` evaluates. Exit codes: 0 done, 1 the checkpoint or an
item does not work, 2 wrong usage, 130 stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

_INFO = """examples:
  tte info nano
  tte info ./UME-R1-2B                     # which recipe was found, and why
  tte info ./my-model --recipe tte         # the same, with a recipe of your choice
  tte info ./my-lora --json | jq .recipe
"""
_SHOW = """An ITEM is a text, the path of an image or a video, or JSON as Python's calls take it. With --together all of
them are the parts of one item.

examples:
  tte show nano "what is left of the red circle ?"
  tte show nano --together cat.jpg "what is it ?"
  tte show nano '{"image": "cat.jpg", "text": "what is it ?", "instruction": "Answer."}'
  tte show nano "a cat" --trace "<think>an animal</think> a cat"     # what the embedder reads
  tte show nano "a cat" --ids                                       # a line for each token
"""


def _info(arguments: argparse.Namespace) -> None:
    from tte import _inspect

    found = _inspect.info(arguments.path, adapter=arguments.adapter, recipe=arguments.recipe)
    print(json.dumps(found, indent=2, ensure_ascii=False) if arguments.json else _inspect.told(found))


def _show(arguments: argparse.Namespace) -> None:
    from tte import Processor, _inspect

    processor = Processor(arguments.path, adapter=arguments.adapter, recipe=arguments.recipe)
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


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="folder or hub id of the checkpoint")
    parser.add_argument("--adapter", metavar="PATH", help="a PEFT adapter of it (LoRA, DoRA)")
    parser.add_argument("--recipe", metavar="NAME", help="a bundled recipe, or a file; default: found as info says")


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(prog="tte", description=__doc__, formatter_class=raw)
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
    show.add_argument("--task", metavar="NAME", help="one of the recipe's presets; `info` lists them")
    show.add_argument("--side", choices=("query", "target"), default="query", help="of the preset")
    show.add_argument("--ids", action="store_true", help="a line for each token, with its id and positions")
    show.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="default: on a terminal")
    show.set_defaults(run=_show)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = parser().parse_args(argv)
    import tte
    from tte import _command

    _command.tolerate_any_terminal()
    try:
        arguments.run(arguments)
    except (tte.Error, OSError) as error:
        print(f"error: {_command.told(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
