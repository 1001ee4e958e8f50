"""Memory that runs out: one sentence for the item that wanted it, and the engine goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tte
from test_process_ends import NANO, check

LIMITS = """
import gc, resource
import numpy as np

def used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

def limited(extra, call):
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    gc.collect()
    resource.setrlimit(resource.RLIMIT_AS, (used() + extra, hard))
    try:
        return call()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))

def is_plain(message):
    return len(message) < 500 and "\\n" not in message and "alloc_cpu" not in message and "bad_alloc" not in message
"""


def test_an_item_that_wants_too_much_is_skipped() -> None:
    # Pixels of 9,000 x 9,000 are resized in the engine: 243 MB are there already, what is made of them is not.
    check(
        LIMITS
        + """
image = tte._tte.Input(parts=[tte._tte.Image.from_array(np.zeros((9000, 9000, 3), np.uint8))])
plain = embedder.embed(["a", "b"])
def call():
    return tte._tte.ThinkThenEmbed(reasoner._native, embedder._native).run(
        [tte._tte.Input(parts=["a"]), image, tte._tte.Input(parts=["b"])], on_error=tte._tte.OnError.SKIP,
        think_each=[tte._tte.ThinkMode.NEVER] * 3,
    )
result = limited(64 << 20, call)
errors = result.embeddings.errors
print([error.index for error in errors], all("memory ran out" in e.message and is_plain(e.message) for e in errors))
vectors = result.embeddings.take_data()
print(np.array_equal(vectors[[0, 2]], plain), bool(np.isnan(vectors[1]).all()))
try:
    limited(64 << 20, lambda: embedder._native.embed([image]))
except MemoryError as error:
    print(type(error).__name__, "item 0" in str(error))
print(np.array_equal(embedder.embed(["a", "b"]), plain))
""",
        out="[1] True True True OutOfMemoryError True True",
    )


def test_files_that_want_too_much_are_told_plainly(tmp_path: Path) -> None:
    check(
        LIMITS
        + f"""
from PIL import Image
told = []
for suffix in ("jpg", "png", "tif", "gif", "bmp"):
    path = "{tmp_path}/x." + suffix
    Image.new("L", (6000, 6000)).save(path)  # Larger than any block that the allocator has kept.
    try:
        limited(8 << 20, lambda: embedder.embed({{"image": path}}))
    except (tte.Error, MemoryError) as error:
        told.append("memory" in str(error) and "item 0" in str(error) and is_plain(str(error)))
print(len(told), all(told))
"""
        + """
print(embedder.embed("a").shape)
""",
        out="5 True (1, 192)",
    )


def test_memory_that_runs_out_anywhere_is_an_error_and_no_end() -> None:
    check(
        LIMITS
        + """
texts = ["red " * n for n in (1, 50, 300, 700)]
images = [{"text": "a", "image": np.zeros((n, n, 3), np.uint8)} for n in (28, 300, 900)]
options = dict(reasoner=reasoner, embedder=embedder, max_new_tokens=4, progress=False, on_error="skip")
plain = tte.think_then_embed(texts + images, **options)
seen = set()
for extra in [0, 1, 2, 4, 8, 16, 32, 64, 128]:
    try:
        result = limited(extra << 20, lambda: tte.think_then_embed(texts + images, **options))
        seen.update(error.message for error in result.errors)
    except tte.Error as error:
        seen.add(str(error))
    except MemoryError:
        pass  # Python's own.
print([message for message in seen if not is_plain(message)])
again = tte.think_then_embed(texts + images, **options)
print([t.text for t in again.traces] == [t.text for t in plain.traces])
print(np.allclose(again.embeddings, plain.embeddings, atol=1e-3))
""",
        out="[] True True",
    )


def test_a_checkpoint_that_does_not_fit_is_named() -> None:
    check(
        LIMITS
        + """
folder = str(reasoner.model.path)
del reasoner, embedder, backend
for extra in [0, 1, 2, 4, 8, 16, 32, 64]:
    try:
        limited(extra << 20, lambda: tte.Reasoner(folder, device="cpu", dtype="float32"))
    except tte.Error as error:
        assert is_plain(str(error)), error
    except MemoryError:
        pass
print(tte.Reasoner(folder, device="cpu").model.path == tte.Reasoner(folder, device="cpu").model.path)
""",
        out="True",
    )


TIGHT = """
import resource, sys
import tte

def used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

