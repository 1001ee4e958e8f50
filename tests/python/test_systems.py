"""Published systems by recipe: checkpoints in their layout, and what transformers gives for what each system does."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import tte
from checkpoints import Shape, make_checkpoint, make_tokenizer
from PIL import Image
from references import noise
from safetensors.torch import load_file, save_file
from systems import IMAGE, TEXT, System, chat, check, extended, first_resized, resized, unit
from tokenizers import Regex, Tokenizer, normalizers, processors
from tte._inspect import info
from tte._inspect import told as info_text

# ---------------------------------------------------------------------------------------------- Qwen3-Embedding


@pytest.fixture(scope="module")
def qwen3_embedding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3Model beside a tokenizer that ends texts with <|endoftext|>."""
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", tokenizer.convert_tokens_to_ids("<|endoftext|>"))]
    )
    config = transformers.Qwen3Config(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        intermediate_size=96, vocab_size=len(tokenizer), max_position_embeddings=4096, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(4)
    model = transformers.Qwen3ForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3) if parameter.ndim >= 2 else parameter.add_(torch.randn_like(parameter) * 0.1)
    folder = tmp_path_factory.mktemp("systems") / "Qwen3-Embedding-0.6B"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.inference_mode()
def text_vector(folder: Path, text: str, dim: int | None = None, **options: Any) -> np.ndarray:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    return unit(model(**tokenizer(text, return_tensors="pt", **options)).last_hidden_state[0, -1].numpy(), dim)


def test_qwen3_embedding(qwen3_embedding: Path, tmp_path: Path) -> None:
    embedder = tte.Embedder(qwen3_embedding, device="cpu")
    assert json.loads(embedder.model.recipe)["name"] == "qwen3_embedding"
    assert "Qwen3-Embedding-0.6B" in embedder.model.recipe_reason
    told = "Instruct: {}\nQuery:" + TEXT
    task = "Given a web search query, retrieve relevant passages that answer the query"
    check(embedder.embed(TEXT, task="retrieval", side="target"), [text_vector(qwen3_embedding, TEXT)])
    check(embedder.embed(TEXT), [text_vector(qwen3_embedding, TEXT)])
    check(embedder.embed(TEXT, task="retrieval"), [text_vector(qwen3_embedding, told.format(task))])
    check(embedder.embed(TEXT, instruction="dog"), [text_vector(qwen3_embedding, told.format("dog"))])
    check(embedder.embed(TEXT, truncate_dim=32), [text_vector(qwen3_embedding, TEXT, 32)])
    with pytest.raises(tte.InputError, match=r"truncate_dim is 31.*qwen3_embedding.*32 dimensions and more"):
        embedder.embed(TEXT, truncate_dim=31)
    short = tte.Embedder(qwen3_embedding, device="cpu", recipe=extended(tmp_path, "qwen3_embedding", max_length=9))
    text = f"{TEXT} " * 4
    check(short.embed(text), [text_vector(qwen3_embedding, text, truncation=True, max_length=9)])


def test_ten_megabytes_are_cut_before_they_are_tokenised(qwen3_embedding: Path) -> None:
    processor = tte.Processor(qwen3_embedding)
    words = "the cat and dog " * 700_000
    ids = processor(words, stage="embed")["input_ids"][0].tolist()
    start = processor.tokenizer.encode(words[:200_000])
    assert ids == [*start[:8191], processor.tokenizer.id_of("<|endoftext|>")]
    # Tokens of many bytes: more of the text is needed than usual.
    assert processor("x" * 11_000_000, stage="embed")["input_ids"].shape == (1, 8192)


# ------------------------------------------------------------------------------------------- Qwen3-VL-Embedding


