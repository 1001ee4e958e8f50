"""Small result folders in the form that `run` writes, for tests of the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tte.mmeb.data.tasks import Task
from tte.mmeb.run.manifest import SCORED, checksums_of, embedded, sealed
from tte.mmeb.run.scores import task_json
from tte.mmeb.score.metrics import query_scores

_MODES = {"think": "recipe", "no-think": "never", "queries-only": "queries"}


def unit(rows: Any) -> Any:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def write_result(
    folder: Path,
    task: Task,
    hits: Sequence[bool],
    *,
    think: str = "think",
    candidates: int = 6,
    errors: dict[int, str] | None = None,
    names: Sequence[str] | None = None,
    settings: dict[str, Any] | None = None,
    changes: dict[str, Any] | None = None,
    images: Sequence[Path] | None = None,
) -> Path:
    """A data set whose query i finds candidate i % candidates first exactly where hits[i]."""
    names = list(names or (f"candidate {i}" for i in range(candidates)))
    count, errors = len(hits), errors or {}
    out = folder / task.modality / task.name
    out.mkdir(parents=True)
    targets = np.eye(len(names), dtype=np.float32)
    labels = [i % len(names) for i in range(count)]
    first = [label if hit else (label + 1) % len(names) for label, hit in zip(labels, hits, strict=True)]
    queries = unit(targets[first] + 0.5 * targets[labels])
    np.save(out / "queries.npy", queries)
    np.save(out / "candidates.npy", targets)
    thinks = think != "no-think"
    traces = [f"<think> step {i} of {count}</think> answer {i}" if thinks else None for i in range(count)]
    images = list(images or [])
    tokens = [5 + i % 7 if thinks else None for i in range(count)]
    pq.write_table(
        pa.table({
            "id": [str(i) for i in range(count)],
            "trace": pa.array(traces, pa.string()),
            "tokens": pa.array(tokens, pa.int32()),
            "seconds": [0.01 + 0.001 * i for i in range(count)],
            "text": [f"query {i}" for i in range(count)],
            "images": pa.array([[str(p) for p in images[i : i + 1]] for i in range(count)], pa.list_(pa.string())),
            "error": pa.array([errors.get(i) for i in range(count)], pa.string()),
        }),
        out / "queries.parquet",
    )  # fmt: skip
    about = {"text": names, "trace": [f"trace of {name}" for name in names]} if thinks else {}
    pq.write_table(pa.table({"name": names, "seconds": [0.01] * len(names), **about}), out / "candidates.parquet")
    scores: list[dict[str, float]] = []
    with (out / "predictions.jsonl").open("w") as lines:
        for i in range(count):
            order = np.argsort(-(targets.astype(np.float64) @ queries[i].astype(np.float64)), kind="stable")
            prediction = [] if i in errors else [names[j] for j in order]
            scores.append(query_scores(prediction, [names[labels[i]]]))
            row = {
                "prediction": prediction, "label": [names[labels[i]]], "rel_scores": None,
                "scores": [] if i in errors else [float(targets[j] @ queries[i]) for j in order],
                "rank": None if i in errors else 1 + prediction.index(names[labels[i]]),
            }  # fmt: skip
            lines.write(json.dumps(row) + "\n")
    mean = {key: sum(s[key] for s in scores) / count for key in scores[0]}
    (out / "score.json").write_text(json.dumps({**mean, "num_pred": count, "num_data": count}, indent=4))
    failed = {"queries": len(errors), "candidates": 0, "queries_with_failed_candidates": 0}
    manifest: dict[str, Any] = {
        "task": task_json(task),
        "status": "scored",
        "think": _MODES[think],
        "identity": {"data": {"style": "plain", **(settings or {})}, "think": _MODES[think]},
        "models": {"embedder": {"path": "models/some-embedder"}},
        "counts": {"queries": count, "candidates": len(names)},
        "totals": {"queries": {"errors": len(errors)}, "candidates": {"errors": 0}},
        "media": {},
        "shortfall": "",
        "dim": len(names),
        "block": 4,
        "score": mean[task.metric],
        "failed": {**failed, "score_with_these_first": mean[task.metric]},
    }
    manifest["checksums"] = {name: checksums_of(out / name, manifest) for name in (*embedded(manifest), *SCORED)}
    (out / "manifest.json").write_text(json.dumps(sealed({**manifest, **(changes or {})})))
    return out
