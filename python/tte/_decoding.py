"""How traces are written: the options of decoding, checked, and completed by the recipe's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

from tte import _options, _text, _tte
from tte._options import flag, listed, per_item, real, string, whole

_NUMBERS = _tte.GenerateOptions.numbers()
OF_THE_CALL = ("stop", "stop_token_ids", "ignore_eos", "checkpoint_sampling")
"""Decoding options that are for all items alike; a list of them is one value."""
DECODING = (*_NUMBERS, *OF_THE_CALL)
"""Names of the decoding options, as :func:`tte.think_then_embed` has them."""


class Decoding(TypedDict, total=False):
    """How traces are written: what :func:`tte.think_then_embed` and :meth:`tte.Reasoner.think` take by name.

    Numbers are one value, or one per item. What is absent or None is as the recipe says, else as the checkpoint's
    generation_config.json says but for its sampling (see `checkpoint_sampling`), else greedy: the same in C++.
    """

    max_new_tokens: int | Sequence[int] | None
    """Most tokens per trace; default: the recipe's, the checkpoint's, else 512 or what the model has room for."""
    temperature: float | Sequence[float] | None
    """0 is greedy, and `top_p`, `top_k`, `min_p` and `seed` then do nothing, which a warning says."""
    top_p: float | Sequence[float] | None
    """Keep the smallest set of tokens with this probability."""
    top_k: int | Sequence[int] | None
    """Keep this many tokens."""
    min_p: float | Sequence[float] | None
    """Keep tokens with at least this fraction of the best one's probability."""
    repetition_penalty: float | Sequence[float] | None
    """Divides the logits of tokens seen before; 1 is off."""
    min_new_tokens: int | Sequence[int] | None
    """No end token before."""
    seed: int | Sequence[int] | None
    """Makes sampling repeatable, whatever else is in the batch."""
    max_think_tokens: int | Sequence[int] | None
    """When spent inside <think>, the closing tag is forced."""
    stop: str | Sequence[str] | None
    """Strings that end the text; they are cut off."""
    stop_token_ids: Sequence[int]
    """Further end tokens."""
    ignore_eos: bool
    """Go on past the end tokens."""
    checkpoint_sampling: bool
    """Sample where generation_config.json says so: its do_sample, temperature, top_k, top_p and min_p hold too."""


def number(value: object, option: str, name: str) -> int | float:
    """Check a number of the decoding options, by the engine's table of ranges; `name` stands for it in errors."""
    least, most, *_ = _NUMBERS[option]
    check: Callable[..., Any] = real if isinstance(least, float) else whole
    checked: int | float = check(value, name, least, most)
    return checked


def kind(option: str) -> type[int] | type[float]:
    """Whether a number of the decoding options is a whole one."""
    return float if isinstance(_NUMBERS[option][0], float) else int


def generate_options(count: int, recipe: str | None = None, **decoding: Unpack[Decoding]) -> list[_tte.GenerateOptions]:
    """Build the decoding settings of each item and check them; `recipe` is the reasoner's, where there is one."""
    settings: dict[str, Any] = {**decoding}
    stop, stop_token_ids = settings.pop("stop", None), settings.pop("stop_token_ids", ())
    ignore_eos, checkpoint_sampling = settings.pop("ignore_eos", False), settings.pop("checkpoint_sampling", False)
    for name in sorted(settings):
        known_option(name)
    strings, ids, go_on = _stops(stop), _stop_ids(stop_token_ids), flag(ignore_eos, "ignore_eos")
    follow = flag(checkpoint_sampling, "checkpoint_sampling")
    columns = {name: _column(value, count, name) for name, value in settings.items() if value is not None}
    own = {} if recipe is None else recipe_decoding(recipe)
    if recipe is not None and not (follow or own.get("checkpoint_sampling")):
        _tell_what_does_nothing(columns, own)
    result = []
    for index in range(count):
        options = _tte.GenerateOptions()
        for name, values in columns.items():
            setattr(options, name, values[index])
        options.stop = strings
        options.stop_token_ids = ids
        options.ignore_eos = go_on
        options.checkpoint_sampling = follow
        options.validate()
        result.append(options)
    return result


def recipe_decoding(recipe: str) -> dict[str, Any]:
    """Read the decoding settings of a recipe, which hold where the caller says nothing."""
    return dict(_options.rules(recipe).get("decoding", {}))


def resolved(decoding: Mapping[str, Any], recipe: str) -> dict[str, Any]:
    """Check the decoding settings of one item, and complete them by the recipe's.

    Those that change nothing are left out: what is returned is equal for settings that write equal traces.
    """
    given = {**recipe_decoding(recipe), **{name: value for name, value in decoding.items() if value is not None}}
    plain = {name: setting(name, value) for name, value in sorted(given.items())}
    follows = plain.get("checkpoint_sampling", False)
    # What the checkpoint's file may say is not the same unset as given, whatever the value.
    unset = {
        name: off if (sampling or name == "temperature") and not follows else None
        for name, (_, _, off, sampling) in _NUMBERS.items()
    }
    return {name: value for name, value in plain.items() if (value != unset[name] if name in unset else value)}


def known_option(name: str) -> None:
    """Raise `TypeError`, as Python does for its own keywords, for what is no number of the decoding options."""
    if name not in _NUMBERS:
        raise TypeError(no_option(name))


def no_option(name: str) -> str:
    """Say that there is no decoding option of a name, and which are."""
    near = _text.meant(name, DECODING) or f": they are {', '.join(DECODING)}."
    return f"there is no decoding option {_text.shown(name, 40)}{near}"


def setting(name: str, value: object) -> Any:
    """Check one decoding option of one item; what is returned is plain, and the same for equal settings."""
    if name == "stop":
        return _text.utf8(value, name) if isinstance(value, str) else _stops(value)
    if name == "stop_token_ids":
        return _stop_ids(value)
    if name in OF_THE_CALL:
        return flag(value, name)
    known_option(name)
    return number(value, name, name)


def _stops(stop: object) -> list[str]:
    if stop is None:
        return []
    each = [stop] if isinstance(stop, str) else listed(stop, "stop", "a str, a list of them, or None")
    return [string(one, "stop") for one in each]


def _stop_ids(ids: object) -> list[int]:
    return [whole(each, "stop_token_ids") for each in listed(ids, "stop_token_ids", "a list of token ids")]


def _column(value: Any, count: int, name: str) -> list[Any]:
    """Check the values of one option, by the engine's table of ranges; None stays for items that leave it open."""
    return per_item(value, count, name, lambda each, place: None if each is None else number(each, name, place))


def _tell_what_does_nothing(columns: Mapping[str, list[Any]], recipe: Mapping[str, Any]) -> None:
    if any(recipe.get("temperature", 0) if each is None else each for each in columns.get("temperature", [None])):
        return
    for name, (_, _, off, sampling) in _NUMBERS.items():
        if sampling and any(each is not None and each != off for each in columns.get(name, ())):
            _text.warn(
                f"{name} does nothing at temperature 0, where the best token is always taken: set a temperature to "
                f"sample, or leave {name} out."
            )
