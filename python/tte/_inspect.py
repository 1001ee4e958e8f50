"""What a checkpoint is, and what its model sees: `tte info` and `tte show`. No weights are read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tte import _files, _hub, _text, _tte
from tte._pages import pages
from tte._processor import Processor
from tte._sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES

Json = dict[str, Any]

_FILES = IMAGE_SUFFIXES | VIDEO_SUFFIXES | {".pdf"}
_PAGE = re.compile(r"(?P<file>.+\.pdf)#page=(?P<number>[0-9]{1,9})", re.DOTALL | re.IGNORECASE)
_SAMPLE = "what is in the image ?"
_AGAIN = "save or fetch the checkpoint again"
_COLOURS = {
    "special": "2",
    "image": "36",
    "video": "35",
    "trace": "33",
    "suffix": "34",
    "latent": "33",
    "pooled": "30;42",
}


def info(
    path: str | os.PathLike[str],
    *,
    adapter: str | os.PathLike[str] | None = None,
    recipe: str | None = None,
    template_options: Mapping[str, bool | int | str] | None = None,
) -> Json:
    """Say what a checkpoint is: family, sizes, weights, adapter, the recipe in force and why, and a sample prompt.

    Raises `ModelError` naming the file for a checkpoint that does not fit.
    """
    folder, changes = _hub.locate(path, adapter)
    processor = Processor(folder, adapter=changes, recipe=recipe, template_options=template_options)
    base = _base_of(folder, changes)
    config = _read(base / "config.json")
    text = config.get("text_config") or config
    rules = processor.recipe
    head = _head_of(changes or folder)
    hidden = _projected(folder, rules) or (head["dimensions"] if head else text.get("hidden_size"))
    out: Json = {
        "path": str(folder),
        "family": config.get("model_type"),
        "architectures": config.get("architectures") or [],
        "adapter": None if head or (base == folder and changes is None) else str(changes or folder),
        "head": head,
        "base": str(base),
        "weights": _weights(base),
        "layers": text.get("num_hidden_layers"),
        "vocabulary": processor.tokenizer.vocab_size,
        "vector": {"dimensions": hidden, "truncated": _truncation(rules, hidden), "sparse": _sparse(folder, rules)},
        "latent": _latent(base, rules),
        "recipe": {"name": rules.get("name"), "why": processor.recipe_reason,
                   "description": rules.get("description", "")},
        "max_length": rules.get("max_length"),
        "request": None,
        "tasks": sorted(rules.get("tasks", {})),
        "sample": {stage: _text_of(processor, _rows(processor, _SAMPLE, stage=stage)) for stage in ("reason", "embed")},
    }  # fmt: skip
    request = rules.get("prompt", {}).get("request")
    if request:
        digest = hashlib.sha256(request.encode()).hexdigest()
        out["request"] = {"sha256": digest, "characters": len(request), "text": request}
    return out


def told(found: Mapping[str, Any]) -> str:
    """What `info` found, for people."""
    weights, vector, recipe = found["weights"], found["vector"], found["recipe"]
    lines = [("checkpoint", found["path"]), ("family", f"{found['family']}, {found['layers']} layers, "
              f"{found['vocabulary']:,} tokens")]  # fmt: skip
    lines.append(("weights", _told_of_weights(weights)))
    if found["head"] is not None:
        lines.append(("head", _told_of_head(found["head"], found["layers"], found["base"])))
    if found["adapter"] is not None:
        lines.append(("adapter", f"{found['adapter']}, of {found['base']}"))
    lines.append(("vectors", f"{vector['dimensions']} dimensions; {vector['truncated']}"))
    if vector["sparse"]:
        lines.append(("", f"and sparse ones, {vector['sparse']}"))
    if found["latent"]:
        lines.append(("thinks", _told_of_latent(found["latent"])))
    lines.append(("recipe", f"{recipe['name']}: {recipe['why']}"))
    if recipe["description"]:
        lines.append(("", recipe["description"]))
    if found["max_length"]:
        lines.append(("", f"texts are cut so that a prompt has at most {found['max_length']:,} tokens"))
    if found["tasks"]:
        lines.append(("tasks", ", ".join(found["tasks"])))
    if found["request"]:
        request = found["request"]
        lines.append(("request", f"{request['characters']} characters, sha256 {request['sha256'][:16]}"))
    sample = found["sample"]
    lines.append(("prompt", f"of {_SAMPLE!r}"))
    if sample["reason"] == sample["embed"] or found["latent"]:
        lines.append(("", sample["embed"]))
    else:
        lines += [("  to think", sample["reason"]), ("  to embed", sample["embed"])]
    return "\n".join(f"{name:<11} {value}".rstrip() for name, value in lines)


def _sparse(folder: Path, rules: Mapping[str, Any]) -> str | None:
    """Where the heads of sparse vectors are, and whether they are; None where the recipe has none."""
    name = rules.get("sparse", {}).get("file")
    if name is None:
        return None
    return f"by the heads in {name}" if (folder / name).is_file() else f"but their heads are missing: fetch {name}"


def _latent(folder: Path, rules: Mapping[str, Any]) -> Json | None:
    """How the model thinks in latent steps, where it does; the numbers of experts are those of its tensors."""
    latent = rules.get("latent")
    if latent is None:
        return None
    shapes = _shapes(folder, latent["tensors"])
    return {
        "steps": latent["steps"], "experts": shapes.get("router.weight", [None])[0],
        "experts_per_step": latent.get("experts_per_step", 1),
        "excluded_experts": latent.get("excluded_experts", []),
        "shared_expert": any(name.startswith("shared_expert.") for name in shapes),
    }  # fmt: skip


def _told_of_latent(latent: Json) -> str:
    steps = f"in {latent['steps']} latent steps while it embeds"
    if latent["experts"] is None:
        return f"{steps}, but their tensors are missing: fetch the whole checkpoint"
    excluded = f" (without {', '.join(map(str, latent['excluded_experts']))})" if latent["excluded_experts"] else ""
    shared = " and a shared one" if latent["shared_expert"] else ""
    return f"{steps}, each through {latent['experts_per_step']} of {latent['experts']} experts{excluded}{shared}"


def told_of_weights(folder: Path) -> str:
    """A line that says what weights a folder has."""
    return f"{folder}: {_told_of_weights(_weights(folder))}"


def _told_of_weights(weights: Json) -> str:
    size = f"{_bytes(weights['bytes'])} in {weights['files']} file{'s' * (weights['files'] != 1)}"
    size += f" ({', '.join(weights['dtypes'])})" if weights["dtypes"] else ""
    if weights["vision_bytes"]:
        size += f"; {_bytes(weights['vision_bytes'])} of them the vision tower"
    if weights["quantization"]:
        size += f"; rounded to {weights['quantization']} by `tte quantize`"
    return size


class Show:
    """The prompt of one item, token by token: its text, where media, trace and the pooled token stand."""

    def __init__(self, processor: Processor, item: Any, *, trace: str | None = None, **request: Any) -> None:
        self._tokenizer = processor.tokenizer
        stage = request.pop("stage", "embed" if trace is not None else "reason")
        data = processor(item, stage=stage, trace=trace, **request)
        self._latent = range(*data.get("latent_rows", (0, 0)))
        self.ids: list[int] = data["input_ids"][0].tolist()
        self.positions: list[list[int]] = data["position_ids"][:, 0].T.tolist()
        self.pooled: int = data["pooled_row"] if stage == "embed" else -1
        self._types: list[int] = data["mm_token_type_ids"][0].tolist()
        self._grids = {
            "image": _grids(data, "image_grid_thw"),
            "video": _grids(data, "video_grid_thw"),
        }
        self._trace, self._suffix = self._ends(processor, item, trace, stage, request)

    def _ends(self, processor: Processor, item: Any, trace: str | None, stage: str, request: Any) -> tuple[int, int]:
        """Where the trace and the recipe's suffix begin; the end where there is none."""
        end = len(self.ids)
        if stage != "embed":
            return end, end
        alone = processor(item, stage="embed", **request)["input_ids"][0].tolist()
        opened = processor(item, stage="reason", **request)["input_ids"][0].tolist()
        suffix = len(alone) - len(opened) if alone[: len(opened)] == opened else 0
        appended = self.ids[: len(opened)] == opened
        return (len(opened) if trace is not None and appended else end - suffix), end - suffix

    def kind(self, row: int) -> str:
        """What stands there: "text", "special", "image", "video", "trace", "latent" or "suffix"."""
        if self._types[row]:
            return "image" if self._types[row] == 1 else "video"
        if row in self._latent:
            return "latent"
        if row >= self._suffix:
            return "suffix"
        if row >= self._trace:
            return "trace"
        return "special" if not self._tokenizer.decode([self.ids[row]]) else "text"

    def rows(self) -> Iterator[str]:
        """A line for each token: place, id, positions (time, height, width), what it is, and its text."""
        for row, token in enumerate(self.ids):
            text = json.dumps(self._tokenizer.decode([token], skip_special=False), ensure_ascii=False)
            places = " ".join(f"{place:>5}" for place in self.positions[row])
            mark = " <- pooled" if row == self.pooled else ""
            yield f"{row:>6} {token:>7} {places}  {self.kind(row):<8} {text}{mark}"

    def text(self, colour: bool) -> str:
        """The prompt as it is read: runs of media tokens counted, trace and suffix marked, the pooled token shown."""
        out: list[str] = []
        grids = {kind: list(grids) for kind, grids in self._grids.items()}
        row = 0
        while row < len(self.ids):
            kind, start = self.kind(row), row
            row += 1
            if row - 1 == self.pooled:
                kind = "pooled"
            else:
                while row < len(self.ids) and self.kind(row) == kind and row != self.pooled:
                    row += 1
            text = self._tokenizer.decode(self.ids[start:row], skip_special=False)
            if kind in grids:
                size = grids[kind].pop(0) if grids[kind] else ""
                text = f"[{kind}: {row - start} tokens{size}]"
            if kind == "latent":
                text = f"[latent: {row - start} steps]"
            out.append(self._marked(kind, text, colour))
        return "".join(out)

    @staticmethod
    def _marked(kind: str, text: str, colour: bool) -> str:
        if kind == "pooled":
            text = json.dumps(text, ensure_ascii=False)[1:-1] if text.isspace() else text
        if colour and kind in _COLOURS:
            return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m"
        return f">>{text}<<" if kind == "pooled" else f"[trace: {text}]" if kind == "trace" else text

    def summary(self) -> str:
        """Sizes, in a line."""
        media = sum(kind != 0 for kind in self._types)
        parts = [f"{len(self.ids)} tokens", f"{media} of them of media"]
        if self._suffix > self._trace:
            parts.append(f"{self._suffix - self._trace} of the trace")
        if self._latent:
            parts.append(f"{len(self._latent)} latent steps")
        if self.pooled >= 0:
            parts.append(f"row {self.pooled} is pooled")
        return ", ".join(parts)


