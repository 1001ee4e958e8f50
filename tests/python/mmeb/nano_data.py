"""A data set of the nano world without files of tables, and a process that runs it: what is killed in the tests."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import tte
from PIL import Image
from tte import _hub
from tte.mmeb.data.tasks import Task
from tte.mmeb.data.types import Dataset, Entry, Query
from tte.mmeb.run.embed import System
from tte.mmeb.run.run import TRACES, Options, run_dataset
from tte.nano import generate


class NanoData(Dataset):
    """One task of the nano world: images in a folder, every query against its own candidates (or all of them)."""

    def __init__(self, folder: Path, kind: str = "image_ret", count: int = 8, *, local: bool = True) -> None:
        self.task = Task(f"Nano-{kind}", "I-RET", "image", "hit@1", scored=False, family=kind, parser="", local=local)
        self.style = "plain"
        self.folder, self.count, self.local = folder, count, local
        self.samples = generate(kind, seed=0, n=count)
        self.pools = [
            [s.candidates[s.label], *(c for i, c in enumerate(s.candidates[:7]) if i != s.label)] for s in self.samples
        ]
        self.revision = "1"

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.task.name} {self.count} {self.revision}".encode()).hexdigest()

    def entry(self, name: str, item: Any) -> Entry:
        images: tuple[Path, ...] = ()
        if item.image is not None:
            path = self.folder / f"{hashlib.sha256(item.image.tobytes()).hexdigest()[:16]}.png"
            if not path.is_file():
                self.folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(item.image).save(path)
            images = (path,)
        return Entry(name, "", item.text or "", images, prompt=item.text or "")

    def queries(self) -> Iterator[Query]:
        for i, sample in enumerate(self.samples):
            pool = tuple(f"{i}:{j}" for j in range(len(self.pools[i])))
            yield Query(self.entry(str(i), sample.query), pool if self.local else None, (pool[0],))

    def candidates(self) -> Iterator[Entry]:
        for i, pool in enumerate(self.pools):
            for j, candidate in enumerate(pool):
                yield self.entry(f"{i}:{j}", candidate)


def system(store: tte.TraceStore | None, think: Any) -> System:
    """The bundled pair."""
    embedder = tte.Embedder(_hub.bundled("embedder"))
    reasoner = tte.Reasoner(_hub.bundled("reasoner")) if think != "never" else None
    return System(embedder, reasoner, store, think)


def kill_at(change: int, folder: Path) -> None:
    """Kill this process right before its `change`-th change of files or folders in `folder`."""
    left = change

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event == "open":
            changes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) if arguments[2] is not None else False
        else:
            changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
        if not changes or not str(arguments[0]).startswith(str(folder)):
            return
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def main() -> None:
    """`python nano_data.py IMAGES OUT THINK [CHANGE]`: run the data set; CHANGE: see `kill_at`."""
    images, out, think = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    if len(sys.argv) > 4:
        kill_at(int(sys.argv[4]), out)
    with tte.TraceStore(out / TRACES) as store:
        run_dataset(NanoData(images), out, system(store, think), options=Options(block=4), progress=False)


if __name__ == "__main__":
    main()
