"""tte.pages: an image item for each page of a PDF document, and a sentence for what is none."""

from __future__ import annotations

import base64
import io
import os
import signal
import subprocess
import sys
import textwrap
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2
import pytest
import tte
from PIL import Image
from references import noise
from tte import _pages


def pdf(pages: int = 3, size: tuple[int, int] = (72, 144)) -> bytes:
    out = io.BytesIO()
    images = [Image.fromarray(noise(size[1], size[0], i)) for i in range(pages)]
    images[0].save(out, "PDF", save_all=True, append_images=images[1:], resolution=72)
    return out.getvalue()


def blank(width: float, height: float) -> bytes:
    document = pypdfium2.PdfDocument.new()
    document.new_page(width, height)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def stream(content: bytes, entries: bytes = b"") -> bytes:
    return b"<<%s/Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (entries, len(z := zlib.compress(content)), z)


def of_contents(*contents: bytes, forms: int = 0, repeats: int = 10) -> bytes:
    """A document with a page for each stream; a form /F draws the next of `forms` forms, several times, and so on."""
    count, last = len(contents), 2 + 2 * len(contents) + forms
    kids = b" ".join(b"%d 0 R" % number for number in range(3, 3 + 2 * count, 2))
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Count %d/Kids[%s]>>" % (count, kids)]
    for content in contents:
        resources = b"/Resources<</XObject<</F %d 0 R>>>>" % (3 + 2 * count)
        page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]/Contents %d 0 R%s>>" % (len(objects) + 2, resources)
        objects += [page, stream(content)]
    while len(objects) < last:
        resources = b"/Resources<</XObject<</F %d 0 R>>>>" % (len(objects) + 2)
        content = b"/F Do " * repeats if len(objects) + 1 < last else b"0 0 9 9 re f"
        objects.append(stream(content, b"/Type/XObject/Subtype/Form/BBox[0 0 72 72]" + resources))
    bodies = b"".join(b"%d 0 obj %s endobj\n" % (number, body) for number, body in enumerate(objects, 1))
    return b"%PDF-1.7\n" + bodies + b"trailer<</Root 1 0 R>>\n%%EOF\n"


FINE = b"0 0 1 rg 9 9 20 30 re f"
TOO_LARGE = of_contents(FINE, b"/F Do", FINE, forms=12)
TOO_LONG = of_contents(FINE, b"0 0 m 72 72 l S " * 1_500_000, FINE)


# A page with a line, encrypted with the user's password "open sesame" (40 bits), compressed.
ENCRYPTED = zlib.decompress(
    base64.b85decode(
        "c-n=L!EV$r5QaGi@dR9aU@u6;o{T-Qr6>p5u7oJ+YD>ASdT<<PNwp-!F;d&7L7cd>H=Y8C18=|!aN|xkR79{ySeB*v=bK-inc3oC"
        "z6Vca0!*;3JWukRzr4EeeBVa9>DGK<*S=@zkX;r<;@fHqrGLRA#Gf}+zrrnf#`n8-ZDcT&;6F-+C-?yy-T4b&HTG$Dxe`NY%y73h"
        "Z5)W6$v;0JC$}TtuH$Q#Qc?6Vc>5+ffB*UV!R^QJIDCKjO`pE~aC86D*DsISdq1}2chH@YnvCYnCi=inqHQZ1D*lQAU$T@R=i2*H"
        "7^MNM6`(AY%7P?cs|<B5fY3rFv`8~2HOU$!fYa!N&&V191wYN}(h0Jq)n1UJ+NFY|L5<2OU3mvtrBYD>kP;5OtGy9YW~7{{4OQ9~"
        "e8KkQG=a<D>qIb0#P7pMDO9XxlV;ejOgm{x?r0#?uBLHEOBGF847S<$FbwXbx%Q0svg?M8kE=XvUAVf4OpVdAgH?_K0aHYjsE}}&"
        "8yW&i2}zP7D*jKL4bAt_hB&q^B_y-i;qg5A38d4#od"
    )
)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf())
    return path


