"""tte as a module of sentence-transformers.

    >>> from sentence_transformers import SentenceTransformer
    >>> from tte.integrations.sentence_transformers import TteModule, load
    >>> model = SentenceTransformer(modules=[TteModule("my-embedder", reasoner="my-reasoner")])   # doctest: +SKIP
    >>> model.encode_query(["what is left of the circle?", {"image": "a.png", "text": "which bird?"}])  # doctest: +SKIP
    >>> model.encode_document([{"image": "page.png"}, {"video": "clip.mp4"}])                     # doctest: +SKIP
    >>> model.save_pretrained("my-model"); model = load("my-model")                               # doctest: +SKIP

Everything that takes a SentenceTransformer, or the folder of one (with trust_remote_code), then takes tte.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal

import tte
from tte import _files, _hub, _options, _text, _tte
from tte._inputs import to_native
from tte._items import Turn, looking_at
from tte._models import folders
from tte._options import PathLike
from tte.integrations import missing_extra
from tte.integrations._media import MAX_DECODER_FRAMES, VideoWalk, is_decoder
from tte.integrations._pair import Pair, Side, Think, check_decoding, resolve_models, resolve_think

try:
    import torch
    from sentence_transformers import SentenceTransformer, SimilarityFunction
    from sentence_transformers.base.modality import infer_modality
    from sentence_transformers.base.modules import InputModule, Normalize
except ImportError as _error:
    raise missing_extra(__name__, "sentence-transformers", _error) from _error

MODALITIES = ["text", "image", "video", "message"]
_SIDES: dict[str, Side] = {"query": "query", "document": "target", "target": "target"}
_SKIPPED = ("*.bin", "*.pt", "*.pth", "*.msgpack", "*.h5", "*.onnx", ".git", ".cache", "recipe.json")


class TteModule(InputModule):
    """An embedder, perhaps with a reasoner, as the only module of a SentenceTransformer.

    `encode` takes what sentence-transformers takes (text, images, videos, chat messages, dicts with the keys text,
    image and video) and what tte takes (dicts with images, videos and instruction, lists of parts). Strings that are
    the path of an image or a video, or a ``data:`` URI, are taken as such, which is sentence-transformers' rule;
    ``{"text": ...}`` makes them text. A prompt (`prompt`, `prompt_name`) is the instruction and goes where the
    recipe says; for whole chat messages it is a system turn, as in sentence-transformers.

    `encode_query` embeds on the query side and `encode_document` on the target side, which decides the recipe's
    preset and whether there is thinking. `encode(..., task="image_qa")` takes that preset on the query side.
    Vectors are already normalised as the recipe says; with `truncate_dim`, ask for `normalize_embeddings=True`.

    Args:
        embedder: an Embedder, or the path or hub id of one; None (with no reasoner): the bundled nano pair.
        reasoner: a Reasoner, or the path or hub id of one; None: nothing is reasoned about.
        think: True, False, "queries" or "recipe"; default: as the recipe says where there is a reasoner.
        family: task family of the recipe's presets ("image_qa", ...), for every call.
        device: "cpu", "cuda", "cuda:1"; default: where the SentenceTransformer is, also after `model.to(...)`.
            Models that are handed in loaded stay where they are.
        dtype: "auto" (the checkpoint's own), "float32", "bfloat16", "float16".
        embedder_recipe: a recipe file or the name of a bundled recipe; default: the checkpoint's.
        reasoner_recipe: likewise.
        embedder_options: further arguments of :class:`tte.Embedder` for an embedder that is given as a path or hub
            id: dtype (over the one above), quantization, adapter, template_options, parse_control_tokens, media_limits.
        reasoner_options: likewise.
        max_video_frames: most frames read from a torchcodec decoder; files are sampled by the recipe.
        decoding: `max_new_tokens`, `temperature` and so on, as in :func:`tte.think_then_embed`.

    Raises:
        InputError: the settings do not go together; from `encode`: an item cannot be used, by its place in the batch.
        ModelError: a checkpoint does not fit.

    Vectors have no gradients: this is for inference, not for training.

    """

    save_in_root = False
    config_file_name = "tte_config.json"

    def __init__(  # noqa: PLR0913
        self,
        embedder: tte.Embedder | PathLike | None = None,
        reasoner: tte.Reasoner | PathLike | None = None,
        *,
        think: Think | None = None,
        family: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
        embedder_recipe: PathLike | None = None,
        reasoner_recipe: PathLike | None = None,
        embedder_options: Mapping[str, Any] | None = None,
        reasoner_options: Mapping[str, Any] | None = None,
        max_video_frames: int = MAX_DECODER_FRAMES,
        **decoding: Any,
    ) -> None:
        super().__init__()
        embedder, reasoner = resolve_models(embedder, reasoner)
        settings = _checked(reasoner is not None, think, family, device, dtype, max_video_frames, **decoding)
        self.think, self.family, self._device, self._dtype, self.max_video_frames, self.decoding = settings
        loading = {
            "embedder": _loading(embedder_options, "embedder_options"),
            "reasoner": _loading(reasoner_options, "reasoner_options"),
        }
        if reasoner is None and loading["reasoner"]:
            raise tte.InputError("reasoner_options were given without reasoner: give the checkpoint's path with them.")
        self._embedder = _Source("embedder", embedder, embedder_recipe, self._dtype, loading["embedder"])
        self._reasoner = None
        if reasoner is not None:
            self._reasoner = _Source("reasoner", reasoner, reasoner_recipe, self._dtype, loading["reasoner"])
        self._loaded: Pair | None = None
        self._loaded_on = ""
        # Follows the module through .to() and .cuda(), and so says where sentence-transformers wants the work done.
        self.register_buffer("_anchor", torch.empty(0), persistent=False)

    @property
    def modalities(self) -> list[str]:
        """What `encode` takes; the parts of a dict may be combined."""
        return list(MODALITIES)

    def get_embedding_dimension(self) -> int:
        """Size of a vector; loads the model if need be."""
        return self.pair.dim

    @property
    def pair(self) -> Pair:
        """The loaded models, on the device that the module is on."""
        device = self._device or _device_name(self._anchor.device)
        if self._loaded is None or self._loaded_on != device:
            self._loaded = None  # Frees the other device's memory first.
            embedder = self._embedder.load(tte.Embedder, device)
            reasoner = None
            if self.think and self._reasoner is not None:
                reasoner = self._reasoner.load(tte.Reasoner, embedder.backend.device)
            think = self.think if reasoner is not None else False
            self._loaded = Pair(embedder, reasoner, think=think, family=self.family, decoding=self.decoding)
            self._loaded_on = device
        return self._loaded

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, task: str | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Turn a batch into tte's inputs; decoding of media and tokenising happen in `forward`, beside the model.

        Raises:
            InputError: an item cannot be used, or an option is none of this module's.

        """
        unknown = sorted(key for key, value in kwargs.items() if value is not None)
        if unknown:
            raise tte.InputError(f"{unknown[0]} is not an option of TteModule: its recipe decides how inputs are read.")
        prompt, task = _options.text(prompt, "prompt") or None, _options.text(task, "task")
        items = []
        for index, item in enumerate(inputs):
            with looking_at(f"item {index}"):
                items.append(self._to_input(item, f"item {index}", prompt))
        return {"tte_inputs": items, "tte_task": task}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add "sentence_embedding", float32 [N, dim], on the module's device."""
        task = features["tte_task"]
        side = _SIDES.get(task or "query", "query")
        family = None if task is None or task in _SIDES else task
        vectors = self.pair.run(features["tte_inputs"], side=side, family=family)
        features["sentence_embedding"] = torch.from_numpy(vectors.embeddings).to(self._anchor.device)
        return features

    def _to_input(self, item: Any, name: str, prompt: str | None) -> _tte.Input:
        if isinstance(item, (list, tuple)):
            if not item or not any(all(isinstance(p, Mapping) and key in p for p in item) for key in ("role", "type")):
                raise tte.InputError(
                    f"{name} is a list: chat messages are dicts with a role, parts are dicts with a type, the frames "
                    'of a video are {"video": [...]}, and the halves of a pair are encoded one by one.'
                )
        elif not isinstance(item, Mapping) or "array" in item:
            item = self._typed(item, name)
        elif _is_video_list(item.get("video")):
            item = {"videos" if key == "video" else key: value for key, value in item.items()}
        read = _Walk(name, max_frames=self.max_video_frames).read(item)
        if prompt is not None and read.turns:
            read = replace(read, turns=(Turn("system", prompt), *read.turns))
        elif read.instruction is None:
            read = replace(read, instruction=prompt)
        return to_native(read, name)

    def _typed(self, item: Any, name: str) -> Any:
        """Part of an item that does not say what it is, by sentence-transformers' own rules."""
        if isinstance(item, (bytes, bytearray, memoryview, Path)):
            return {"type": "image", "image": item}
        try:
            kind = infer_modality(item)
        except ValueError as error:
            why = str(error).splitlines()[0].rstrip(".")
            raise tte.InputError(
                f"{name} is {_text.shown(item, 40)} ({_text.shortened(why, 160)}): give a text, an image, a video, a "
                "dict of them or chat messages, or leave it out."
            ) from None
        if kind == "audio":
            raise tte.InputError(
                f"{name} has audio, which tte's models cannot hear: leave it out, or transcribe it to text."
            )
        if isinstance(item, str) and kind in ("image", "video") and item.startswith(("http://", "https://")):
            raise tte.InputError(
                f"{name}: tte does not download {kind}s: save {_text.shown(item)} to a file first; "
                f'{{"text": ...}} embeds the address itself.'
            )
        return {"type": kind, kind: item}

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings, without the checkpoints."""
        options = {f"{source.role}_options": source.settings() for source in self._sources()}
        return {
            "think": self.think,
            "family": self.family,
            "device": self._device,
            "dtype": self._dtype,
            "max_video_frames": self.max_video_frames,
            **{name: given for name, given in options.items() if given},
            **self.decoding,
        }

    def _sources(self) -> list[_Source]:
        return [source for source in (self._embedder, self._reasoner) if source is not None]

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Copy the checkpoints into ``embedder/`` and ``reasoner/``, each with the recipe in force, and the settings.

        The folder needs nothing else: an adapter or embedding head goes into ``embedder_adapter/`` or
        ``reasoner_adapter/``, and the model that it changes beside it. The weights are safetensors files whatever
        `safe_serialization` says.

        Raises:
            InputError: a model cannot be in a folder, before anything is copied; or a file cannot be written.

        """
        folder = Path(output_path)
        for source in self._sources():
            source.check_savable(folder)
        for source in self._sources():
            source.copy(folder)
        self.save_config(output_path)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> TteModule:
        """Load what `save` wrote, from a folder or the hub. `model_kwargs` override the saved settings.

        Raises:
            InputError: the saved settings, or those of `model_kwargs`, are none of a TteModule.
            ModelError: there is no TteModule, or a checkpoint of it does not fit.

        """
        where: dict[str, Any] = {
            "subfolder": subfolder,
            "token": token,
            "cache_folder": cache_folder,
            "revision": revision,
            "local_files_only": local_files_only,
        }
        options = _overrides(model_kwargs)
        folder = cls.load_dir_path(model_name_or_path, **where)
        file = cls.load_file_path(model_name_or_path, cls.config_file_name, **where)
        if folder is None or file is None or not os.path.isdir(os.path.join(folder, "embedder")):
            name = _text.shown_path(Path(model_name_or_path) / subfolder)
            raise tte.ModelError(f"{name} has no {'embedder' if file else cls.config_file_name}: {_AGAIN}.")
        reasoner = Path(folder) / "reasoner" if os.path.isdir(os.path.join(folder, "reasoner")) else None
        saved = _read_object(Path(file))
        if "think" in options:
            saved.pop("think", None)
        try:
            for name in _ROLES:
                saved.update(_found_options(Path(folder), name, saved, options))
            _checked(reasoner is not None, **{key: saved[key] for key in saved if key not in _ROLES.values()})
        except tte.InputError as error:
            why = _files.shown(str(error), 300).rstrip(".")
            raise tte.InputError(f"{_text.shown_path(file)}: {why}; {_AGAIN}.") from None
        options = {key: value for key, value in options.items() if not isinstance(saved.get(key), dict)}
        return cls(Path(folder) / "embedder", reasoner, **{**saved, **options})

    def __getstate__(self) -> dict[str, Any]:
        """Leave the loaded models out: another process, or a copy, loads its own."""
        for source in (self._embedder, self._reasoner):
            if source is not None:
                source.check_movable()
        return {**self.__dict__, "_loaded": None, "_loaded_on": ""}


def load(folder: PathLike, *, model_kwargs: Mapping[str, Any] | None = None, **options: Any) -> SentenceTransformer:
    """Load a model that `SentenceTransformer.save_pretrained` wrote from a TteModule.

    sentence-transformers loads classes from outside itself only with ``trust_remote_code=True``, and then also runs
    the code that a folder brings. Here the modules are made without it, a TteModule and perhaps Normalize behind it,
    and it never sees the folder: nothing in there is imported, run or unpickled.

    Args:
        folder: where the model was saved.
        model_kwargs: settings of the TteModule that override the saved ones.
        options: further arguments of SentenceTransformer: device, prompts, default_prompt_name, similarity_fn_name,
            truncate_dim, model_card_data.

    Raises:
        InputError: a file of the folder is damaged, or an option is none of these.
        ModelError: the folder has no model, or one with other classes.

    """
    folder = _text.expanded(folder, "folder")
    for name in options:
        if name not in _OPTIONS:
            near = _text.meant(name, _OPTIONS) or f": its options are {', '.join(_OPTIONS)}."
            raise tte.InputError(f"load() has no argument {_text.shown(name)}{near}")
    overrides = _overrides(model_kwargs)
    modules: list[torch.nn.Module] = []
    for kind, path in _read_modules(folder / "modules.json"):
        modules.append(kind.load(str(folder), path, model_kwargs=overrides) if kind is TteModule else kind())
    saved = _read_model(folder / "config_sentence_transformers.json")
    prompts = {**saved.pop("prompts", {}), **(options.pop("prompts", None) or {})}
    given = {name: value for name, value in options.items() if value is not None}
    return SentenceTransformer(modules=modules, prompts=prompts, **{**saved, **given})


_CLASSES: dict[str, Any] = {f"{kind.__module__}.{kind.__name__}": kind for kind in (TteModule, Normalize)}
"""The only classes whose names in a folder :func:`load` takes: neither runs anything that the folder has."""
_OPTIONS = ("device", "prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim", "model_card_data")
"""Arguments of SentenceTransformer that are not about where a model is and what may be run to load it."""
_AGAIN = "save the model again"
_ROLES = {"embedder": "embedder_options", "reasoner": "reasoner_options"}


def _limits(given: object) -> tte.MediaLimits:
    """Limits as they are, or as a saved model has them."""
    names = [field.name for field in fields(tte.MediaLimits)]
    if isinstance(given, Mapping) and all(key in names for key in given):
        return tte.MediaLimits(**given)
    if not isinstance(given, tte.MediaLimits):
        raise _options.refuse("media_limits", given, "a tte.MediaLimits")
    return given


_LOADING: dict[str, Callable[[Any], Any]] = {
    "dtype": _options.dtype,
    "quantization": _options.quantization,
    "adapter": lambda given: _text.path(given, "adapter"),
    "template_options": _options.template_options,
    "parse_control_tokens": lambda given: _options.flag(given, "parse_control_tokens"),
    "media_limits": _limits,
}
"""Arguments of a model on which its vectors depend beside its checkpoint and recipe, and what checks each."""


def _loading(given: object, name: str) -> dict[str, Any]:
    """Check arguments with which a model is to be loaded; those that are as they would be without are left out."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise _options.refuse(name, given, f"a dict of {', '.join(_LOADING)}, or None")
    for key in given:
        if key not in _LOADING:
            near = _text.meant(key, list(_LOADING)) or f": they are {', '.join(_LOADING)}."
            raise tte.InputError(f"{name} has no {_text.shown(key, 40)}{near}")
    checked = {key: _LOADING[key](value) for key, value in given.items() if value is not None}
    usual: tuple[Any, ...] = ("auto", "none", {}, False, tte.MediaLimits())
    return {key: value for key, value in checked.items() if value not in usual}


def _found_options(
    folder: Path, role: str, saved: Mapping[str, Any], overrides: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The options of one model of a saved folder, whose adapter is the one beside it and no other."""
    name = _ROLES[role]
    found = _loading(saved.get(name), name)
    if found and not (folder / role).is_dir():
        raise tte.InputError(f"it has {name}, and there is no {role}")
    adapter = found.pop("adapter", None)
    if adapter is not None:
        if adapter != f"{role}_adapter" or not (folder / adapter).is_dir():
            raise tte.InputError(f"its adapter {_text.shown(adapter, 40)} is not the folder {role}_adapter beside it")
        found["adapter"] = str(folder / adapter)
    if "dtype" in overrides:
        found.pop("dtype", None)
    given = overrides.get(name)
    return {name: {**found, **given} if isinstance(given, Mapping) else found}


def _read_modules(index: Path) -> list[tuple[Any, str]]:
    """The classes that a folder's modules are of, all of them known here, and where each is in it.

    Raises `InputError` for a damaged file, `ModelError` where there is none, or for other classes.
    """
    name, give = _text.shown_path(index), "give a folder that SentenceTransformer.save_pretrained wrote"
    with _files.reading(index, give):
        if not index.is_file():
            raise tte.ModelError(f"{name} does not exist: {give}.")
        listed = _files.read_json(index, _AGAIN)
        if not isinstance(listed, list) or not all(isinstance(module, dict) for module in listed):
            raise ValueError(f"it has {_text.shown(listed, 40)} where a list of modules belongs")
        found = [(module["type"], module["path"]) for module in listed]
        for text in (each for pair in found for each in pair):
            if not isinstance(text, str):
                raise ValueError(f"it has {_text.shown(text, 40)} where a text belongs")
    for kind, path in found:
        if kind not in _CLASSES:
            raise tte.ModelError(
                f"{name} names the class {_text.shown(kind)}, which load() does not take: if you trust all code that "
                "the folder names, use SentenceTransformer(folder, trust_remote_code=True)."
            )
        if path == ".." or path != Path(path).name:
            raise tte.ModelError(f"{name} has a module in {_text.shown(path)}, which is no folder beside it: {_AGAIN}.")
        _text.path(index.parent / path, f"{name}: the path", tte.ModelError)
    modules = [(_CLASSES[kind], path) for kind, path in found]
    if [kind is TteModule for kind, _ in modules] != [index == 0 for index in range(len(modules) or 1)]:
        raise tte.ModelError(f"{name} has other modules than one TteModule and what is behind it: {_AGAIN}.")
    return modules


def _read_model(file: Path) -> dict[str, Any]:
    """The options of a SentenceTransformer that were saved with it. Raises `InputError` for a damaged file."""
    found = _read_object(file) if os.path.lexists(file) else {}
    found = {name: value for name, value in found.items() if name in _OPTIONS and value is not None}
    right: dict[str, Callable[[Any], bool]] = {
        "prompts": lambda given: isinstance(given, dict) and all(isinstance(v, str | None) for v in given.values()),
        "default_prompt_name": lambda given: given in list(found.get("prompts", ())),
        "similarity_fn_name": lambda given: given in SimilarityFunction.possible_values(),
        "truncate_dim": lambda given: type(given) is int and 1 <= given <= _options.INT32,
    }
    with _files.reading(file, _AGAIN):
        for name, fine in right.items():
            if name in found and not fine(found[name]):
                raise ValueError(f"its {name} cannot be {_text.shown(found[name], 40)}")
    return {name: found[name] for name in right if name in found}


def _read_object(file: Path) -> dict[str, Any]:
    found = _files.read_json(file, _AGAIN)
    if not isinstance(found, dict):
        has = _text.shown(found, 40)
        raise tte.InputError(f"{_text.shown_path(file)} has {has} where an object belongs: {_AGAIN}.")
    return found


def _overrides(model_kwargs: Any) -> dict[str, Any]:
    """The `model_kwargs` of a call, as settings of a TteModule."""
    if model_kwargs is None:
        return {}
    names = list(model_kwargs) if isinstance(model_kwargs, Mapping) else [None]
    if not all(isinstance(name, str) and name not in ("embedder", "reasoner") for name in names):
        what = 'a dict of a TteModule\'s settings, such as {"think": False}, without its models'
        raise _options.refuse("model_kwargs", model_kwargs, what)
    options = dict(model_kwargs)
    if "torch_dtype" in options:
        options["dtype"] = options.pop("torch_dtype")
    if "dtype" in options:
        options["dtype"] = str(options["dtype"]).removeprefix("torch.")
    return options


def _checked(
    has_reasoner: bool,
    /,
    think: Think | None = None,
    family: str | None = None,
    device: str | None = None,
    dtype: str = "auto",
    max_video_frames: int = MAX_DECODER_FRAMES,
    **decoding: Any,
) -> tuple[Think, str | None, str | None, str, int, dict[str, Any]]:
    """The settings of a module in this order, the last those of decoding. Raises `InputError` for one that is none."""
    return (
        resolve_think(think, has_reasoner),
        _options.text(family, "family"),
        None if device is None else _options.device(device),
        _options.dtype(dtype),
        _options.whole(max_video_frames, "max_video_frames", 1, _options.INT32),
        check_decoding(decoding),
    )


class _Walk(VideoWalk):
    """The walk over an item, in which a dict may have several texts."""

    def texts(self, value: Any) -> list[str]:
        return [self.text(text) for text in value] if isinstance(value, (list, tuple)) else super().texts(value)


class _Source:
    """A checkpoint: where it is and how it is to be loaded, or a model that is loaded already."""

    def __init__(self, role: str, model: Any, recipe: PathLike | None, dtype: str, options: dict[str, Any]) -> None:
        self.role = role
        self.given = model if isinstance(model, (tte.Embedder, tte.Reasoner)) else None
        if self.given is not None:
            if recipe is not None or dtype != "auto" or options:
                raise tte.InputError(
                    "recipe, dtype and options belong to loading: give the checkpoint's path with them."
                )
            where = folders(self.given.model)
            own = {name: value for name, value in self.given._given.items() if name in _LOADING}
            self.options = _loading({**own, "adapter": where["adapter"]}, role)
            self.path, self.recipe = Path(where["path_or_id"]), None
            return
        adapter = options.get("adapter")
        self.path, changes = _hub.locate(model, adapter, role)
        # A file is found from any working directory; anything else is the name of a bundled recipe.
        given = _options.recipe(recipe) or None
        self.recipe = str(Path(given).resolve()) if given is not None and os.path.isfile(given) else given
        base = _tte.adapter_base(self.path) if changes is None else None
        if base is not None and base.folder is not None:
            self.path, changes = base.folder.resolve(), self.path
        self.options = {"dtype": dtype, **options, "adapter": None if changes is None else str(changes)}
        self.processor()  # What does not fit is found now, without reading the weights.

    def processor(self) -> tte.Processor:
        reads = ("adapter", "template_options", "parse_control_tokens", "media_limits")
        options = {name: value for name, value in self.options.items() if name in reads}
        return tte.Processor(self.path, recipe=self.recipe, **options)

    def load(self, kind: type[Any], device: str) -> Any:
        if self.given is not None:
            if not isinstance(self.given, kind):
                raise tte.InputError(f"a {type(self.given).__name__} was given where the {kind.__name__} belongs.")
            return self.given
        return kind(self.path, device=device, recipe=self.recipe, **self.options)

    def settings(self) -> dict[str, Any]:
        """The options as a saved folder has them: its own adapter, and limits as a dict."""
        kept = _loading(self.options, self.role)
        if "adapter" in kept:
            kept["adapter"] = f"{self.role}_adapter"
        if "media_limits" in kept:
            kept["media_limits"] = asdict(kept["media_limits"])
        return kept

    def check_movable(self) -> None:
        if self.given is not None:
            raise tte.InputError(
                "A module made from a loaded model cannot be copied or sent to another process: make it from the "
                f"checkpoint's path ({self.path})."
            )

    def check_savable(self, folder: Path) -> None:
        if self.given is not None and self.given.model.server:
            raise tte.InputError(f"{self.given!r} is behind a server, and a folder cannot have it: save without it.")
        parts = 1 if self.given is None else self.given.backend._native.options.tensor_parallel
        if parts > 1 and "quantization" in self.options:
            raise tte.InputError(
                f"{_text.shortened(repr(self.given), 200)} was rounded in {parts} parts (tensor_parallel), which a "
                "folder cannot have: save a model that is loaded without tensor_parallel."
            )
        adapter = self.options.get("adapter")
        if adapter is not None and (folder / self.role).resolve() == Path(adapter).resolve():
            raise tte.InputError(f"{_text.shown_path(adapter)} is what would be written over: save to another folder.")

    def copy(self, folder: Path) -> None:
        """Copy the checkpoint, and its adapter beside it, which then has the recipe."""
        recipe = json.loads(self.given.model.recipe) if self.given is not None else self.processor().recipe
        parts = [(self.path, folder / self.role)]
        if self.options.get("adapter") is not None:
            parts.append((Path(self.options["adapter"]), folder / f"{self.role}_adapter"))
        to = folder
        try:
            for source, to in parts:
                if to.resolve() != source.resolve():
                    shutil.copytree(source, to, ignore=shutil.ignore_patterns(*_SKIPPED), dirs_exist_ok=True)
            (to / "recipe.json").write_text(json.dumps(recipe, indent=2, ensure_ascii=False), encoding="utf-8")
        except OSError as error:
            why = error.args[0][0][2] if isinstance(error, shutil.Error) else error  # Of copytree: of the first file.
            raise tte.InputError(
                f"{_text.shown_path(to)} cannot be written ({_files.shown(str(why), 200)}): save to another disk "
                "or folder."
            ) from None


def _device_name(device: torch.device) -> Literal["cpu"] | str:
    if device.type not in ("cpu", "cuda", "meta"):
        raise tte.InputError(f"tte runs on cpu and cuda, not on {device}: give SentenceTransformer device='cpu'.")
    return "cpu" if device.type != "cuda" else str(device)


def _is_video_list(value: Any) -> bool:
    """Whether the value of "video" is a list of videos and not one video's list of frames."""
    if not isinstance(value, (list, tuple)) or not value:
        return False
    first = value[0]
    if isinstance(first, str):
        return bool(infer_modality(first) == "video")
    return isinstance(first, Mapping) or is_decoder(first) or getattr(first, "ndim", 0) == 4
