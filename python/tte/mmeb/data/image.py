"""The 36 image tasks: rows with a query and lists of targets, the first of which is the right one.

Two forms of the tables are read. The newer one (MMEB_Test_Instruct) has instruction and text of query and targets in
columns of their own; the older one (MMEB-eval) has whole prompts. Names of candidates, by which they are told apart:

* targets that are texts: the text itself
* image_t2i: the path of the image (its first caption counts)
* image_i2i_vg: path + ":" + caption without surrounding double quotes, since one image of RefCOCO-Matching holds
  several targets; in the older tables the caption is the whole prompt without its image token
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from tte._tte import InputError
from tte.mmeb.data import layout, prompts, tables
from tte.mmeb.data.base import Settings, TableDataset
from tte.mmeb.data.tables import Row, Table
from tte.mmeb.data.tasks import Task
from tte.mmeb.data.types import Entry, Query

_TEXT_PARSERS = ("image_cls", "image_qa", "image_i2t")
PARSERS = (*_TEXT_PARSERS, "image_t2i", "image_i2i_vg")


class ImageDataset(TableDataset):
    """One image task."""

    def __init__(self, task: Task, data_dir: Path, settings: Settings) -> None:
        super().__init__(task, data_dir, settings)
        self._text_targets = task.parser in _TEXT_PARSERS
        files = layout.find_tables(task, data_dir)
        self._whole_prompts = not Table(files, task.name).has("qry_inst")
        columns = ["qry_text", "tgt_text"]
        if task.parser != "image_t2i" or self._whole_prompts:
            columns.append("qry_img_path")
        if not self._text_targets:
            columns.append("tgt_img_path")
        if not self._whole_prompts:
            columns += ["qry_inst"] if self._text_targets else ["qry_inst", "tgt_inst"]
        self.table = Table(files, task.name, columns)

    def queries(self) -> Iterator[Query]:
        """Iterate over the queries in evaluation order."""
        for number, row in self.rows():
            names = self._names(row, number)
            pool = tuple(names) if self.task.local else None
            yield Query(self._query(row, number), pool, (names[0],))

    def candidates(self) -> Iterator[Entry]:
        """Iterate over the candidates, those of the first row first."""
        seen: set[str] = set()
        for number, row in self.rows():
            for index, name in enumerate(self._names(row, number)):
                if name not in seen:
                    seen.add(name)
                    yield self._target(row, number, index, name)

    @cached_property
    def num_candidates(self) -> int:
        """Number of distinct candidates."""
        columns = ["tgt_text"] if self._text_targets else ["tgt_text", "tgt_img_path"]
        seen: set[str] = set()
        for number, row in self.rows(columns):
            seen.update(self._names(row, number))
        return len(seen)

    @cached_property
    def root(self) -> Path:
        """Folder that the paths of the table start from."""
        _, row = next(self.rows(), (0, {}))
        path = row.get("qry_img_path") or next(iter(row.get("tgt_img_path") or ()), "")
        probe = path if isinstance(path, str) else ""
        if probe:
            layout.inside(self.data_dir, probe, self.table.where(0))
        return layout.media_root(self.task, self.data_dir, probe)

    def media(self) -> Iterator[tuple[Path, Sequence[Path] | None]]:
        """Every image that the rows name, once, with its file."""
        seen: set[str] = set()
        for number, row in self.rows([c for c in ("qry_img_path", "tgt_img_path") if self._reads(c)]):
            for path in (row.get("qry_img_path"), *(row.get("tgt_img_path") or ())):
                if path and path not in seen:
                    seen.add(path)
                    file = layout.inside(self.root, path, self.table.where(number))
                    yield file, [file] if file.is_file() else []

    def _reads(self, column: str) -> bool:
        if column == "tgt_img_path":
            return not self._text_targets
        return self.task.parser != "image_t2i" or self._whole_prompts

    def _names(self, row: Row, number: int) -> list[str]:
        where = self.table.where(number)
        texts = tables.texts(row, "tgt_text", where)
        if self._text_targets:
            return texts
        paths = tables.texts(row, "tgt_img_path", where)
        if len(paths) != len(texts):
            raise InputError(f"{where}: tgt_text has {len(texts)} entries, but tgt_img_path has {len(paths)}.")
        if self.task.parser == "image_t2i":
            return paths
        bare = [t.replace(f"{prompts.DATA_IMAGE}\n", "").strip() for t in texts] if self._whole_prompts else texts
        return [f"{path}:{caption.strip(chr(34))}" for path, caption in zip(paths, bare, strict=True)]

    def _query(self, row: Row, number: int) -> Entry:
        where = self.table.where(number)
        parser = self.task.parser
        text = tables.optional_text(row, "qry_text", where)
        path = tables.optional_text(row, "qry_img_path", where) if self._reads("qry_img_path") else ""
        images = (layout.inside(self.root, path, where),) if path else ()
        if self._whole_prompts:
            words = prompts.whole_prompt(
                self.style, text, "image" if images else "", stray_tokens=self.settings.stray_tokens
            )
        else:
            if not images and parser != "image_t2i":
                raise InputError(f"{where}: qry_img_path is empty, but every query of {self.task.name} has an image.")
            instruction = tables.optional_text(row, "qry_inst", where)
            words = prompts.image_query(
                self.style, parser, instruction, text,
                suffix=self.task.query_suffix, stray_tokens=self.settings.stray_tokens,
            )  # fmt: skip
        return self.entry(str(number), words, images=images)

    def _target(self, row: Row, number: int, index: int, name: str) -> Entry:
        text: str = row["tgt_text"][index]
        if self._text_targets:
            return self.entry(name, prompts.answer(self.style, text))
        where = self.table.where(number)
        images = (layout.inside(self.root, row["tgt_img_path"][index], where),)
        if self._whole_prompts:
            words = prompts.whole_prompt(self.style, text, "image")
        else:
            instruction = tables.optional_text(row, "tgt_inst", where)
            captioned = bool(row["tgt_text"][0].strip())
            words = prompts.image_target(self.style, self.task.parser, instruction, text, captioned=captioned)
        return self.entry(name, words, images=images)
