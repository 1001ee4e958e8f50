"""Published systems that write a trace before they embed: as :mod:`test_systems`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tte
from adapters import base_model, make_adapter
from checkpoints import Shape, make_checkpoint
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file, save_file
from systems import IMAGE, TEXT, System, chat, check, extended, first_resized, unit

# ------------------------------------------------------------------------------------------------------- UME-R1

UME_TOKENS = ("<disc_emb>", "<gen_emb>")


def ume_prompt(recipe: dict[str, Any], text: str) -> str:
    return chat(f"{text}\n<disc_emb>\n{recipe['prompt']['request']}")


def test_ume_r1_with_and_without_its_traces(system: Callable[..., System], images: list[Image.Image]) -> None:
    theirs = system("UME-R1-2B", "qwen2_vl", UME_TOKENS)
    embedder = tte.Embedder(theirs.folder, device="cpu")
    recipe = json.loads(embedder.model.recipe)
    assert recipe["name"] == "ume_r1"
    image = first_resized(images[0], 28, 4, 16384)
    prompts = [ume_prompt(recipe, IMAGE + TEXT), ume_prompt(recipe, IMAGE + TEXT)]
    # A text gets a white image, which the limits make one of four tokens.
    fed = [image, Image.new("RGB", (56, 56), "white")]
    items = [[images[0], f" {TEXT}\n"], TEXT]
    disc, gen = theirs.ids("<disc_emb>")[0], theirs.ids("<gen_emb>")[0]
    expected = []
    for prompt, own in zip(prompts, fed, strict=True):
        ids = theirs.processor(text=[prompt], images=[own], return_tensors="pt")["input_ids"][0].tolist()
        assert ids.count(theirs.ids("<|image_pad|>")[0]) >= 4
        expected.append(unit(theirs.states(prompt, [own])[ids.index(disc)]))
    check(embedder.embed(items, progress=False), expected)
    # With a trace, the last <gen_emb> of it; without one in it, its last token.
    for trace, behind in (("<think>a cat</think><answer>cat<gen_emb>", 0), ("<think>a cat <gen_emb> dog", 2)):
        ours = embedder.embed(items, [trace] * 2, progress=False)
        for row, prompt, own in zip(ours, prompts, fed, strict=True):
            states = theirs.states(prompt + trace, [own])
            tail = theirs.ids(trace)
            at = len(states) - len(tail) + len(tail) - 1 - tail[::-1].index(gen)
            assert (behind == 0) == (at == len(states) - 1)
            np.testing.assert_allclose(row, unit(states[at]), atol=1e-5, rtol=0)
    none = embedder.embed([items[0]], ["<think>a cat"])[0]
    np.testing.assert_allclose(none, unit(theirs.states(prompts[0] + "<think>a cat", [image])[-1]), atol=1e-5, rtol=0)


def test_ume_r1_thinks_and_embeds(system: Callable[..., System], images: list[Image.Image]) -> None:
    theirs = system("UME-R1-2B", "qwen2_vl", UME_TOKENS)
    reasoner, embedder = tte.Reasoner(theirs.folder, device="cpu"), tte.Embedder(theirs.folder, device="cpu")
    before = reasoner.backend.stats.prefill_tokens
    result = tte.think_then_embed(
        [[images[0], TEXT]], reasoner=reasoner, embedder=embedder, max_new_tokens=8, progress=False, ignore_eos=True,
        without_trace=True,
    )  # fmt: skip
    read = reasoner.backend.stats.prefill_tokens - before
    recipe = json.loads(reasoner.model.recipe)
    image = first_resized(images[0], 28, 4, 16384)
    inputs = theirs.processor(text=[ume_prompt(recipe, IMAGE + TEXT)], images=[image], return_tensors="pt")
    with torch.inference_mode():
        theirs.model.model.rope_deltas = None
        out = theirs.model.generate(
            **inputs,
            max_new_tokens=8,
            min_new_tokens=8,
            do_sample=False,
            eos_token_id=None,
            return_dict_in_generate=True,
        )
        new = out.sequences[0, inputs["input_ids"].shape[1] :]
        theirs.model.model.rope_deltas = None
        inputs["input_ids"] = out.sequences
        inputs["attention_mask"] = torch.ones_like(out.sequences)
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(new)[None]], dim=1)
        states = theirs.model.model(**inputs).last_hidden_state[0].numpy()
    assert result.traces[0].token_ids == new.tolist()
    check(result.embeddings, [unit(states[-1])])
    # Both vectors of one run, in which the prompt is read once: the rest is its last token again, and the trace's.
    at = out.sequences[0].tolist().index(theirs.ids("<disc_emb>")[0])
    check(result.without_trace, [unit(states[at])])
    assert read <= len(states) - 8 + 2
    np.testing.assert_array_equal(result.without_trace, embedder.embed([[images[0], TEXT]]))
    # Of traces that were there before, and of items without one.
    given = tte.think_then_embed(
        [[images[0], TEXT], TEXT], reasoner=reasoner, embedder=embedder, think=[result.traces[0], False],
        progress=False, without_trace=True,
    )  # fmt: skip
    np.testing.assert_array_equal(given.embeddings[0], result.embeddings[0])
    np.testing.assert_array_equal(given.without_trace[0], result.without_trace[0])
    np.testing.assert_array_equal(given.without_trace[1], given.embeddings[1])
    assert result.without_trace is not None
    assert tte.think_then_embed(TEXT, reasoner=reasoner, embedder=embedder, think=False).without_trace is None


def test_ume_r1_with_the_authors_words_and_with_given_traces(system: Callable[..., System], tmp_path: Path) -> None:
    theirs = system("UME-R1-2B", "qwen2_vl", UME_TOKENS)
    (tmp_path / "words.txt").write_text("Embed it. <gen_emb>\n")
    path = extended(tmp_path, "ume_r1", prompt={"request_file": "words.txt"})
    processor = tte.Processor(theirs.folder, recipe=path)
    assert processor.recipe["prompt"]["request"] == "Embed it. <gen_emb>"
    text = theirs.processor.tokenizer.decode(processor(TEXT)["input_ids"][0].tolist())
    assert f"{TEXT}\n<disc_emb>\nEmbed it. <gen_emb><|im_end|>" in text
    path = extended(tmp_path, "ume_r1_given", prompt={"request_file": "words.txt"})
    embedder = tte.Embedder(theirs.folder, device="cpu", recipe=path)
    prompt = chat(f"{IMAGE}{TEXT}\n<disc_emb>\nEmbed it. <gen_emb><think>cat</think> dog<gen_emb>")
    states = theirs.states(prompt, [Image.new("RGB", (56, 56), "white")])
    at = len(states) - len(theirs.ids("<gen_emb><|im_end|>\n<|im_start|>assistant\n"))
    check(embedder.embed(TEXT, "<think>cat</think> dog"), [unit(states[at])])


# ------------------------------------------------------------------------------------------------ Embed-RL, RGE


def test_embed_rl(system: Callable[..., System], images: list[Image.Image]) -> None:
    theirs = system("Embed-RL-2B", "qwen3_vl", ("<emb>",), vision_depth=3)
    embedder = tte.Embedder(theirs.folder, device="cpu")
    assert json.loads(embedder.model.recipe)["name"] == "embed_rl"
    image = first_resized(images[0], 32, 128, 768)
    trace = '<thinking>{"text_keywords": ["cat"]}</thinking><rethink>dog</rethink><answer>cat</answer>'
    read = trace.replace("</thinking>", "</thinking>\n")  # What the authors' code writes behind the thinking.
    ask = "Summarize the above content in one word:"
    default = "Represent the user's input."  # What this family's template of the tests says by itself.
    expected = [
        unit(theirs.states(chat(f"{IMAGE}{TEXT}{read}{ask}", default) + "<emb>", [image])[-1]),
        unit(theirs.states(chat(f"{TEXT}{ask}", default) + "<emb>")[-1]),
    ]
    check(embedder.embed([[f" {TEXT} ", images[0]], f"{TEXT}\n"], [trace, None], progress=False), expected)


def writes_at(folder: Path, first: str, token: str, place: int, theirs: System) -> None:
    """Change the head so that greedy decoding of a prompt writes `token` at a place where it wrote another one."""
    inputs = theirs.processor(text=[first], return_tensors="pt")
    theirs.model.model.rope_deltas = None
    out = theirs.model.generate(**inputs, max_new_tokens=place + 1, do_sample=False, eos_token_id=None)
    new = out[0, inputs["input_ids"].shape[1] :].tolist()
    assert new[place] not in new[:place], "the place has to be that of a token that is new"
    file = folder / "model.safetensors"
    tensors = load_file(file)
    head = tensors["lm_head.weight"]
    own = theirs.ids(token)[0]
    head[[own, new[place]]] = head[[new[place], own]]
    save_file(tensors, file, metadata={"format": "pt"})


def test_rge(tmp_path: Path) -> None:
    folder = tmp_path / "RGE-3B"
    shape = Shape("rge", family="qwen2_5_vl", tokens=("<emb>",), vision_depth=3, tied=False)
    theirs = System(make_checkpoint(folder, shape, seed=5))
    prompt = chat(f"{TEXT}\n")
    inputs = theirs.processor(text=[prompt], return_tensors="pt")
    new = theirs.model.generate(**inputs, max_new_tokens=12, do_sample=False, eos_token_id=None)[0, -12:].tolist()
    place = max(i for i in range(12) if new[i] not in new[:i])
    assert place > 2
    writes_at(folder, prompt, "<emb>", place, theirs)
    theirs = System(folder)
    reasoner, embedder = tte.Reasoner(folder, device="cpu"), tte.Embedder(folder, device="cpu")
    assert json.loads(embedder.model.recipe)["name"] == "rge"
    stop = theirs.ids("<emb>")[0]
    # The trace ends at <emb>, which is pooled; one that is cut before it ends with whatever it has.
    for most, ended in ((12, True), (place, False)):
        result = tte.think_then_embed([TEXT], reasoner=reasoner, embedder=embedder, max_new_tokens=most, progress=False)
        ids = result.traces[0].token_ids
        assert (ids[-1] == stop) == ended
        assert len(ids) == min(place + 1, most)
        with torch.inference_mode():
            theirs.model.model.rope_deltas = None
            whole = torch.cat([inputs["input_ids"], torch.tensor([ids])], dim=1)
            states = theirs.model.model(input_ids=whole, attention_mask=torch.ones_like(whole)).last_hidden_state[0]
        check(result.embeddings, [unit(states[-1].numpy())])
        again = embedder.embed([TEXT], result.traces)
        check(again, [unit(states[-1].numpy())])
    # A target is not thought about.
    check(embedder.embed(TEXT), [unit(theirs.states(prompt + "<emb>")[-1])])


def test_two_adapters_and_a_gate(system: Callable[..., System], images: list[Image.Image], tmp_path: Path) -> None:
    """TWN's pattern: a reasoning and an embedding adapter of one backbone, and a gate that sees the plain vector."""
    base = system("Qwen3-VL-8B-Instruct", "qwen3_vl", vision_depth=3, tied=False)
    names, halves = ("reasoning", "embedding"), {}
    for seed, name in enumerate(names):
        folder = make_adapter(tmp_path / "TWN-8B" / name, base.folder, seed=seed, target_modules=["q_proj", "v_proj"])
        merged = PeftModel.from_pretrained(base_model(base.folder), folder).merge_and_unload()
        halves[name] = System(base.folder)
        halves[name].model = merged.eval()
    reasoner = tte.Reasoner(base.folder, adapter=tmp_path / "TWN-8B" / "reasoning", device="cpu", recipe="raw")
    embedder = tte.Embedder(
        base.folder, adapter=tmp_path / "TWN-8B" / "embedding", recipe="raw", backend=reasoner.backend
    )
    assert reasoner.model.vision_fingerprint == embedder.model.vision_fingerprint
    seen: dict[int, np.ndarray] = {}

    def gate(index: int, vector: np.ndarray) -> bool:
        seen[index] = vector.copy()
        return index == 1

    result = tte.think_then_embed(
        [TEXT, [images[0], TEXT]], reasoner=reasoner, embedder=embedder, think=gate, max_new_tokens=6,
        ignore_eos=True, progress=False,
    )  # fmt: skip
    default = "Represent the user's input."  # What this family's template of the tests says by itself.
    prompts = [(chat(TEXT, default), None), (chat(IMAGE + TEXT, default), [images[0]])]
    plain = [unit(halves["embedding"].states(prompt, fed)[-1]) for prompt, fed in prompts]
    check(np.stack([seen[0], seen[1], result.embeddings[0]]), [*plain, plain[0]])
    assert result.traces[0] is None
    prompt, fed = prompts[1]
    inputs = base.processor(text=[prompt], images=fed, return_tensors="pt")
    written = halves["reasoning"].model.generate(**inputs, max_new_tokens=6, do_sample=False, eos_token_id=None)
    new = written[0, inputs["input_ids"].shape[1] :]
    assert result.traces[1].token_ids == new.tolist()
    inputs["input_ids"] = written
    inputs["attention_mask"] = torch.ones_like(written)
    inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(new)[None]], dim=1)
    with torch.inference_mode():
        halves["embedding"].model.model.rope_deltas = None
        states = halves["embedding"].model.model(**inputs).last_hidden_state[0].numpy()
    check(result.embeddings[1:], [unit(states[-1])])
