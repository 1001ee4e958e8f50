"""The nano world: the nine meta-tasks of MMEB-V2 in miniature, made by one seeded generator.

Pure numpy; ``generate(task, seed, n, split)`` gives the same bytes on every machine. Digit instances, shape variants,
word printings and colour-kind pairs of the splits are disjoint (`verify_split`).

>>> from tte.nano import generate, tasks
>>> sample = generate("image_qa", seed=0, n=1)[0]
>>> sample.query.text, sample.candidates[sample.label].text  # doctest: +SKIP
"""

from .drafts import Draft, Item
from .split import verify_split
from .tasks import LABELS, Sample, draft, generate, sentences, tasks
from .world import PAIRS, Rng, Split, Thing

__all__ = [
    "LABELS", "PAIRS", "Draft", "Item", "Rng", "Sample", "Split", "Thing", "draft", "generate", "sentences", "tasks",
    "verify_split",
]  # fmt: skip
