"""A tiny tree in the real layouts: real names of data sets, columns, folders and files; two to four rows each."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

IMAGE_REPO = "image-tasks/data/ziyjiang/MMEB_Test_Instruct"
V1_REPO = "MMEB-eval"
FRAMES = "video-tasks/frames"
VIDEO_DATA = "video-tasks/data"
VISDOC = "visdoc-tasks"
T = "<|image_1|>"


def parquet(path: Path, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    return path


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_image(path: Path, shade: int = 128, size: tuple[int, int] = (32, 32)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade % 256, 100, 50)).save(path)
    return path


def frame_folder(folder: Path, count: int, pattern: str = "frame_{:04d}.jpg") -> Path:
    for number in range(1, count + 1):
        write_image(folder / pattern.format(number), number)
    return folder


def image_row(
    instruction: str, text: str, path: str, target: str, texts: list[str], paths: list[str]
) -> dict[str, Any]:
    return {
        "qry_inst": instruction, "qry_text": text, "qry_img_path": path,
        "tgt_inst": target, "tgt_text": texts, "tgt_img_path": paths,
    }  # fmt: skip


def shots(name: str, *numbers: int) -> list[str]:
    return [f"{name}/{n}.jpg" for n in numbers]


def image_rows() -> dict[str, list[dict[str, Any]]]:
    """Rows of one image task of each wording; the strings are the tables' own."""
    question = f"{T}\nRepresent the given image with the following question:"
    dialogue = "".join(f"Q:question {i}\nA:answer {i}\n" for i in range(10))
    labels = ["coucal", "indigo bunting", "brambling"]
    return {
        "ImageNet-1K": [
            image_row(f"{T}\nRepresent the given image for classification", "", "ImageNet-1K/0.jpg", "", labels, [""] * 3),
            image_row(f"{T}\nRepresent the given image for classification", "", "ImageNet-1K/1.jpg", "",
                      [labels[1], labels[0], labels[2]], [""] * 3),
        ],
        "N24News": [
            image_row(f"{T}\nRepresent the given news image with the following caption for domain classification:",
                      "A  caption with \"quotes\"", "N24News/0.jpg", "", ["Sports", "Arts"], ["", ""]),
        ],
        "HatefulMemes": [
            image_row(f"{T}\nRepresent the given image for binary classification to determine whether it constitutes "
                      "hateful speech or not", "", "HatefulMemes/0.png", "", ["No", "Yes"], ["", ""]),
        ],
        "OK-VQA": [
            image_row(question, "What is it?", "OK-VQA/0.jpg", "", ["pony tail", "", "0.28", "pony tail"], [""] * 4),
            image_row(question, "Which one? \n", "OK-VQA/1.jpg", "", ["Gray.", "0.28", ""], [""] * 3),
        ],
        "MSCOCO_i2t": [
            image_row(f"{T}\nFind an image caption describing the given everyday image.", "", "MSCOCO_i2t/0.jpg", "",
                      ["A cat.\n", "A dog."], ["", ""]),
        ],
        "MSCOCO_t2i": [
            image_row("Find me an everyday image that matches the given caption:", "Man riding a motor bike.", "",
                      f"{T}\nRepresent the given image.", ["", ""], shots("MSCOCO_t2i", 0, 1)),
            image_row("Find me an everyday image that matches the given caption:", "A zebra", "",
                      f"{T}\nRepresent the given image.", ["", ""], shots("MSCOCO_t2i", 2, 0)),
        ],
        "VisDial": [
            image_row("Represent the given dialogue about an image, which is used for image retrieval:",
                      dialogue.removesuffix("\n"), "", f"{T}\nRepresent the given image", ["", ""],
                      shots("VisDial", 0, 1)),
        ],
        "WebQA": [
            image_row(f"{T}\nFind a Wikipedia image that answers this question:", "Where is it?", "",
                      f"{T}\nRepresent the given Wikipedia image with related text information:",
                      ["Caption one ", "Caption two"], shots("WebQA", 0, 1)),
            image_row(f"{T}\nFind a Wikipedia image that answers this question:", "Who?", "",
                      f"{T}\nRepresent the given Wikipedia image with related text information:",
                      ["Caption three", "Another caption of the first"], shots("WebQA", 2, 0)),
        ],
        "Wiki-SS-NQ": [
            image_row("Find the document image that can answer the given query:", "who sings it", "",
                      f"{T}\nRepresent the given image", ["", ""], shots("Wiki-SS-NQ", 0, 1)),
        ],
        "CIRR": [
            image_row(f"{T}\nGiven an image, find a similar everyday image with the described changes:", "two dogs",
                      "CIRR/0.png", f"{T}\nRepresent the given image.", ["", ""], shots("CIRR", 1, 2)),
        ],
        "NIGHTS": [
            image_row(f"{T}\nFind a day-to-day image that looks similar to the provided image.", "", "NIGHTS/0.jpg",
                      f"{T}\nRepresent the given image.\n", ["", ""], shots("NIGHTS", 1, 2)),
        ],
        "OVEN": [
            image_row(f"{T}\nRetrieve a Wikipedia image-description pair that provides evidence for the question of this "
                      "image:", "What is this?", "OVEN/0.jpg",
                      f"{T}\nRepresent the given Wikipedia image with related text information:",
                      ["A bridge. It is long.", "A tower."], shots("OVEN", 1, 2)),
        ],
        "MSCOCO": [
            image_row(f"{T}\nCrop the image to to isolate the object labeled as", '"umbrella"', "MSCOCO/0.jpg",
                      f"{T}\nRepresent the given cropped image of the object", ["", ""], shots("MSCOCO", 1, 2)),
        ],
        "RefCOCO-Matching": [
            image_row(f"{T}\nSelect the portion of the image that follows the language expressions:", '"man in red"',
                      "RefCOCO-Matching/0.jpg",
                      f"{T}\nSelect the portion of the image that follows the language expressions:",
                      ['"left man"', '"right man"', '"left man"'], shots("RefCOCO-Matching", 1, 1, 2)),
        ],
    }  # fmt: skip


