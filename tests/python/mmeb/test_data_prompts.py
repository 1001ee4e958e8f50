"""Every prompt, character by character, in the three styles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tte.mmeb

IMG = "<|image_pad|>"
VID = "<|video_pad|>"
QA = (
    "Given a video and a question, select the most accurate answer from the provided candidates. Return only the exact "
    "text of your chosen answer. Question:  "
)
DIALOGUE = "".join(f"Q:question {i}\nA:answer {i}\n" for i in range(10))
EXPRESSION = "Select the portion of the image that follows the language expressions"
VLM2VEC: dict[str, tuple[str, str]] = {
    "ImageNet-1K": (f"{IMG}\nRepresent the given image for classification\n", "coucal"),
    "N24News": (
        f"{IMG}\nRepresent the given news image with the following caption for domain classification: "
        'A  caption with "quotes"\n',
        "Sports",
    ),
    "HatefulMemes": (
        f"{IMG}\nRepresent the given image for binary classification to determine whether it constitutes hateful "
        "speech or not\n",
        "No",
    ),
    "OK-VQA": (f"{IMG}\nRepresent the given image with the following question: What is it?\n", "pony tail"),
    "MSCOCO_i2t": (f"{IMG}\nFind an image caption describing the given everyday image.\n", "A cat.\n"),
    "MSCOCO_t2i": (
        "Find me an everyday image that matches the given caption: Man riding a motor bike.\n",
        f"{IMG}\nRepresent the given image.\n",
    ),
    "VisDial": (
        f"Represent the given dialogue about an image, which is used for image retrieval: {DIALOGUE}\n",
        f"{IMG}\nRepresent the given image\n",
    ),
    "WebQA": (
        f"{IMG}\nFind a Wikipedia image that answers this question: Where is it?\n",
        f"{IMG}\nRepresent the given Wikipedia image with related text information: Caption one \n",
    ),
    "Wiki-SS-NQ": (
        "Find the document image that can answer the given query: who sings it\n",
        f"{IMG}\nRepresent the given image\n",
    ),
    "CIRR": (
        f"{IMG}\nGiven an image, find a similar everyday image with the described changes: two dogs\n",
        f"{IMG}\nRepresent the given image.",
    ),
    "NIGHTS": (
        f"{IMG}\nFind a day-to-day image that looks similar to the provided image.\n",
        f"{IMG}\nRepresent the given image.\n",
    ),
    "OVEN": (
        f"{IMG}\nRetrieve a Wikipedia image-description pair that provides evidence for the question of this image: "
        "What is this?\n",
        f"{IMG}\nRepresent the given Wikipedia image with related text information: A bridge. It is long.\n",
    ),
    "MSCOCO": (
        f'{IMG}\nCrop the image to to isolate the object labeled as "umbrella"\n',
        f"{IMG}\nRepresent the given cropped image of the object",
    ),
    "RefCOCO-Matching": (f'{IMG}\n{EXPRESSION}: "man in red"\n', f'{IMG}\n{EXPRESSION}: "left man"\n'),
    # The older tables, whose prompts are whole.
    "ImageNet-A": (f"{IMG}\nRepresent the given image for classification\n", "ant"),
    "EDIS": (
        f"{IMG}\nFind a news image that matches the provided caption: A flood\n",
        f"{IMG}\nRepresent the given image with related text information: Water\n",
    ),
    "VisualNews_t2i": ("Retrieve an image of this news caption. A march\n", f"{IMG}\nRepresent the given image.\n"),
    "RefCOCO": (f'{IMG}\n{EXPRESSION}. "left"\n', f"{IMG}\nRepresent the given cropped image of the object"),
    "FashionIQ": (
        f"{IMG}\nFind an image to match the fashion image and style note: red\n",
        f"{IMG}\nRepresent the given image.\n",
    ),
    # Videos.
    "K700": (f"{VID} Recognize the category of the video content.", "zumba"),
    "SmthSmthV2": (
        f"{VID} What actions or object interactions are being performed by the person in the video?",
        "Closing something",
    ),
    "HMDB51": (f"{VID} What actions or objects interactions are the person in the video doing?", "ride_bike"),
    "UCF101": (f"{VID} What activities or sports are being performed by the person in the video?", "BabyCrawling"),
    "Breakfast": (f"{VID} Recognize the breakfast type that the person is cooking in the video. ", "tea"),
    "MSR-VTT": (
        "Find a video that contains the following visual content: a woman makes a bowl",
        f"{VID} Understand the content of the provided video.",
    ),
    "MSVD": (
        "Find the video snippet that corresponds to the given summary: a man",
        f"{VID} Understand the content of the provided video.",
    ),
    "DiDeMo": (
        "Find a video that includes the following described scenes: the sign. is shown",
        f"{VID} Understand the content of the provided video.",
    ),
    "YouCook2": (
        "Find a video that demonstrates the following action while making a recipe: pick the ends",
        f"{VID} Understand the content of the provided video.",
    ),
    "VATEX": (
        "Select a video that fits the description provided: A person",
        f"{VID} Understand the content of the provided video.",
    ),
    "QVHighlight": (
        f"{VID} Find the clip that corresponds to the described scene in the given video: A couple",
        f"{VID} Understand the content of the provided video.",
    ),
    "Charades-STA": (
        f"{VID} Find the clip that corresponds to the described scene in the given video: person opens a door",
        f"{VID} Understand the content of the provided video.",
    ),
    "MomentSeeker": (
        "Find the clip that corresponds to the given text: Where is the cat?",
        f"{VID} Understand the content of the provided video clip.",
    ),
    "Video-MME": (f"{VID} {QA}What fruit?\nA. Apples.\nB. Candles.\nC. Mr. X..\nOdd", "Apples"),
    "EgoSchema": (f"{VID} {QA}Why?A. C does this. B. Two. C. Three. Four. D. No E. ", "C does this"),
    "NExTQA": (f"{VID} {QA}why did he\nOptions:\n(A) fall\n(B) jump\n(C) run\n(D) sit\n(E) eat", "fall"),
    "MVBench": (f"{VID} {QA}Which episodic_reasoning?\nOptions:\n(A) red\n(B) blue\n(C) green", "(A) red"),
    "ActivityNetQA": (f"{VID} {QA}is the man old? (A) yes; (B) no.", "yes"),
    # Documents.
    "ViDoRe_docvqa": (
        "Find a document image that matches the given query: What is the date?",
        f"{IMG} Understand the content of the provided document image.",
    ),
    "VisRAG_ArxivQA": (
        "Find a document image that matches the given query: Which curve?",
        f"{IMG} Understand the content of the provided document image.",
    ),
}


@pytest.mark.parametrize("name", VLM2VEC)
def test_vlm2vec(tree: Path, name: str) -> None:
    data = tte.mmeb.load(name, tree, style="vlm2vec")
    assert next(data.queries()).entry.prompt == VLM2VEC[name][0]
    assert next(data.candidates()).prompt == VLM2VEC[name][1]


def prompts_of(tree: Path, name: str, style: str, **options: Any) -> tuple[list[str], list[str]]:
    data = tte.mmeb.load(name, tree, style=style, **options)
    return [query.entry.prompt for query in data.queries()], [entry.prompt for entry in data.candidates()]


def test_captions_decide_the_wording_of_a_row(tree: Path) -> None:
    _, targets = prompts_of(tree, "WebQA", "vlm2vec")
    opening = f"{IMG}\nRepresent the given Wikipedia image with related text information:"
    # An image that comes again keeps its first caption.
    assert targets == [f"{opening} Caption one \n", f"{opening} Caption two\n", f"{opening} Caption three\n"]


def test_question_ending_in_a_line_break(tree: Path) -> None:
    queries, _ = prompts_of(tree, "OK-VQA", "vlm2vec")
    assert queries[1] == f"{IMG}\nRepresent the given image with the following question: Which one?\n\n"


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("WebQA", "Find a Wikipedia image that answers this question: Where is it?\n"),
        ("EDIS", "Find a news image that matches the provided caption: A flood\n"),
    ],
)
def test_stray_image_tokens_can_be_left_out(tree: Path, name: str, prompt: str) -> None:
    assert prompts_of(tree, name, "vlm2vec")[0][0] == f"{IMG}\n{prompt}"
    assert prompts_of(tree, name, "vlm2vec", stray_tokens=False)[0][0] == prompt
    # An engine has nothing to put in the place of a token without an image.
    item = next(tte.mmeb.load(name, tree, style="vlm2vec").queries()).entry.item()
    assert item == {"text": prompt}


def test_moments_of_all_kinds(tree: Path) -> None:
    assert prompts_of(tree, "MomentSeeker", "vlm2vec")[0][1:] == [
        f"{IMG} Select the video clip that aligns with the given text and image: Same look",
        f"{VID} Find the clip that corresponds to the given sentence and video segment: Same action",
    ]
    assert prompts_of(tree, "MomentSeeker", "plain")[0] == [
        "Find the clip that corresponds to the given text: Where is the cat?",
        "Select the video clip that aligns with the given text and image: Same look",
        "Find the clip that corresponds to the given sentence and video segment: Same action",
    ]


def test_answers_to_questions(tree: Path) -> None:
    assert prompts_of(tree, "Video-MME", "vlm2vec")[1] == ["Apples", "Candles", "Mr. X", "d"]
    assert prompts_of(tree, "EgoSchema", "vlm2vec")[1] == ["C does this", "Two", "Three. Four", "No", ""]
    assert prompts_of(tree, "NExTQA", "vlm2vec")[1] == ["fall", "jump", "run", "sit", "eat  "]
    assert prompts_of(tree, "ActivityNetQA", "vlm2vec")[1] == ["yes", "no"]


PLAIN = {
    "ImageNet-1K": ("Represent the given image for classification", "coucal"),
    "OK-VQA": ("Represent the given image with the following question: What is it?", "pony tail"),
    "MSCOCO_i2t": ("Find an image caption describing the given everyday image.", "A cat."),
    "VisDial": (
        "Represent the given dialogue about an image, which is used for image retrieval: " + DIALOGUE.rstrip(),
        "Represent the given image",
    ),
    "WebQA": (
        "Find a Wikipedia image that answers this question: Where is it?",
        "Represent the given Wikipedia image with related text information: Caption one ",
    ),
    "NIGHTS": (
        "Find a day-to-day image that looks similar to the provided image.",
        "Represent the given image.",
    ),
    "ImageNet-A": ("Represent the given image for classification", "ant"),
    "EDIS": (
        "Find a news image that matches the provided caption: A flood",
        "Represent the given image with related text information: Water",
    ),
    "Breakfast": ("Recognize the breakfast type that the person is cooking in the video.", "tea"),
    "NExTQA": (f"{QA.rstrip()} why did he\nOptions:\n(A) fall\n(B) jump\n(C) run\n(D) sit\n(E) eat", "fall"),
    "ViDoRe_docvqa": (
        "Find a document image that matches the given query: What is the date?",
        "Understand the content of the provided document image.",
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain(tree: Path, name: str) -> None:
    data = tte.mmeb.load(name, tree)
    assert data.style == "plain"
    assert (next(data.queries()).entry.prompt, next(data.candidates()).prompt) == PLAIN[name]


@pytest.mark.parametrize("name", VLM2VEC)
def test_plain_has_no_tokens_and_no_line_break_at_its_ends(tree: Path, name: str) -> None:
    data = tte.mmeb.load(name, tree)
    for entry in [*(query.entry for query in data.queries()), *data.candidates()]:
        assert "<|" not in entry.prompt
        assert entry.prompt == entry.prompt.strip("\r\n")


def qwen(system: str, user: str) -> str:
    return f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"


DEFAULT = "Represent the user's input."
SHOWN = f"<|vision_start|>{IMG}<|vision_end|>"
PLAYED = f"<|vision_start|>{VID}<|vision_end|>"
CHOICE = QA.removesuffix(" Question:  ")
QWEN = {
    "ImageNet-1K": (qwen("Represent the given image for classification.", SHOWN), qwen(DEFAULT, "coucal")),
    "OK-VQA": (
        qwen("Represent the given image with the following question:", f"{SHOWN}What is it?"),
        qwen(DEFAULT, "pony tail"),
    ),
    "MSCOCO_t2i": (
        qwen("Find me an everyday image that matches the given caption:", "Man riding a motor bike."),
        qwen(DEFAULT, SHOWN),
    ),
    "WebQA": (
        qwen("Find a Wikipedia image that answers this question:", "Where is it?"),
        qwen(DEFAULT, f"{SHOWN}Caption one"),
    ),
    "RefCOCO-Matching": (
        qwen(f"{EXPRESSION}:", f'{SHOWN}"man in red"'),
        qwen(DEFAULT, f'{SHOWN}"left man"'),
    ),
    "Breakfast": (
        qwen("Recognize the breakfast type that the person is cooking in the video.", PLAYED),
        qwen(DEFAULT, "tea"),
    ),
    "MSR-VTT": (
        qwen("Find a video that contains the following visual content.", "a woman makes a bowl"),
        qwen(DEFAULT, PLAYED),
    ),
    "QVHighlight": (
        qwen("Find the clip that corresponds to the described scene in the given video.", f"{PLAYED}A couple"),
        qwen(DEFAULT, PLAYED),
    ),
    "Video-MME": (
        qwen(CHOICE, f"{PLAYED}What fruit?\nA. Apples.\nB. Candles.\nC. Mr. X..\nOdd"),
        qwen(DEFAULT, "Apples"),
    ),
    "EgoSchema": (
        qwen(CHOICE, f"{PLAYED}Why? A. C does this. B. Two. C. Three. Four. D. No E. "),
        qwen(DEFAULT, "C does this"),
    ),
    "NExTQA": (
        qwen(CHOICE, f"{PLAYED}why did he\nOptions:\n(A) fall\n(B) jump\n(C) run\n(D) sit\n(E) eat"),
        qwen(DEFAULT, "(A) fall"),
    ),
    "ViDoRe_docvqa": (
        qwen("Find a document image that matches the given query.", "What is the date?"),
        qwen(DEFAULT, SHOWN),
    ),
}


@pytest.mark.parametrize("name", QWEN)
def test_qwen3_vl_embedding(tree: Path, name: str) -> None:
    data = tte.mmeb.load(name, tree, style="qwen3_vl_embedding")
    assert next(data.queries()).entry.prompt == QWEN[name][0]
    assert next(data.candidates()).prompt == QWEN[name][1]


def test_qwen3_vl_embedding_names_and_options(tree: Path) -> None:
    data = tte.mmeb.load("NExTQA", tree, style="qwen3_vl_embedding")
    query = next(data.queries())
    assert query.labels == ("(B) jump",)
    assert query.candidates == ("(A) fall", "(B) jump", "(C) run", "(D) sit", "(E) eat  ")
    texts = [entry.text for entry in tte.mmeb.load("Video-MME", tree, style="qwen3_vl_embedding").candidates()]
    assert texts == ["Apples", "Candles", "Mr. X", "Odd"]
