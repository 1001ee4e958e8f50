"""MMEB-V2: 78 tasks over images, videos and documents, evaluated from a local copy of the data.

    >>> import tte.mmeb
    >>> data = tte.mmeb.load("MSCOCO_i2t", "MMEB-V2")          # doctest: +SKIP
    >>> next(data.queries()).entry.item()                      # doctest: +SKIP

The command line is `python -m tte.mmeb --help`. The rooms, each of which uses only those before it:

    data      tasks, tables, layouts, prompts: files become queries and candidates
    score     vectors become rankings and metrics
    run       traces and vectors block by block, folders of results, their scores
    report    the page and the leaderboard's file
    mini      the whole benchmark in miniature
    cli       the commands
"""

from tte.mmeb.data.loaders import load
from tte.mmeb.data.tasks import Task, tasks
from tte.mmeb.data.types import STYLES, Dataset, Entry, Query

__all__ = ["STYLES", "Dataset", "Entry", "Query", "Task", "load", "tasks"]
