"""Writes data/sampler_goldens.json: logits before and after the logits processors of transformers.

Run it where transformers is installed: python tests/engine/make_sampler_goldens.py
Dropped tokens (-inf) are null. Floats are float32 values, written so that they read back exactly.
"""

import json
import math
from pathlib import Path

import torch
from transformers.generation import logits_process as lp

VOCAB = 48
END = [3, 7]


def processors(case: dict) -> lp.LogitsProcessorList:
    """In the order of GenerationMixin._get_logits_processor."""
    chain = lp.LogitsProcessorList()
    if case["repetition_penalty"] != 1.0:
        chain.append(lp.RepetitionPenaltyLogitsProcessor(penalty=case["repetition_penalty"]))
    if case["min_new_tokens"] > 0:
        chain.append(lp.MinNewTokensLengthLogitsProcessor(len(case["prompt"]), case["min_new_tokens"], END))
    if case["temperature"] > 0:
        if case["temperature"] != 1.0:
            chain.append(lp.TemperatureLogitsWarper(case["temperature"]))
        if case["top_k"] != 0:
            chain.append(lp.TopKLogitsWarper(top_k=case["top_k"]))
        if case["top_p"] < 1.0:
            chain.append(lp.TopPLogitsWarper(top_p=case["top_p"]))
        if case["min_p"] > 0:
            chain.append(lp.MinPLogitsWarper(min_p=case["min_p"]))
    return chain


def main() -> None:
    off = {"repetition_penalty": 1.0, "min_new_tokens": 0, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    settings = [
        {"temperature": 0.0, "repetition_penalty": 1.3},
        {"temperature": 0.0, "min_new_tokens": 3},
        {"temperature": 0.7},
        {"top_k": 5},
        {"top_k": 5, "ties": True},
        {"top_k": 1000},
        {"top_p": 0.6},
        {"top_p": 0.95},
        {"top_p": 0.0},
        {"min_p": 0.2},
        {"temperature": 1.7, "top_k": 12, "top_p": 0.8, "min_p": 0.1},
        {"temperature": 0.5, "repetition_penalty": 1.1, "min_new_tokens": 4, "top_k": 20, "top_p": 0.9, "min_p": 0.05},
        {"temperature": 1.3, "repetition_penalty": 0.8, "top_p": 0.7},
    ]
    generator = torch.Generator().manual_seed(20251005)
    cases = []
    for setting in settings:
        case = {**off, **setting}
        case["prompt"] = torch.randint(0, VOCAB, (6,), generator=generator).tolist() + [VOCAB + 5]
        case["generated"] = torch.randint(0, VOCAB, (2,), generator=generator).tolist()
        scores = torch.randn(1, VOCAB, generator=generator) * 2
        if case.pop("ties", False):
            scores = scores.round()
        case["logits"] = scores[0].tolist()
        ids = torch.tensor([case["prompt"] + case["generated"]])
        after = processors(case)(ids, scores.clone())[0].tolist()
        case["processed"] = [None if math.isinf(value) else value for value in after]
        cases.append(case)
    out = Path(__file__).parent / "data" / "sampler_goldens.json"
    out.write_text(json.dumps({"end_ids": END, "cases": cases}, indent=0) + "\n")


if __name__ == "__main__":
    main()
