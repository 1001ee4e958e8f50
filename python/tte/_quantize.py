"""Checkpoints that are rounded once, and not at every load."""

from __future__ import annotations

from pathlib import Path

from tte import _hub, _options, _text, _tte
from tte._keywords import named
from tte._options import PathLike


@named
def quantize(
    path_or_id: PathLike, folder: PathLike, *, quantization: str = "int8", adapter: PathLike | None = None
) -> Path:
    """Round a checkpoint once: write what every loader of tte takes as a checkpoint into a new folder.

    It loads without being rounded again, and gives bit for bit what the original gives with `quantization=`. Config,
    tokenizer, processor and recipe files are copied. What rounding leaves as it is (embeddings, norms, matrices with
    fewer than 64 inputs or outputs) is stored as it was, and so are the experts of a mixture that are one tensor, which
    are rounded when they are loaded. FP8 and compressed-tensors weights are rounded from the numbers they stand for.

    Args:
        path_or_id: folder of a checkpoint, a hub id, or "nano" for the bundled reasoner; a PEFT adapter's folder or id
            stands for its base with the adapter merged into it.
        folder: the new folder, which is not there yet or empty. It appears when all of it is written; what is left of
            a call that was killed is beside it, with a name that ends with ".partial" and six digits.
        quantization: "int8" or "int4".
        adapter: folder or hub id of a PEFT adapter (LoRA, DoRA) that is merged first.

    Returns:
        The folder.

    Raises:
        InputError: the folder is there and not empty, or cannot be written.
        Error: the disk is full or breaks.
        ModelError: the checkpoint does not fit, is rounded already, or is an embedding head (round its base).

    """
    target = _text.expanded(folder, "folder")
    bits = _options.quantization(quantization)
    if bits == "none":
        raise _options.refuse("quantization", quantization, '"int8" or "int4"')
    checkpoint, changes = _hub.locate(path_or_id, adapter)
    _tte.quantize(checkpoint, target, bits, changes)
    return target