def write_images(root: Path) -> None:
    """Both forms of image tables, and the images."""
    for name, rows in image_rows().items():
        parts = [part for part in (rows[:1], rows[1:]) if part]
        for shard, part in enumerate(parts):
            parquet(root / IMAGE_REPO / name / f"test-{shard:05d}-of-{len(parts):05d}.parquet", part)
        for row in rows:
            for path in (row["qry_img_path"], *row["tgt_img_path"]):
                if path:
                    write_image(root / "image-tasks" / path)


def v1_rows() -> dict[str, list[dict[str, Any]]]:
    """Rows of the older form: whole prompts."""

    def row(text: str, path: str, texts: list[str], paths: list[str]) -> dict[str, Any]:
        return {"qry_text": text, "qry_img_path": path, "tgt_text": texts, "tgt_img_path": paths}

    expression = f"{T}\nSelect the portion of the image that follows the language expressions:"
    return {
        "ImageNet-A": [
            row(f"{T}\nRepresent the given image for classification\n", "ImageNet-A/0.jpg", ["ant", "bee"], ["", ""])
        ],
        "EDIS": [
            row(f"{T}\nFind a news image that matches the provided caption: A flood\n", "",
                [f"{T}\nRepresent the given image with related text information: Water\n",
                 f"{T}\nRepresent the given image with related text information: Fire\n"], shots("EDIS", 0, 1))
        ],
        "VisualNews_t2i": [
            row("Retrieve an image of this news caption. A march\n", "",
                [f"{T}\nRepresent the given image.\n"] * 2, shots("VisualNews_t2i", 0, 1))
        ],
        "RefCOCO": [
            row(f'{T}\nSelect the portion of the image that follows the language expressions. "left"\n', "RefCOCO/0.jpg",
                [f"{T}\nRepresent the given cropped image of the object"] * 2, shots("RefCOCO", 1, 2))
        ],
        "FashionIQ": [
            row(f"{T}\nFind an image to match the fashion image and style note: red\n", "FashionIQ/0.jpg",
                [f"{T}\nRepresent the given image.\n"] * 2, shots("FashionIQ", 1, 2))
        ],
        "Visual7W-Pointing": [
            row(f'{T}\nSelect the portion of the image that answers the question "Which?"\n', "Visual7W-Pointing/0.jpg",
                [f'{expression} "a"\n', f'{expression} "b"\n'], shots("Visual7W-Pointing", 1, 1))
        ],
    }  # fmt: skip


