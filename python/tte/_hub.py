"""Where a checkpoint is: a folder, or a repository of the Hugging Face hub."""

from __future__ import annotations

import os
from pathlib import Path

from tte import _files, _text, _tte

_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "*.safetensors", "sparse_weights.pt"]


def resolve(path_or_id: str | os.PathLike[str], role: str = "reasoner") -> Path:
    """Return the folder of a checkpoint; `owner/name` (optionally `@revision`) is fetched from the hub's cache or site.

    "nano", unless a folder is called so, is the model of the bundled pair for the role.

    Raises `ModelError` saying what was tried.
    """
    if not isinstance(path_or_id, (str, os.PathLike)):
        raise _tte.ModelError(f"A checkpoint is a folder or a hub id, not {_text.shown(path_or_id)}.")
    text = _text.path(path_or_id, "the checkpoint", _tte.ModelError)
    path = Path(text)
    try:
        path = path.expanduser()
        if path.is_dir():
            return path.resolve()
        found = path.exists()
    except (OSError, RuntimeError) as error:  # A name that is too long, a link to itself, a home that is none.
        reason = getattr(error, "strerror", None) or str(error)
        raise _tte.ModelError(f"{_text.shown(str(path))} is not a folder that can be opened ({reason}).") from None
    if text == "nano" and role != "adapter":
        return bundled(role)
    if path.is_file():
        return path  # Whoever loads it says what it is instead.
    repository, _, revision = text.partition("@")
    if found or repository.count("/") != 1 or repository.startswith((".", "/", "~")):
        raise _tte.ModelError(
            f"{_text.shown(text)} is not a folder: give the folder of a checkpoint (with config.json), or a hub id "
            "such as 'Qwen/Qwen2-VL-2B-Instruct'."
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=_FILES))
    except Exception as error:  # Of the hub's own and of its HTTP client's kinds, which change between versions.
        why = _files.shown(f"{type(error).__name__}: {error}", 200)
        raise _tte.ModelError(
            f"{_text.shown(text)} is neither a folder nor a hub repository that can be reached ({why}): check the "
            "name, or download it and give its folder."
        ) from error


def locate(
    path_or_id: str | os.PathLike[str], adapter: str | os.PathLike[str] | None = None, role: str = "reasoner"
) -> tuple[Path, Path | None]:
    """Return the folders of a checkpoint and of its adapter; the base of an adapter given alone is resolved too.

    Raises `ModelError` saying what was tried.
    """
    path = resolve(path_or_id, role)
    if adapter is not None:
        return path, resolve(adapter, "adapter")
    base = _tte.adapter_base(path)
    if base is None or base.folder is not None or not base.name:
        return path, None
    name = f"{base.name}@{base.revision}" if base.revision else base.name
    try:
        return resolve(name), path
    except _tte.ModelError as error:
        what = "an embedding head" if is_head(path) else "an adapter"
        raise _tte.ModelError(
            f"{_text.shown(str(path))} is {what} of {_text.shown(base.name)}, which was not found: give the model "
            f"that it changes and adapter=... ({_text.shortened(str(error), 120).rstrip('.')})."
        ) from None


def is_head(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds an embedding head (TTE-u)."""
    return (Path(folder) / "tte_head.json").is_file()


def bundled(name: str) -> Path:
    """Folder of a model of the bundled nano pair: 'reasoner', 'embedder' or 'embedder-no-think'."""
    folder = Path(__file__).parent / "models" / "nano" / name
    if not folder.is_dir():
        raise _tte.ModelError(f"The bundled model {name!r} is not at {folder}: reinstall think-then-embed.")
    return folder
