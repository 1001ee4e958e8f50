"""mteb's own conformance run, and what the adapter makes of mteb's batches."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mteb
import numpy as np
import pytest
import torch
import tte
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from datasets import Video as VideoFeature
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.mocks.mock_tasks import MockRetrievalTask
from mteb.types import PromptType
from PIL import Image
from references import noise
from torch.utils.data import DataLoader
from torchcodec.decoders import VideoDecoder
from tte import _hub
from tte.integrations.mteb import TteEncoder, batch_items
from zoo import misunderstood

IMAGE = noise(60, 84, seed=1)


def _cut_off(_: Image.Image) -> Any:
    raise OSError("cut off")


Broken = type("Broken", (Image.Image,), {"getexif": _cut_off})
CLIP_FILE = Path(__file__).parent.parent.parent / "data" / "media" / "clip.mp4"


@pytest.fixture(scope="module")
def encoder() -> TteEncoder:
    return TteEncoder(device="cpu", max_new_tokens=4)


@pytest.fixture(scope="module")
def embedder() -> tte.Embedder:
    return tte.Embedder(_hub.bundled("embedder"), device="cpu")


def metadata(**changes: Any) -> TaskMetadata:
    return MockRetrievalTask.metadata.model_copy(update=changes)


def loader(columns: dict[str, list[Any]], features: Features | None = None, batch_size: int = 2) -> DataLoader:
    return DataLoader(Dataset.from_dict(columns, features), batch_size=batch_size, collate_fn=lambda rows: rows)


def encode(model: TteEncoder, data: DataLoader, side: PromptType | None = None, **changes: Any) -> np.ndarray:
    return model.encode(
        data, task_metadata=metadata(**changes), hf_split="test", hf_subset="default", prompt_type=side,
        show_progress_bar=False,
    )  # fmt: skip


def test_mock_run_passes_with_thinking(encoder: TteEncoder) -> None:
    results = mteb.mock_run(encoder)
    ran = {name: status for name, status in results.items() if status is not None}
    failed = {name: status for name, status in ran.items() if not isinstance(status, mteb.TaskResult)}
    assert failed == {}  # Also none that counts as skipped for want of a package.
    assert results.all_passed
    passed = {modality: status for status, modality, _ in results.modality_summary()}
    assert passed["text"].startswith("✓")
    assert passed["image"].startswith("✓")
    assert passed["video"].startswith("✓")


def test_think_on_and_off_are_different_experiments(encoder: TteEncoder, tmp_path: Path) -> None:
    plain = encoder.with_think(False)
    assert plain.pair.embedder is encoder.pair.embedder
    on, off = encoder.mteb_model_meta, plain.mteb_model_meta
    assert (on.name, on.revision) == (off.name, off.revision)
    assert on.experiment_kwargs["think"] == "recipe"
    assert on.experiment_kwargs["max_new_tokens"] == 4
    assert off.experiment_kwargs == {"think": False}
    again = plain.with_think("recipe")
    assert again.mteb_model_meta.experiment_kwargs == on.experiment_kwargs
    assert again.pair.reasoner is encoder.pair.reasoner

    cache = mteb.ResultCache(tmp_path)
    scores = [
        mteb.evaluate(model, MockRetrievalTask(), cache=cache, show_progress_bar=False).task_results[0]
        for model in (encoder, plain)
    ]
    assert all(score.task_name == "MockRetrievalTask" for score in scores)
    written = {path.parent for path in tmp_path.rglob("MockRetrievalTask.json")}
    assert len(written) == 2
    assert sum("think_False" in str(path) for path in written) == 1


def test_vectors_are_think_then_embed(encoder: TteEncoder) -> None:
    texts = ["what is left of the red circle ?", "a b", "c"]
    expected = tte.think_then_embed(texts, think="recipe", max_new_tokens=4, instruction="find", progress=False)
    assert any(trace is not None for trace in expected.traces)
    data = DataLoader(Dataset.from_dict({"text": texts}), batch_size=2)
    vectors = encode(encoder, data, PromptType.query, prompt={"query": "find"})
    np.testing.assert_array_equal(vectors, expected.embeddings)
    assert vectors.dtype == np.float32
    empty = encode(encoder, DataLoader(Dataset.from_dict({"text": []}), batch_size=2))
    assert empty.shape == (0, encoder.pair.dim)


def test_sides_and_families_choose_the_preset(embedder: tte.Embedder) -> None:
    model = TteEncoder(embedder, family={"Retrieval": "image_vg"}, task_prompts=False)
    data = DataLoader(Dataset.from_dict({"text": ["a b"]}), batch_size=2)
    for prompt_type, side in ((PromptType.query, "query"), (PromptType.document, "target"), (None, "query")):
        expected = embedder.embed(["a b"], task="image_vg", side=side, progress=False)  # type: ignore[arg-type]
        np.testing.assert_array_equal(encode(model, data, prompt_type), expected)
    assert model.mteb_model_meta.experiment_kwargs["family"] == {"Retrieval": "image_vg"}


def test_images_of_every_mode_and_orientation(embedder: tte.Embedder, tmp_path: Path) -> None:
    upright = Image.fromarray(IMAGE)
    palette = upright.convert("P", palette=Image.Palette.ADAPTIVE)
    transparent = upright.convert("RGBA")
    transparent.putalpha(Image.fromarray(noise(60, 84, seed=2)[:, :, 0]))
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # Stored turned to the left: to be turned right.
    turned.save(tmp_path / "turned.png", exif=exif)
    shown = [upright, palette, transparent, upright.convert("L"), upright.convert("CMYK")]
    batch = {"image": [*shown, Image.open(tmp_path / "turned.png")]}
    model = TteEncoder(embedder)
    vectors = model.pair.run(batch_items(batch)).embeddings
    np.testing.assert_array_equal(vectors, embedder.embed([*shown, upright], progress=False))

    stored = Dataset.from_dict({"image": [str(tmp_path / "turned.png")]}, Features({"image": ImageFeature()}))
    vectors = encode(TteEncoder(embedder, task_prompts=False), DataLoader(stored, batch_size=2))
    np.testing.assert_array_equal(vectors, embedder.embed([upright], progress=False))


def test_video_decoders_are_sampled_by_mtebs_rule(embedder: tte.Embedder) -> None:
    features = Features({"video": VideoFeature(), "text": Value("string")})
    columns = {"video": [str(CLIP_FILE)] * 2, "text": ["what ?", ""]}
    decoder = VideoDecoder(str(CLIP_FILE))
    frames = [f.permute(1, 2, 0).numpy() for f in decoder.get_frames_in_range(0, len(decoder)).data]
    total, seconds = len(frames), decoder.metadata.end_stream_seconds

    def expect(indices: list[int]) -> np.ndarray:
        chosen = [frames[i] for i in indices]
        return embedder.embed([{"video": chosen, "text": "what ?"}, {"video": chosen}], progress=False)

    def run(**options: Any) -> np.ndarray:
        model = TteEncoder(embedder, task_prompts=False, **options)
        return encode(model, loader(columns, features))

    np.testing.assert_allclose(run(), expect(list(range(total))), atol=1e-6)
    spread = [int(i) for i in np.linspace(0, total - 1, 4).round()]
    np.testing.assert_allclose(run(num_frames=4), expect(spread), atol=1e-6)
    np.testing.assert_allclose(run(max_frames=4), expect(spread), atol=1e-6)
    count = max(1, int(seconds * 2))
    by_rate = [int(i) for i in np.linspace(0, total - 1, count).round()]
    np.testing.assert_allclose(run(fps=2), expect(by_rate), atol=1e-6)
    tensor = torch.stack([torch.from_numpy(f) for f in frames]).permute(0, 3, 1, 2)
    model = TteEncoder(embedder)
    vectors = model.pair.run(batch_items({"video": [tensor], "text": ["what ?"]})).embeddings
    np.testing.assert_allclose(vectors, expect(list(range(total)))[:1], atol=1e-6)


def test_frames_that_a_file_promises_but_lacks_are_left_out(embedder: tte.Embedder) -> None:
    class Metadata:
        num_frames, end_stream_seconds, average_fps = 6, 3.0, 2.0

    class Decoder:
        metadata = Metadata()

        def get_frames_at(self, indices: list[int]) -> Any:
            if max(indices) > 3:
                raise RuntimeError("Requested next frame while there are no more frames left to decode.")
            return SimpleNamespace(data=torch.stack([torch.full((3, 28, 28), i, dtype=torch.uint8) for i in indices]))

    shown = [np.full((28, 28, 3), i, np.uint8) for i in range(4)]
    for options, indices in (({}, [0, 1, 2, 3]), ({"num_frames": 2}, [0, 3]), ({"fps": 1}, [0, 2, 3])):
        model = TteEncoder(embedder, **options)  # type: ignore[arg-type]
        batch = model._collate([{"video": Decoder()}])
        vectors = model.pair.run(batch_items(batch)).embeddings
        expected = embedder.embed([{"video": [shown[i] for i in indices]}], progress=False)
        np.testing.assert_allclose(vectors, expected, atol=1e-6)
    with pytest.raises(tte.InputError, match="exclude each other"):
        TteEncoder(embedder, fps=1, num_frames=1)


def test_instructions_come_from_prompts_then_the_task(embedder: tte.Embedder) -> None:
    query, document = PromptType.query, PromptType.document
    task = metadata(prompt="find it")
    plain = TteEncoder(embedder)
    assert plain.instruction(task, query) == "find it"
    assert plain.instruction(task, None) == "find it"
    assert plain.instruction(task, document) is None
    assert plain.instruction(metadata(prompt={"query": "q", "document": "d"}), document) == "d"
    assert plain.instruction(metadata(prompt=None), document) is None
    assert TteEncoder(embedder, task_prompts=False).instruction(task, query) is None
    own = TteEncoder(embedder, prompts={"Retrieval": "by type", "document": "a page", task.name: "by name"})
    assert own.instruction(task, query) == "by name"
    assert own.instruction(metadata(name="Other"), query) == "by type"
    assert own.instruction(task, document) == "a page"
    assert TteEncoder(embedder, prompts={"query": ""}).instruction(task, query) == ""


def test_meta_says_what_the_model_is(embedder: tte.Embedder) -> None:
    model = TteEncoder(embedder, truncate_dim=64, num_frames=8, meta={"license": "apache-2.0"}, name="me/mine")
    meta = model.mteb_model_meta
    assert (meta.name, meta.embed_dim, meta.license) == ("me/mine", 64, "apache-2.0")
    assert meta.modalities == ["text", "image", "video"]
    assert meta.experiment_kwargs == {"think": False, "num_frames": 8, "truncate_dim": 64}
    assert TteEncoder(embedder).mteb_model_meta.name == "tte/embedder"
    assert TteEncoder(embedder).mteb_model_meta.revision == meta.revision
    other = TteEncoder(_hub.bundled("embedder-no-think"), device="cpu").mteb_model_meta
    assert other.revision != meta.revision


def test_bad_items_of_a_pair_can_be_skipped(embedder: tte.Embedder, encoder: TteEncoder) -> None:
    vectors = TteEncoder(embedder).pair.run(["a", {"img": "x"}, {"type": "text", "text": "b"}], on_error="skip")
    assert np.isnan(vectors.embeddings).any(axis=1).tolist() == [False, True, False]
    assert "unknown key 'img'" in vectors.errors[1]
    for pair in (TteEncoder(embedder).pair, encoder.pair):
        assert len(pair.run([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]).embeddings) == 2


def test_mistakes_are_named(embedder: tte.Embedder) -> None:
    with pytest.raises(tte.InputError, match="exclude each other"):
        TteEncoder(embedder, fps=1, num_frames=2)
    with pytest.raises(tte.InputError, match="needs a reasoner"):
        TteEncoder(embedder).with_think(True)
    with pytest.raises(tte.InputError, match=r"columns audio, of which tte reads none: text, image, video"):
        batch_items({"audio": [1]})
    for batch, message in (
        (5, "a batch is 5: it must be a dict of columns"),
        ({"c" * 5000: [1], 5: [1]}, "a batch has the columns 5, ccc"),
        ({"text": "ab"}, "a batch's column 'text' is 'ab': it must be a list of cells"),
        ({"text": None}, "a batch's column 'text' is None"),
        ({"text": ["a"], "image": [None, None]}, "unequal numbers of cells"),
        ({"image": [Broken()]}, r"row 0 cannot be read \(OSError: cut off\)"),
    ):
        with pytest.raises(tte.InputError, match=message) as error:
            batch_items(batch)  # type: ignore[arg-type]
        assert len(str(error.value)) < 500
    with pytest.raises(tte.InputError, match=r"^row 7, 'image': .*float32"):
        TteEncoder(embedder).pair.run(batch_items({"image": [np.zeros((4, 4, 3), np.float32)]}, first_row=7))
    options = ("think", "prompts", "task_prompts", "family", "fps", "num_frames", "max_frames", "device", "dtype",
               "truncate_dim", "name", "meta", "revision", "max_new_tokens")  # fmt: skip
    wrong = misunderstood(lambda **given: TteEncoder(embedder, **given), {}, options)
    assert not wrong, "\n".join(wrong)
    data = DataLoader(Dataset.from_dict({"text": ["a"]}), batch_size=2)
    with pytest.raises(tte.InputError, match="CompressionWrapper"):
        TteEncoder(embedder).encode(
            data, task_metadata=metadata(), hf_split="test", hf_subset="default", precision="int8"
        )
