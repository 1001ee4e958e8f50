"""Processor and Tokenizer: what a model would read, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tte import _hub, _options, _text, _tte
from tte._inputs import Item, to_input, to_messages
from tte._keywords import named
from tte._media_limits import DEFAULT_LIMITS, MediaLimits, native
from tte._options import PathLike
from tte._pickled import again, given_arguments, refuse
from tte._traces import TraceLike, to_traces


@named
class Processor:
    """What a model sees of an input: ids, pixels, positions, under transformers' names. No weights are read."""

    def __init__(
        self,
        path_or_id: PathLike,
        *,
        recipe: PathLike | None = None,
        adapter: PathLike | None = None,
        template_options: Mapping[str, bool | int | str] | None = None,
        parse_control_tokens: bool = False,
        media_limits: MediaLimits | None = None,
    ) -> None:
        self._given = given_arguments(locals())
        folder, changes = _hub.locate(path_or_id, adapter)
        self._native = _tte.Processor.load(
            folder,
            _options.recipe(recipe),
            _options.flag(parse_control_tokens, "parse_control_tokens"),
            native(media_limits),
            changes,
            _options.template_options(template_options),
        )
        self._limits = media_limits or DEFAULT_LIMITS

    def __call__(
        self,
        item: Item,
        *,
        stage: Literal["reason", "embed"] = "reason",
        instruction: str | None = None,
        task: str | None = None,
        side: Literal["query", "target"] = "query",
        trace: TraceLike | None = None,
        allow_urls: bool = False,
    ) -> dict[str, Any]:
        """Process one item, or one list of chat messages.

        Returns a dict with `input_ids` and `mm_token_type_ids` [1, L], `position_ids` [3, 1, L], and, where there
        are images, `pixel_values` [patches, patch_dim] and `image_grid_thw` [images, 3] (likewise `..._videos`; of
        LLaVA-NeXT the tiles, the whole image first, and the rows and columns of patches in each).
        Beside these arrays, which are transformers', two numbers: `next_position`, that of the token that would
        follow, and `pooled_row`, the row of `input_ids` that an embedder pools (-1: none or several). Where the recipe
        has latent steps, which stand in an embedder's prompt, also `latent_rows`: the first of their rows, and the end.
        """
        stages = {"reason": _tte.Stage.REASON, "embed": _tte.Stage.EMBED}
        return self._native.process(
            to_input(item, "item 0", _options.flag(allow_urls, "allow_urls"), self._limits),
            stage=_options.choice(stage, "stage", stages),
            instruction=_options.text(instruction, "instruction"),
            task=_options.tasks(task, side, 1)[0],
            trace=to_traces([trace], 1)[0] if trace is not None else None,
        )

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe in force, without what it leaves out by null."""
        return _options.rules(self._native.recipe)

    @property
    def recipe_reason(self) -> str:
        """Why it is in force: given by name, found from the checkpoint, derived from its files, ..."""
        return self._native.recipe_reason

    @property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer."""
        return Tokenizer._wrap(self._native.tokenizer)

    def __reduce__(self) -> Any:
        return again, (type(self), self._given)

    def __repr__(self) -> str:
        return f"Processor(recipe={self.recipe.get('name', '')!r}, vocab_size={self._native.tokenizer.vocab_size})"


@named
class Tokenizer:
    """A checkpoint's tokenizer and chat template by themselves."""

    def __init__(self, path_or_id: PathLike) -> None:
        self._native = _tte.Tokenizer.load(_hub.resolve(path_or_id))

    @classmethod
    def _wrap(cls, native: _tte.Tokenizer) -> Tokenizer:
        tokenizer = cls.__new__(cls)
        tokenizer._native = native
        return tokenizer

    def encode(self, text: str, *, parse_control: bool = True) -> list[int]:
        """Ids of a text of at most 8 MiB; no begin or end token is added.

        With `parse_control`, strings of added tokens such as ``<|im_end|>`` become those tokens.
        """
        return self._native.encode(_text.utf8(text, "the text"), _options.flag(parse_control, "parse_control"))

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Text of ids; bytes that are not UTF-8 become U+FFFD."""
        each = [_options.whole(i, "ids") for i in _options.listed(ids, "ids", "a list of token ids")]
        return self._native.decode(each, _options.flag(skip_special, "skip_special"))

    def apply_chat_template(
        self,
        messages: Sequence[dict[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> str:
        """Chat messages as the checkpoint's own template writes them, one placeholder per image and video."""
        return self._native.apply_chat_template(
            to_messages(messages, "messages"),
            _options.flag(add_generation_prompt, "add_generation_prompt"),
            _options.flag(continue_final_message, "continue_final_message"),
        )

    def id_of(self, token: str) -> int | None:
        """Id of a token, or None."""
        return self._native.id_of(_text.utf8(token, "the token"))

    @property
    def vocab_size(self) -> int:
        """Highest id + 1."""
        return self._native.vocab_size

    @property
    def eos_id(self) -> int | None:
        """Id of the end token."""
        return self._native.eos_id

    @property
    def pad_id(self) -> int | None:
        """Id of the padding token; tte itself never pads."""
        return self._native.pad_id

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, eos_id={self.eos_id}, pad_id={self.pad_id})"


refuse(Tokenizer, "hand over the Processor, or make it again from its path")
