"""The nano pair: its world is reproducible and split as the card says, and thinking wins where the card says so."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tte
from references import Reference
from tte.nano import LABELS, PAIRS, Item, Rng, draft, generate, sentences, tasks, verify_split

FOLDER = Path(__file__).parents[2] / "models" / "nano"
ROLES = ("reasoner", "embedder", "embedder-no-think")
SEED = 3
"""What the test queries here are drawn with; the card's table has the seeds 0, 1 and 2."""
WORLD = "40b0003db17acdc4601d073da1aa91c9b7d0d7f952550771b3dac35300fcc02b"
"""SHA-256 of the first two queries of every task and their candidates."""


def as_input(item: Item) -> dict[str, Any]:
    media = {"image": item.image} if item.image is not None else {"video": item.video} if item.video else {}
    return {**media, **({"text": item.text} if item.text else {})}


# ---------------------------------------------------------------- the generator


def update(digest: Any, item: Item) -> None:
    digest.update(f"{item.prompt}|{item.text}|{item.trace}|".encode())
    for image in [item.image] if item.image is not None else item.video or ():
        assert image.dtype == np.uint8
        digest.update(f"{image.shape}".encode() + image.tobytes())


def test_the_same_seed_gives_the_same_bytes() -> None:
    digest = hashlib.sha256()
    for task in tasks():
        for sample in generate(task, 0, 2):
            digest.update(f"{sample.task} {sample.label} ".encode())
            update(digest, sample.query)
            for candidate in sample.candidates:
                update(digest, candidate)
    assert digest.hexdigest() == WORLD, "the nano world has changed: its models and their card are about the old one"


def test_other_seeds_and_splits_give_other_queries() -> None:
    def prompts(seed: int, split: Any) -> list[str]:
        return [s.query.trace or "" for s in generate("image_qa", seed, 5, split)]

    assert len({tuple(prompts(seed, split)) for seed in (0, 1) for split in ("train", "val", "test")}) == 6