def test_qwen3_vl_embedding(system: Callable[..., System], images: list[Image.Image]) -> None:
    theirs = system("Qwen3-VL-Embedding-2B", "qwen3_vl", vision_depth=3)
    embedder = tte.Embedder(theirs.folder, device="cpu")
    assert json.loads(embedder.model.recipe)["name"] == "qwen3_vl_embedding"
    # Images are resized once, to an area that is the system's own.
    size = {"images_kwargs": {"size": {"shortest_edge": 4096, "longest_edge": 1_843_200}}}
    default = "Represent the user's input."
    expected = [
        unit(theirs.states(chat(TEXT, default))[-1]),
        unit(theirs.states(chat(f"{IMAGE}{TEXT}", "Find a cat."), [images[0]], **size)[-1]),
        unit(theirs.states(chat(IMAGE * 2, "Find a cat!"), images, **size)[-1]),
        unit(theirs.states(chat(TEXT, default))[-1]),
    ]
    rows = embedder.embed(
        [TEXT, [TEXT, images[0]], images and [*images], TEXT],
        instruction=[None, " Find a cat ", "Find a cat!", "  "],
        progress=False,
    )
    check(rows, expected)


def test_a_long_text_loses_its_end_and_nothing_else(
    system: Callable[..., System], images: list[Image.Image], tmp_path: Path
) -> None:
    theirs = system("Qwen3-VL-Embedding-2B", "qwen3_vl", vision_depth=3)
    recipe = extended(tmp_path, "qwen3_vl_embedding", max_length=60)
    processor = tte.Processor(theirs.folder, recipe=recipe)
    words = "look at the red circle and the blue square " * 20
    whole = tte.Processor(theirs.folder)([images[0], words])["input_ids"][0].tolist()
    cut = processor([images[0], words])["input_ids"][0].tolist()
    tail = theirs.ids("<|im_end|>\n<|im_start|>assistant\n")
    assert len(cut) == 60
    assert cut == whole[: 60 - len(tail)] + tail
    # The first text is cut when the last one is used up; what stands around stays.
    cut = processor([words, images[0], "dog"])["input_ids"][0].tolist()
    assert len(cut) == 60
    assert cut[-len(tail) :] == tail
    assert cut.count(processor.tokenizer.id_of("<|image_pad|>")) == whole.count(
        processor.tokenizer.id_of("<|image_pad|>")
    )
    with pytest.raises(tte.InputError, match=r"item 0: its prompt has \d+ tokens more than the 60 of the recipe"):
        processor([Image.fromarray(noise(512, 512))] * 2 + ["dog"])
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "cat"}]},
        {"role": "user", "content": [{"type": "text", "text": words}]},
    ]
    assert processor(messages)["input_ids"].shape == (1, 60)


# ------------------------------------------------------------------------------------------ GME, RzenEmbed, GVE


def test_gme(system: Callable[..., System], images: list[Image.Image]) -> None:
    theirs = system("gme-Qwen2-VL-2B-Instruct", "qwen2_vl")
    embedder = tte.Embedder(theirs.folder, device="cpu")
    assert json.loads(embedder.model.recipe)["name"] == "gme"
    image = first_resized(images[0], 28, 4, 16384)
    size = {"images_kwargs": {"size": {"shortest_edge": 4 * 28**2, "longest_edge": 1280 * 28**2}}}
    expected = [
        unit(theirs.states(chat(TEXT) + "<|endoftext|>", sequential=True)[-1]),
        unit(theirs.states(chat(f"{IMAGE}{TEXT}", "Find it") + "<|endoftext|>", [image], sequential=True, **size)[-1]),
        unit(theirs.states(chat(IMAGE) + "<|endoftext|>", [image], sequential=True, **size)[-1]),
    ]
    check(
        embedder.embed([TEXT, [images[0], TEXT], images[0]], instruction=[None, "Find it", None], progress=False),
        expected,
    )
    with pytest.raises(tte.InputError, match=r"truncate_dim is 32.*gme.*64 dimensions only"):
        embedder.embed(TEXT, truncate_dim=32)


def test_rzenembed(system: Callable[..., System], images: list[Image.Image]) -> None:
    theirs = system("RzenEmbed", "qwen2_vl")
    embedder = tte.Embedder(theirs.folder, device="cpu")
    assert json.loads(embedder.model.recipe)["name"] == "rzenembed"
    image = first_resized(images[1], 28, 4, 16384)
    size = {"images_kwargs": {"size": {"shortest_edge": 256 * 28**2, "longest_edge": 1280 * 28**2}}}
    told = "Find the image: "
    expected = [
        unit(theirs.states(chat(told + TEXT) + "<|endoftext|>", sequential=True)[-1]),
        unit(theirs.states(chat(IMAGE + told) + "<|endoftext|>", [image], sequential=True, **size)[-1]),
    ]
    check(embedder.embed([TEXT, images[1]], instruction=told, progress=False), expected)


