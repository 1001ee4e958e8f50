"""PLUME: latent steps through its mixture of experts, against what its description says, written with transformers."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tte
from adapters import base_model, make_adapter
from checkpoints import Shape, make_checkpoint
from peft import PeftModel
from PIL import Image
from references import noise, states
from safetensors.torch import load_file, save_file
from systems import IMAGE, TEXT, System, chat, extended, first_resized, unit
from torch.nn import functional
from transformers import DynamicCache
from tte._inspect import Show, info, told

TOKENS = ("<gen_emb>", "<disc_emb>", "<bot>", "<eot>", "<ct>")
VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"
PREFIX = "latent_moe_transition."
STEPS = 8
WHITE = Image.new("RGB", (56, 56), "white")  # What becomes of a white image of 28 pixels, of four tokens.

Tensors = dict[str, torch.Tensor]


def transition(hidden: int, *, experts: int = 4, steps: int = 32, shared: bool = True, seed: int = 3) -> Tensors:
    """Tensors under PLUME's names. Weights are as large as lets a mistake in any of them show."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * scale

    tensors = {
        "ln.weight": 1 + random(hidden, scale=0.2), "ln.bias": random(hidden, scale=0.2),
        "step_embed.weight": random(steps, hidden), "router.weight": random(experts, 2 * hidden, scale=0.1),
        "router.bias": random(experts, scale=0.1),
    }  # fmt: skip
    for name in [*(f"experts.{i}" for i in range(experts)), *(["shared_expert"] if shared else [])]:
        tensors[f"{name}.fc1.weight"] = random(2 * hidden, hidden, scale=0.2)
        tensors[f"{name}.fc1.bias"] = random(2 * hidden, scale=0.2)
        tensors[f"{name}.fc2.weight"] = random(hidden, 2 * hidden, scale=0.1)
        tensors[f"{name}.fc2.bias"] = random(hidden, scale=0.2)
    return tensors


def make_plume(folder: Path, tensors: Tensors, seed: int = 8, family: str = "qwen2_vl") -> Path:
    """Write a checkpoint as the authors' training does: names of 2024, the transition beside them, plain new tokens."""
    depth = {} if family == "qwen2_vl" else {"vision_depth": 3}
    shape = Shape("plume", family=family, tokens=TOKENS, flat=family == "qwen2_vl", **depth)
    make_checkpoint(folder, shape, seed=seed)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    for token in tokenizer["added_tokens"]:
        token["special"] = token["special"] and token["content"] not in TOKENS
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    change(folder, lambda all_tensors: all_tensors.update({f"{PREFIX}{k}": v for k, v in tensors.items()}))
    return folder


def change(folder: Path, edit: Callable[[Tensors], Any]) -> Path:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


