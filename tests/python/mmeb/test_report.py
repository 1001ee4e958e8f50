"""The report: published averages, the leaderboard's file, what two runs changed, the page."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import tte
from make_tree import write_image
from results import write_result
from tte.mmeb import report
from tte.mmeb.cli import main
from tte.mmeb.data.tasks import tasks
from tte.mmeb.report import compare, leaderboard, page, results
from tte.mmeb.run.manifest import checksums_of, sealed
from tte.mmeb.score.average import averages
from tte.mmeb.score.metrics import KEYS

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
NAMES = ["ImageNet-1K", "MSCOCO_i2t", "MSVD", "ViDoSeek-page"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four data sets, with and without traces: those fix queries 0 to 3 of 10 and break query 9, both miss query 8."""
    folder = tmp_path_factory.mktemp("runs")
    for task in tasks(NAMES):
        think = [i not in (8, 9) for i in range(10)]
        plain = [i in (4, 5, 6, 7, 9) for i in range(10)]
        write_result(folder / "think", task, think, think="think")
        errors = {8: "item 8: <the image> is broken."} if task.name == "MSVD" else None
        write_result(folder / "plain", task, plain, think="no-think", errors=errors)
    return folder


@pytest.fixture(scope="module")
def made(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    report.make([runs / "think", runs / "plain"], out, metadata={"model_name": "Our <Model>", "model_size": 2.2})
    return out


class Page(HTMLParser):
    """Cells of every table, and whether tags are closed in order."""

    VOID = ("meta", "img", "br", "path", "use", "rect", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.sources: list[str] = []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.ids.add(str(found["id"]))
        if tag == "a":
            self.links.add(str(found.get("href")))
        self.sources += [str(found[key]) for key in ("src", "href") if found.get(key) and tag != "a"]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        self._cell = tag in ("td", "th") or (self._cell and tag in ("b", "span"))
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._cell and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def shown(made: Path) -> Page:
    return Page((made / "index.html").read_text(encoding="utf-8"))


def test_published_scores_give_the_published_averages() -> None:
    scores = page.published()["tasks"]["VLM2Vec-V2.0"]["scores"]
    found = averages(scores)
    assert found.overall.complete
    percent = {
        name: round(100 * (mean.value or 0), 2) for name, mean in {**found.categories, **found.modalities}.items()
    }
    assert percent == {
        "I-CLS": 62.93, "I-QA": 56.42, "I-RET": 69.60, "I-VG": 77.12, "image": 64.92,
        "V-CLS": 39.24, "V-QA": 34.66, "V-RET": 28.37, "V-MRET": 37.55, "video": 34.67,
        "VDR-v1": 74.39, "VDR-v2": 44.61, "VisRAG": 79.33, "VDR-OOD": 62.05, "visdoc": 68.60,
    }  # fmt: skip
    assert round(100 * (found.overall.value or 0), 2) == 59.07


def test_published_rows_agree_with_themselves() -> None:
    """The mean of modalities weighted by their number of sets is the total that was published."""
    for system in page.published()["systems"]:
        scores = system["scores"]
        assert set(scores) <= set(page.published()["columns"])
        if {"image", "video", "visdoc"} <= set(scores) and system["name"] != "TTE_s-2B":  # See its note.
            total = (36 * scores["image"] + 18 * scores["video"] + 24 * scores["visdoc"]) / 78
            assert total == pytest.approx(scores["all"], abs=0.45), system["name"]


def test_leaderboard_file(made: Path, runs: Path) -> None:
    found = json.loads((made / "Our <Model>.json").read_text())
    assert list(found) == ["metadata", "metrics"]
    assert list(found["metadata"]) == list(leaderboard.METADATA)
    assert found["metadata"]["model_name"] == "Our <Model>"
    assert found["metadata"]["embedding_dimension"] == 6
    assert found["metadata"]["data_source"] == "Self-Reported"
    assert found["metadata"]["url"] == "NONE"
    datetime.fromisoformat(found["metadata"]["report_generated_date"])
    metrics = found["metrics"]
    assert list(metrics) == ["image", "video", "visdoc"]
    assert [len(metrics[m]) for m in metrics] == [36, 18, 27]
    assert metrics["image"]["N24News"] == "FILE_N/A"
    assert metrics["image"]["ImageNet-1K"] == "INCOMPLETE: 10 of 1000 queries"
    assert "ViDoSeek-page" not in metrics["visdoc"]
    assert "ViDoSeek-page-fixed" in metrics["visdoc"]
    text = (made / "Our <Model>.json").read_text()
    assert text.startswith('{\n    "metadata": {\n        "model_name"')
    assert (made / "Our <Model>-no-think.json").exists()


def test_leaderboard_file_has_the_scores_of_what_is_whole(tmp_path: Path) -> None:
    whole, failed = tasks(["VisRAG_ChartQA", "ViDoRe_esg_reports_human_labeled_v2"])[::-1]
    write_result(tmp_path, whole, [i % 3 > 0 for i in range(63)])
    write_result(tmp_path, failed, [True] * 52, errors={7: "it is broken."})
    report.make([tmp_path], tmp_path / "report", metadata={"model_name": "m"})
    found = json.loads((tmp_path / "report" / "m.json").read_text())["metrics"]["visdoc"]
    assert found["VisRAG_ChartQA"]["hit@1"] == 42 / 63
    assert list(found["VisRAG_ChartQA"]) == [*KEYS, "num_pred", "num_data"]
    assert found["ViDoRe_esg_reports_human_labeled_v2"]["hit@1"] == 51 / 52
    assert found["ViDoRe_esg_reports_human_labeled_v2"]["failed_queries"] == 1


def test_leaderboard_says_why_scores_are_missing(tmp_path: Path) -> None:
    (tmp_path / "image" / "A").mkdir(parents=True)
    (tmp_path / "image" / "A" / "score.json").write_text("{")
    (tmp_path / "image" / "B" / "score.json").mkdir(parents=True)
    (tmp_path / "image" / "E").mkdir()
    (tmp_path / "image" / "E" / "score.json").symlink_to("/dev/zero")
    found = leaderboard.build(tmp_path, {"image": ["A", "B", "C", "E"], "video": ["D"]}, {"model_name": "m"})["metrics"]
    assert found == {
        "image": {"A": "JSON_ERROR", "B": "READ_ERROR", "C": "FILE_N/A", "E": "READ_ERROR"},
        "video": {"D": "DIR_N/A"},
        "visdoc": {},
    }


def test_leaderboard_reads_old_and_new_names(tmp_path: Path) -> None:
    old = {
        "ViDoSeek-page": {"ndcg_linear@5": 0.2},
        "MMLongBench-doc": {"ndcg_linear@5": 0.4},
        "VisRAG_PlotQA": "FILE_N/A",
    }
    for name, visdoc in (("old", old), ("new", {**old, "ViDoSeek-page-fixed": {"ndcg_linear@5": 0.8}})):
        (tmp_path / f"{name}.json").write_text(json.dumps({"metadata": {}, "metrics": {"visdoc": visdoc}}))
    assert leaderboard.read(tmp_path / "old.json") == (
        "old", {"ViDoSeek-page": {"ndcg_linear@5": 0.2}, "MMLongBench-doc": {"ndcg_linear@5": 0.4}}
    )  # fmt: skip
    assert leaderboard.read(tmp_path / "new.json")[1]["ViDoSeek-page"] == {"ndcg_linear@5": 0.8}
    (tmp_path / "v1.json").write_text(json.dumps({"ImageNet-1K": {"acc": 1}}))
    with pytest.raises(tte.InputError, match="no 'metrics'"):
        leaderboard.read(tmp_path / "v1.json")


def test_what_thinking_changed(runs: Path) -> None:
    known = report.known_tasks()
    first, second = (results.read(runs / name, known) for name in ("think", "plain"))
    assert (first.name, second.name) == ("think", "no-think")
    found = compare.compare(first.tasks["MSVD"], second.tasks["MSVD"])
    assert found is not None
    assert (found.fixed, found.broken, found.missed, found.total) == ([0, 1, 2, 3], [9], [8], 10)
    assert found.p_value == pytest.approx(2 * (1 + 5) / 2**5)
    assert compare.compare(first.tasks["MSVD"], second.tasks["ImageNet-1K"]) is not None
    assert compare.spread(list(range(10)), 3) == [0, 3, 6]


def test_trace_length_bins() -> None:
    pairs = [(length, length > 5) for length in range(10)]
    assert compare.length_bins(pairs, 2) == [("0–4 tokens", 0.0, 5), ("5–9 tokens", 80.0, 5)]
    assert compare.length_bins([(3, True)] * 4) == [("3 tokens", 100.0, 4)]


def test_page_holds_scores_and_what_changed(shown: Page) -> None:
    assert shown.open == []
    assert {link for link in shown.links if link.startswith("#")} <= {f"#{name}" for name in shown.ids}
    assert all(source.startswith(("data:", "#")) for source in shown.sources)
    rows = {row[0]: row for row in shown.rows if row}
    assert rows["MSVD"][1:9] == ["V-RET", "hit@1", "10", "80.0", "50.0", "+30.0", "4", "1"]
    assert rows["MSVD"][-1] == "47.3"  # VLM2Vec-V2.0
    assert rows["K700"][4:6] == ["–", "–"]
    ours = rows["Our <Model> · think"]
    assert len(ours) == len(rows["Qwen3-VL-Embedding-8B"])
    assert rows["Qwen3-VL-Embedding-8B"][1:4] == ["64", "benchmark's", "77.8"]
    # Our own rows come first, whatever they score.
    systems = [row[0] for row in shown.rows if len(row) == len(ours)]
    assert systems[1:4] == ["Our <Model> · think", "Our <Model> · no-think", "WeMM-Embedding-9B"]


def test_page_escapes_and_lists_failures(made: Path) -> None:
    text = (made / "index.html").read_text(encoding="utf-8")
    assert "Our &lt;Model&gt;" in text
    assert "<Model>" not in text
    assert "item 8: &lt;the image&gt; is broken." in text
    assert "incomplete" in text
    assert "lacks 74 data sets" in text
    assert "step 0 of 10" in text
    assert not re.search(r"(src|href)=.?https?:", text)


def test_page_of_one_run_without_comparison(runs: Path, tmp_path: Path) -> None:
    report.make([runs / "plain"], tmp_path)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "Missed queries" in text
    assert "sign test" not in text
    assert (tmp_path / "some-embedder.json").exists()


def test_a_quick_look_is_called_one(tmp_path: Path, capsys: Any) -> None:
    write_result(tmp_path / "look", tasks(["MSVD"])[0], [True, False], settings={"limit": 2})
    assert main(["report", str(tmp_path / "look")]) == 0
    told = capsys.readouterr().out
    assert "1 of 1 data sets hold the first queries only (--limit), and its leaderboard file leaves them out" in told
    text = (tmp_path / "look" / "report" / "index.html").read_text(encoding="utf-8")
    assert "took the first 2 queries of each data set only" in text


def test_report_is_the_same_again(runs: Path, tmp_path: Path) -> None:
    known = report.known_tasks()
    run = results.read(runs / "think", known)
    options = page.Options("title", now=datetime(2026, 1, 1))
    assert page.render([run], known, options) == page.render([results.read(runs / "think", known)], known, options)


def test_command(runs: Path, tmp_path: Path, capsys: Any) -> None:
    other = tmp_path / "Theirs.json"
    other.write_text(
        json.dumps({"metadata": {"model_name": "Theirs"}, "metrics": {"video": {"MSVD": {"hit@1": 0.123}}}})
    )
    out = tmp_path / "out"
    names = ["--name", "a", "--name", "b"]
    assert (
        main(["report", str(runs / "think"), str(runs / "plain"), "--out", str(out), "--compare", str(other), *names])
        == 0
    )
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == (out / "index.html").as_uri()
    text = (out / "index.html").read_text(encoding="utf-8")
    assert "Theirs" in text
    assert "12.3" in text
    assert main(["report", str(tmp_path / "nothing")]) == 2
    assert "holds no results" in capsys.readouterr().err
    assert main(["report", str(runs / "think"), str(runs / "think")]) == 2
    assert "Two runs are called 'think'" in capsys.readouterr().err


def test_page_says_how_much_of_the_benchmark_it_is_and_against_what(made: Path) -> None:
    text = (made / "index.html").read_text(encoding="utf-8")
    assert "4 of 78 data sets" in text
    assert "2 of 36 data sets" in text
    assert "gain over no-think" in text
    assert "think against no-think: " in text
    for legend in ("◆ thinks before it embeds", "lowest to highest of a column", "✓ marks a right candidate"):
        assert legend in text
    assert "time for a query, median" in text
    assert "milliseconds for a query" in text
    assert "trace of candidate" in text
    assert "not whole" in text
    assert "it has 10 of 1000 queries" in text


def test_settings_are_words(shown: Page) -> None:
    rows = {row[0]: row[1:] for row in shown.rows if row}
    assert rows["who is reasoned about"] == ["who the reasoner's recipe says, by task and side", "nobody"]
    assert rows["embedder"] == ["some-embedder"] * 2
    assert rows["queries of each data set"] == ["all", "all"]
    assert not any(re.search(r"identity|fingerprint|checksum", str(name)) for name in rows)


def test_documents_are_compared_on_their_own_metric(tmp_path: Path) -> None:
    """A right page that moves from the third to the second place is a gain, though it is not first."""
    (task,) = tasks(["VisRAG_ChartQA"])
    for name, places in (("think", [2, 1, 3, 9]), ("no-think", [3, 2, 1, 9])):
        folder = write_result(tmp_path / name, task, [True] * 4, think=name, candidates=10)
        rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
        for row, place in zip(rows, places, strict=True):
            others = [p for p in row["prediction"] if p not in row["label"]]
            row["prediction"] = [*others[: place - 1], *row["label"], *others[place - 1 :]]
            row["rank"] = place
        (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["checksums"]["predictions.jsonl"] = checksums_of(folder / "predictions.jsonl", manifest)
        (folder / "manifest.json").write_text(json.dumps(sealed(manifest)))
    first, second = (results.read(tmp_path / name, []) for name in ("think", "no-think"))
    found = compare.compare(first.tasks[task.name], second.tasks[task.name])
    assert found is not None
    assert (found.fixed, found.broken, found.missed) == ([0, 1], [2], [3])


def test_media_are_found_where_the_data_are_now(tmp_path: Path) -> None:
    then, now = tmp_path / "then", tmp_path / "now"
    image = write_image(now / "image-tasks/MSCOCO_i2t/1.png", 77)
    write_result(
        tmp_path / "out", tasks(["MSCOCO_i2t"])[0], [False, False], images=[then / "image-tasks/MSCOCO_i2t/1.png"]
    )
    report.make([tmp_path / "out"], tmp_path / "without")
    assert "1.png does not exist: give `report --data`" in (tmp_path / "without/index.html").read_text()
    assert main(["report", str(tmp_path / "out"), "--out", str(tmp_path / "with"), "--data", str(now)]) == 0
    text = (tmp_path / "with/index.html").read_text()
    assert "does not exist" not in text
    assert "data:image/webp" in text
    # What is no image is not decoded, and nothing waits for it.
    image.unlink()
    os.mkfifo(image)
    report.make([tmp_path / "out"], tmp_path / "pipe", data_dir=now)
    image.unlink()
    image.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    report.make([tmp_path / "out"], tmp_path / "eps", data_dir=now)
    assert "1.png cannot be shown" in (tmp_path / "eps/index.html").read_text()
