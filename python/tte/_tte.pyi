"""
The C++ engine of tte. Use the package `tte`, which wraps it.
"""

from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import os
import pathlib
import typing

__all__: list[str] = [
    "AdapterBase",
    "Alpha",
    "Backend",
    "BackendOptions",
    "BackendStats",
    "CallStats",
    "CancelToken",
    "CancelledError",
    "DeviceError",
    "DeviceInfo",
    "DraftOptions",
    "Embedder",
    "Embeddings",
    "Error",
    "FinishReason",
    "GenerateOptions",
    "Image",
    "Input",
    "InputError",
    "ItemError",
    "LoadOptions",
    "MAX_IMAGE_PIXELS",
    "MediaLimits",
    "Message",
    "ModelDescription",
    "ModelError",
    "OnError",
    "OnToken",
    "OutOfMemoryError",
    "Processor",
    "Reasoner",
    "RemoteError",
    "RemoteOptions",
    "Resize",
    "Side",
    "SparseEmbeddings",
    "Stage",
    "Task",
    "TensorFileInfo",
    "TensorInfo",
    "ThinkMode",
    "ThinkThenEmbed",
    "ThinkThenEmbedResult",
    "Timings",
    "TokenEmbeddings",
    "TokenOptions",
    "TokenPooling",
    "Tokenizer",
    "Trace",
    "Video",
    "adapter_base",
    "check_text",
    "image_suffixes",
    "maxsim",
    "quantize",
    "read_tensor_info",
    "thumbnails",
]

class Error(Exception):
    """
    Base of everything that tte raises on purpose.
    """

class InputError(Error, ValueError):
    """
    An input or an option cannot be used; names the item and the file.
    """

class ModelError(Error, RuntimeError):
    """
    A checkpoint, recipe or tokenizer file is missing, damaged or does not fit.
    """

class DeviceError(Error, RuntimeError):
    """
    A device, or memory on it, is not available.
    """

class OutOfMemoryError(DeviceError, MemoryError):
    """
    Memory ran out; says where, how much was wanted if that is known, and what lowers it.
    """

class RemoteError(Error, RuntimeError):
    """
    A server did not give a trace; says what it said. `status` is that of its answer, 0 without one.
    """

    status: typing.ClassVar[int] = 0

class CancelledError(Error):
    """
    The call was stopped before it finished.
    """