def test_gve(system: Callable[..., System], images: list[Image.Image]) -> None:
    theirs = system("GVE-3B", "qwen2_5_vl", vision_depth=3)
    embedder = tte.Embedder(theirs.folder, device="cpu")
    assert json.loads(embedder.model.recipe)["name"] == "gve"
    expected = [
        unit(theirs.states(chat(TEXT) + "<|endoftext|>")[-1]),
        unit(theirs.states(chat(f"{IMAGE}{TEXT}") + "<|endoftext|>", [images[0]])[-1]),
    ]
    check(embedder.embed([TEXT, [images[0], TEXT]], progress=False), expected)


def test_vlm2vec(system: Callable[..., System], images: list[Image.Image]) -> None:
    theirs = system("VLM2Vec-V2.0", "qwen2_vl")
    embedder = tte.Embedder(theirs.folder, device="cpu")
    assert json.loads(embedder.model.recipe)["name"] == "qwen2_vl_vlm2vec"
    small = Image.fromarray(noise(20, 200, 3))
    size = {"images_kwargs": {"size": {"shortest_edge": 4 * 28**2, "longest_edge": 1280 * 28**2}}}
    expected = [
        unit(theirs.states(f"<|image_pad|> {TEXT}\n", [images[0]], sequential=True, **size)[-1]),
        unit(theirs.states(f"<|image_pad|> {TEXT}\n", [resized(small, 56, 56)], sequential=True, **size)[-1]),
    ]
    check(embedder.embed([[images[0], f" {TEXT}\n"], [small, f" {TEXT}\n"]], progress=False), expected)


# ------------------------------------------------------------------------- WeMM, UEmbed, a reranker's long prompts


def user_turn(text: str) -> str:
    return f"<|im_start|>user\n{text}<|im_end|>\n"


def test_wemm(tmp_path: Path, images: list[Image.Image]) -> None:
    """Its tokenizer takes a line break from the end of a text, and puts <embedding> behind it."""
    folder = tmp_path / "WeMM-Embedding-2B"
    shape = Shape("wemm", family="qwen3_5", layers=4, mrope=(2, 1, 1), scale=2.0, tokens=("<embedding>",))
    make_checkpoint(folder, shape, seed=11)
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex("\n$"), "")])
    token = backend.token_to_id("<embedding>")
    backend.post_processor = processors.TemplateProcessing(
        single="$A <embedding>", special_tokens=[("<embedding>", token)]
    )
    backend.save(str(folder / "tokenizer.json"))
    theirs = System(folder)
    theirs.processor.tokenizer._tokenizer = backend  # transformers makes a normaliser of its own.
    embedder = tte.Embedder(folder, device="cpu")
    assert json.loads(embedder.model.recipe)["name"] == "wemm"
    size = {"images_kwargs": {"size": {"shortest_edge": 64 * 32**2, "longest_edge": 8192 * 32**2}}}
    prompts = [(user_turn(TEXT), None), (user_turn(f"{IMAGE}{IMAGE}Find it {TEXT}"), images)]
    expected = []
    for prompt, fed in prompts:
        ids = theirs.processor(text=[prompt], images=fed, return_tensors="pt", **size)["input_ids"][0].tolist()
        assert ids[-2:] == [theirs.ids("<|im_end|>")[0], token]
        expected.append(unit(theirs.states(prompt, fed, **size)[-1]))
    check(embedder.embed([TEXT, [TEXT, *images]], instruction=[None, "Find it"], progress=False), expected)
    cut = embedder.embed(TEXT, truncate_dim=64)
    check(cut, [unit(expected[0], 64)])