@pytest.mark.parametrize(
    ("call", "arguments", "words"),
    [
        (generate, ("cooking", 0, 1), "task is 'cooking': it must be one of image_cls"),
        (generate, (["image_qa"], 0, 1), "task is"),
        (generate, ("image_qa", 0, 1, "all"), "split is 'all': it must be one of train, val, test"),
        (generate, ("image_qa", 0, -1), "n is -1"),
        (generate, ("image_qa", 0, 1.5), "n is 1.5"),
        (generate, ("image_qa", 0, True), "n is True"),
        (generate, ("x" * 5000, 0, 1), "task is"),
        (draft, ("image_ret", "test", None), "rng is None: it must be an Rng"),
        (draft, ("image_ret", "test", Rng("a"), "x" * 5000), "hard is 'x"),
        (draft, ("image_ret", "test", Rng("a"), 1, -1), "more is -1"),
        (sentences, (0, -1), "n is -1"),
        (verify_split, (1.5,), "n is 1.5"),
    ],
)
def test_other_worlds_are_refused(call: Callable[..., Any], arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        call(*arguments)
    assert len(str(error.value)) < 500


def test_counts_may_be_numpys() -> None:
    assert len(generate("image_cls", 0, np.int64(2))) == 2  # type: ignore[arg-type]


def test_splits_share_nothing() -> None:
    counts = verify_split(n=20)
    assert min(counts.values()) > 9 * 20
    assert [len(PAIRS[s]) for s in ("train", "val", "test")] == [96, 8, 24]


@pytest.mark.parametrize("task", tasks())
def test_every_query_has_one_right_answer(task: str) -> None:
    for sample in generate(task, SEED, 12):
        conclusions = [(c.trace or "").split("</think>")[-1].strip() or c.text for c in sample.candidates]
        assert len(set(conclusions)) == len(conclusions)
        assert conclusions[sample.label] == (sample.query.trace or "").split("</think>")[-1].strip()
        if task in LABELS:
            assert tuple(conclusions) == LABELS[task]


# ---------------------------------------------------------------- the models


@pytest.mark.parametrize("role", ROLES)
def test_transformers_reads_the_same_model(role: str) -> None:
    """Prompts, states and greedy traces of the shipped weights are those of transformers, in fp32."""
    reference = Reference(FOLDER / role)
    backend = tte.Backend("cpu", threads=1)
    for task in ("image_qa", "video_mret", "visdoc"):
        sample = generate(task, SEED, 1)[0]
        item = sample.query if sample.query.image is not None or sample.query.video else sample.candidates[sample.label]
        side = "query" if item is sample.query else "target"
        media = [{"type": "image", "image": item.image}] if item.image is not None else []
        media += [{"type": "video", "video": np.stack(item.video)}] if item.video else []
        messages = [{"role": "user", "content": [*media, {"type": "text", "text": item.prompt}]}]
        if role == "reasoner":
            reasoner = tte.Reasoner(FOLDER / role, dtype="float32", backend=backend)
            trace = reasoner.think([as_input(item)], task=task, side=side, progress=False)[0]
            expected = reference.greedy(messages, len(trace.token_ids))
            assert trace.token_ids == expected, (trace.text, expected)
            continue
        embedder = tte.Embedder(FOLDER / role, dtype="float32", backend=backend)
        trace_text = item.trace if role == "embedder" else None
        ours = embedder.embed([as_input(item)], [trace_text], task=task, side=side, progress=False)[0]
        prompt = reference.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        inputs = reference.processor(
            text=[prompt + (trace_text or "") + "<|im_end|>"], return_tensors="pt",
            images=[item.image] if item.image is not None else None,
            videos=[np.stack(item.video)] if item.video else None,
        )  # fmt: skip
        theirs = reference.model.model(**inputs).last_hidden_state[0, -1].detach().numpy()
        np.testing.assert_allclose(ours, theirs / np.linalg.norm(theirs), atol=2e-5)


QUERIES = {"image_cls": 300, "image_qa": 30, "video_cls": 30, "video_qa": 30}
POOL = 10
"""Queries of the other tasks: those that share one pool of candidates. image_cls gains least and needs the most."""


class Sampled:
    """hit@1 with and without thinking on a sample of held-out queries of a task; measured when first asked for."""

    def __init__(self) -> None:
        backend = tte.Backend("cpu")
        self.reasoner = tte.Reasoner(FOLDER / "reasoner", backend=backend)
        self.embedder, self.plain = (tte.Embedder(FOLDER / role, backend=backend) for role in ROLES[1:])
        self.known: dict[str, tuple[float, float]] = {}

    def hits(self, task: str) -> tuple[float, float]:
        if task not in self.known:
            self.known[task] = self.measure(task)
        return self.known[task]

    def measure(self, task: str) -> tuple[float, float]:
        samples = generate(task, SEED, QUERIES.get(task, POOL))
        unique = {id(c): c for s in samples for c in s.candidates}
        inputs = [as_input(i) for i in (*(s.query for s in samples), *unique.values())]
        about = {"task": task, "side": ["query"] * len(samples) + ["target"] * len(unique), "progress": False}
        row = {key: len(samples) + i for i, key in enumerate(unique)}

        def share(vectors: np.ndarray) -> float:
            found = [
                int((vectors[[row[id(c)] for c in s.candidates]] @ vectors[i]).argmax()) == s.label
                for i, s in enumerate(samples)
            ]
            return 100 * float(np.mean(found))

        think = tte.think_then_embed(inputs, reasoner=self.reasoner, embedder=self.embedder, think="recipe", **about)
        return share(think.embeddings), share(self.plain.embed(inputs, **about))


@pytest.fixture(scope="module")
def sampled() -> Sampled:
    return Sampled()


@pytest.fixture(scope="module")
def card() -> list[dict[str, Any]]:
    return json.loads((FOLDER / "logs" / "eval_tte.json").read_text())


def mean(records: list[dict[str, Any]], key: str, task: str) -> float:
    return float(np.mean([r[key] for r in records if r["task"] == task]))


def test_the_card_is_about_the_weights_that_ship(card: list[dict[str, Any]]) -> None:
    digests = {r: hashlib.sha256((FOLDER / r / "model.safetensors").read_bytes()).hexdigest()[:16] for r in ROLES}
    assert len(card) == 3 * len(tasks())
    for record in card:
        assert record["n"] >= 500
        assert record["measured"]["think"]["weights"] == [digests["reasoner"], digests["embedder"]]
        assert record["measured"]["no_think"]["weights"] == [digests["embedder-no-think"]]


def test_the_cards_tables_are_those_of_the_logs() -> None:
    program = """
import json, card, late, report
regions = {"late": late.table(card.results("late"))}
card.write_card = regions.update
report.write_tables()
print(json.dumps(regions))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=FOLDER, capture_output=True, text=True, check=True)
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, table in json.loads(done.stdout).items():
        assert f"<!-- {name} -->\n{table}\n<!-- /{name} -->" in page, name
    minutes = {}
    for name in ("reasoner", "embedder", "embedder-no-think", "head"):
        lines = (FOLDER / "logs" / f"{name}.jsonl").read_text().splitlines()
        minutes[name] = round(json.loads(lines[-1])["seconds"] / 60)
    told = "reasoner {reasoner}, think embedder {embedder}, baseline {embedder-no-think}, head {head}."
    assert told.format_map(minutes) in page


@pytest.mark.parametrize("task", tasks())
def test_thinking_wins_where_the_card_says_so(task: str, sampled: Sampled, card: list[dict[str, Any]]) -> None:
    promised = mean(card, "think", task) - mean(card, "no_think", task)
    think, no_think = sampled.hits(task)
    assert promised > 0
    assert think > no_think


def test_thinking_wins_by_far_on_the_mean(sampled: Sampled) -> None:
    think, no_think = np.mean([sampled.hits(task) for task in tasks()], axis=0)
    assert think >= 75
    assert think - no_think >= 20


def test_the_heads_numbers_are_about_the_weights_that_ship() -> None:
    files = (FOLDER / "reasoner" / "model.safetensors", FOLDER / "head" / "head.safetensors")
    digests = [hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files]
    records = json.loads((FOLDER / "logs" / "head_tte.json").read_text())
    assert len(records) == 3 * len(tasks())
    assert all(record["measured"]["weights"] == digests and record["n"] >= 500 for record in records)


def test_the_head_is_as_near_the_pair_as_the_card_says(sampled: Sampled, card: list[dict[str, Any]]) -> None:
    head = Sampled()
    head.embedder = tte.Embedder(FOLDER / "head", backend=tte.Backend("cpu"))
    records = [{**r, **r["head"]} for r in json.loads((FOLDER / "logs" / "head_tte.json").read_text())]
    promised = np.mean([mean(records, "think", task) - mean(card, "think", task) for task in tasks()])
    found = np.mean([head.hits(task)[0] - sampled.hits(task)[0] for task in tasks()])
    assert found >= promised - 5


def test_the_head_reads_nothing_twice() -> None:
    items = [sample.query for task in ("image_qa", "video_qa", "visdoc") for sample in generate(task, SEED, 3)]
    backend = tte.Backend("cpu", threads=1)
    reasoner = tte.Reasoner(FOLDER / "reasoner", backend=backend)
    head = tte.Embedder(FOLDER / "head", backend=backend)
    before = backend.stats
    result = tte.think_then_embed([as_input(item) for item in items], reasoner=reasoner, embedder=head, progress=False)
    after = backend.stats
    traces = [trace for trace in result.traces if trace is not None]
    assert all(trace.finish == tte.FinishReason.STOP for trace in traces)
    written = sum(trace.generated_tokens for trace in traces)
    prompts = sum(trace.prompt_tokens for trace in traces)
    reused = sum(trace.reused_tokens for trace in traces)
    # Each prompt once, and behind it the end token, which the reasoner wrote and did not read.
    assert after.prefill_tokens - before.prefill_tokens == prompts - reused + len(items)
    assert after.decode_tokens - before.decode_tokens == written - len(items)
    assert 0 < after.head_tokens - before.head_tokens <= prompts + written
    again = tte.Embedder(FOLDER / "head", backend=tte.Backend("cpu", threads=1, max_running=8))
    np.testing.assert_allclose(
        again.embed([as_input(item) for item in items], result.traces, progress=False), result.embeddings, atol=1e-3
    )
