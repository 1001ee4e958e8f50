"""Think-Then-Embed: a Reasoner writes a trace about a query, an Embedder turns query and trace into one vector.

    >>> import tte
    >>> result = tte.think_then_embed(["what is left of the red circle?"])   # the bundled nano pair
    >>> result.embeddings, result.traces                                     # doctest: +SKIP

`import tte` does not import torch; it loads libtorch from the torch wheel that is installed beside it.
"""

from __future__ import annotations

from tte import _interrupt as _interrupt  # isort: skip
from tte import _check_torch as _check_torch
from tte._backend import Backend
from tte._maxsim import Best, hybrid, maxsim, mean_maxsim
from tte._media_limits import MediaLimits
from tte._models import Embedder, Reasoner
from tte._pages import Pages, pages
from tte._pipeline import AutoThink, think_then_embed
from tte._processor import Processor, Tokenizer
from tte._quantize import quantize
from tte._remote import RemoteReasoner
from tte._rerank import Reranker
from tte._result import Result
from tte._sparse import SparseEmbeddings
from tte._tokens import ORIGINS, TokenEmbeddings, TokenWriter
from tte._trace_files import read_traces
from tte._tte import (
    BackendStats,
    CallStats,
    CancelledError,
    CancelToken,
    DeviceError,
    DeviceInfo,
    Error,
    FinishReason,
    InputError,
    ItemError,
    ModelDescription,
    ModelError,
    OutOfMemoryError,
    RemoteError,
    Timings,
    Trace,
    __version__,
)
from tte.trace_store import TraceStore

__all__ = [
    "ORIGINS",
    "AutoThink",
    "Backend",
    "BackendStats",
    "Best",
    "CallStats",
    "CancelToken",
    "CancelledError",
    "DeviceError",
    "DeviceInfo",
    "Embedder",
    "Error",
    "FinishReason",
    "InputError",
    "ItemError",
    "MediaLimits",
    "ModelDescription",
    "ModelError",
    "OutOfMemoryError",
    "Pages",
    "Processor",
    "Reasoner",
    "RemoteError",
    "RemoteReasoner",
    "Reranker",
    "Result",
    "SparseEmbeddings",
    "Timings",
    "TokenEmbeddings",
    "TokenWriter",
    "Tokenizer",
    "Trace",
    "TraceStore",
    "__version__",
    "hybrid",
    "maxsim",
    "mean_maxsim",
    "pages",
    "quantize",
    "read_traces",
    "think_then_embed",
]
