"""The devices that models run on, with their threads and memory."""

from __future__ import annotations

from typing import Any

from tte import _options, _tte
from tte._keywords import named
from tte._pickled import again


@named
class Backend:
    """One device, or several, with kernels, threads and memory, shared by every model loaded on it.

    With several replicas of each model, the items of a call are spread over them, and all requests of an item run on
    one: the one with least work waiting, in tokens of prompts, where what it has read before of the item's images or of
    the beginning of its prompt counts twice in its favour.

    Args:
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1"; several GPUs, as in "cuda:0,cuda:1", or
            "cuda:all".
        replicas: replicas of each model that run side by side. None: one on each device, which is all that a GPU can
            have. On a CPU they share the weights in memory, and divide `threads`, of which each has at least one,
            `state_bytes` and `vision_cache_bytes` evenly.
        tensor_parallel: devices that share the decoder layers of each replica, for models that do not fit one GPU: each
            has as many of the heads, and as much of the MLP; embedding, head and vision tower are on the first. From 1
            to 8, and a divisor of the model's heads of keys and values. The GPUs of `device` are taken in groups of so
            many, each of which has a replica; a CPU computes the parts one after the other. Not for models with
            recurrent layers or mixtures of experts, nor with `cuda_graphs`. Not run on GPUs yet.
        threads: threads inside an operation, which are made with the backend; 0: one per core.
        media_threads: threads that decode and patchify beside the model for one call, and there is one more for others;
            0: a quarter of the cores.
        state_bytes: memory for the sequence states (KV caches) of one model on a device; 0: a quarter of the (smallest)
            device's, or, where address space is limited (`ulimit -v`), an eighth of what is left of it if that is less.
        max_step_tokens: tokens in one step; prefill chunks and decode tokens share this budget. None: 512 on a
            CPU, 2048 on a GPU. A step is how long running sequences wait for their next token.
        max_running: sequences that run at the same time in one engine.
        prompt_lookup_tokens: tokens that are guessed of a trace in one step, where its last tokens stood before in
            prompt or trace (speculative decoding by prompt lookup): a trace that quotes is written sooner, and no
            trace changes. 0: none; at most 64.
        cuda_graphs: on a GPU, record steps of at most 256 rows in which sequences go on as CUDA graphs and replay them,
            so that less time goes by between their kernels. For models of attention in bfloat16 or float16 without
            recurrent layers and mixtures of experts; others, and CPUs, do as without. Not run on a GPU yet.
        vision_cache_bytes: memory for vision features that are kept for reuse on a device.

    Raises:
        DeviceError: the device is not available; the message lists those that are. Or the system does not give the
            threads. Under a limit of address space (`ulimit -v`) what fails later is an error too, of the item or the
            checkpoint that wanted memory; but `import tte` itself, which needs 800 MB of it, may end the process
            where NumPy's or torch's libraries cannot be loaded or set up.

    """

    def __init__(  # noqa: PLR0913
        self,
        device: str = "auto",
        *,
        replicas: int | None = None,
        tensor_parallel: int = 1,
        threads: int = 0,
        media_threads: int = 0,
        state_bytes: int = 0,
        max_step_tokens: int | None = None,
        max_running: int = 256,
        prompt_lookup_tokens: int = 8,
        cuda_graphs: bool = False,
        vision_cache_bytes: int = 256 << 20,
    ) -> None:
        options = _tte.BackendOptions()
        options.device = _options.device(device)
        options.replicas = _options.optional(_options.whole, replicas, "replicas", 1, _options.INT32)
        options.tensor_parallel = _options.whole(tensor_parallel, "tensor_parallel", 1, 8)
        options.threads = _options.count(threads, "threads")
        options.media_threads = _options.count(media_threads, "media_threads")
        options.state_bytes = _options.whole(state_bytes, "state_bytes")
        options.max_step_tokens = _options.optional(
            _options.whole, max_step_tokens, "max_step_tokens", 1, _options.INT32
        )
        options.max_running = _options.whole(max_running, "max_running", 1, _options.INT32)
        options.prompt_lookup_tokens = _options.whole(prompt_lookup_tokens, "prompt_lookup_tokens", 0, 64)
        options.cuda_graphs = _options.flag(cuda_graphs, "cuda_graphs")
        options.vision_cache_bytes = _options.whole(vision_cache_bytes, "vision_cache_bytes")
        self._native = _tte.Backend.shared(options)

    @classmethod
    def _wrap(cls, native: _tte.Backend) -> Backend:
        backend = cls.__new__(cls)
        backend._native = native
        return backend

    @staticmethod
    def devices() -> list[_tte.DeviceInfo]:
        """Every device that can be asked for; the one that "auto" takes comes first."""
        return _tte.Backend.devices()

    @property
    def device(self) -> str:
        """Name of the device: "cpu", "cuda:0", "cuda:0,cuda:1"."""
        return self._native.device

    @property
    def stats(self) -> _tte.BackendStats:
        """Steps, tokens and reuse, summed over the live engines: one for each replica of each model."""
        return self._native.stats()

    @property
    def replica_stats(self) -> list[_tte.BackendStats]:
        """The same of each replica."""
        return self._native.replica_stats()

    def __reduce__(self) -> Any:
        options = self._native.options
        return again, (Backend, {name: getattr(options, name) for name in _BACKEND_OPTIONS})

    def __repr__(self) -> str:
        options = self._native.options
        split = f", tensor_parallel={options.tensor_parallel}" if options.tensor_parallel > 1 else ""
        return f"Backend({self.device!r}, replicas={options.replicas}{split}, threads={options.threads})"


_BACKEND_OPTIONS = (
    "device", "replicas", "tensor_parallel", "threads", "media_threads", "state_bytes", "max_step_tokens",
    "max_running", "prompt_lookup_tokens", "cuda_graphs", "vision_cache_bytes",
)  # fmt: skip