def test_a_program_ends_without_a_word_about_its_documents(report: Path) -> None:
    program = f"import tte; pages = tte.pages({str(report)!r}); first = pages[0]; more = tte.pages({str(report)!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def shape(item: dict[str, Any]) -> tuple[int, ...]:
    return np.asarray(Image.open(io.BytesIO(item["image"]))).shape


def test_an_item_for_each_page(report: Path) -> None:
    pages = tte.pages(report)
    assert [item["name"] for item in pages] == [f"report.pdf#page={n}" for n in (1, 2, 3)]
    assert len(pages) == 3
    assert shape(pages[0]) == (288, 144, 3)
    assert shape(tte.pages(str(report), dpi=72)[2]) == (144, 72, 3)
    assert [item["name"] for item in tte.pages(report, pages=[3, 1])] == ["report.pdf#page=3", "report.pdf#page=1"]
    assert [item["name"] for item in tte.pages(report, pages=range(2, 4))] == ["report.pdf#page=2", "report.pdf#page=3"]
    assert tte.pages(report, pages=np.int64(2))[0]["name"] == "report.pdf#page=2"
    assert [item["name"] for item in pages[1:]] == ["report.pdf#page=2", "report.pdf#page=3"]
    assert tte.pages(pdf(1))[-1]["name"] == "document.pdf#page=1"
    assert repr(pages) == "Pages('report.pdf', 3 pages, dpi=144)"


def test_a_page_is_rendered_when_its_item_is_asked_for(report: Path) -> None:
    huge = tte.pages(blank(14400, 14400))  # 28800 x 28800 pixels.
    assert len(huge) == 1
    with pytest.raises(tte.InputError, match=r"document.pdf#page=1 is 28800x28800 pixels .* lower dpi"):
        huge[0]
    assert shape(tte.pages(blank(1440, 1440), dpi=36)[0]) == (720, 720, 3)


def test_pages_are_items(report: Path) -> None:
    result = tte.think_then_embed(tte.pages(report, dpi=72), side="target", think=False, progress=False)
    assert result.embeddings.shape[0] == 3
    assert "report.pdf#page=3" in result._repr_html_()
    item = {**tte.pages(report)[2], "image": b"nothing"}
    with pytest.raises(tte.InputError, match=r"item 0 \(report\.pdf#page=3\)"):
        tte.think_then_embed([item], think=False, progress=False)


