"""OpenVINO GenAI's side of peers.py: answers measurements over standard input and output, one JSON a line.

python openvino_side.py MODEL.gguf THREADS
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import openvino as ov
import openvino_genai as genai


def main() -> None:
    """Generate from prompts of random ids."""
    pipeline = genai.LLMPipeline(sys.argv[1], "CPU", INFERENCE_NUM_THREADS=int(sys.argv[2]))
    random = np.random.default_rng(0)
    for line in sys.stdin:
        job = json.loads(line)
        seconds = 0.0
        if job:
            ids = random.integers(300, 100_000, (job["count"], job["length"]))
            inputs = genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids)))
            config = genai.GenerationConfig()
            config.max_new_tokens = config.min_new_tokens = job["tokens"]
            config.ignore_eos = True
            start = time.perf_counter()
            pipeline.generate(inputs, config)
            seconds = time.perf_counter() - start
        print(json.dumps({"s": seconds}), flush=True)


if __name__ == "__main__":
    main()
