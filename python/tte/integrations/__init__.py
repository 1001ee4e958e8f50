"""tte inside other people's tools. Each module needs its tool, and `import tte` needs none of them.

* `tte.integrations.ray`: bulk embedding, as a callable for batches and as a job with resume
* `tte.integrations.mteb`: a model for `mteb.evaluate`
* `tte.integrations.sentence_transformers`: a module for `SentenceTransformer(modules=[...])`

The tools come with the extras of these names: ``pip install "think-then-embed[ray]"``, likewise [mteb] and
[sentence-transformers].
"""

from __future__ import annotations


def missing_extra(module: str, extra: str, error: ImportError) -> ImportError:
    """Build the error that a module raises when its tool is not installed."""
    return ImportError(
        f'{module} needs {error.name or extra}, which is not installed: pip install "think-then-embed[{extra}]".',
        name=error.name,
    )