def test_a_document_with_a_password() -> None:
    with pytest.raises(tte.InputError, match=r"document\.pdf is encrypted: give its password"):
        tte.pages(ENCRYPTED)
    with pytest.raises(tte.InputError, match="another password"):
        tte.pages(ENCRYPTED, password="wrong")
    assert len(tte.pages(ENCRYPTED, password="open sesame")) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"%PDF-1.7\n", "is damaged"),
        (pdf()[:300], "is damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "is not a PDF document"),
        (bytes(5000), "is not a PDF document"),
    ],
)
def test_files_that_are_no_documents(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(content)
    for document in (path, content):
        with pytest.raises(tte.InputError, match=words) as caught:
            tte.pages(document)
        assert len(str(caught.value)) < 300
        assert "\n" not in str(caught.value)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pdf")
    (tmp_path / "loop.pdf").symlink_to(tmp_path / "loop.pdf")
    sparse = tmp_path / "sparse.pdf"
    with sparse.open("wb") as file:
        file.truncate(60 << 30)
    for path, words in [
        (tmp_path / "gone.pdf", "cannot be read"),
        (tmp_path / "pipe.pdf", "a pipe"),
        (tmp_path / "loop.pdf", "cannot be read"),
        (tmp_path, "Is a directory"),
        (sparse, "over the limit"),
        (tmp_path / ("x" * 5000), "longer than a file system"),
        ("a\0b.pdf", "NUL"),
        ("a\ud83d.pdf", "no file name can have"),
    ]:
        with pytest.raises(tte.InputError, match=words) as caught:
            tte.pages(path)
        str(caught.value).encode()
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pages": 0}, "has no page 0: its pages are 1 to 3"),
        ({"pages": -1}, "has no page -1: its pages are 1 to 3"),
        ({"pages": "1-3"}, "pages is '1-3': it must be the number of a page, from 1, or a list of them"),
        ({"pages": [1, 4]}, "has no page 4"),
        ({"pages": "1"}, "pages is '1'"),
        ({"pages": [1, 1.5]}, "pages is 1.5"),
        ({"pages": True}, "pages is True"),
        ({"pages": iter(lambda: 1, 2)}, "names more than"),
        ({"dpi": 0}, "dpi is 0"),
        ({"dpi": 1e9}, "dpi is 1e\\+09"),
        ({"dpi": "144"}, "dpi is '144'"),
        ({"password": 3}, "password is 3"),
    ],
)
def test_arguments_that_do_not_fit(report: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(tte.InputError, match=words):
        tte.pages(report, **arguments)


def test_a_document_without_pages() -> None:
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[]/Count 0>>"]
    data = b"%PDF-1.4\n"
    places = []
    for number, content in enumerate(objects, start=1):
        places.append(len(data))
        data += b"%d 0 obj%sendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    table = b"xref\n0 3\n0000000000 65535 f \n" + table + b"trailer<</Size 3/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF"
    with pytest.raises(tte.InputError, match=r"^document\.pdf has no pages: give a document that has some\.$"):
        tte.pages(data + table % len(data))


def test_a_document_in_the_home_folder(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(report.parent))
    assert len(tte.pages(f"~/{report.name}")) == 3
    with pytest.raises(tte.InputError, match="begins with a home folder that does not exist: give the whole path"):
        tte.pages("~nobody-of-this-name/a.pdf")


def test_a_document_is_a_path_or_bytes() -> None:
    nothing: Any = None
    with pytest.raises(tte.InputError, match="document is a NoneType"):
        tte.pages(nothing)


def run(program: str, folder: Path) -> str:
    """What a script writes, which has no `if __name__ == "__main__"` and no other child than those of its documents."""
    script = folder / "script.py"
    header = "import gc, os, resource, signal, threading\nimport tte\nfrom tte import _pages\n"
    script.write_text(header + textwrap.dedent(program))
    done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


def test_pixels_are_those_of_pdfium(report: Path) -> None:
    with pypdfium2.PdfDocument(report) as document:
        for number, item in enumerate(tte.pages(report, dpi=100)):
            expected = document[number].render(scale=100 / 72, rev_byteorder=True).to_numpy()
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(item["image"]))), expected)


@pytest.mark.parametrize(
    ("document", "words"), [(TOO_LARGE, "over 64 MiB of memory"), (TOO_LONG, "over 1 s of computing")]
)
def test_a_page_that_asks_for_too_much(document: bytes, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pages, "_MOST_SECONDS", 1 if document is TOO_LONG else 20)
    monkeypatch.setattr(_pages, "_MOST_BYTES", 1 << 30 if document is TOO_LONG else 1 << 26)
    before = signal.signal(signal.SIGXCPU, signal.SIG_IGN)  # Which the process inherits.
    try:
        pages = tte.pages(document)
        first = pages[0]["image"]
        for _ in range(2):
            with pytest.raises(tte.InputError, match=rf"^document\.pdf#page=2 takes {words}.*: leave it out\.$"):
                pages[1]
            assert pages[2]["image"] == first
        assert pages[0]["image"] == first
    finally:
        signal.signal(signal.SIGXCPU, before)


def test_a_page_that_asks_for_too_much_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pages, "_MOST_BYTES", 1 << 26)
    pages = tte.pages(TOO_LARGE, dpi=72)
    result = tte.think_then_embed(pages, side="target", think=False, progress=False, on_error="skip")
    assert np.isfinite(result.embeddings).all(axis=1).tolist() == [True, False, True]
    assert "document.pdf#page=2 takes over 64 MiB of memory" in str(result.errors[0])
    walk = iter(pages)
    assert next(walk)["name"] == "document.pdf#page=1"
    with pytest.raises(tte.InputError, match="page=2 takes over"):
        next(walk)
    assert [item["name"] for item in walk] == ["document.pdf#page=3"]