class Alpha:
    """
    What to do with transparency.

    Members:

      DROP : Forget it, as transformers does with files.

      OVER_WHITE : Composite over white, as transformers does with PIL images.

      OVER_BLACK : Composite over black.
    """

    DROP: typing.ClassVar[Alpha]
    OVER_BLACK: typing.ClassVar[Alpha]
    OVER_WHITE: typing.ClassVar[Alpha]
    __members__: typing.ClassVar[dict[str, Alpha]]
    @typing.overload
    def __eq__(self, other: Alpha) -> bool: ...
    @typing.overload
    def __eq__(self, other: typing.Any) -> bool: ...
    def __getstate__(self) -> int: ...
    def __hash__(self) -> int: ...
    def __index__(self) -> int: ...
    def __init__(self, value: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __int__(self) -> int: ...
    @typing.overload
    def __ne__(self, other: Alpha) -> bool: ...
    @typing.overload
    def __ne__(self, other: typing.Any) -> bool: ...
    def __repr__(self) -> str: ...
    def __setstate__(self, state: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __str__(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...

class Resize:
    """
    What an image, or the frames of a video, are resized to.
    """
    def __init__(
        self,
        min_pixels: typing.SupportsInt | typing.SupportsIndex | None = None,
        max_pixels: typing.SupportsInt | typing.SupportsIndex | None = None,
        height: typing.SupportsInt | typing.SupportsIndex | None = None,
        width: typing.SupportsInt | typing.SupportsIndex | None = None,
    ) -> None: ...

class Image:
    """
    One image: a file, an encoded file in memory, or decoded pixels.
    """
    @staticmethod
    def from_array(array: numpy.ndarray, alpha: Alpha = ..., resize: Resize = ...) -> Image: ...
    @staticmethod
    def from_bytes(data: bytes, alpha: Alpha = ..., resize: Resize = ...) -> Image: ...
    @staticmethod
    def from_path(path: os.PathLike | str | bytes, alpha: Alpha = ..., resize: Resize = ...) -> Image: ...

class Video:
    """
    One video: a file, a folder of frames, or a list of frames.
    """
    def __init__(
        self,
        source: os.PathLike | str | bytes | collections.abc.Sequence[Image],
        fps: typing.SupportsFloat | typing.SupportsIndex | None = None,
        num_frames: typing.SupportsInt | typing.SupportsIndex | None = None,
        source_fps: typing.SupportsFloat | typing.SupportsIndex | None = None,
        resize: Resize = ...,
    ) -> None: ...

class Message:
    """
    One chat turn.
    """
    def __init__(
        self, role: str, parts: collections.abc.Sequence[str | Image | Video], plain: bool = False
    ) -> None: ...
    @property
    def role(self) -> str: ...

class Input:
    """
    One item: ordered parts with an instruction, or whole chat messages.
    """
    def __init__(
        self,
        parts: collections.abc.Sequence[str | Image | Video] = [],
        instruction: str | None = None,
        messages: collections.abc.Sequence[Message] = [],
        name: str = "",
        error: str = "",
    ) -> None: ...

class FinishReason:
    """
    Why a trace ended.

    Members:

      STOP : An end token or a stop string.

      LENGTH : max_new_tokens was reached.

      CALLBACK : The token callback asked to stop.

      CANCELLED : The call was cancelled; the text so far is kept.

      GIVEN : Handed in by the caller.

      ERROR : The item could not be used.
    """

    CALLBACK: typing.ClassVar[FinishReason]
    CANCELLED: typing.ClassVar[FinishReason]
    ERROR: typing.ClassVar[FinishReason]
    GIVEN: typing.ClassVar[FinishReason]
    LENGTH: typing.ClassVar[FinishReason]
    STOP: typing.ClassVar[FinishReason]
    __members__: typing.ClassVar[dict[str, FinishReason]]
    @typing.overload
    def __eq__(self, other: FinishReason) -> bool: ...
    @typing.overload
    def __eq__(self, other: typing.Any) -> bool: ...
    def __getstate__(self) -> int: ...
    def __hash__(self) -> int: ...
    def __index__(self) -> int: ...
    def __init__(self, value: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __int__(self) -> int: ...
    @typing.overload
    def __ne__(self, other: FinishReason) -> bool: ...
    @typing.overload
    def __ne__(self, other: typing.Any) -> bool: ...
    def __repr__(self) -> str: ...
    def __setstate__(self, state: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __str__(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...

class Timings:
    """
    Seconds spent on one item, by stage.
    """
    def __getstate__(self) -> tuple[float, float, float, float, float]: ...
    def __init__(self) -> typing.NoReturn: ...
    def __repr__(self) -> str: ...
    def __setstate__(self, arg0: tuple) -> None: ...
    @property
    def decode(self) -> float:
        """
        From the first to the last token.
        """
    @property
    def embed(self) -> float:
        """
        From handing to the embedder to the vector.
        """
    @property
    def media(self) -> float:
        """
        Decode, resize, patchify.
        """
    @property
    def prefill(self) -> float:
        """
        From admission to the first token, vision included.
        """
    @property
    def queue(self) -> float:
        """
        Waiting for a place in the batch.
        """

class Trace:
    """
    A reasoning trace: `<think>thinking</think>conclusion`.
    """
    def __eq__(self, other: typing.Any) -> bool:
        """
        Whether all but `timings`, `reused_tokens` and `generated_tokens` is equal.
        """
    def __getstate__(self) -> tuple: ...
    def __hash__(self) -> int: ...
    def __init__(self, text: typing.Any) -> None:
        """
        A trace written by hand.
        """
    def __repr__(self) -> str: ...
    def __setstate__(self, arg0: tuple) -> None: ...
    def __str__(self) -> str: ...
    @property
    def conclusion(self) -> str:
        """
        After the closing tag; the whole text without tags.
        """
    @property
    def error(self) -> str:
        """
        One sentence; empty unless `finish` is ERROR.
        """
    @property
    def finish(self) -> FinishReason: ...
    @property
    def generated_tokens(self) -> int:
        """
        Tokens that were written, as whoever wrote them counts; 0: unknown, as of a server's trace out of a store.
        """
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def reused_tokens(self) -> int:
        """
        Tokens of the prompt that were taken from an earlier sequence's state.
        """
    @property
    def text(self) -> str:
        """
        Everything generated, tags included, special tokens left out.
        """
    @property
    def thinking(self) -> str:
        """
        Between the tags; empty if there are none.
        """
    @property
    def timings(self) -> Timings: ...
    @property
    def token_ids(self) -> list[int]:
        """
        Empty where a server wrote it: it tells no ids.
        """
    @property
    def vocabulary(self) -> str:
        """
        Digest of the vocabulary that `token_ids` belong to; empty: unknown.
        """

class Side:
    """
    The two sides of a retrieval pair.

    Members:

      QUERY

      TARGET
    """

    QUERY: typing.ClassVar[Side]
    TARGET: typing.ClassVar[Side]
    __members__: typing.ClassVar[dict[str, Side]]
    @typing.overload
    def __eq__(self, other: Side) -> bool: ...
    @typing.overload
    def __eq__(self, other: typing.Any) -> bool: ...
    def __getstate__(self) -> int: ...
    def __hash__(self) -> int: ...
    def __index__(self) -> int: ...
    def __init__(self, value: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __int__(self) -> int: ...
    @typing.overload
    def __ne__(self, other: Side) -> bool: ...
    @typing.overload
    def __ne__(self, other: typing.Any) -> bool: ...
    def __repr__(self) -> str: ...
    def __setstate__(self, state: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __str__(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...

class Task:
    """
    A task family of the recipe's presets, and the side of the pair.
    """
    def __init__(self, family: str = "", side: Side = ...) -> None: ...
    @property
    def family(self) -> str: ...
    @property
    def side(self) -> Side: ...

class MediaLimits:
    """
    What the images and videos of one item may cost.
    """
    @typing.overload
    def __init__(self) -> None: ...
    @typing.overload
    def __init__(
        self,
        max_pixels: typing.SupportsInt | typing.SupportsIndex,
        max_file_bytes: typing.SupportsInt | typing.SupportsIndex,
        max_item_bytes: typing.SupportsInt | typing.SupportsIndex,
        max_item_pixels: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    @property
    def max_file_bytes(self) -> int: ...
    @property
    def max_item_bytes(self) -> int: ...
    @property
    def max_item_pixels(self) -> int: ...
    @property
    def max_pixels(self) -> int: ...

class OnError:
    """
    What a bad item does to the call it is in.

    Members:

      THROW : The call raises the first error.

      SKIP : The item gets its error in the result, the others go on.
    """

    SKIP: typing.ClassVar[OnError]
    THROW: typing.ClassVar[OnError]
    __members__: typing.ClassVar[dict[str, OnError]]
    @typing.overload
    def __eq__(self, other: OnError) -> bool: ...
    @typing.overload
    def __eq__(self, other: typing.Any) -> bool: ...
    def __getstate__(self) -> int: ...
    def __hash__(self) -> int: ...
    def __index__(self) -> int: ...
    def __init__(self, value: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __int__(self) -> int: ...
    @typing.overload
    def __ne__(self, other: OnError) -> bool: ...
    @typing.overload
    def __ne__(self, other: typing.Any) -> bool: ...
    def __repr__(self) -> str: ...
    def __setstate__(self, state: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __str__(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...

class ItemError:
    """
    An item that could not be used.
    """
    def __getstate__(self) -> tuple[int, str]: ...
    def __init__(self) -> typing.NoReturn: ...
    def __repr__(self) -> str: ...
    def __setstate__(self, arg0: tuple) -> None: ...
    @property
    def index(self) -> int:
        """
        Position of the item in the call.
        """
    @property
    def message(self) -> str: ...

class ThinkMode:
    """
    Whether an item is reasoned about before it is embedded.

    Members:

      ALWAYS

      NEVER

      QUERIES : Items whose task is on the query side.

      RECIPE : As the recipe says for the item's task and side.

      AUTO : Embedded without a trace first; a callback or a margin then decides.
    """

    ALWAYS: typing.ClassVar[ThinkMode]
    AUTO: typing.ClassVar[ThinkMode]
    NEVER: typing.ClassVar[ThinkMode]
    QUERIES: typing.ClassVar[ThinkMode]
    RECIPE: typing.ClassVar[ThinkMode]
    __members__: typing.ClassVar[dict[str, ThinkMode]]
    @typing.overload
    def __eq__(self, other: ThinkMode) -> bool: ...
    @typing.overload
    def __eq__(self, other: typing.Any) -> bool: ...
    def __getstate__(self) -> int: ...
    def __hash__(self) -> int: ...
    def __index__(self) -> int: ...
    def __init__(self, value: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __int__(self) -> int: ...
    @typing.overload
    def __ne__(self, other: ThinkMode) -> bool: ...
    @typing.overload
    def __ne__(self, other: typing.Any) -> bool: ...
    def __repr__(self) -> str: ...
    def __setstate__(self, state: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __str__(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...

class OnToken:
    """
    What a token callback answers.

    Members:

      CONTINUE

      STOP
    """

    CONTINUE: typing.ClassVar[OnToken]
    STOP: typing.ClassVar[OnToken]
    __members__: typing.ClassVar[dict[str, OnToken]]
    @typing.overload
    def __eq__(self, other: OnToken) -> bool: ...
    @typing.overload
    def __eq__(self, other: typing.Any) -> bool: ...
    def __getstate__(self) -> int: ...
    def __hash__(self) -> int: ...
    def __index__(self) -> int: ...
    def __init__(self, value: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __int__(self) -> int: ...
    @typing.overload
    def __ne__(self, other: OnToken) -> bool: ...
    @typing.overload
    def __ne__(self, other: typing.Any) -> bool: ...
    def __repr__(self) -> str: ...
    def __setstate__(self, state: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __str__(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...

class CancelToken:
    """
    Stops a running call from another thread, within a step.
    """
    def __init__(self) -> None: ...
    def __repr__(self) -> str: ...
    def cancel(self) -> None: ...
    @property
    def cancelled(self) -> bool: ...

class GenerateOptions:
    """
    Decoding settings of one sequence.
    """

    checkpoint_sampling: bool
    ignore_eos: bool
    @staticmethod
    def numbers() -> dict[str, tuple[int | float, int | float, int | float | None, bool]]:
        """
        Each number by its name: least and most (floats where fractions are taken), what holds where nobody sets it, whether it does nothing at temperature 0.
        """
    def __init__(self) -> None: ...
    def validate(self) -> None:
        """
        Raise InputError naming the first option out of range.
        """
    @property
    def max_new_tokens(self) -> int | None: ...
    @max_new_tokens.setter
    def max_new_tokens(self, arg0: typing.SupportsInt | typing.SupportsIndex | None) -> None: ...
    @property
    def max_think_tokens(self) -> int | None: ...
    @max_think_tokens.setter
    def max_think_tokens(self, arg0: typing.SupportsInt | typing.SupportsIndex | None) -> None: ...
    @property
    def min_new_tokens(self) -> int | None: ...
    @min_new_tokens.setter
    def min_new_tokens(self, arg0: typing.SupportsInt | typing.SupportsIndex | None) -> None: ...
    @property
    def min_p(self) -> float | None: ...
    @min_p.setter
    def min_p(self, arg0: typing.SupportsFloat | typing.SupportsIndex | None) -> None: ...
    @property
    def repetition_penalty(self) -> float | None: ...
    @repetition_penalty.setter
    def repetition_penalty(self, arg0: typing.SupportsFloat | typing.SupportsIndex | None) -> None: ...
    @property
    def seed(self) -> int | None: ...
    @seed.setter
    def seed(self, arg0: typing.SupportsInt | typing.SupportsIndex | None) -> None: ...
    @property
    def stop(self) -> list[str]: ...
    @stop.setter
    def stop(self, arg0: collections.abc.Sequence[str]) -> None: ...
    @property
    def stop_token_ids(self) -> list[int]: ...
    @stop_token_ids.setter
    def stop_token_ids(self, arg0: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex]) -> None: ...
    @property
    def temperature(self) -> float | None: ...
    @temperature.setter
    def temperature(self, arg0: typing.SupportsFloat | typing.SupportsIndex | None) -> None: ...
    @property
    def top_k(self) -> int | None: ...
    @top_k.setter
    def top_k(self, arg0: typing.SupportsInt | typing.SupportsIndex | None) -> None: ...
    @property
    def top_p(self) -> float | None: ...
    @top_p.setter
    def top_p(self, arg0: typing.SupportsFloat | typing.SupportsIndex | None) -> None: ...

class Tokenizer:
    """
    A checkpoint's tokenizer and chat template by themselves.
    """
    @staticmethod
    def load(checkpoint: os.PathLike | str | bytes) -> Tokenizer: ...
    def apply_chat_template(
        self,
        messages: collections.abc.Sequence[Message],
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> str: ...
    def decode(
        self, ids: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], skip_special: bool = True
    ) -> str: ...
    def encode(self, text: str, parse_control: bool = True) -> list[int]: ...
    def id_of(self, token: str) -> int | None: ...
    @property
    def eos_id(self) -> int | None: ...
    @property
    def pad_id(self) -> int | None: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def vocabulary(self) -> str: ...

class Stage:
    """
    Whose prompt is wanted.

    Members:

      REASON

      EMBED
    """

    EMBED: typing.ClassVar[Stage]
    REASON: typing.ClassVar[Stage]
    __members__: typing.ClassVar[dict[str, Stage]]
    @typing.overload
    def __eq__(self, other: Stage) -> bool: ...
    @typing.overload
    def __eq__(self, other: typing.Any) -> bool: ...
    def __getstate__(self) -> int: ...
    def __hash__(self) -> int: ...
    def __index__(self) -> int: ...
    def __init__(self, value: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __int__(self) -> int: ...
    @typing.overload
    def __ne__(self, other: Stage) -> bool: ...
    @typing.overload
    def __ne__(self, other: typing.Any) -> bool: ...
    def __repr__(self) -> str: ...
    def __setstate__(self, state: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __str__(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...

class Processor:
    """
    What the model sees of an input; no weights are read.
    """
    @staticmethod
    def load(
        checkpoint: os.PathLike | str | bytes,
        recipe: str = "",
        parse_control_tokens: bool = False,
        media_limits: MediaLimits | None = None,
        adapter: os.PathLike | str | bytes | None = None,
        template_options: collections.abc.Mapping[str, bool | typing.SupportsInt | typing.SupportsIndex | str] = {},
    ) -> Processor: ...
    def process(
        self,
        input: Input,
        stage: Stage = ...,
        instruction: str | None = None,
        task: Task | None = None,
        trace: Trace | None = None,
    ) -> dict: ...
    @property
    def recipe(self) -> str: ...
    @property
    def recipe_reason(self) -> str: ...
    @property
    def tokenizer(self) -> Tokenizer: ...

class DeviceInfo:
    """
    A device that tte can run on.
    """
    def __init__(self) -> typing.NoReturn: ...
    def __repr__(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def dtypes(self) -> list[str]: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def name(self) -> str: ...

class BackendStats:
    """
    What the engines of a backend did since it was made.
    """
    def __init__(self) -> typing.NoReturn: ...
    def __repr__(self) -> str: ...
    @property
    def decode_tokens(self) -> int: ...
    @property
    def drafted_tokens(self) -> int:
        """
        Of the guessed tokens those of drafts.
        """
    @property
    def engines(self) -> int: ...
    @property
    def guessed_tokens(self) -> int:
        """
        Tokens that prompt lookup or a draft guessed.
        """
    @property
    def head_tokens(self) -> int:
        """
        Tokens that embedding heads went on with from their hidden states, and nobody read again.
        """
    @property
    def peak_running(self) -> int: ...
    @property
    def prefill_tokens(self) -> int: ...
    @property
    def reused_tokens(self) -> int: ...
    @property
    def right_drafts(self) -> int:
        """
        Those of them that were right.
        """
    @property
    def right_guesses(self) -> int:
        """
        Those of them that were right, which are generated tokens.
        """
    @property
    def steps(self) -> int: ...
    @property
    def vision_encoded(self) -> int: ...
    @property
    def vision_reused(self) -> int: ...

class BackendOptions:
    """
    Where and how models run.
    """

    cuda_graphs: bool
    device: str
    def __init__(self) -> None: ...
    @property
    def max_running(self) -> int: ...
    @max_running.setter
    def max_running(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def max_step_tokens(self) -> int | None: ...
    @max_step_tokens.setter
    def max_step_tokens(self, arg0: typing.SupportsInt | typing.SupportsIndex | None) -> None: ...
    @property
    def media_threads(self) -> int: ...
    @media_threads.setter
    def media_threads(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def prompt_lookup_tokens(self) -> int: ...
    @prompt_lookup_tokens.setter
    def prompt_lookup_tokens(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def replicas(self) -> int | None: ...
    @replicas.setter
    def replicas(self, arg0: typing.SupportsInt | typing.SupportsIndex | None) -> None: ...
    @property
    def state_bytes(self) -> int: ...
    @state_bytes.setter
    def state_bytes(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def tensor_parallel(self) -> int: ...
    @tensor_parallel.setter
    def tensor_parallel(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def threads(self) -> int: ...
    @threads.setter
    def threads(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def vision_cache_bytes(self) -> int: ...
    @vision_cache_bytes.setter
    def vision_cache_bytes(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> None: ...

class Backend:
    """
    Devices with their kernels, threads and memory.
    """
    @staticmethod
    def devices() -> list[DeviceInfo]: ...
    @staticmethod
    def make(options: BackendOptions) -> Backend: ...
    @staticmethod
    def shared(options: BackendOptions) -> Backend: ...
    def replica_stats(self) -> list[BackendStats]: ...
    def stats(self) -> BackendStats: ...
    def supports(self, dtype: str) -> bool: ...
    @property
    def device(self) -> str: ...
    @property
    def options(self) -> BackendOptions: ...

class DraftOptions:
    """
    A smaller model that guesses what a reasoner writes next.
    """
    def __init__(
        self,
        checkpoint: os.PathLike | str | bytes,
        adapter: os.PathLike | str | bytes | None = None,
        dtype: str = "auto",
        quantization: str = "none",
        tokens: typing.SupportsInt | typing.SupportsIndex = 8,
    ) -> None: ...

class LoadOptions:
    """
    How a checkpoint is loaded.
    """
    def __init__(
        self,
        dtype: str = "auto",
        recipe: str = "",
        parse_control_tokens: bool = False,
        media_limits: MediaLimits | None = None,
        adapter: os.PathLike | str | bytes | None = None,
        quantization: str = "none",
        draft: DraftOptions | None = None,
        template_options: collections.abc.Mapping[str, bool | typing.SupportsInt | typing.SupportsIndex | str] = {},
    ) -> None: ...

class AdapterBase:
    """
    The model that an adapter changes.
    """
    @property
    def folder(self) -> pathlib.Path | None: ...
    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str: ...

class TensorInfo:
    """
    A tensor of a safetensors file.
    """
    @property
    def bytes(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> list[int]: ...
    @property
    def vision(self) -> bool: ...

class TensorFileInfo:
    """
    What the header of a safetensors file says.
    """
    @property
    def quantization(self) -> str: ...
    @property
    def tensors(self) -> list[TensorInfo]: ...

class ModelDescription:
    """
    What is known of a loaded checkpoint.
    """
    def __init__(self) -> typing.NoReturn: ...
    def __repr__(self) -> str: ...
    @property
    def base(self) -> pathlib.Path | None: ...
    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def parse_control_tokens(self) -> bool:
        """
        Whether control tokens in the text of inputs act as such.
        """
    @property
    def path(self) -> pathlib.Path: ...
    @property
    def quantization(self) -> str:
        """
        How matrices are kept: none, int8 or int4.
        """
    @property
    def recipe(self) -> str: ...
    @property
    def recipe_reason(self) -> str: ...
    @property
    def server(self) -> str:
        """
        Base URL of the server that has the model; empty for a loaded checkpoint.
        """
    @property
    def vision_fingerprint(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...

class RemoteOptions:
    """
    Where a server is, and how it is asked.
    """

    api_key: str
    api_key_env: str
    base_url: str
    extra: str
    media_limits: MediaLimits
    model: str
    recipe: str
    stream: bool
    def __init__(self) -> None: ...
    def validate(self) -> None:
        """
        Raise InputError naming the first option that cannot be used.
        """
    @property
    def connect_timeout(self) -> float: ...
    @connect_timeout.setter
    def connect_timeout(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def idle_timeout(self) -> float: ...
    @idle_timeout.setter
    def idle_timeout(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def max_concurrent(self) -> int: ...
    @max_concurrent.setter
    def max_concurrent(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def max_response_bytes(self) -> int: ...
    @max_response_bytes.setter
    def max_response_bytes(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def max_retries(self) -> int: ...
    @max_retries.setter
    def max_retries(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def max_retry_delay(self) -> float: ...
    @max_retry_delay.setter
    def max_retry_delay(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def media_threads(self) -> int: ...
    @media_threads.setter
    def media_threads(self, arg0: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    @property
    def retry_delay(self) -> float: ...
    @retry_delay.setter
    def retry_delay(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...
    @property
    def retry_seed(self) -> int | None: ...
    @retry_seed.setter
    def retry_seed(self, arg0: typing.SupportsInt | typing.SupportsIndex | None) -> None: ...
    @property
    def template_options(self) -> dict[str, bool | int | str]: ...
    @template_options.setter
    def template_options(
        self, arg0: collections.abc.Mapping[str, bool | typing.SupportsInt | typing.SupportsIndex | str]
    ) -> None: ...
    @property
    def total_timeout(self) -> float: ...
    @total_timeout.setter
    def total_timeout(self, arg0: typing.SupportsFloat | typing.SupportsIndex) -> None: ...

class Reasoner:
    """
    The model that thinks.
    """
    @staticmethod
    def load(checkpoint: os.PathLike | str | bytes, options: LoadOptions, backend: Backend) -> Reasoner: ...
    @staticmethod
    def remote(options: RemoteOptions) -> Reasoner: ...
    def score(
        self,
        inputs: collections.abc.Sequence[Input],
        labels: collections.abc.Sequence[str],
        traces: collections.abc.Sequence[Trace | None] = [],
        instruction: str | None = None,
        tasks: collections.abc.Sequence[Task] = [],
        on_error: OnError = ...,
        progress: collections.abc.Callable[[int, int], None] | None = None,
        cancel: CancelToken | None = None,
        max_in_flight: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> numpy.typing.NDArray[numpy.float32]: ...
    def think(
        self,
        inputs: collections.abc.Sequence[Input],
        instruction: str | None = None,
        tasks: collections.abc.Sequence[Task] = [],
        generate_each: collections.abc.Sequence[GenerateOptions] = [],
        on_token: collections.abc.Callable[[int, str, int], OnToken] | None = None,
        on_result: collections.abc.Callable[[int, Trace], None] | None = None,
        on_error: OnError = ...,
        progress: collections.abc.Callable[[int, int], None] | None = None,
        cancel: CancelToken | None = None,
        max_in_flight: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> list[Trace]: ...
    def thinks(self, task: Task) -> bool:
        """
        Whether the recipe says that items of a task are reasoned about.
        """
    @property
    def backend(self) -> Backend: ...
    @property
    def model(self) -> ModelDescription: ...
    @property
    def tokenizer(self) -> Tokenizer: ...

class Embeddings:
    """
    Vectors of a call, with errors and timings.
    """
    def take_data(self) -> numpy.typing.NDArray[numpy.float32]:
        """
        float32 [rows, dim]; moves the memory out, so a second call raises InputError.
        """
    @property
    def dim(self) -> int: ...
    @property
    def errors(self) -> list[ItemError]: ...
    @property
    def rows(self) -> int: ...
    @property
    def timings(self) -> list[Timings]: ...
    @property
    def tokens(self) -> list[int]: ...

class TokenPooling:
    """
    How neighbouring or similar vectors become one.

    Members:

      NEIGHBOURS

      HIERARCHICAL
    """

    HIERARCHICAL: typing.ClassVar[TokenPooling]
    NEIGHBOURS: typing.ClassVar[TokenPooling]
    __members__: typing.ClassVar[dict[str, TokenPooling]]
    @typing.overload
    def __eq__(self, other: TokenPooling) -> bool: ...
    @typing.overload
    def __eq__(self, other: typing.Any) -> bool: ...
    def __getstate__(self) -> int: ...
    def __hash__(self) -> int: ...
    def __index__(self) -> int: ...
    def __init__(self, value: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __int__(self) -> int: ...
    @typing.overload
    def __ne__(self, other: TokenPooling) -> bool: ...
    @typing.overload
    def __ne__(self, other: typing.Any) -> bool: ...
    def __repr__(self) -> str: ...
    def __setstate__(self, state: typing.SupportsInt | typing.SupportsIndex) -> None: ...
    def __str__(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...

class TokenOptions:
    """
    Which tokens get a vector, and which of these are merged.
    """
    def __init__(
        self,
        text: bool,
        visual: bool,
        trace: bool,
        special: bool | None,
        pooling: TokenPooling,
        factor: typing.SupportsInt | typing.SupportsIndex,
        float32: bool,
    ) -> None: ...

class TokenEmbeddings:
    """
    Vectors of the tokens of each input.
    """
    def take_data(self) -> numpy.ndarray:
        """
        float16 or float32 [rows, dim]; moves the memory out.
        """
    @property
    def ids(self) -> numpy.typing.NDArray[numpy.int64]: ...
    @property
    def offsets(self) -> numpy.typing.NDArray[numpy.int64]: ...
    @property
    def origins(self) -> numpy.typing.NDArray[numpy.uint8]: ...
    @property
    def pooled(self) -> Embeddings: ...
    @property
    def positions(self) -> numpy.typing.NDArray[numpy.int64]: ...

class SparseEmbeddings:
    """
    Sparse vectors of a call, and the dense ones of the same pass.
    """
    def take_indices(self) -> numpy.typing.NDArray[numpy.int32]:
        """
        int32 [entries]; moves the memory out.
        """
    def take_values(self) -> numpy.typing.NDArray[numpy.float32]:
        """
        float32 [entries]; moves the memory out.
        """
    @property
    def dim(self) -> int: ...
    @property
    def offsets(self) -> numpy.typing.NDArray[numpy.int64]: ...
    @property
    def pooled(self) -> Embeddings: ...

class Embedder:
    """
    The model that embeds.
    """
    @staticmethod
    def load(checkpoint: os.PathLike | str | bytes, options: LoadOptions, backend: Backend) -> Embedder: ...
    def embed(
        self,
        inputs: collections.abc.Sequence[Input],
        traces: collections.abc.Sequence[Trace | None] = [],
        instruction: str | None = None,
        tasks: collections.abc.Sequence[Task] = [],
        normalize: bool | None = None,
        truncate_dim: typing.SupportsInt | typing.SupportsIndex | None = None,
        on_result: collections.abc.Callable[[int, numpy.typing.NDArray[numpy.float32]], None] | None = None,
        on_error: OnError = ...,
        progress: collections.abc.Callable[[int, int], None] | None = None,
        cancel: CancelToken | None = None,
        max_in_flight: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> Embeddings: ...
    def embed_sparse(
        self,
        inputs: collections.abc.Sequence[Input],
        traces: collections.abc.Sequence[Trace | None] = [],
        instruction: str | None = None,
        tasks: collections.abc.Sequence[Task] = [],
        normalize: bool | None = None,
        truncate_dim: typing.SupportsInt | typing.SupportsIndex | None = None,
        *,
        top_k: typing.SupportsInt | typing.SupportsIndex | None = None,
        on_error: OnError = ...,
        progress: collections.abc.Callable[[int, int], None] | None = None,
        cancel: CancelToken | None = None,
        max_in_flight: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> SparseEmbeddings: ...
    def embed_tokens(
        self,
        inputs: collections.abc.Sequence[Input],
        traces: collections.abc.Sequence[Trace | None] = [],
        instruction: str | None = None,
        tasks: collections.abc.Sequence[Task] = [],
        normalize: bool | None = None,
        truncate_dim: typing.SupportsInt | typing.SupportsIndex | None = None,
        *,
        tokens: TokenOptions,
        on_error: OnError = ...,
        progress: collections.abc.Callable[[int, int], None] | None = None,
        cancel: CancelToken | None = None,
        max_in_flight: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> TokenEmbeddings: ...
    @property
    def backend(self) -> Backend: ...
    @property
    def dim(self) -> int: ...
    @property
    def model(self) -> ModelDescription: ...
    @property
    def sparse_dim(self) -> int: ...
    @property
    def tokenizer(self) -> Tokenizer: ...

class CallStats:
    """
    What a call took in all.
    """
    def __getstate__(self) -> tuple[float, int, int, int, int]: ...
    def __init__(self) -> typing.NoReturn: ...
    def __repr__(self) -> str: ...
    def __setstate__(self, arg0: tuple) -> None: ...
    @property
    def generated_tokens(self) -> int: ...
    @property
    def prompt_tokens(self) -> int:
        """
        Of both models' prompts, traces included.
        """
    @property
    def reused_tokens(self) -> int:
        """
        Of those, tokens whose state was there already.
        """
    @property
    def seconds(self) -> float:
        """
        From call to return.
        """
    @property
    def thought(self) -> int:
        """
        Items for which a trace was generated.
        """

class ThinkThenEmbedResult:
    @property
    def embeddings(self) -> Embeddings: ...
    @property
    def stats(self) -> CallStats: ...
    @property
    def timings(self) -> list[Timings]: ...
    @property
    def tokens(self) -> TokenEmbeddings: ...
    @property
    def traces(self) -> list[Trace | None]: ...
    @property
    def without_trace(self) -> Embeddings: ...

class ThinkThenEmbed:
    """
    Reasoner and Embedder joined.
    """
    def __init__(self, reasoner: Reasoner, embedder: Embedder) -> None: ...
    def run(
        self,
        inputs: collections.abc.Sequence[Input],
        instruction: str | None = None,
        tasks: collections.abc.Sequence[Task] = [],
        think_each: collections.abc.Sequence[ThinkMode] = [],
        decide: collections.abc.Callable[[int, numpy.typing.NDArray[numpy.float32]], bool] | None = None,
        targets: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
        margin: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        traces: collections.abc.Sequence[Trace | None] = [],
        generate_each: collections.abc.Sequence[GenerateOptions] = [],
        normalize: bool | None = None,
        truncate_dim: typing.SupportsInt | typing.SupportsIndex | None = None,
        without_trace: bool = False,
        tokens: TokenOptions | None = None,
        on_token: collections.abc.Callable[[int, str, int], OnToken] | None = None,
        on_trace: collections.abc.Callable[[int, Trace], None] | None = None,
        on_vector: collections.abc.Callable[[int, numpy.typing.NDArray[numpy.float32]], None] | None = None,
        on_error: OnError = ...,
        progress: collections.abc.Callable[[int, int], None] | None = None,
        cancel: CancelToken | None = None,
        max_in_flight: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> ThinkThenEmbedResult: ...

def adapter_base(folder: os.PathLike | str | bytes) -> AdapterBase | None:
    """
    The base of the folder of a PEFT adapter or of an embedding head; None for another folder.
    """

def check_text(value: typing.Any, name: str) -> str:
    """
    The value, if it is a str that UTF-8 can write.
    """

def image_suffixes() -> list[str]:
    """
    What names of image files end with, in lower case.
    """

def maxsim(
    queries: numpy.ndarray,
    query_offsets: typing.Annotated[numpy.typing.ArrayLike, numpy.int64],
    documents: numpy.ndarray,
    document_offsets: typing.Annotated[numpy.typing.ArrayLike, numpy.int64],
    mean: bool = False,
    threads: typing.SupportsInt | typing.SupportsIndex = 0,
    cancel: CancelToken | None = None,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    MaxSim of every query with every document, float32 [queries, documents].
    """

def quantize(
    checkpoint: os.PathLike | str | bytes,
    folder: os.PathLike | str | bytes,
    quantization: str,
    adapter: os.PathLike | str | bytes | None,
) -> None:
    """
    Write a checkpoint whose linear layers are rounded into a new folder.
    """

def read_tensor_info(file: os.PathLike | str | bytes) -> TensorFileInfo:
    """
    The tensors of a safetensors file, from its header.
    """

def thumbnails(
    part: str | Image | Video,
    side: typing.SupportsInt | typing.SupportsIndex,
    frames: typing.SupportsInt | typing.SupportsIndex = 4,
) -> list[numpy.typing.NDArray[numpy.uint8]]:
    """
    uint8 [height, width, 3] of an image, or of some frames of a video, each side at most `side`.
    """

MAX_IMAGE_PIXELS: int = 178956970
__version__: str = "0.1.0"
