"""Questions about videos: the options of a row are its candidates.

| parser | how the question is written | name of a candidate | what is embedded |
|---|---|---|---|
| videomme | question, then the options one a line | "A. Apples." | what follows ". ", no "." or " " at its ends |
| egoschema | question, options joined by blanks | as above | as above |
| nextqa | question, "Options:", "(A) ..." one a line | the option | the option |
| mvbench | as nextqa | "(A) option" | "(A) option" |
| activitynetqa | question + "? (A) yes; (B) no." | yes, no | yes, no |

Qwen3-VL-Embedding's evaluation puts one blank more between the question and the first option of egoschema, writes the
candidates of nextqa with their letters, and keeps an option of videomme that has no ". " as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from tte._tte import InputError
from tte.mmeb.data import prompts, tables
from tte.mmeb.data.base import Settings
from tte.mmeb.data.tables import Row
from tte.mmeb.data.tasks import Task
from tte.mmeb.data.types import Entry, Query
from tte.mmeb.data.videos import VideoDataset

_QWEN = "qwen3_vl_embedding"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Question(NamedTuple):
    """A row: its video, the question with its options as one text, and the options."""

    folder: str
    block: str
    names: list[str]
    texts: list[str]
    label: str
    extra: dict[str, Any]


class QuestionDataset(VideoDataset):
    """One task of questions about videos."""

    def __init__(self, task: Task, data_dir: Path, settings: Settings) -> None:
        self.columns, self.optional, self._read = _READERS[task.parser]
        super().__init__(task, data_dir, settings)

    def probe(self, row: Row, where: str) -> str:
        """Folder of the video."""
        return self._read(row, where, self.style).folder

    def queries(self) -> Iterator[Query]:
        """Iterate over the queries in evaluation order."""
        for number, row in self.rows():
            where = self.table.where(number)
            found = self._read(row, where, self.style)
            block = found.block if self.task.options_in_prompt else tables.text(row, "question", where)
            words = prompts.question(self.style, self.task.query_instruction, block)
            chosen = self.frames(self.folder(found.folder, where), self.num_frames)
            entry = self.entry(str(number), words, frames=chosen.files, error=chosen.error)
            pool = tuple(found.names) if self.task.local else None
            yield Query(entry, pool, (found.label,), None, found.extra)

    def candidates(self) -> Iterator[Entry]:
        """Iterate over the distinct options."""
        seen: set[str] = set()
        for number, row in self.rows():
            found = self._read(row, self.table.where(number), self.style)
            for name, text in zip(found.names, found.texts, strict=True):
                if name not in seen:
                    seen.add(name)
                    yield self.entry(name, prompts.answer(self.style, text))

    @cached_property
    def num_candidates(self) -> int:
        """Number of distinct options."""
        names = (self._read(row, self.table.where(number), self.style).names for number, row in self.rows())
        return len({name for row_names in names for name in row_names})


def _videomme(row: Row, where: str, style: str) -> Question:
    options = tables.texts(row, "options", where)
    letter = tables.text(row, "answer", where).strip()
    letters = _LETTERS[: len(options)]
    if len(letter) != 1 or letter not in letters:
        raise InputError(f"{where}: the answer is {letter!r:.40}; it must be a letter from A to {letters[-1:]}.")
    return Question(
        tables.text(row, "videoID", where),
        "\n".join([tables.text(row, "question", where), *options]),
        options,
        [option if style == _QWEN and ". " not in option else _bare(option) for option in options],
        options[letters.index(letter)],
        {key: row.get(key) for key in ("question_id", "domain", "sub_category")},
    )


def _egoschema(row: Row, where: str, style: str) -> Question:
    options = tables.texts(row, "option", where)
    question = tables.text(row, "question", where)
    return Question(
        tables.text(row, "video_idx", where),
        question + (" " if style == _QWEN else "") + " ".join(options),
        options,
        [_bare(option) for option in options],
        options[tables.index(row, "answer", len(options), where)],
        {"question_id": row.get("question_idx")},
    )


def _nextqa(row: Row, where: str, style: str) -> Question:
    options = [tables.text(row, f"a{number}", where) for number in range(5)]
    block, lettered = _lettered(tables.text(row, "question", where), options)
    names = lettered if style == _QWEN else options
    label = names[tables.index(row, "answer", len(options), where)]
    extra = {"question_id": row.get("qid"), "type": row.get("type")}
    return Question(tables.text(row, "video", where), block, names, names, label, extra)


def _mvbench(row: Row, where: str, style: str) -> Question:
    options = tables.texts(row, "candidates", where)
    block, lettered = _lettered(tables.text(row, "question", where), options)
    answer = tables.text(row, "answer", where)
    # The last of equal options; an answer that is none of them is named as the benchmark does, and never found.
    label = next((name for name, o in zip(lettered[::-1], options[::-1], strict=True) if o == answer), f"(@) {answer}")
    subset, video = tables.text(row, "subset", where), tables.text(row, "video", where)
    return Question(f"{subset}/{video}", block, lettered, lettered, label, {"subset": subset, "video_id": video})


def _activitynetqa(row: Row, where: str, style: str) -> Question:
    options = ["yes", "no"]
    answer = tables.text(row, "answer", where)
    if answer not in options:
        raise InputError(
            f"{where}: the answer is {answer!r:.40}; only questions to be answered by yes or no belong here."
        )
    return Question(
        f"v_{tables.text(row, 'video_name', where)}",
        f"{tables.text(row, 'question', where)}? (A) yes; (B) no.",
        options,
        options,
        answer,
        {"question_id": row.get("question_id")},
    )


def _bare(option: str) -> str:
    """Return what follows ". " without dots and blanks around it; without a ". ", the last character."""
    return option[option.find(". ") :].strip(". ")


def _lettered(question: str, options: list[str]) -> tuple[str, list[str]]:
    """Write the question with its options one a line, and the options with their letters."""
    lettered = [f"({chr(ord('A') + number)}) {option}" for number, option in enumerate(options)]
    return "\n".join([question, "Options:", *lettered]).rstrip(), lettered


_Reader = Callable[[Row, str, str], Question]
_READERS: dict[str, tuple[tuple[str, ...], tuple[str, ...], _Reader]] = {
    "videomme": (("question", "videoID", "options", "answer"), ("question_id", "domain", "sub_category"), _videomme),
    "egoschema": (("video_idx", "question", "answer", "option"), ("question_idx",), _egoschema),
    "nextqa": (("video", "question", "answer", "a0", "a1", "a2", "a3", "a4"), ("qid", "type"), _nextqa),
    "mvbench": (("question", "video", "candidates", "answer", "subset"), (), _mvbench),
    "activitynetqa": (("video_name", "question", "answer"), ("question_id",), _activitynetqa),
}
PARSERS = tuple(_READERS)