class Plume(System):
    """The system, as it is described: one item after the other, with a cache."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        tensors = load_file(folder / "model.safetensors")
        self.moe = {k.removeprefix(PREFIX): v for k, v in tensors.items() if k.startswith(PREFIX)}
        self.request = tte.Processor(folder).recipe["prompt"]["request"]

    def step(self, z: torch.Tensor, step: int, context: torch.Tensor, best: int, excluded: tuple[int, ...]) -> Any:
        w = self.moe
        row = w["step_embed.weight"][min(step, len(w["step_embed.weight"]) - 1)]
        logits = w["router.weight"] @ torch.cat([z + context, row]) + w["router.bias"]
        logits[list(excluded)] = -torch.inf
        shares, chosen = logits.softmax(0).topk(best)
        u = functional.layer_norm(z, z.shape, w["ln.weight"], w["ln.bias"], 1e-5)

        def expert(name: str) -> torch.Tensor:
            inner = functional.gelu(w[f"{name}.fc1.weight"] @ u + w[f"{name}.fc1.bias"])
            return w[f"{name}.fc2.weight"] @ inner + w[f"{name}.fc2.bias"]

        out = z + sum(p * expert(f"experts.{i}") for p, i in zip(shares, chosen.tolist(), strict=True))
        return out + expert("shared_expert") if "shared_expert.fc1.weight" in w else out

    def places(self, ids: list[int], grids: list[list[int]]) -> torch.Tensor:
        """On three axes; text goes on past the highest of all axes, as in transformers 4."""
        media = {self.ids("<|image_pad|>")[0], self.ids("<|video_pad|>")[0]}
        out: list[tuple[int, int, int]] = []
        following, left = 0, [list(grid) for grid in grids]
        while len(out) < len(ids):
            if ids[len(out)] not in media:
                out.append((following,) * 3)
            else:
                t, h, w = left.pop(0)
                out += [(following + i, following + j, following + k)
                        for i in range(t) for j in range(h // 2) for k in range(w // 2)]  # fmt: skip
            following = max(max(place) for place in out) + 1
        return torch.tensor(out).T[:, None]

    @torch.inference_mode()
    def rows(
        self, user: str, images: list[Image.Image] | None = None, videos: list[np.ndarray] | None = None, *,
        steps: int = STEPS, best: int = 2, excluded: tuple[int, ...] = (), context: str = "<disc_emb>",
        asks: bool = True,
    ) -> tuple[np.ndarray, list[int], torch.Tensor]:  # fmt: skip
        """States of all rows [tokens, hidden], what stands there (-1: a step), and the positions."""
        limits = {"shortest_edge": 784, "longest_edge": 2359296}
        options: dict[str, Any] = {"images_kwargs": {"size": limits}} if images else {}
        if videos:
            options["videos_kwargs"] = {"size": {**limits, "shortest_edge": 3136}, "do_sample_frames": False}
        text = chat(f"{user}\n<disc_emb>\n{self.request}" if asks else user)
        inputs = dict(self.processor(text=[text], images=images, videos=videos, return_tensors="pt", **options))
        ids = inputs["input_ids"][0].tolist() + self.ids("<think><bot>")
        grids = [
            grid for kind in ("image", "video") for grid in inputs.get(f"{kind}_grid_thw", torch.empty(0)).tolist()
        ]
        places = self.places(ids, grids)
        pixels = {k: v for k, v in inputs.items() if k.startswith(("pixel", "image_grid", "video_grid"))}
        cache = DynamicCache(config=self.model.config.text_config)
        model, decoder = self.model.model, self.model.model.language_model
        told_ids = torch.tensor([ids])
        out = model(
            input_ids=told_ids, attention_mask=torch.ones_like(told_ids), position_ids=places, cache=cache,
            use_cache=True, **pixels,
        )  # fmt: skip
        found = [out.last_hidden_state[0]]
        last = found[0][-1]
        seen = torch.zeros_like(last) if context == "none" else last
        if context.startswith("<"):
            seen = found[0][len(ids) - 1 - ids[::-1].index(self.ids(context)[0])]

        def read(embeds: torch.Tensor) -> torch.Tensor:
            nonlocal places
            at = cache.get_seq_length()  # The position, whatever the images before took.
            here = torch.arange(at, at + len(embeds)).expand(3, 1, -1)
            places = torch.cat([places, here], dim=2)
            rows = decoder(inputs_embeds=embeds[None], position_ids=here, cache=cache, use_cache=True)
            found.append(rows.last_hidden_state[0])
            return found[-1][-1]

        for step in range(steps):
            last = read(self.step(last, step, seen, best, excluded)[None])
        suffix = self.ids("<eot></think>\n<gen_emb>")
        read(self.model.get_input_embeddings()(torch.tensor(suffix)))
        return torch.cat(found).numpy(), ids + [-1] * steps + suffix, places

    def vector(self, *args: Any, **options: Any) -> np.ndarray:
        return unit(self.rows(*args, **options)[0][-1])


@pytest.fixture(scope="module")
def plume(tmp_path_factory: pytest.TempPathFactory) -> Plume:
    return Plume(make_plume(tmp_path_factory.mktemp("plume") / "PLUME-Qwen2-VL-2B", transition(64)))


@pytest.fixture(scope="module")
def embedder(plume: Plume) -> tte.Embedder:
    return tte.Embedder(plume.folder, device="cpu")


PHOTOS = [Image.fromarray(noise(64, 90, 1)), Image.fromarray(noise(140, 84, 2))]
FRAMES = np.stack([noise(70, 60, i) for i in range(8)])  # Four pairs of frames, of two rows and two columns.

# Items, and what the reference is given for them.
CASES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "text": (f" {TEXT}\n", (IMAGE + TEXT, [WHITE])),
    "image": (PHOTOS[0], (IMAGE, [first_resized(PHOTOS[0], 28, 4, 16384)])),
    "image and text": ([PHOTOS[1], TEXT], (IMAGE + TEXT, [first_resized(PHOTOS[1], 28, 4, 16384)])),
    "images": ([TEXT, *PHOTOS], (IMAGE * 2 + TEXT, [first_resized(photo, 28, 4, 16384) for photo in PHOTOS])),
    "video": ({"video": FRAMES}, (VIDEO, None, [FRAMES])),
    "video and text": ({"video": FRAMES, "text": TEXT}, (VIDEO + TEXT, None, [FRAMES])),
    "a long text": (TEXT * 30, (IMAGE + TEXT * 30, [WHITE])),
}
ITEMS = [item for item, _ in CASES.values()]


def close(row: np.ndarray, expected: np.ndarray, why: str = "") -> None:
    np.testing.assert_allclose(row, expected, atol=1e-5, rtol=0, err_msg=why)


def test_vectors_are_those_of_the_reference(plume: Plume, embedder: tte.Embedder) -> None:
    assert json.loads(embedder.model.recipe)["name"] == "plume"
    assert "<bot>" in embedder.model.recipe_reason
    found = embedder.embed(ITEMS, progress=False)
    for row, (name, (_, asked)) in zip(found, CASES.items(), strict=True):
        close(row, plume.vector(*asked), name)
    # An instruction stands before the text; queries and targets are alike.
    close(
        embedder.embed(TEXT, instruction="Find it.", side="target")[0], plume.vector(f"{IMAGE}Find it. {TEXT}", [WHITE])
    )


def test_prompts_states_and_positions_are_those_of_the_reference(plume: Plume, embedder: tte.Embedder) -> None:
    processor = tte.Processor(plume.folder)
    for name, (item, asked) in CASES.items():
        rows, ids, places = plume.rows(*asked)
        seen = processor(item, stage="embed")
        first, end = seen["latent_rows"]
        assert (end - first, seen["pooled_row"], seen["next_position"]) == (STEPS, len(ids) - 1, len(ids)), name
        own = seen["input_ids"][0].tolist()
        assert own[first:end] == plume.ids("<ct>") * STEPS
        assert own[:first] + [-1] * STEPS + own[end:] == ids, name
        np.testing.assert_array_equal(seen["position_ids"], places, err_msg=name)
        ours = states(embedder, item)
        np.testing.assert_allclose(ours, rows, atol=1e-5 * max(1, np.abs(rows).max()), rtol=0, err_msg=name)
        opened = processor(item)
        assert "latent_rows" not in opened
        assert opened["input_ids"][0].tolist() == ids[: opened["input_ids"].shape[1]]


def test_an_item_has_the_same_bits_whatever_stands_beside_it(plume: Plume, embedder: tte.Embedder) -> None:
    alone = [embedder.embed([item], progress=False)[0] for item in ITEMS]
    for max_step_tokens, max_running, replicas in ((512, 256, 1), (512, 256, 2), (48, 3, 2), (7, 2, 1), (1, 1, 1)):
        backend = tte.Backend(
            "cpu", threads=2, replicas=replicas, max_step_tokens=max_step_tokens, max_running=max_running
        )
        other = tte.Embedder(plume.folder, backend=backend)
        for count in (len(ITEMS), 2) if max_step_tokens > 7 else (4,):
            some = [ITEMS[i % len(ITEMS)] for i in range(2 * count)]
            for i, row in enumerate(other.embed(some, progress=False)):
                np.testing.assert_array_equal(row, alone[i % len(ITEMS)], err_msg=f"{i} of {max_step_tokens}")
    # Beginnings of earlier prompts are used again, up to the token whose state every step sees.
    before = embedder.backend.stats.reused_tokens
    np.testing.assert_array_equal(embedder.embed([ITEMS[-1]])[0], alone[-1])
    reused = embedder.backend.stats.reused_tokens - before
    ids = tte.Processor(plume.folder)(ITEMS[-1])["input_ids"][0].tolist()
    assert reused == ids.index(plume.ids("<disc_emb>")[0])


@pytest.mark.parametrize("changes", [
    {"steps": 0}, {"steps": 4}, {"steps": 6}, {"steps": 40}, {"experts_per_step": 1}, {"experts_per_step": 4},
    {"excluded_experts": [2]}, {"excluded_experts": [0, 3, 3]}, {"context": "last"}, {"context": "none"},
], ids=str)  # fmt: skip
def test_what_is_not_in_the_checkpoint_is_in_the_recipe(plume: Plume, tmp_path: Path, changes: dict[str, Any]) -> None:
    if "context" in changes:
        changes = {**changes, "context_token": None}
    own = tte.Embedder(plume.folder, device="cpu", recipe=extended(tmp_path, "plume", latent=changes))
    options = {
        "steps": changes.get("steps", STEPS), "best": changes.get("experts_per_step", 2),
        "excluded": tuple(changes.get("excluded_experts", ())), "context": changes.get("context", "<disc_emb>"),
    }  # fmt: skip
    for name in ("text", "image and text", "video"):
        item, asked = CASES[name]
        close(own.embed([item])[0], plume.vector(*asked, **options), name)
    # What the model makes of its states is its own, how often and with which context the prompt's.
    same = own.model.fingerprint == tte.Embedder(plume.folder, device="cpu").model.fingerprint
    assert same == bool({"steps", "context"} & changes.keys())


def test_other_numbers_of_experts_and_steps(tmp_path: Path) -> None:
    """Steps behind the last row of the table have that row; without a shared expert there is none; Qwen2.5-VL too."""
    for name, family, tensors in (
        ("six", "qwen2_vl", transition(64, experts=6, steps=3)),
        ("unshared", "qwen2_5_vl", transition(64, experts=2, steps=1, shared=False)),
    ):
        theirs = Plume(make_plume(tmp_path / name, tensors, family=family))
        own = tte.Embedder(theirs.folder, device="cpu")
        for case in ("text", "image and text"):
            item, asked = CASES[case]
            close(own.embed([item])[0], theirs.vector(*asked), f"{name}: {case}")


def test_experts_that_are_as_likely(plume: Plume, tmp_path: Path) -> None:
    """Of equal ones the same are taken as torch takes, by themselves and in a batch."""
    folder = tmp_path / "ties"
    shutil.copytree(plume.folder, folder)

    def tie(tensors: Tensors) -> None:
        for name in ("router.weight", "router.bias"):
            tensors[PREFIX + name].zero_()

    theirs = Plume(change(folder, tie))
    own = tte.Embedder(folder, device="cpu")
    together = own.embed(ITEMS, progress=False)
    for row, (name, (item, asked)) in zip(together, CASES.items(), strict=True):
        close(row, theirs.vector(*asked), name)
        np.testing.assert_array_equal(row, own.embed([item])[0], err_msg=name)


def test_the_steps_matter(plume: Plume, embedder: tte.Embedder, tmp_path: Path) -> None:
    """Each tensor of the transition changes the vector, so that the comparisons above see all of them."""
    before = embedder.embed(TEXT)[0]
    for name in plume.moe:
        folder = tmp_path / name
        shutil.copytree(plume.folder, folder)

        def shift(tensors: Tensors, name: str = name) -> None:
            tensors[PREFIX + name] += 0.3 * torch.randn(tensors[PREFIX + name].shape)

        change(folder, shift)
        after = tte.Embedder(folder, device="cpu")
        assert after.model.fingerprint != embedder.model.fingerprint
        if not name.startswith("experts."):  # Which few of them a text goes through is chance.
            assert np.abs(after.embed(TEXT)[0] - before).max() > 1e-4, name


def test_vectors_of_tokens_and_of_the_prompt(plume: Plume, embedder: tte.Embedder, tmp_path: Path) -> None:
    found = embedder.embed_tokens([TEXT, PHOTOS[0]], dtype="float32", progress=False)
    np.testing.assert_array_equal(found.pooled, embedder.embed([TEXT, PHOTOS[0]], progress=False))
    seen = tte.Processor(plume.folder)(TEXT, stage="embed")
    steps = set(range(*seen["latent_rows"]))
    assert found.positions is not None
    assert not steps & set(found.positions[: found.offsets[1]].tolist()), "steps are no tokens"
    # The vector of <disc_emb>, which the same training made, is read before the steps.
    own = tte.Embedder(plume.folder, device="cpu", recipe=extended(tmp_path, "plume", pooling_token="<disc_emb>"))
    rows, ids, _ = plume.rows(IMAGE + TEXT, [WHITE])
    close(own.embed(TEXT)[0], unit(rows[ids.index(plume.ids("<disc_emb>")[0])]))


def test_a_prompt_is_cut_with_its_steps(plume: Plume, tmp_path: Path) -> None:
    processor = tte.Processor(plume.folder, recipe=extended(tmp_path, "plume", max_length=180))
    assert processor(TEXT * 30, stage="embed")["input_ids"].shape == (1, 180)


def test_think_then_embed_thinks_in_steps(plume: Plume, embedder: tte.Embedder) -> None:
    expected = embedder.embed(ITEMS[:3], progress=False)
    both: dict[str, Any] = {"reasoner": plume.folder, "embedder": plume.folder}
    for given in ({"embedder": plume.folder}, {"embedder": embedder}, both, {**both, "think": "recipe"}):
        result = tte.think_then_embed(ITEMS[:3], progress=False, **given)
        np.testing.assert_array_equal(result.embeddings, expected)
        assert result.traces == [None] * 3
    tokens = tte.think_then_embed(TEXT, embedder=embedder, tokens={"dtype": "float32"}, progress=False).tokens
    assert tokens is not None
    np.testing.assert_array_equal(tokens.vectors, embedder.embed_tokens(TEXT, dtype="float32").vectors)


def test_who_thinks_in_steps_reads_and_writes_no_traces(plume: Plume, embedder: tte.Embedder) -> None:
    other = tte.Reasoner("nano", backend=embedder.backend)
    run = partial(tte.think_then_embed, [TEXT], embedder=embedder, progress=False)
    # Said once of the call, before anything is read, and in words that C++ has too.
    for think in (True, "queries", lambda *_: True, tte.AutoThink(np.eye(2, 64, dtype=np.float32))):
        for more in ({}, {"on_error": "skip"}):
            with pytest.raises(tte.InputError, match=r'^The recipe "plume".*latent steps.*turn thinking off') as told:
                run(reasoner=other, think=think, max_new_tokens=4, **more)
            assert "think=" not in str(told.value)
    with pytest.raises(tte.InputError, match=r'^The recipe "plume"'):
        tte.think_then_embed([TEXT, TEXT], embedder=embedder, reasoner=other, think=[False, True], on_error="skip")
    skipped = tte.think_then_embed(
        [TEXT], embedder=embedder, reasoner=other, task="nothing", on_error="skip", progress=False
    )
    assert "nothing" in skipped.errors[0].message
    answers = tte.think_then_embed([TEXT], embedder=embedder, reasoner=other, side="target", think="queries")
    np.testing.assert_array_equal(answers.embeddings, embedder.embed(TEXT))
    np.testing.assert_array_equal(run(reasoner=other, think=False).embeddings, embedder.embed(TEXT))
    for read in (lambda: run(reasoner=other, think=["a cat"]), lambda: run(think=["a cat"]),
                 lambda: embedder.embed(TEXT, "a cat"), lambda: embedder.embed_tokens(TEXT, "a cat"),
                 lambda: tte.Processor(plume.folder)(TEXT, stage="embed", trace="a cat")):  # fmt: skip
        with pytest.raises(tte.InputError, match=r'"plume".*latent steps.*read no traces'):
            read()
    reasoner = tte.Reasoner(plume.folder, backend=embedder.backend)
    nano = partial(tte.think_then_embed, TEXT, embedder="nano", max_new_tokens=2, progress=False)
    for write in (lambda: reasoner.think(TEXT, max_new_tokens=2), lambda: reasoner.score(TEXT, ["yes", "no"]),
                  lambda: nano(reasoner=reasoner)):  # fmt: skip
        with pytest.raises(tte.InputError, match=r'"plume".*write no trace'):
            write()


def test_quantised_and_adapted(plume: Plume, embedder: tte.Embedder, tmp_path: Path) -> None:
    exact = embedder.embed(ITEMS, progress=False)
    rounded = tte.Embedder(plume.folder, device="cpu", quantization="int8").embed(ITEMS, progress=False)
    assert (rounded != exact).any()
    assert (rounded * exact).sum(1).min() > 0.98
    tte.quantize(plume.folder, tmp_path / "rounded", quantization="int8")
    assert json.loads(tte.Embedder(tmp_path / "rounded", device="cpu").model.recipe)["name"] == "plume"
    again = tte.Embedder(tmp_path / "rounded", device="cpu").embed(ITEMS, progress=False)
    np.testing.assert_array_equal(again, rounded)
    assert "2 of 4 experts and a shared one" in told(info(tmp_path / "rounded"))
    adapter = make_adapter(tmp_path / "adapter", plume.folder, target_modules=["q_proj", "v_proj"])
    theirs = Plume(plume.folder)
    theirs.model = PeftModel.from_pretrained(base_model(plume.folder), adapter).merge_and_unload().eval()
    adapted = tte.Embedder(plume.folder, adapter=adapter, device="cpu")
    item, asked = CASES["image and text"]
    close(adapted.embed([item])[0], theirs.vector(*asked))
    half = tte.Embedder(plume.folder, device="cpu", dtype="bfloat16").embed(ITEMS, progress=False)
    assert (half * exact).sum(1).min() > 0.9


def test_info_and_show_say_it(plume: Plume) -> None:
    found = info(plume.folder)
    assert found["latent"] == {
        "steps": 8, "experts": 4, "experts_per_step": 2, "excluded_experts": [], "shared_expert": True
    }  # fmt: skip
    text = told(found)
    assert "in 8 latent steps while it embeds, each through 2 of 4 experts and a shared one" in text
    assert "to think" not in text
    assert r"<think><bot><ct><ct><ct><ct><ct><ct><ct><ct><eot></think>\n<gen_emb>" in text
    shown = Show(tte.Processor(plume.folder), TEXT, stage="embed")
    assert "<think><bot>[latent: 8 steps]<eot></think>\n>><gen_emb><<" in shown.text(colour=False)
    assert "8 latent steps" in shown.summary()
    assert sum(" latent " in row for row in shown.rows()) == STEPS


def test_none_fits_by_accident(plume: Plume, tmp_path: Path) -> None:
    tokens = TOKENS[:2]
    other = make_checkpoint(tmp_path / "UME-R1-2B", Shape("ume", family="qwen2_vl", tokens=tokens))
    assert tte.Processor(other).recipe["name"] == "ume_r1"
    shutil.copytree(plume.folder, tmp_path / "UME-R1-2B-latent")
    assert tte.Processor(tmp_path / "UME-R1-2B-latent").recipe["name"] == "plume"
    with pytest.raises(tte.ModelError, match='shows latent steps as the token "<ct>"'):
        tte.Processor(other, recipe="plume")


def drop(name: str) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.pop(PREFIX + name)


def put(name: str, *shape: int) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.__setitem__(PREFIX + name, torch.zeros(shape))


def drop_all(tensors: Tensors) -> None:
    for name in [name for name in tensors if name.startswith(PREFIX)]:
        del tensors[name]


DAMAGED: dict[str, tuple[Callable[[Tensors], Any], str]] = {
    **{f"no {name}": (drop(name), re.escape(name)) for name in (
        "ln.weight", "ln.bias", "step_embed.weight", "router.weight", "experts.0.fc1.weight",
        "experts.3.fc2.weight", "shared_expert.fc1.weight", "shared_expert.fc2.weight",
    )},
    "none at all": (drop_all, r"no tensors whose names begin with .latent_moe_transition\."),
    "an expert too many": (put("experts.4.fc1.weight", 128, 64), r"experts\.4\.fc1\.weight"),
    "an unknown tensor": (put("gate.weight", 4), r"gate\.weight"),
    "a narrow norm": (put("ln.weight", 63), r"ln\.weight"),
    "a narrow table": (put("step_embed.weight", 32, 63), r"step_embed\.weight"),
    "an empty table": (put("step_embed.weight", 0, 64), r"step_embed\.weight has no rows"),
    "a flat table": (put("step_embed.weight", 64), r"step_embed\.weight"),
    "a router of one half": (put("router.weight", 4, 64), r"router\.weight"),
    "a router of fewer": (put("router.weight", 3, 128), r"router\.bias"),
    "a router of none": (put("router.weight", 0, 128), r"router\.bias|experts_per_step"),
    "a flat expert": (put("experts.1.fc1.weight", 64), r"experts\.1\.fc1\.weight"),
    "an expert of another size": (put("experts.1.fc1.weight", 96, 64), r"experts\.1\.fc"),
    "a bias of another size": (put("experts.2.fc1.bias", 64), r"experts\.2\.fc1\.bias"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_transition_is_refused(plume: Plume, tmp_path: Path, name: str) -> None:
    edit, says = DAMAGED[name]
    folder = tmp_path / "damaged"
    shutil.copytree(plume.folder, folder)
    change(folder, edit)
    with pytest.raises(tte.ModelError, match=says):
        tte.Embedder(folder, device="cpu")


@pytest.mark.parametrize(("latent", "says"), [
    ({"steps": -1}, r"latent\.steps.*-1"), ({"steps": 4097}, r"latent\.steps.*4097"),
    ({"steps": 1.5}, r"latent\.steps"), ({"steps": None}, r"latent\.steps.*missing"),
    ({"token": None}, r"latent\.token.*missing"),
    ({"tensors": ""}, r"latent\.tensors"), ({"token": "<nobody>"}, "<nobody>"), ({"context_token": "<x>"}, "<x>"),
    ({"context_token": None}, r"latent\.context_token"), ({"context": "last"}, r"latent\.context_token"),
    ({"context": "disc"}, r"latent\.context"), ({"experts_per_step": 0}, r"latent\.experts_per_step"),
    ({"experts_per_step": 5}, "through 5 experts.*4 of 4"), ({"excluded_experts": [4]}, "excludes expert 4"),
    ({"excluded_experts": [-1]}, r"latent\.excluded_experts"),
    ({"excluded_experts": [0, 1, 2]}, "through 2 experts.*1 of 4"),
    ({"tensors": "moe."}, r'no tensors whose names begin with "moe\."'),
    ({"shared": True}, r"latent\.shared"),
], ids=str)  # fmt: skip
def test_recipes_that_do_not_work(plume: Plume, tmp_path: Path, latent: dict[str, Any], says: str) -> None:
    with pytest.raises(tte.ModelError, match=says):
        tte.Embedder(plume.folder, device="cpu", recipe=extended(tmp_path, "plume", latent=latent))


@pytest.mark.parametrize("also", [
    {"bidirectional": True}, {"without_trace": {"pooling": "last"}}, {"prompt": {"user": ["{content}", "{trace}"]}},
], ids=str)  # fmt: skip
def test_what_steps_do_not_go_with(plume: Plume, tmp_path: Path, also: dict[str, Any]) -> None:
    with pytest.raises(tte.ModelError, match=r"latent.*goes with no"):
        tte.Embedder(plume.folder, device="cpu", recipe=extended(tmp_path, "plume", **also))


def test_chat_messages_without_the_token_have_the_context_of_the_last_one(plume: Plume, embedder: tte.Embedder) -> None:
    messages = [{"role": "user", "content": TEXT}]
    close(embedder.embed([messages])[0], plume.vector(TEXT, context="last", asks=False))


def test_of_tokens_that_a_text_has_too_the_last_ones_count(plume: Plume, embedder: tte.Embedder) -> None:
    """They were added as plain tokens, which texts may have: as with the authors, those of the recipe stand behind."""
    text = "<disc_emb> cat <bot><ct><eot> <gen_emb>"
    close(embedder.embed(text)[0], plume.vector(IMAGE + text, [WHITE]))
