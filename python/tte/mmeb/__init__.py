"""MMEB-V2: 78 tasks over pictures, videos and documents, evaluated from a local copy of the data.

    >>> import tte.mmeb
    >>> data = tte.mmeb.load("MSCOCO_i2t", "MMEB-V2")          # doctest: +SKIP
    >>> next(data.queries()).entry.item()                      # doctest: +SKIP

The command line is `python -m tte.mmeb --help`.
"""

from tte.mmeb.items import STYLES, Dataset, Entry, Query, load
from tte.mmeb.tasks import Task, tasks

__all__ = ["STYLES", "Dataset", "Entry", "Query", "Task", "load", "tasks"]