def write_v1(root: Path) -> None:
    for name, rows in v1_rows().items():
        parquet(root / V1_REPO / name / "test-00000-of-00001.parquet", rows)
        for row in rows:
            for path in (row["qry_img_path"], *row["tgt_img_path"]):
                if path and name != "RefCOCO":  # Somebody forgot to unpack those.
                    write_image(root / "image-tasks" / path)


def video_rows() -> dict[str, list[dict[str, Any]]]:
    """Rows of every video parser."""
    moves = ["Closing something", "Opening something", "Holding something"]
    return {
        "K700": [{"video_id": "vid_b", "pos_text": "zumba"}, {"video_id": "vid_a", "pos_text": "archery"}],
        "SmthSmthV2": [
            {"video_id": 74225, "pos_text": moves[0], "neg_text": moves},
            {"video_id": 9, "pos_text": moves[1], "neg_text": [moves[1], moves[0], moves[2]]},
        ],
        "HMDB51": [{"video_id": "ride", "pos_text": "ride_bike"}],
        "UCF101": [{"video_id": "crawl", "pos_text": "BabyCrawling"}],
        "Breakfast": [{"video_id": "P03_tea", "pos_text": "tea"}],
        "MSR-VTT": [
            {"video_id": "video7020", "video": "video7020.mp4", "caption": "a woman makes a bowl"},
            {"video_id": "video7021", "video": "video7021.mp4", "caption": "a dog"},
            {"video_id": "video7020", "video": "video7020.mp4", "caption": "a bowl"},
        ],
        "MSVD": [{"video_id": "mv", "video": "mv.avi", "caption": ["a man", "another"]}],
        "VATEX": [{"videoID": "G9zN5TTuGO4_000179_000189", "enCap": ["A person", "x"]}],
        "DiDeMo": [{"video": "dir/10015567@N08_3655084291_d8b58466fa.mov", "caption": "the sign. is shown"}],
        "YouCook2": [{"id": "xHr8X2Wpmno_0", "video_path": "a/b.mp4", "sentence": "pick the ends"}],
        "QVHighlight": [{"query": "A couple", "video_path": "videos/qv_60.0_210.0.mp4"},
                        {"query": "A flat one", "video_path": "qv_flat.mp4"}],
        "Charades-STA": [{"query": "person opens a door", "video_path": "3MSZA.mp4", "clips_dir_path": "x"}],
        "MomentSeeker": [
            moment("Where is the cat?", "", ["vids/a/p0.mp4", "vids/a/p1.mp4"], ["vids/a/n0.mp4"]),
            moment("Same look", "images/dir/q.jpg", ["vids/b/p0.mp4"], ["vids/a/n0.mp4"]),
            moment("Same action", "movie101/77.mp4", ["vids/b/p0.mp4"], ["vids/b/n1.mp4"]),
        ],
        "Video-MME": [
            {"question": "What fruit?", "videoID": "abc", "options": ["A. Apples.", "B. Candles.", "C. Mr. X..", "Odd"],
             "answer": "C", "question_id": "001-1", "domain": "Knowledge", "sub_category": "Humanity"},
        ],
        "EgoSchema": [
            {"video_idx": "e1", "question": "Why?", "answer": "2", "question_idx": "9",
             "option": ["A. C does this.", "B. Two.", "C. Three. Four.", "D. No", "E. "]},
        ],
        "NExTQA": [
            {"video": 4740931975, "question": "why did he", "answer": 1, "qid": 3, "type": "CW",
             "a0": "fall", "a1": "jump", "a2": "run", "a3": "sit", "a4": "eat  "},
        ],
        "ActivityNetQA": [
            {"video_name": "act", "question": "is the man old", "answer": "no", "question_id": "q_1"},
        ],
    }  # fmt: skip


def moment(query: str, source: str, positive: list[str], negative: list[str]) -> dict[str, Any]:
    return {
        "query": query, "input_frames": source,
        "positive_frames": [{"output_path": p, "score": 1} for p in positive],
        "negative_frames": [{"output_path": p, "score": 0} for p in negative],
    }  # fmt: skip


