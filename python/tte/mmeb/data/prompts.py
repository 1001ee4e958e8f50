"""How a query or candidate is worded, in the three styles.

`vlm2vec`
    One string without chat template; an image is ``<|image_pad|>``, a video ``<|video_pad|>``; as VLM2Vec-V2's own
    evaluation writes it, to the last line break.
`qwen3_vl_embedding`
    A chat with the instruction as system turn (ended by a mark of punctuation) and media and text as user turn; a
    candidate has no instruction of its own but "Represent the user's input.".
`plain`
    The words alone, without media tokens and trailing line breaks: the embedder's recipe places media and text.

For the image tasks everything is from the strings of the tables, never from a list of constants: a line break more or
less at the end is another last token, hence another embedding.
"""

from __future__ import annotations

import unicodedata
from typing import Literal, NamedTuple

IMAGE = "<|image_pad|>"
VIDEO = "<|video_pad|>"
DATA_IMAGE = "<|image_1|>"
"""What stands for an image in the strings of the tables."""
DEFAULT_INSTRUCTION = "Represent the user's input."
"""System turn of Qwen3-VL-Embedding where there is no instruction."""

Media = Literal["", "image", "video"]
_TOKENS = {"": "", "image": IMAGE, "video": VIDEO}


class Words(NamedTuple):
    """The wording of an entry."""

    instruction: str
    text: str
    prompt: str


# Image tasks: everything from the table.


def image_query(
    style: str, parser: str, instruction: str, text: str, *, suffix: str = "", stray_tokens: bool = True
) -> Words:
    """Word a query of the image tasks.

    Args:
        style: the prompt style.
        parser: "image_cls", "image_qa", "image_i2t", "image_i2i_vg", whose queries have an image, or "image_t2i",
            whose queries have none.
        instruction: `qry_inst` of the row.
        text: `qry_text` of the row.
        suffix: what follows the prompt in the style "vlm2vec" (VisDial: a line break).
        stray_tokens: keep the image token that instructions of WebQA and EDIS have although there is no image.

    """
    bare = instruction.replace(DATA_IMAGE, "")
    has_image = parser != "image_t2i"
    if style == "plain":
        return _plain(bare, text)
    if style == "qwen3_vl_embedding":
        return _chat(bare, text, "image" if has_image else "")
    if not has_image:
        # The token is replaced where it stands; a line break that follows it goes with it when it is left out.
        opening = instruction.replace(DATA_IMAGE, IMAGE) if stray_tokens else _without_token(instruction)
        return Words(bare.strip(), text, f"{opening} {text}\n{suffix}")
    opening = f"\n{bare.strip()}" if parser in ("image_qa", "image_i2i_vg") else bare
    prompt = _joined(opening, text, "image").replace(" \n", "\n") + "\n"
    return Words(bare.strip(), text, prompt)


def image_target(style: str, parser: str, instruction: str, caption: str, *, captioned: bool) -> Words:
    """Word a candidate with an image, of the parsers "image_t2i" and "image_i2i_vg".

    Args:
        style: the prompt style.
        parser: one of the two.
        instruction: `tgt_inst` of the row.
        caption: the candidate's own `tgt_text`.
        captioned: whether the row's first caption (the positive's) has text; then all its candidates are worded so.

    """
    bare = instruction.replace(DATA_IMAGE, "")
    shown = caption if captioned else ""
    if style == "plain":
        return _plain(bare, shown)
    if style == "qwen3_vl_embedding":
        # Captions of t2i sets are taken one by one, without surrounding blanks; those of i2i sets as they are.
        return _chat("", caption.strip() if parser == "image_t2i" else shown, "image")
    opening = f"{bare} {caption}" if captioned else bare
    end = "\n" if captioned or parser == "image_t2i" else ""
    return Words(bare.strip(), shown, _joined(opening, "", "image").replace(" \n", "\n") + end)


def whole_prompt(style: str, text: str, media: Media, *, stray_tokens: bool = True) -> Words:
    """Word an entry of the older tables, whose strings are whole prompts with ``<|image_1|>`` inside."""
    bare = _without_token(text)
    if style == "plain":
        return _plain("", bare)
    if style == "qwen3_vl_embedding":
        return _chat("", bare.strip(), media)
    keep = media == "image" or stray_tokens
    return Words("", bare.strip("\n"), text.replace(DATA_IMAGE, IMAGE) if keep else bare)


# Video and document tasks: the benchmark's own instructions.


def query(style: str, instruction: str, text: str, media: Media) -> Words:
    """Word a query whose instruction is the benchmark's own."""
    if style == "plain":
        return _plain(instruction, text)
    if style == "qwen3_vl_embedding":
        return _chat(_ended_by_stop(instruction), text, media)
    return Words(instruction, text, _joined(instruction, text, media))


def question(style: str, instruction: str, block: str) -> Words:
    """Word a question about a video: the text always follows the instruction, however short."""
    if style == "plain":
        return _plain(instruction, block)
    if style == "qwen3_vl_embedding":
        return _chat(_ended_by_stop(instruction.rstrip().removesuffix("Question:")), block, "video")
    return Words(instruction, block, f"{VIDEO} {instruction} {block}")


def target(style: str, instruction: str, media: Media) -> Words:
    """Word a candidate that is an image or a video."""
    if style == "plain":
        return _plain(instruction, "")
    if style == "qwen3_vl_embedding":
        return _chat("", "", media)
    return Words(instruction, "", _joined(instruction, "", media))


def answer(style: str, text: str) -> Words:
    """Word a candidate that is a text: the text itself."""
    if style == "qwen3_vl_embedding":
        return _chat("", text, "")
    return Words("", text, text.rstrip("\r\n") if style == "plain" else text)


# The pieces.


def _joined(instruction: str, text: str, media: Media) -> str:
    prompt = f"{instruction} {text}" if text else instruction
    return f"{_TOKENS[media]} {prompt}" if media else prompt


def _plain(instruction: str, text: str) -> Words:
    instruction, text = instruction.strip(), text.rstrip("\r\n")
    return Words(instruction, text, f"{instruction} {text}" if instruction and text else instruction or text)


def _without_token(text: str) -> str:
    return text.replace(f"{DATA_IMAGE}\n", "").replace(DATA_IMAGE, "")


def _ended_by_stop(instruction: str) -> str:
    """Return the instruction with "." where VLM2Vec's wording of it ends with ":"."""
    bare = instruction.strip()
    return f"{bare[:-1]}." if bare.endswith(":") else bare


def _chat(instruction: str, text: str, media: Media) -> Words:
    system = instruction.strip()
    if system and not unicodedata.category(system[-1]).startswith("P"):
        system += "."
    shown = f"<|vision_start|>{_TOKENS[media]}<|vision_end|>" if media else ""
    return Words(
        system,
        text,
        f"<|im_start|>system\n{system or DEFAULT_INSTRUCTION}<|im_end|>\n<|im_start|>user\n{shown}{text}<|im_end|>\n"
        "<|im_start|>assistant\n",
    )