def tried(call):
    try:
        return call() is None
    except (tte.Error, MemoryError) as error:
        told = str(error)
        assert len(told) < 500 and "\\n" not in told and (not told or told.endswith(".")), told

for extra in {steps}:
    pid = os.fork()
    if pid:
        status = os.waitpid(pid, 0)[1]
        print("ends with", status, "at", extra) if status else None
        continue
    most = used() + (extra << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    made = {{}}
    options = dict(threads=3, replicas={replicas}, media_threads=1, state_bytes=16 << 20)
    texts = ["red " * n for n in (1, 40, 300)]
    tried(lambda: made.update(backend=tte.Backend("cpu", **options)))
    for name, model in (("reasoner", tte.Reasoner), ("embedder", tte.Embedder)):
        if "backend" in made:
            tried(lambda: made.update({{name: model({nano!r} + "/" + name, backend=made["backend"])}}))
    if "embedder" in made:
        tried(lambda: made["embedder"].embed(texts, progress=False))
    if "reasoner" in made:
        tried(lambda: made["reasoner"].think(texts, max_new_tokens=4, progress=False))
    if len(made) == 3:
        tried(lambda: tte.think_then_embed(
            texts, reasoner=made["reasoner"], embedder=made["embedder"], max_new_tokens=4, progress=False))
    del made
    os._exit(0)
print("done")
"""


@pytest.mark.parametrize("part", range(3))
def test_a_limit_of_address_space_is_an_error_and_no_end(part: int) -> None:
    # From nothing at all to enough for everything: threads, checkpoints, states, steps.
    steps = list(range(part, 420, 21))
    check(TIGHT.format(steps=steps, nano=str(NANO), replicas=1 + part % 2), out="done", header="import os\n")


@pytest.mark.parametrize("space", [2 << 30, 4 << 30])
def test_the_default_of_states_fits_into_a_limit_of_address_space(space: int) -> None:
    check(
        """
import tte
made = tte.think_then_embed(["a", "red " * 700], max_new_tokens=4, progress=False)
print(tte.Backend.devices()[-1].memory_bytes <= SPACE, made.embeddings.shape)
""".replace("SPACE", str(space)),
        out="True (2, 192)",
        header=f"import resource\nresource.setrlimit(resource.RLIMIT_AS, ({space}, {space}))\n",
    )


def test_a_benchmark_measures_its_own_memory() -> None:
    # What ru_maxrss says of a program begins with what was there before exec, such as a checkpoint being made.
    benchmarks = Path(__file__).parents[2] / "benchmarks"
    check(
        f"""
import subprocess, sys
held = b"x" * (400 << 20)
program = '''
import resource, sys
sys.path.insert(0, {str(benchmarks)!r})
from qwen2_vl_2b import peak_memory
print(peak_memory() < 200 << 20, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 400 << 10)
held = b"x" * (300 << 20)
print(300 << 20 < peak_memory() < 600 << 20)
'''
print(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
""",
        out="True True True",
        header="",
    )


def test_an_item_of_many_images_takes_what_its_limit_says() -> None:
    # Each image is decoded into more than is kept of it: what is freed between what is kept has to go back.
    check(
        """
import io
import numpy as np
from PIL import Image

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith("VmHWM"))

data = io.BytesIO()
Image.new("RGB", (1000, 1000)).save(data, "JPEG")
limits = tte.MediaLimits(max_item_bytes=600 << 20)
embedder = tte.Embedder(embedder.model.path, backend=backend, media_limits=limits)
embedder.embed([[data.getvalue()] * 4], progress=False)
before = peak()
try:
    embedder.embed([[data.getvalue()] * 4000], progress=False)
except tte.InputError as error:
    print("max_item_bytes" in str(error), peak() - before < 900 or peak() - before)
""",
        out="True True",
    )


def test_memory_that_runs_out_is_not_taken_for_a_wrong_value() -> None:
    class Full:
        """Its values do not fit."""

        shape = (2, 2)
        dtype = np.dtype(np.float32)

        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise MemoryError

    def endless() -> Iterator[str]:
        yield "a"
        raise MemoryError

    result = tte.think_then_embed(["a"], think=False, progress=False)
    with pytest.raises(MemoryError):
        result.similarity(Full())  # type: ignore[arg-type]
    with pytest.raises(MemoryError):
        tte.think_then_embed(endless(), think=False, progress=False)
