"""Averages against the published ones of VLM2Vec-V2.0 (score file v2.0.1, pages fixed), from its published scores."""

from __future__ import annotations

import pytest
from tte.mmeb.data.tasks import tasks
from tte.mmeb.score.average import averages, table

VLM2VEC = {
    "ImageNet-1K": 0.808, "N24News": 0.730, "HatefulMemes": 0.558, "VOC2007": 0.849, "SUN397": 0.709,
    "Place365": 0.361, "ImageNet-A": 0.476, "ImageNet-R": 0.893, "ObjectNet": 0.651, "Country211": 0.258,
    "OK-VQA": 0.517, "A-OKVQA": 0.440, "DocVQA": 0.901, "InfographicsVQA": 0.591, "ChartQA": 0.481, "Visual7W": 0.528,
    "ScienceQA": 0.381, "VizWiz": 0.433, "GQA": 0.654, "TextVQA": 0.716, "VisDial": 0.827, "CIRR": 0.573,
    "VisualNews_t2i": 0.747, "VisualNews_i2t": 0.783, "MSCOCO_t2i": 0.759, "MSCOCO_i2t": 0.711, "NIGHTS": 0.684,
    "WebQA": 0.906, "FashionIQ": 0.196, "Wiki-SS-NQ": 0.676, "OVEN": 0.648, "EDIS": 0.842, "MSCOCO": 0.662,
    "RefCOCO": 0.870, "RefCOCO-Matching": 0.863, "Visual7W-Pointing": 0.690, "K700": 0.3820, "SmthSmthV2": 0.4300,
    "HMDB51": 0.4020, "UCF101": 0.6000, "Breakfast": 0.1478, "MVBench": 0.3362, "Video-MME": 0.3081, "NExTQA": 0.2088,
    "EgoSchema": 0.3500, "ActivityNetQA": 0.5300, "DiDeMo": 0.2998, "MSR-VTT": 0.2780, "MSVD": 0.4731,
    "VATEX": 0.2615, "YouCook2": 0.1063, "QVHighlight": 0.4968, "Charades-STA": 0.2008, "MomentSeeker": 0.4288,
    "ViDoRe_arxivqa": 0.7887, "ViDoRe_docvqa": 0.3706, "ViDoRe_infovqa": 0.8271, "ViDoRe_tabfquad": 0.8777,
    "ViDoRe_tatdqa": 0.4429, "ViDoRe_shiftproject": 0.6104, "ViDoRe_syntheticDocQA_artificial_intelligence": 0.8912,
    "ViDoRe_syntheticDocQA_energy": 0.8629, "ViDoRe_syntheticDocQA_government_reports": 0.8558,
    "ViDoRe_syntheticDocQA_healthcare_industry": 0.9113, "ViDoRe_esg_reports_human_labeled_v2": 0.4579,
    "ViDoRe_biomedical_lectures_v2_multilingual": 0.4459, "ViDoRe_economics_reports_v2_multilingual": 0.4233,
    "ViDoRe_esg_reports_v2_multilingual": 0.4574, "VisRAG_ArxivQA": 0.7674, "VisRAG_ChartQA": 0.8420,
    "VisRAG_MP-DocVQA": 0.7180, "VisRAG_SlideVQA": 0.9144, "VisRAG_InfoVQA": 0.8588, "VisRAG_PlotQA": 0.6591,
    "ViDoSeek-page": 0.8030, "ViDoSeek-doc": 0.8034, "MMLongBench-page": 0.4470, "MMLongBench-doc": 0.4285,
}  # fmt: skip
PUBLISHED = {
    "I-CLS": 62.93, "I-QA": 56.42, "I-RET": 69.60, "I-VG": 77.12, "image": 64.92,
    "V-CLS": 39.24, "V-QA": 34.66, "V-RET": 28.38, "V-MRET": 37.55, "video": 34.67,
    "VDR-v1": 74.39, "VDR-v2": 44.61, "VisRAG": 79.33, "VDR-OOD": 62.05, "visdoc": 68.60,
}  # fmt: skip


def test_the_averages_are_those_that_were_published() -> None:
    found = averages(VLM2VEC)
    assert len(VLM2VEC) == 78
    groups = {**found.categories, **found.modalities}
    assert groups.keys() == PUBLISHED.keys()
    for name, value in PUBLISHED.items():
        mean = groups[name]
        assert mean.complete, name
        assert mean.value is not None
        # The image scores are published with three digits, the others with four.
        rounding = 0.05 + 0.005 if name.startswith(("I-", "image")) else 0.005 + 0.005
        assert 100 * mean.value == pytest.approx(value, abs=rounding), name
    assert found.overall.value is not None
    assert 100 * found.overall.value == pytest.approx(59.07, abs=0.03)
    assert found.overall.count == 78


def test_the_overall_is_over_data_sets_not_over_modalities() -> None:
    scores = {task.name: float(task.modality == "image") for task in tasks() if task.scored}
    assert averages(scores).overall.value == pytest.approx(36 / 78)


def test_incomplete_sets_say_so() -> None:
    scores: dict[str, float | None] = {**VLM2VEC, "K700": None}
    del scores["MSCOCO"]
    found = averages(scores)
    assert found.categories["V-CLS"].missing == ("K700",)
    assert not found.modalities["image"].complete
    assert found.categories["I-QA"].complete
    assert found.overall.missing == ("MSCOCO", "K700")
    assert found.categories["V-CLS"].value == pytest.approx((0.43 + 0.402 + 0.6 + 0.1478) / 4)
    text = table(scores)
    assert "incomplete: 76 of 78" in text
    assert "incomplete: 4 of 5" in text


def test_nothing_at_all() -> None:
    found = averages({})
    assert found.overall.value is None
    assert not found.overall.complete
    assert len(found.overall.missing) == 78
    assert table({}) == ""


def test_the_names_of_newer_score_files_are_known() -> None:
    scores = {"ViDoSeek-page-fixed": 0.8, "MMLongBench-page-fixed": 0.4}
    assert averages(scores).categories["VDR-OOD"].missing == ("ViDoSeek-doc", "MMLongBench-doc")
