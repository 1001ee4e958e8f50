"""Guesses of what a trace says next: they change nothing but how often the weights are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tte
from tte.nano import generate

NANO = Path(__file__).resolve().parents[2] / "models" / "nano"
QUERIES = [
    {"text": s.query.text, **({"image": s.query.image} if s.query.image is not None else {"video": s.query.video})}
    for task in ("image_qa", "video_qa")
    for s in generate(task, 3, 6)
]


# Past its end a trace says the same things again and again.
ON = {"ignore_eos": True, "max_new_tokens": 60, "progress": False}


def backend(tokens: int, **options: Any) -> tte.Backend:
    return tte.Backend("cpu", prompt_lookup_tokens=tokens, **options)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("decoding", [{}, {"temperature": 0.8, "seed": 5}, {"repetition_penalty": 1.1}], ids=str)
def test_no_token_is_another(dtype: str, decoding: dict[str, Any]) -> None:
    plain, looked = (tte.Reasoner(NANO / "reasoner", backend=backend(n), dtype=dtype) for n in (0, 8))
    expected = plain.think(QUERIES, **ON, **decoding)
    for few in (slice(None), slice(0, 1), slice(3, 5)):
        got = looked.think(QUERIES[few], **ON, **decoding)
        assert [(t.token_ids, t.text, t.finish) for t in got] == [
            (t.token_ids, t.text, t.finish) for t in expected[few]
        ]
    assert looked.backend.stats.right_guesses > 0
    assert plain.backend.stats.guessed_tokens == 0


def test_vectors_behind_guessed_traces_are_the_same() -> None:
    """The pair goes on from states, and the head from hidden states, that wrong guesses were cut from."""
    for embedder in ("reasoner", "head"):
        vectors = []
        for tokens in (0, 8):
            shared = backend(tokens, threads=1, max_running=57)
            reasoner = tte.Reasoner(NANO / "reasoner", backend=shared, dtype="float32")
            half = tte.Embedder(NANO / embedder, backend=shared, dtype="float32")
            result = tte.think_then_embed(QUERIES, reasoner=reasoner, embedder=half, **ON)
            vectors.append(result.embeddings)
        assert shared.stats.guessed_tokens > shared.stats.right_guesses > 0
        np.testing.assert_array_equal(vectors[0], vectors[1])


def test_the_number_of_guesses_is_checked() -> None:
    for wrong in (-1, 65, 1.5, True, "8"):
        with pytest.raises(tte.InputError, match="prompt_lookup_tokens"):
            tte.Backend("cpu", prompt_lookup_tokens=wrong)  # type: ignore[arg-type]