MVBENCH_SUBSETS = [
    "episodic_reasoning", "action_sequence", "action_prediction", "action_antonym", "fine_grained_action",
    "unexpected_action", "object_existence", "object_interaction", "object_shuffle", "moving_direction",
    "action_localization", "scene_transition", "action_count", "moving_count", "moving_attribute", "state_change",
    "fine_grained_pose", "character_order", "egocentric_navigation", "counterfactual_inference",
]  # fmt: skip


def mvbench_row(subset: str) -> dict[str, Any]:
    options = ["yes", "no"] if subset == "object_existence" else ["red", "blue", "green"]
    return {"question": f"Which {subset}?", "video": f"{subset}.mp4", "candidates": options, "answer": options[1]}


JSONL = {"K700": "k700", "UCF101": "ucf101", "HMDB51": "hmdb51", "Breakfast": "breakfast", "SmthSmthV2": "ssv2",
         "ActivityNetQA": "activitynetqa", "QVHighlight": "qvhighlight", "Charades-STA": "charades_sta",
         "MomentSeeker": "momentseeker"}  # fmt: skip
VIDEO_TABLES = {
    "MSR-VTT": "VLM2Vec/MSR-VTT/test_1k/test-00000-of-00001.parquet", "MSVD": "VLM2Vec/MSVD/data/test-00000-of-00001.parquet",
    "VATEX": "VLM2Vec/VATEX/data/test.jsonl", "DiDeMo": "VLM2Vec/DiDeMo/test-00000-of-00001.parquet",
    "YouCook2": "lmms-lab/YouCook2/data/val-00000-of-00001.parquet", "Video-MME": "VLM2Vec/Video-MME/videomme/test-00000-of-00001.parquet",
    "NExTQA": "VLM2Vec/NExTQA/MC/test-00000-of-00001.parquet", "EgoSchema": "VLM2Vec/EgoSchema/Subset/test-00000-of-00001.parquet",
}  # fmt: skip


def write_videos(root: Path) -> None:
    """Tables and frame folders of every video task, as the reference's configuration has them."""
    data = root / VIDEO_DATA
    for name, rows in video_rows().items():
        if name in JSONL:
            jsonl(data / f"{JSONL[name]}.jsonl", rows)
        else:
            path = data / VIDEO_TABLES[name].replace("/videomme/", "/")
            (jsonl if path.suffix == ".jsonl" else parquet)(path, rows)
    for subset in MVBENCH_SUBSETS:
        parquet(data / "VLM2Vec/MVBench" / subset / "train-00000-of-00001.parquet", [mvbench_row(subset)])
        frame_folder(root / FRAMES / "video_qa/MVBench" / subset / f"{subset}.mp4", 2, "{:04d}.jpeg")
    frames = root / FRAMES
    for folder, video, count in (
        ("video_cls/K700", "vid_a", 12), ("video_cls/K700", "vid_b", 64), ("video_cls/SSv2", "74225", 3),
        ("video_cls/SSv2", "9", 8), ("video_cls/HMDB51", "ride", 9), ("video_cls/UCF101", "crawl", 1),
        ("video_cls/Breakfast", "P03_tea", 64), ("video_ret/MSR-VTT", "video7020", 8), ("video_ret/MSR-VTT", "video7021", 11),
        ("video_ret/MSVD", "mv", 2), ("video_ret/VATEX", "G9zN5TTuGO4_000179_000189", 8),
        ("video_ret/DiDeMo", "10015567@N08_3655084291_d8b58466fa", 8), ("video_ret/YouCook2", "xHr8X2Wpmno_0", 8),
        ("video_mret/QVHighlight", "qv_60.0_210.0/query", 20), ("video_mret/QVHighlight", "qv_60.0_210.0/positive_clip", 8),
        ("video_mret/QVHighlight", "qv_60.0_210.0/negative_clip_10", 3), ("video_mret/QVHighlight", "qv_60.0_210.0/negative_clip_2", 8),
        ("video_mret/Charades_STA", "3MSZA/query", 9), ("video_mret/Charades_STA", "3MSZA/positive_clip", 8),
        ("video_mret/Charades_STA", "3MSZA/negative_clip_0", 8), ("video_qa/Video-MME", "abc", 10),
        ("video_qa/NExTQA", "4740931975", 10), ("video_qa/EgoSchema", "e1", 10), ("video_qa/ActivityNetQA", "v_act", 10),
        *(("video_mret/MomentSeeker", f"video_frames/{v}", 10)
          for v in ("vids_a_p0", "vids_a_p1", "vids_a_n0", "vids_b_p0", "vids_b_n1", "movie101_77")),
    ):  # fmt: skip
        frame_folder(frames / folder / video, count)
    flat = frames / "video_mret/QVHighlight/qv_flat"
    frame_folder(flat / "query", 4)
    for name, count in (("positive", 3), ("negative_0", 2), ("negative_1", 2)):
        frame_folder(flat, count, name + "_{:03d}.jpg")
    write_image(frames / "video_mret/MomentSeeker/query_images/dir/q.jpg")


