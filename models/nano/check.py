"""Check model.py and data.py on the shipped checkpoints against transformers: ids, logits, traces, embeddings."""

from __future__ import annotations

import numpy as np
import torch
from data import FOLDER, SP, STOP, collate, sequence
from model import decode, forward, logits
from nano import Rng, draft, tasks  # found through data.py
from transformers import AutoProcessor
from use import load, vectors


def main() -> None:
    torch.set_num_threads(1)
    processor = AutoProcessor.from_pretrained(FOLDER / "reasoner")
    reasoner, embedder = load(FOLDER / "reasoner").eval(), load(FOLDER / "embedder").eval()
    rng = Rng("tte-nano/check")
    items = [item for task in tasks() for d in [draft(task, "test", rng, 0)] for item in (d.query, d.target)]
    sequences = [sequence(item, item.trace) for item in items]
    batch = collate(sequences, 8)
    with torch.no_grad():
        ours = logits(reasoner, forward(reasoner, batch))
        vecs = vectors(embedder, items, [item.trace for item in items])
    starts = np.concatenate([[0], np.cumsum(batch.lengths)])
    prompts = [sequence(item, None, end=False) for item in items]
    traces = decode(reasoner, collate(prompts, 8), [int(p.positions.max()) + 1 for p in prompts], STOP, 64)
    worst = cosine = 0.0
    for row, i in enumerate(batch.order):
        item, media, content = items[i], {}, []
        if item.image is not None:
            media["images"], content = [item.image], [{"type": "image"}]
        if item.video is not None:
            media["videos"], content = [np.stack(item.video)], [{"type": "video"}]
        turns = [{"role": "user", "content": [*content, {"type": "text", "text": item.prompt}]}]
        prompt = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        inputs = processor(text=[prompt + (item.trace or "") + "<|im_end|>"], return_tensors="pt", **media)
        assert inputs["input_ids"][0].tolist() == sequences[i].ids, prompt
        with torch.no_grad():
            out = reasoner(**inputs).logits[0]
            state = embedder.model(**inputs).last_hidden_state[0, -1]
            short = processor(text=[prompt], return_tensors="pt", **media)
            wrote = reasoner.generate(**short, max_new_tokens=64, do_sample=False)[0, short["input_ids"].shape[1] :]
        worst = max(worst, float((out - ours[starts[row] : starts[row + 1]]).abs().max()))
        cosine = max(cosine, 1 - float(torch.nn.functional.normalize(state, dim=0) @ vecs[i]))
        assert wrote.tolist() == traces[i], (SP.decode(wrote.tolist()), SP.decode(traces[i]))
        print(item.prompt, "|", SP.decode(traces[i]))
    print(f"equal ids and traces; logits within {worst:.1e}, embeddings within {cosine:.1e} of cosine 1")


if __name__ == "__main__":
    main()