def dense_of(sparse: tte.SparseEmbeddings) -> np.ndarray:
    out = np.zeros(sparse.shape, np.float32)
    for i in range(len(sparse)):
        indices, values = sparse[i]
        assert (np.diff(indices) > 0).all()
        assert (values > 0).all()
        out[i, indices] = values
    return out


def test_uembed(tmp_path: Path, images: list[Image.Image]) -> None:
    """Its tokenizer puts an end token behind a text, whose state is the vector, and those of the sparse vector."""
    folder = tmp_path / "UEmbed-2B"
    make_checkpoint(folder, Shape("uembed", family="qwen3_5", layers=4, mrope=(2, 1, 1), scale=2.0), seed=12)
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own = backend.post_processor
    end, token = "<|endoftext|>", backend.token_to_id("<|endoftext|>")
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {' '.join([end] * 17)}", special_tokens=[(end, token)]
    )
    backend.save(str(folder / "tokenizer.json"))
    theirs = System(folder)
    embedder = tte.Embedder(folder, device="cpu")
    assert json.loads(embedder.model.recipe)["name"] == "uembed"

    def turns(content: list[dict[str, Any]], instruction: str) -> list[dict[str, Any]]:
        return [
            {"role": "system", "content": [{"type": "text", "text": instruction}]}, {"role": "user", "content": content}
        ]  # fmt: skip

    def prompt(content: list[dict[str, Any]], instruction: str) -> str:
        told = turns(content, instruction)
        return theirs.processor.apply_chat_template(told, tokenize=False, add_generation_prompt=True)

    text, image = {"type": "text", "text": TEXT}, {"type": "image", "image": "x"}
    size = {"images_kwargs": {"size": {"shortest_edge": 4096, "longest_edge": 1_843_200}}}
    expected = [
        unit(theirs.states(prompt([text], "Represent the user's input."))[-17]),
        unit(theirs.states(prompt([image, text], "Find a cat."), [images[0]], **size)[-17]),
    ]
    check(embedder.embed([TEXT, [TEXT, images[0]]], instruction=[None, "Find a cat"], progress=False), expected)
    assert embedder.sparse_dim == 0
    assert info(folder)["vector"]["sparse"] == "but their heads are missing: fetch sparse_weights.pt"
    with pytest.raises(tte.ModelError, match=r"sparse_weights\.pt is missing"):
        embedder.embed_sparse(TEXT)
    # The i-th of the last 16 tokens is read by head i, and all of these together are the sparse vector.
    torch.manual_seed(6)
    hidden = theirs.model.config.text_config.hidden_size
    heads = [torch.randn(5 + i % 3, hidden) / hidden**0.5 for i in range(16)]
    biases = [torch.randn(len(head)) for head in heads]
    torch.save({"sparse_lm_heads": heads, "sparse_bias": biases}, folder / "sparse_weights.pt")
    embedder = tte.Embedder(folder, device="cpu")
    assert "and sparse ones, by the heads in sparse_weights.pt" in info_text(info(folder))
    items, told = [TEXT, [TEXT, images[0]]], [None, "Find a cat"]
    sparse = embedder.embed_sparse(items, instruction=told, progress=False)
    states = [
        theirs.states(prompt([text], "Represent the user's input.")),
        theirs.states(prompt([image, text], "Find a cat."), [images[0]], **size),
    ]
    logits = [
        torch.cat(
            [head @ torch.from_numpy(row) + bias for head, row, bias in zip(heads, rows[-16:], biases, strict=True)]
        )
        for rows in states
    ]
    vectors = [torch.log1p(torch.relu(each)).numpy() for each in logits]
    assert sparse.shape == (2, embedder.sparse_dim) == (2, len(vectors[0]))
    assert (sparse.values.dtype, sparse.indices.dtype, sparse.indptr.dtype) == (np.float32, np.int32, np.int64)
    check(dense_of(sparse), vectors)
    check(sparse.pooled, expected)
    np.testing.assert_allclose(sparse.dot(sparse), np.stack(vectors) @ np.stack(vectors).T, rtol=1e-5)
    for i, item in enumerate(items):  # By itself: the same bits.
        alone = embedder.embed_sparse([item], instruction=told[i], progress=False)
        np.testing.assert_array_equal(dense_of(alone)[0], dense_of(sparse)[i])
    few = embedder.embed_sparse(items, instruction=told, top_k=3, progress=False)
    for i, vector in enumerate(vectors):
        indices, values = few[i]
        assert indices.tolist() == sorted(np.argsort(-vector)[:3].tolist())
        np.testing.assert_allclose(values, vector[indices], atol=1e-5)
    # Prompts end as the tokenizer ends texts, whatever the recipe, and a reasoner's go on.
    ids = theirs.inputs(turns([text], "cat"))["input_ids"][0].tolist()
    assert ids[-18:] == [ids[-18], *[token] * 17]
    raw = tte.Processor(folder, recipe="raw")
    assert raw(turns([text], "cat"), stage="embed")["input_ids"][0].tolist() == ids
    assert raw(turns([text], "cat"), stage="reason")["input_ids"][0].tolist() == ids[:-17]
    backend.post_processor = own
    backend.save(str(folder / "tokenizer.json"))
    with pytest.raises(tte.ModelError, match=r"pools a token with 16 behind it .*end with 0"):
        tte.Embedder(folder, device="cpu")