def colourful(wanted: str) -> bool:
    """Whether colours are written: "always", "never", or "auto" (a terminal, and no NO_COLOR)."""
    return wanted == "always" or (wanted == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR"))


def item_of(argument: str) -> Any:
    """An item of a command line: JSON as Python's calls take it, a file, a page ("report.pdf#page=3"), or a text.

    What is named as a file is, and is none, is refused: as a text it would have a vector, and nobody would notice.
    """
    if argument.lstrip().startswith(("{", "[")):
        try:
            return _files.parse_json(argument.encode())
        except (ValueError, RecursionError) as error:
            raise _tte.InputError(
                f"{_text.shown(argument)} is no JSON ({_files.reason(error)}): quote it as one argument, and give a "
                'text that begins so as {"text": ...}.'
            ) from None
    path, page = Path(argument), _PAGE.fullmatch(argument)
    suffix = ".pdf" if page else path.suffix.lower()
    try:
        found = bool(argument) and Path(page["file"] if page else argument).exists()
    except (OSError, ValueError):
        found = False
    if not found:
        if suffix in _FILES and not re.search(r"\s", argument):
            raise _tte.InputError(
                f'{_text.shown_path(argument)} is no file: check the path, or give a text as {{"text": ...}}.'
            )
        return argument
    if page:
        return pages(page["file"], pages=int(page["number"]))[0]
    if suffix == ".pdf":
        raise _tte.InputError(f"{_text.shown_path(argument)} is a document: give one of its pages, as with #page=1.")
    return {"video" if path.is_dir() or suffix in VIDEO_SUFFIXES else "image": str(path)}


def together(arguments: Sequence[str]) -> list[Any]:
    """All arguments as the parts of one item, in their order."""
    parts: list[Any] = []
    for item in map(item_of, arguments):
        kinds = [k for k in ("image", "video") if isinstance(item, dict) and {k} <= item.keys() <= {k, "name"}]
        parts.append({"type": kinds[0], kinds[0]: item[kinds[0]]} if kinds else item)
    return parts


def _rows(processor: Processor, item: Any, **request: Any) -> list[int]:
    rows: list[int] = processor(item, **request)["input_ids"][0].tolist()
    return rows


def _text_of(processor: Processor, ids: Sequence[int]) -> str:
    return json.dumps(processor.tokenizer.decode(ids, skip_special=False), ensure_ascii=False)[1:-1]


def _grids(data: Mapping[str, Any], key: str) -> list[str]:
    return [f", {t} x {h} x {w} patches" for t, h, w in data[key].tolist()] if key in data else []


def _read(file: Path) -> Json:
    value = _files.read_json(file, _AGAIN)
    return value if isinstance(value, dict) else {}


def _base_of(folder: Path, changes: Path | None) -> Path:
    """The folder with the tensors: that of the model which an adapter changes."""
    if changes is not None:
        return folder
    base = _tte.adapter_base(folder)
    return Path(base.folder) if base is not None and base.folder is not None else folder


def _head_of(folder: Path) -> Json | None:
    """What tte_head.json says, where there is one; its base was found by it already."""
    if not _hub.is_head(folder):
        return None
    said = _read(folder / "tte_head.json")
    pooling = said.get("pooling") or "last" if said.get("kind") == "layers" else None
    return {
        "kind": said.get("kind"), "layers": said.get("layers"), "pooling": pooling,
        "projection": bool(said.get("projection")), "dimensions": said.get("embedding_dim"),
        "bytes": _weights(folder)["bytes"],
    }  # fmt: skip


def _told_of_head(head: Mapping[str, Any], layers: int, base: str) -> str:
    size = f"{_bytes(head['bytes'])}, of {base}"
    count = head["layers"]
    if head["kind"] == "layers":
        return f"layers: in the place of the last {count} of {layers} layers, {head['pooling']} pooled; {size}"
    read = f"the states below the last {count} of {layers} layers" if count else f"the states of all {layers} layers"
    return f"{head['kind']}: pools {read}; {size}"


def _projected(folder: Path, recipe: Mapping[str, Any]) -> int | None:
    """How many values the last projection of a recipe makes, where it has one and its tensor is there."""
    projections = recipe.get("projection") or []
    if not projections:
        return None
    last = projections[-1]
    files = [folder / last["file"]] if last.get("file") else _tensor_files(folder)
    for file in files:
        for tensor in _tte.read_tensor_info(file).tensors:
            if tensor.name == f"{last.get('tensors', '')}weight":
                return tensor.shape[0]
    return None


def _shapes(folder: Path, prefix: str) -> dict[str, list[int]]:
    """Shapes of the tensors whose names begin so, by the rest of their names."""
    tensors = [tensor for file in _tensor_files(folder) for tensor in _tte.read_tensor_info(file).tensors]
    return {t.name.removeprefix(prefix): t.shape for t in tensors if t.name.startswith(prefix)}


def _tensor_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _weights(folder: Path) -> Json:
    """Bytes of the tensors and their dtypes, from the headers of the safetensors files."""
    files = [_tte.read_tensor_info(file) for file in _tensor_files(folder)]
    tensors = [tensor for file in files for tensor in file.tensors]
    dtypes: Counter[str] = Counter()
    for tensor in tensors:
        dtypes[tensor.dtype] += tensor.bytes
    rounded = next((file.quantization for file in files if file.quantization), None)
    return {
        "bytes": dtypes.total(), "files": len(files), "vision_bytes": sum(t.bytes for t in tensors if t.vision),
        "dtypes": [dtype for dtype, _ in dtypes.most_common()],
        "quantization": None if rounded is None else _text.shortened(rounded, 40),
    }  # fmt: skip


def _truncation(recipe: Mapping[str, Any], hidden: int | None) -> str:
    dims = recipe.get("dims")
    if dims is None:
        return "the recipe does not say whether they may be truncated"
    if isinstance(dims, dict):
        return f"trained to be truncated to {dims.get('from', 1)} and more"
    smaller = [str(dim) for dim in dims if dim != hidden]
    return f"trained to be truncated to {', '.join(smaller)}" if smaller else "not trained to be truncated"


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