def test_an_image_is_not_left_out_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """PDFium draws a black one, or none."""
    Image.new("RGB", (3000, 3000), "red").save(jpeg := io.BytesIO(), "JPEG", progressive=True)
    entries = b"/Subtype/Image/Width 3000/Height 3000/BitsPerComponent 8/ColorSpace/DeviceRGB/Filter/DCTDecode"
    image = b"5 0 obj<<%s/Length %d>>stream\n%s\nendstream endobj\n" % (entries, jpeg.tell(), jpeg.getvalue())
    document = of_contents(b"72 0 0 72 0 0 cm /F Do").replace(b"trailer", image + b"trailer")
    monkeypatch.setattr(_pages, "_MOST_BYTES", 20 << 20)
    with pytest.raises(tte.InputError, match=r"page=1 takes over 20 MiB of memory besides its pixels"):
        tte.pages(document)[0]
    monkeypatch.setattr(_pages, "_MOST_BYTES", 1 << 30)
    page = Image.open(io.BytesIO(tte.pages(document)[0]["image"]))
    assert page.getextrema() == ((254, 254), (0, 0), (0, 0))


def test_memory_stays_within_the_limit(tmp_path: Path) -> None:
    (tmp_path / "bomb.pdf").write_bytes(TOO_LARGE)
    program = """
        pages = tte.pages("bomb.pdf")
        try:
            pages[1]
        except tte.InputError as error:
            print(str(error)[:15])
        del pages
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2.2 * (1 << 20))
        """
    assert run(program, tmp_path) == "bomb.pdf#page=2\nTrue\n"


def test_an_interrupt_ends_a_page(tmp_path: Path) -> None:
    (tmp_path / "bomb.pdf").write_bytes(TOO_LONG)
    program = """
        pages = tte.pages("bomb.pdf")
        first = pages[0]
        try:
            threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
            pages[1]
        except KeyboardInterrupt:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                print("no child is left")
        print(pages[0] == first)
        """
    assert run(program, tmp_path) == "no child is left\nTrue\n"


def test_nothing_is_left_of_documents(tmp_path: Path) -> None:
    (tmp_path / "fine.pdf").write_bytes(pdf())
    program = """
        def files():
            return len(os.listdir("/proc/self/fd"))

        tte.pages("fine.pdf")
        before = files()
        documents = [tte.pages("fine.pdf", dpi=36) for _ in range(12)]
        rounds = list(zip(*documents))
        print(len(rounds), all(item == page[0] for page in rounds for item in page))
        print(files() - before)
        walk = iter(documents.pop())
        next(walk)
        del documents, walk
        gc.collect()
        print(files() - before)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            print("no child is left")
        """
    assert run(program, tmp_path) == "3 True\n8\n0\nno child is left\n"


def test_threads_share_documents() -> None:
    documents = [tte.pages(pdf(), dpi=36) for _ in range(3)]
    expected = [item["image"] for item in documents[0]]
    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(lambda at: documents[at % 3][at % 9 // 3]["image"], range(90)))
    assert found == [expected[at % 9 // 3] for at in range(90)]


def test_a_process_that_somebody_ends_is_replaced() -> None:
    pages = tte.pages(pdf(), dpi=36)
    first = pages[0]
    process = pages._document._process
    assert process
    process[0].kill()
    assert pages[0] == first
    process[0].wait()
    assert process[0] is not (pages._document._process or process)[0]


def test_a_process_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/python-that-is-not-there")
    with pytest.raises(tte.InputError, match=r"^document\.pdf needs a process, and none can be started \(No such file"):
        tte.pages(pdf())


def test_user_units_are_not_looked_at() -> None:
    plain = of_contents(FINE)
    scaled = plain.replace(b"/Type/Page/Parent", b"/Type/Page/UserUnit 2.0/Parent")
    assert scaled != plain
    assert tte.pages(scaled)[0]["image"] == tte.pages(plain)[0]["image"]


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused_once(path: str) -> None:
    with pytest.raises(tte.InputError, match=rf"^{path} is a pipe, socket or device, not a PDF document\.$"):
        tte.pages(path)