def test_qwen3_vl_reranker(system: Callable[..., System], tmp_path: Path) -> None:
    """Of a prompt that is too long, all but the last five tokens are cut at its end."""
    theirs = system("Qwen3-VL-Reranker-2B", "qwen3_vl", vision_depth=3, tied=False)
    reasoner = tte.Reasoner(theirs.folder, device="cpu")
    assert json.loads(reasoner.model.recipe)["name"] == "qwen3_vl_reranker"
    assert json.loads(reasoner.model.recipe)["max_length"] == 10240
    short = tte.Reasoner(theirs.folder, device="cpu", recipe=extended(tmp_path, "qwen3_vl_reranker", max_length=70))
    document = "the red circle and the blue square " * 20
    prompt = chat(f"<Instruct>: find it<Query>:the cat\n<Document>:{document}", "Judge.")
    ids = theirs.ids(prompt)
    tail = theirs.ids("<|im_end|>\n<|im_start|>assistant\n")
    cut = torch.tensor([ids[: 70 - len(tail)] + tail])
    yes, no = (theirs.model.lm_head.weight[theirs.ids(word)[0]] for word in "yn")
    with torch.inference_mode():
        theirs.model.model.rope_deltas = None
        state = theirs.model.model(input_ids=cut, attention_mask=torch.ones_like(cut)).last_hidden_state[0, -1]
        expected = float(torch.sigmoid(state @ (yes - no)))
    (score,) = tte.Reranker(short, system="Judge.", labels=["y", "n"]).score(
        {"text": "the cat", "instruction": "find it"}, [document], progress=False
    )
    assert score == pytest.approx(expected, abs=2e-5)


# --------------------------------------------------------------------- MoCa, and attention in both directions


