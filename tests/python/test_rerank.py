"""A reranker's scores are transformers' logits of "yes" and "no", with the prompt that it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tte
from checkpoints import SHAPES, Shape
from PIL import Image
from references import Reference, noise

NANO = Path(tte.__file__).parent / "models" / "nano"


@torch.inference_mode()
def judged(theirs: Reference, messages: list[dict[str, Any]], after: str = "") -> float:
    """Sigmoid of the difference of two rows of the head, at the last position."""
    inputs = theirs.inputs(messages)
    tokenizer = theirs.processor.tokenizer
    if after:
        more = torch.tensor([tokenizer(after, add_special_tokens=False)["input_ids"]])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], more], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(more)], 1)
    theirs.model.model.rope_deltas = None
    state = theirs.model.model(**inputs).last_hidden_state[0, -1].float()
    yes, no = (theirs.model.lm_head.weight[tokenizer(word, add_special_tokens=False)["input_ids"][0]] for word in "yn")
    return float(torch.sigmoid(state @ (yes - no).float()))


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.name in ("untied-mha", "qwen3-vl-untied")], ids=str)
def test_scores_are_transformers(shape: Shape, reference: Callable[[Shape], Reference], tmp_path: Path) -> None:
    theirs = reference(shape)
    Image.fromarray(noise(56, 84)).save(tmp_path / "a.png")
    image = {"type": "image", "path": str(tmp_path / "a.png")}
    # One token each, whatever the vocabulary has of words.
    reranker = tte.Reranker(tte.Reasoner(theirs.folder, device="cpu"), system="Judge.", labels=["y", "n"])

    def chat(*parts: Any) -> list[dict[str, Any]]:
        content = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in parts]
        return [
            {"role": "system", "content": [{"type": "text", "text": "Judge."}]},
            {"role": "user", "content": content},
        ]

    begin = ("<Instruct>: find it", "<Query>:", image, "the cat", "\n<Document>:")
    documents: list[Any] = ["the dog", {"text": "one", "image": image["path"]}, [image]]
    expected = [
        judged(theirs, chat(*begin, "the dog")),
        judged(theirs, chat(*begin, image, "one")),
        judged(theirs, chat(*begin, image)),
    ]
    query = {"text": "the cat", "image": image["path"], "instruction": "find it"}
    scores = reranker.score(query, documents, progress=False)
    np.testing.assert_allclose(scores, expected, atol=2e-5)
    own = {key: value for key, value in query.items() if key != "instruction"}
    np.testing.assert_array_equal(reranker.score(own, documents, instruction="find it", progress=False), scores)
    order = np.argsort(-scores, kind="stable")
    assert reranker.rank(query, documents, k=2, progress=False) == [(int(i), float(scores[i])) for i in order[:2]]


def test_it_judges_after_thinking(reference: Callable[[Shape], Reference]) -> None:
    theirs = reference(next(s for s in SHAPES if s.name == "untied-mha"))
    reasoner = tte.Reasoner(theirs.folder, device="cpu")
    reranker = tte.Reranker(reasoner, system="", labels=["y", "n"], think=True)
    (score,) = reranker.score("the cat", ["the dog"], max_new_tokens=5, progress=False)
    content = f"<Instruct>: {tte._rerank.INSTRUCTION}", "<Query>:", "the cat", "\n<Document>:", "the dog"
    messages = [{"role": "user", "content": [{"type": "text", "text": text} for text in content]}]
    (trace,) = reasoner.think([messages], max_new_tokens=5, progress=False)
    assert "</think>" not in trace.text
    assert score == pytest.approx(judged(theirs, messages, trace.text + "</think>"), abs=2e-5)
    for text, before in (
        ("<think>a</think>\n\nyes", "<think>a</think>\n\n"),
        ("a</think>", "a</think>"),
        ("<think> a b", "<think> a b</think>"),
    ):
        assert reranker._thought(tte.Trace(text)).text == before


def test_traces_that_are_kept_are_not_written_again(tmp_path: Path) -> None:
    reasoner = tte.Reasoner(NANO / "reasoner", device="cpu")
    reranker = tte.Reranker(reasoner, labels=[" red", " blue"], think=True)
    documents = ["b", Path("/nowhere.png"), {"text": "c", "name": "mine"}]
    options: dict[str, Any] = {"max_new_tokens": 4, "on_error": "skip", "progress": False}
    plain = reranker.score("a", documents, **options)
    with tte.TraceStore(tmp_path / "traces.sqlite") as store:
        np.testing.assert_array_equal(reranker.score("a", documents, store=store, **options), plain)
        assert len(store) == 2
    with tte.TraceStore(tmp_path / "traces.sqlite", read_only=True) as store:
        np.testing.assert_array_equal(reranker.score("a", documents, store=store, **options), plain)
        with pytest.raises(tte.InputError, match=r"document 0: .*has no trace of it"):
            reranker.score("b", documents, store=store, **{**options, "on_error": "raise"})
        assert np.isnan(reranker.score("b", documents, store=store, **options)).all()
        with pytest.raises(tte.InputError, match="think=True"):
            tte.Reranker(reasoner, labels=[" red", " blue"]).score("a", ["b"], store=store)
    with pytest.raises(tte.InputError, match=r"store is 5: it must be a tte\.TraceStore"):
        reranker.score("a", documents, store=5)  # type: ignore[arg-type]


def test_what_cannot_be_judged_is_told() -> None:
    reasoner = tte.Reasoner(NANO / "reasoner", device="cpu")
    reranker = tte.Reranker(reasoner, labels=[" red", " blue"])
    chat = [{"role": "user", "content": "a"}]
    for query, documents, message in (
        (chat, ["a"], "the query is chat messages"),
        ("a", ["a", Path("/nowhere.png")], "document 1"),
        ("a", ["a", chat], "document 1 is chat messages"),
        ({"instruction": "find"}, ["a"], "the query is empty"),
    ):
        with pytest.raises(tte.InputError, match=message):
            reranker.score(query, documents, progress=False)
    with pytest.raises(tte.InputError, match="think=True"):
        reranker.score("a", ["b"], max_new_tokens=3)
    scores = reranker.score("a", ["b", Path("/nowhere.png"), "c"], on_error="skip", progress=False)
    assert np.isnan(scores).tolist() == [False, True, False]
    assert ((scores > 0) & (scores < 1)).tolist() == [True, False, True]
    best = reranker.rank("a", ["b", Path("/nowhere.png"), "c"], on_error="skip", progress=False)
    assert sorted(index for index, _ in best) == [0, 2]
    thinker = tte.Reranker(reasoner, labels=[" red", " blue"], think=True)
    found = thinker.score("a", ["b", Path("/nowhere.png")], on_error="skip", max_new_tokens=2, progress=False)
    assert np.isnan(found).tolist() == [False, True]
    for labels in (["yes"], ["a", "b", "c"], "ab", None, ("a", "a"), ("", "a")):
        with pytest.raises(tte.InputError, match="labels"):
            tte.Reranker(reasoner, labels=labels)  # type: ignore[arg-type]
    with pytest.raises(tte.InputError, match=r"a local tte\.Reasoner"):
        tte.Reranker(tte.RemoteReasoner("http://localhost:1/v1", "m"))


@pytest.mark.parametrize("think", [False, True])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_query_that_cannot_be_used_is_named(think: bool, on_error: str, tmp_path: Path) -> None:
    reranker = tte.Reranker(tte.Reasoner(NANO / "reasoner", device="cpu"), labels=[" red", " blue"], think=think)
    (tmp_path / "a.png").write_bytes(b"none")
    for query, why in (
        (Path("nope.png"), 'image "nope.png" cannot be opened'),
        ({"text": "a", "video": "nope.mp4"}, 'video "nope.mp4" cannot be opened'),
        ([tmp_path / "a.png"], "is not a JPEG"),
        ("a b " * 20000, "tokens"),
    ):
        with pytest.raises(tte.InputError, match=f"^the query.*{why}"):
            reranker.rank(query, ["x", "y"], on_error=on_error, progress=False)
        with pytest.raises(tte.InputError, match=f"^the query.*{why}"):
            reranker.rank(query, [], on_error=on_error, progress=False)
    assert reranker.rank("a", [], on_error=on_error, progress=False) == []
