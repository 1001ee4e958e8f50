"""The JSON that the public leaderboard takes, written and read.

One object with `metadata` and `metrics`; `metrics` holds for each modality and data set the content of its
`score.json`, or a word that says why there is none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tte import _files
from tte._tte import InputError
from tte.mmeb.run.manifest import write_json
from tte.mmeb.score import metrics

MODALITIES = ("image", "video", "visdoc")
KEYS = (*metrics.KEYS, "num_pred", "num_data")
"""Keys of one data set's scores, in the leaderboard's order."""
METADATA = (
    "model_name",
    "model_backbone",
    "model_size",
    "embedding_dimension",
    "max_length_tokens",
    "model_release_date",
    "data_source",
    "url",
    "report_generated_date",
)
NOT_GIVEN = "NONE"
"""What the leaderboard asks for where a field does not apply."""
RENAMED = {"ViDoSeek-page": "ViDoSeek-page-fixed", "MMLongBench-page": "MMLongBench-page-fixed"}
"""Two data sets are filed under new names since their page numbers were corrected (November 2025)."""


def build(
    folder: Path,
    names: Mapping[str, Iterable[str]],
    metadata: Mapping[str, Any],
    *,
    told: Mapping[str, str | dict[str, int]] | None = None,
    now: datetime | None = None,
) -> dict[str, Any]:
    """The leaderboard's object for a result folder.

    Args:
        folder: holds `<modality>/<data set>/score.json`.
        names: the data sets of each modality that are listed, in order.
        metadata: values of `METADATA`; those that are missing become "NONE".
        told: for data sets that are not whole, a word that stands where their scores would, or keys beside them.
        now: time stamp; default: the present.

    A data set without scores is "DIR_N/A" (no folder of its modality), "FILE_N/A" (no scores), "JSON_ERROR" or
    "READ_ERROR".

    """
    unknown = set(metadata) - set(METADATA)
    if unknown:
        raise InputError(f"unknown metadata {sorted(unknown)[0]!r}: the leaderboard has {', '.join(METADATA)}.")
    defaults = {"data_source": "Self-Reported", "report_generated_date": (now or datetime.now()).isoformat()}
    given = {k: v for k, v in metadata.items() if v is not None}
    return {
        "metadata": {key: given.get(key, defaults.get(key, NOT_GIVEN)) for key in METADATA},
        "metrics": {
            modality: {
                RENAMED.get(name, name): _with(_scores(folder / modality, name), (told or {}).get(name, {}))
                for name in names.get(modality, ())
            }
            for modality in MODALITIES
        },
    }


def _with(scores: dict[str, Any] | str, told: str | dict[str, int]) -> dict[str, Any] | str:
    if isinstance(told, str):
        return told
    return scores if isinstance(scores, str) else {**scores, **told}


_MOST_BYTES = 16 << 20  # Of a data set's scores.


def _scores(folder: Path, name: str) -> dict[str, Any] | str:
    if not folder.is_dir():
        return "DIR_N/A"
    try:
        with _files.open_regular(folder / name / "score.json", _MOST_BYTES) as file:
            data = _files.read_bounded(file, _MOST_BYTES)
        found = json.loads(data.decode("utf-8-sig"))
    except FileNotFoundError:
        return "FILE_N/A"
    except (json.JSONDecodeError, RecursionError):
        return "JSON_ERROR"
    except (OSError, ValueError):  # Of what is no file, is endless, or is not UTF-8.
        return "READ_ERROR"
    if not isinstance(found, dict):
        return "JSON_ERROR"
    return {key: found[key] for key in KEYS if key in found}


def write(report: Mapping[str, Any], path: Path) -> None:
    """Write the object as the leaderboard's own files are: four spaces of indent."""
    write_json(path, report, ascii_only=True)


def read(path: Path) -> tuple[str, dict[str, dict[str, float]]]:
    """Name of the system and the scores of each data set of a leaderboard file, under old or new names.

    Raises InputError if the file is not one of version 2 (version 1 files hold accuracies only).
    """
    found = _files.read_json(path, "give the leaderboard's JSON of a system")
    groups = found.get("metrics") if isinstance(found, dict) else None
    if not isinstance(groups, dict) or not any(isinstance(groups.get(m), dict) for m in MODALITIES):
        raise InputError(f"{path} has no 'metrics' with image, video or visdoc: it is not a file of MMEB-V2's board.")
    old = {new: earlier for earlier, new in RENAMED.items()}
    scores: dict[str, dict[str, float]] = {}
    for modality in MODALITIES:
        group: dict[str, Any] = groups[modality] if isinstance(groups.get(modality), dict) else {}
        for key, values in group.items():
            if not isinstance(values, dict):
                continue
            if key in old or key not in scores:  # the corrected set wins where a file holds both
                scores[old.get(key, key)] = {k: float(v) for k, v in values.items() if _is_score(v)}
    about = found.get("metadata")
    model = about.get("model_name") if isinstance(about, dict) else None
    return _files.shown(model if isinstance(model, str) else path.stem), scores


def _is_score(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