@torch.inference_mode()
def states_both_ways(theirs: System, text: str, layers: list[int], images: list[Image.Image] | None = None) -> Any:
    """States where all tokens see all others in the attention of `layers`."""
    text_model = theirs.model.model.language_model

    def unmasked(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        states = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        length = states.shape[1]
        return args, {**kwargs, "attention_mask": torch.zeros(1, 1, length, length, dtype=states.dtype)}

    hooks = [text_model.layers[i].self_attn.register_forward_pre_hook(unmasked, with_kwargs=True) for i in layers]
    try:
        return theirs.states(text, images)
    finally:
        for hook in hooks:
            hook.remove()


def test_moca(system: Callable[..., System], images: list[Image.Image]) -> None:
    theirs = system("MoCa-Qwen25VL-3B", "qwen2_5_vl", vision_depth=3)
    embedder = tte.Embedder(theirs.folder, device="cpu")
    assert json.loads(embedder.model.recipe)["name"] == "moca"
    asked = "Represent the given image with the following question: what is in this picture\n"
    expected = [
        unit(states_both_ways(theirs, TEXT, [0, 1]).mean(0)),
        unit(states_both_ways(theirs, IMAGE + asked, [0, 1], [images[0]]).mean(0)),
        unit(states_both_ways(theirs, f"{IMAGE}{IMAGE}dog {TEXT}", [0, 1], images).mean(0)),
    ]
    items = [TEXT, [images[0], asked], [*images, TEXT]]
    told = [None, None, "dog"]
    rows = embedder.embed(items, instruction=told, progress=False)
    check(rows, expected)
    for row, item, instruction in zip(rows, items, told, strict=True):  # The same bits alone.
        np.testing.assert_array_equal(row, embedder.embed([item], instruction=instruction)[0])
    with pytest.raises(tte.ModelError, match=r"makes attention in the model of .* bidirectional.*as an Embedder"):
        tte.Reasoner(theirs.folder, device="cpu")


HYBRID = ["linear_attention", "full_attention", "linear_attention", "full_attention"]


@pytest.mark.parametrize(("family", "layers", "chosen"), [
    ("qwen2_5_vl", 3, [1]), ("qwen2_vl", 3, [0, 2]), ("qwen3_vl", 3, True), ("qwen3_5", 4, True), ("qwen3_5", 4, [1]),
])  # fmt: skip
def test_chosen_layers_see_both_ways(
    system: Callable[..., System], images: list[Image.Image], tmp_path: Path, family: str, layers: int, chosen: Any
) -> None:
    """EVIE's kind too: Qwen3.5, of whose layers only those of attention change."""
    theirs = system(
        f"both-ways-{family}", family, vision_depth=3, layers=layers,
        **({"mrope": (2, 1, 1), "scale": 2.0, "options": {"layer_types": HYBRID}} if family == "qwen3_5" else {}),
    )  # fmt: skip
    path = tmp_path / "both.json"
    raw = {"style": "raw", "raw": "{media}{text}", "image": "<|vision_start|>{token}<|vision_end|>"}
    path.write_text(json.dumps({"name": "both", "prompt": raw, "bidirectional": chosen}))
    embedder = tte.Embedder(theirs.folder, device="cpu", recipe=path)
    attends = [i for i in range(layers) if family != "qwen3_5" or HYBRID[i] == "full_attention"]
    which = attends if chosen is True else chosen
    long = f"{IMAGE}{TEXT * 80}"  # Longer than a step of the engine.
    expected = [
        states_both_ways(theirs, TEXT, which),
        states_both_ways(theirs, IMAGE + TEXT, which, [images[1]]),
        states_both_ways(theirs, long, which, [images[0]]),
    ]
    assert len(expected[2]) > 512
    items = [TEXT, [images[1], TEXT], [images[0], TEXT * 80]]
    check(embedder.embed(items, progress=False), [unit(rows[-1]) for rows in expected])
    ours = embedder.embed_tokens(items, keep="all", normalize=False, dtype="float32", progress=False)
    for own, rows in zip(ours, expected, strict=True):
        np.testing.assert_allclose(own, rows, atol=1e-5 * max(1, np.abs(rows).max()), rtol=0)
    causal = tte.Embedder(theirs.folder, device="cpu", recipe=extended(tmp_path, "plain", prompt=raw))
    before = causal.embed_tokens([TEXT], keep="all", normalize=False, dtype="float32", progress=False)[0]
    assert np.abs(before - expected[0]).max() > 1e-3
    # Traces of another model are read as texts are.
    reasoner = tte.Reasoner(theirs.folder, device="cpu", recipe="raw", backend=embedder.backend)
    result = tte.think_then_embed(
        items[:2], reasoner=reasoner, embedder=embedder, max_new_tokens=4, progress=False, without_trace=True
    )
    again = embedder.embed(items[:2], result.traces, progress=False)
    np.testing.assert_array_equal(result.embeddings, again)
    np.testing.assert_array_equal(result.without_trace, embedder.embed(items[:2], progress=False))
    for wrong, says in (([9], "has no layer 9"), ([0], "is a recurrence")):
        if wrong == [0] and family != "qwen3_5":
            continue
        path.write_text(json.dumps({"name": "both", "prompt": raw, "bidirectional": wrong}))
        with pytest.raises(tte.ModelError, match=says):
            tte.Embedder(theirs.folder, device="cpu", recipe=path)


def test_learned_tokens_behind_the_input(system: Callable[..., System], tmp_path: Path) -> None:
    """LaME's pattern: k learned tokens and one that is pooled, in a single pass."""
    tokens = ("<r1>", "<r2>", "<r3>", "<EMBED>")
    theirs = system("latent", "qwen2_vl", tokens)
    path = tmp_path / "latent.json"
    path.write_text(json.dumps({
        "name": "latent", "trace": {"suffix": "".join(tokens)}, "pooling": "token", "pooling_token": "<EMBED>"
    }))  # fmt: skip
    embedder = tte.Embedder(theirs.folder, device="cpu", recipe=path)
    check(embedder.embed(TEXT), [unit(theirs.states(chat(TEXT) + "".join(tokens))[-1])])


def test_a_projection_behind_the_pooled_token(system: Callable[..., System], tmp_path: Path) -> None:
    """LaME's pattern with its projection, in a file of its own or among the checkpoint's tensors."""
    tokens = ("<r1>", "<r2>", "<r3>", "<EMBED>")
    theirs = system("latent", "qwen2_vl", tokens)
    folder = tmp_path / "LaME"
    shutil.copytree(theirs.folder, folder)
    matrix, bias = torch.randn(96, 64), torch.randn(96)
    save_file({"weight": matrix, "bias": bias}, folder / "head.safetensors")
    state = theirs.states(chat(TEXT) + "".join(tokens))[-1]
    expected = matrix.numpy() @ state + bias.numpy()
    recipe = {"name": "latent", "trace": {"suffix": "".join(tokens)}, "pooling": "token", "pooling_token": "<EMBED>"}
    path = folder / "recipe.json"
    path.write_text(json.dumps({**recipe, "projection": [{"file": "head.safetensors", "tensors": ""}]}))
    embedder = tte.Embedder(folder, device="cpu")
    assert embedder.dim == 96
    check(embedder.embed(TEXT), [unit(expected)])
    before = embedder.model.fingerprint
    save_file({"weight": matrix, "bias": bias + 1}, folder / "head.safetensors")
    assert tte.Embedder(folder, device="cpu").model.fingerprint != before
    own = load_file(folder / "model.safetensors")
    save_file({**own, "proj.0.weight": matrix}, folder / "model.safetensors", metadata={"format": "pt"})
    path.write_text(json.dumps(recipe))
    with pytest.raises(tte.ModelError, match=r"proj\.0\.weight"):
        tte.Embedder(folder, device="cpu")
    path.write_text(json.dumps({**recipe, "projection": [{"tensors": "proj.0.", "activation": "tanh"}]}))
    check(tte.Embedder(folder, device="cpu").embed(TEXT), [unit(np.tanh(matrix.numpy() @ state))])
    assert info(folder)["vector"]["dimensions"] == 96


def test_loading_says_once_that_no_recipe_fits(
    system: Callable[..., System], capfd: pytest.CaptureFixture[str]
) -> None:
    theirs = system("unknown-embedder", "qwen2_vl")
    for _ in range(2):
        embedder = tte.Embedder(theirs.folder, device="cpu")
    assert json.loads(embedder.model.recipe)["name"] == "raw"
    assert "no recipe fits" in embedder.model.recipe_reason
    assert capfd.readouterr().err.count("No recipe fits") == 1


def test_the_readme_names_what_is_there() -> None:
    root = Path(__file__).parents[2]
    table = (root / "README.md").read_text().split("## Systems\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:2] == "| "]
    named = {re.findall(r"`(\w+)`", row[1])[0] for row in rows if "`" in row[1]}
    bundled = {file.stem for file in (root / "models" / "recipes").glob("*.json")}
    assert named == bundled - {"raw", "plain"}
    tests = [name for row in rows for name in re.findall(r"`(test_\w+)", row[6])]
    assert len(tests) == len(named) - 4  # Four have a file of their own.
    files = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*systems.py"))
    assert [name for name in tests if f"\ndef {name}" not in files] == []
