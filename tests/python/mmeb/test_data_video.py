"""Video tasks: frames, pools, labels, moments."""

from __future__ import annotations

from pathlib import Path

import pytest
import tte.mmeb
from make_tree import FRAMES, MVBENCH_SUBSETS, frame_folder, jsonl, moment, write_image
from tte.mmeb.data import frames


def numbers(files: tuple[Path, ...]) -> list[int]:
    return [int(file.stem.split("_")[-1]) for file in files]


def test_natural_order_and_suffixes(tmp_path: Path) -> None:
    for name in ("10.jpg", "9.JPG", "1.jpeg", "frame_2.png", "frame_10.png", "Frame_1.png", "notes.txt", "a.gif"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "3").mkdir()
    listed = [path.name for path in frames.list_frames(tmp_path)]
    assert listed == ["1.jpeg", "9.JPG", "10.jpg", "Frame_1.png", "frame_2.png", "frame_10.png"]
    assert frames.list_frames(tmp_path / "absent") == []


@pytest.mark.parametrize(
    ("saved", "wanted", "chosen"),
    [
        (64, 8, [0, 9, 18, 27, 36, 45, 54, 63]),
        (12, 8, [0, 1, 3, 4, 6, 7, 9, 11]),
        (9, 8, [0, 1, 2, 3, 4, 5, 6, 8]),
        (8, 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (3, 8, [0, 1, 2]),
        (10, 1, [0]),
        (10, 0, []),
        (10, -1, list(range(10))),
        (0, 8, []),
    ],
)
def test_choice_of_frames(saved: int, wanted: int, chosen: list[int]) -> None:
    files = [Path(f"{i}.jpg") for i in range(saved)]
    assert [int(path.stem) for path in frames.choose(files, wanted)] == chosen


def test_frames_of_a_video(tree: Path) -> None:
    first, second = tte.mmeb.load("K700", tree).queries()
    assert first.entry.video_frames[0] == tree / FRAMES / "video_cls/K700/vid_b/frame_0001.jpg"
    assert numbers(first.entry.video_frames) == [1, 10, 19, 28, 37, 46, 55, 64]
    assert numbers(second.entry.video_frames) == [1, 2, 4, 5, 7, 8, 10, 12]
    all_of_it = next(tte.mmeb.load("K700", tree, style="qwen3_vl_embedding").queries()).entry
    assert numbers(all_of_it.video_frames) == list(range(1, 65))
    assert len(next(tte.mmeb.load("K700", tree, num_frames=3).queries()).entry.video_frames) == 3
    assert len(next(tte.mmeb.load("K700", tree, num_frames=-1).queries()).entry.video_frames) == 64
    none = next(tte.mmeb.load("K700", tree, style="vlm2vec", num_frames=0).queries()).entry
    assert none.video_frames == ()
    assert none.item() == {"text": "Recognize the category of the video content."}


def test_labels_that_occur_come_first(tree: Path) -> None:
    data = tte.mmeb.load("K700", tree)
    names = [entry.name for entry in data.candidates()]
    assert names[:4] == ["zumba", "archery", "waiting_in_line", "fly_tying"]
    assert len(names) == len(set(names)) == data.num_candidates == 700
    assert [query.candidates for query in data.queries()] == [None, None]
    assert next(data.queries()).labels == ("zumba",)


def test_multiple_choice_of_moves(tree: Path) -> None:
    data = tte.mmeb.load("SmthSmthV2", tree)
    first, second = data.queries()
    assert first.candidates == ("Closing something", "Opening something", "Holding something")
    assert second.labels == ("Opening something",)
    assert first.entry.video_frames[0].parent.name == "74225"
    assert data.num_candidates == 3


def test_retrieval_pools_every_video_once(tree: Path) -> None:
    data = tte.mmeb.load("MSR-VTT", tree)
    assert [query.labels for query in data.queries()] == [("video7020",), ("video7021",), ("video7020",)]
    assert [query.candidates for query in data.queries()] == [None] * 3
    candidates = list(data.candidates())
    assert [entry.name for entry in candidates] == ["video7020", "video7021"]
    assert [len(entry.video_frames) for entry in candidates] == [8, 8]
    assert len(next(tte.mmeb.load("MSVD", tree).candidates()).video_frames) == 2
    assert next(tte.mmeb.load("DiDeMo", tree).queries()).labels == ("10015567@N08_3655084291_d8b58466fa",)


def test_questions(tree: Path) -> None:
    query = next(tte.mmeb.load("Video-MME", tree).queries())
    assert query.candidates == ("A. Apples.", "B. Candles.", "C. Mr. X..", "Odd")
    assert query.labels == ("C. Mr. X..",)
    assert query.extra == {"question_id": "001-1", "domain": "Knowledge", "sub_category": "Humanity"}
    assert next(tte.mmeb.load("EgoSchema", tree).queries()).labels == ("C. Three. Four.",)
    query = next(tte.mmeb.load("NExTQA", tree).queries())
    assert query.labels == ("jump",)
    assert query.entry.video_frames[0].parent.name == "4740931975"
    query = next(tte.mmeb.load("ActivityNetQA", tree).queries())
    assert (query.candidates, query.labels) == (("yes", "no"), ("no",))
    assert query.entry.video_frames[0].parent.name == "v_act"


def test_mvbench_puts_its_subsets_one_after_the_other(tree: Path) -> None:
    data = tte.mmeb.load("MVBench", tree)
    queries = list(data.queries())
    assert [query.extra["subset"] for query in queries] == MVBENCH_SUBSETS
    assert queries[0].candidates == ("(A) red", "(B) blue", "(C) green")
    assert queries[0].labels == ("(B) blue",)
    assert queries[6].candidates == ("(A) yes", "(B) no")
    assert (
        queries[6].entry.video_frames[0].parent
        == tree / FRAMES / "video_qa/MVBench/object_existence/object_existence.mp4"
    )
    assert [entry.name for entry in data.candidates()] == ["(A) red", "(B) blue", "(C) green", "(A) yes", "(B) no"]


def test_mvbench_in_one_table(tmp_path: Path) -> None:
    rows = [
        {"subset": "action_count", "question": "Q", "video": "v.mp4", "candidates": ["1", "2", "1"], "answer": "1"},
        {"subset": "action_count", "question": "Q", "video": "v.mp4", "candidates": ["1", "2"], "answer": "3"},
    ]
    jsonl(tmp_path / "video-tasks/data/MVBench.jsonl", rows)
    frame_folder(tmp_path / FRAMES / "video_qa/video_qa/MVBench/action_count/v.mp4", 1)
    first, second = tte.mmeb.load("MVBench", tmp_path).queries()
    assert first.labels == ("(C) 1",)  # As in the benchmark, the last of equal options.
    assert second.labels == ("(@) 3",)  # An answer that is no option is never found.
    assert not first.entry.error


def test_moments_in_folders(tree: Path) -> None:
    data = tte.mmeb.load("QVHighlight", tree)
    query = next(data.queries())
    base = "video-tasks/frames/video_mret/QVHighlight/qv_60.0_210.0"
    assert query.candidates == (f"{base}/negative_clip_2", f"{base}/negative_clip_10", f"{base}/positive_clip")
    assert query.labels == (f"{base}/positive_clip",)
    assert numbers(query.entry.video_frames) == [1, 3, 6, 9, 11, 14, 17, 20]
    by_name = {entry.name: entry for entry in data.candidates()}
    assert len(by_name) == data.num_candidates == 6
    assert len(by_name[f"{base}/negative_clip_10"].video_frames) == 3
    assert by_name[f"{base}/positive_clip"].video_frames[0] == tree / base / "positive_clip/frame_0001.jpg"
    qwen = tte.mmeb.load("QVHighlight", tree, style="qwen3_vl_embedding")
    assert len(next(qwen.queries()).entry.video_frames) == 20
    assert max(len(entry.video_frames) for entry in qwen.candidates()) == 8


def test_moments_in_one_flat_folder(tree: Path) -> None:
    data = tte.mmeb.load("QVHighlight", tree)
    query = list(data.queries())[1]
    base = "video-tasks/frames/video_mret/QVHighlight/qv_flat"
    assert query.candidates == (f"{base}/negative_0", f"{base}/negative_1", f"{base}/positive")
    assert query.labels == (f"{base}/positive",)
    assert len(query.entry.video_frames) == 4
    frames_of = {entry.name: [path.name for path in entry.video_frames] for entry in data.candidates()}
    assert frames_of[f"{base}/positive"] == ["positive_001.jpg", "positive_002.jpg", "positive_003.jpg"]
    assert frames_of[f"{base}/negative_1"] == ["negative_1_001.jpg", "negative_1_002.jpg"]


def test_both_spellings_of_charades(tree: Path, tmp_path: Path) -> None:
    assert next(tte.mmeb.load("Charades-STA", tree).queries()).labels[0].split("/")[3] == "Charades_STA"
    jsonl(tmp_path / "video-tasks/data/charades_sta.jsonl", [{"query": "q", "video_path": "v.mp4"}])
    for clip in ("query", "positive", "negative_clip_0"):
        frame_folder(tmp_path / FRAMES / "video_mret/Charades-STA/v" / clip, 2)
    query = next(tte.mmeb.load("Charades-STA", tmp_path).queries())
    assert query.labels == ("video-tasks/frames/video_mret/Charades-STA/v/positive",)


def test_momentseeker(tree: Path) -> None:
    data = tte.mmeb.load("MomentSeeker", tree, num_frames=2)
    text, image, video = data.queries()
    base = "video-tasks/frames/video_mret/MomentSeeker/video_frames"
    assert text.labels == (f"{base}/vids_a_p0", f"{base}/vids_a_p1")
    assert text.candidates == (f"{base}/vids_a_p0", f"{base}/vids_a_p1", f"{base}/vids_a_n0")
    assert (text.entry.images, text.entry.video_frames) == ((), ())
    assert image.entry.images == (tree / "video-tasks/frames/video_mret/MomentSeeker/query_images/dir/q.jpg",)
    # All saved frames are taken, whatever was asked for.
    assert numbers(video.entry.video_frames) == list(range(1, 11))
    candidates = list(data.candidates())
    assert [entry.name.rsplit("/", 1)[1] for entry in candidates] == [
        "vids_a_p0", "vids_a_p1", "vids_a_n0", "vids_b_p0", "vids_b_n1",
    ]  # fmt: skip
    assert all(len(entry.video_frames) == 10 for entry in candidates)
    assert data.num_candidates == 5


def test_momentseeker_as_columns_of_lists(tree: Path, tmp_path: Path) -> None:
    row = moment("q", "", ["a.mp4"], ["b.mp4"])
    row["positive_frames"] = {"output_path": ["a.mp4"], "score": [1]}
    row["negative_frames"] = {"output_path": ["b.mp4"], "score": [0]}
    jsonl(tmp_path / "video-tasks/data/momentseeker.jsonl", [row])
    for name in ("a", "b"):
        frame_folder(tmp_path / FRAMES / "video_mret/MomentSeeker/video_frames" / name, 1)
    query = next(tte.mmeb.load("MomentSeeker", tmp_path).queries())
    assert [name.rsplit("/", 1)[1] for name in query.candidates or ()] == ["a", "b"]


def test_missing_frames_are_an_error_of_the_entry_alone(tmp_path: Path) -> None:
    rows = [{"video_id": "there", "pos_text": "wave"}, {"video_id": "gone", "pos_text": "eat"}]
    jsonl(tmp_path / "video-tasks/data/hmdb51.jsonl", rows)
    write_image(tmp_path / FRAMES / "video_cls/HMDB51/there/1.jpg")
    good, bad = tte.mmeb.load("HMDB51", tmp_path).queries()
    assert good.entry.error == ""
    folder = tmp_path / FRAMES / "video_cls/HMDB51/gone"
    assert bad.entry.error.startswith(f"HMDB51: the frame folder {folder} is missing: unpack ")
    with pytest.raises(tte.InputError, match=r"HMDB51: the frame folder .* is missing"):
        bad.entry.item()
    folder.mkdir()
    assert "has no frames" in list(tte.mmeb.load("HMDB51", tmp_path).queries())[1].entry.error
    assert list(tte.mmeb.load("HMDB51", tmp_path, num_frames=0).queries())[1].entry.error == ""


def test_moments_without_a_right_clip(tmp_path: Path) -> None:
    jsonl(tmp_path / "video-tasks/data/qvhighlight.jsonl", [{"query": "q", "video_path": "v.mp4"}])
    frame_folder(tmp_path / FRAMES / "video_mret/QVHighlight/v/query", 2)
    frame_folder(tmp_path / FRAMES / "video_mret/QVHighlight/v/negative_clip_0", 2)
    query = next(tte.mmeb.load("QVHighlight", tmp_path).queries())
    assert query.labels == ()
    assert "has no clip whose name begins with 'positive'" in query.entry.error