LONG_ID = "a-very-long-file-name-of-a-page-with-many-words-in-it-and-then-some.jpg"


def visrag_name(corpus_id: str) -> str:
    base, _, suffix = corpus_id.rpartition(".")
    return f"{base[:50]}_{hashlib.md5(corpus_id.encode()).hexdigest()[:8]}.{suffix}"


def png_bytes(shade: int) -> bytes:
    import io

    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (shade, shade, shade)).save(stream, "PNG")
    return stream.getvalue()


def write_visdoc(root: Path) -> None:
    """One set of each kind of tables and pages: files beside, images in the corpus table, string ids, languages."""

    def beir(
        repo: str, queries: list[dict[str, Any]], qrels: list[tuple[Any, Any, int]], corpus: list[Any], split: str
    ) -> None:
        base = root / VISDOC / "data" / repo
        parquet(base / "queries" / f"{split}-00000-of-00001.parquet", queries)
        rows = [{"query-id": q, "corpus-id": c, "score": s} for q, c, s in qrels]
        parquet(base / "qrels" / f"{split}-00000-of-00001.parquet", rows)
        pages = [{"corpus-id": c, "image": {"bytes": png_bytes(i), "path": f"{c}.png"}} for i, c in enumerate(corpus)]
        parquet(base / "corpus" / f"{split}-00000-of-00001.parquet", pages)

    def query(query_id: Any, text: str, language: str | None = None) -> dict[str, Any]:
        return {"query-id": query_id, "query": text, **({"language": language} if language else {})}

    beir("vidore/docvqa_test_subsampled_beir", [query(5, "What is the date?"), query(3, "Who signed?")],
         [(3, 2, 1), (5, 1, 1), (5, 0, 0)], [0, 1, 2], "test")  # fmt: skip
    for page in range(3):
        write_image(root / VISDOC / "ViDoRe_docvqa" / f"{page}.png", page)
    beir("vidore/biomedical_lectures_v2",
         [query(0, "What?", "english"), query(1, "Quoi ?", "french"), query(2, "Why?", "english")],
         [(0, 7, 1), (1, 7, 2), (0, 4, 2), (0, 7, 2), (2, 9, 2)], [9, 7, 4, 1], "test")  # fmt: skip
    for page in (7, 4):
        write_image(root / VISDOC / "images" / "biomedical_lectures_v2_multilingual" / f"{page}.png", page)
    beir(
        "openbmb/VisRAG-Ret-Test-ArxivQA",
        [query("q1", "Which curve?")],
        [("q1", LONG_ID, 1)],
        ["b.png", LONG_ID],
        "train",
    )
    for page in (LONG_ID, "b.png"):
        write_image(root / VISDOC / "images" / "VisRAG_ArxivQA" / visrag_name(page))
    beir("VLM2Vec/ViDoSeek-page-fixed", [query(0, "Which page?")], [(0, 11, 3), (0, 3, 3)], [3, 11], "test")
    for page in (3, 11):
        write_image(root / VISDOC / "ViDoSeek-page" / f"{page}.png")


def write_tree(root: Path) -> Path:
    """Everything."""
    write_images(root)
    write_v1(root)
    write_videos(root)
    write_visdoc(root)
    return root
