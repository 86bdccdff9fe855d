import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from chatbot import extraction
from chatbot.chunking import split
from chatbot.errors import ExtractionFailed
from chatbot.extraction import Extracted, Page, extract
from chatbot.formats import MARKDOWN, PDF, TEXT
from chatbot.readers import pdf
from chatbot.supervising import Limits, ReaderKilled, TooLarge, supervise
from tests.environment import ROOT


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Grüße, 世界\r\nzwei\rdrei".encode(), "Grüße, 世界\nzwei\ndrei"),
        (b"\xef\xbb\xbfmarked", "marked"),
        ("Grüße".encode("utf-16-le", "strict"), None),
        ("\ufeffGrüße".encode("utf-16-be"), "Grüße"),
        ("\ufeffGrüße".encode("utf-16-le"), "Grüße"),
        ("“Grüße”".encode("cp1252"), "“Grüße”"),
        (b"with \x00 NUL", "with  NUL"),
        (b"# no heading\ntext", "\\# no heading\ntext"),
    ],
)
def test_text_in_its_encodings(tmp_path: Path, data: bytes, text: str | None) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    extracted = extract(path, TEXT)
    assert "\x00" not in extracted.pages[0].text
    assert text is None or extracted == Extracted([Page(None, text)], None)


def test_markdown_names_itself(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("intro\n\n# The *Guide*\n", encoding="utf-8")
    assert extract(path, MARKDOWN).title == "The *Guide*"


@pytest.mark.parametrize("data", [b"", b" \n\t", b"\x00"])
def test_an_empty_file_says_so(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(ExtractionFailed, match="empty"):
        extract(path, TEXT)


def test_too_much_text_says_so(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 101)
    with pytest.raises(ExtractionFailed, match="more than 100 characters"):
        extract(path, TEXT, Limits(output_chars=100))


# reportlab knows no types.
new_canvas: Any = Canvas
encryption: Any = StandardEncryption
SENTENCE = "The maintainer of a package answers reports about it within a reasonable time."


def manual(path: Path, *, chapters: int = 4, title: str = "The Manual", **options: object) -> Path:
    """Two pages a chapter, with headings in larger type, running headers, page numbers and a table of contents."""
    canvas = new_canvas(str(path), **options)
    canvas.setTitle(title)
    canvas.setFont("Helvetica-Bold", 20)
    canvas.drawString(72, 780, "Contents")
    canvas.setFont("Helvetica", 11)
    for chapter in range(1, chapters + 1):
        canvas.drawString(72, 760 - 15 * chapter, f"{chapter} Chapter about {chapter} . . . . . . . . {chapter * 2}")
    canvas.showPage()
    for number in range(2, chapters * 2 + 2):
        chapter = number // 2
        canvas.setFont("Helvetica", 9)
        canvas.drawString(72, 810, f"The Manual, release 7    {number}")
        canvas.setFont("Helvetica-Bold", 18)
        heading = f"{chapter} Chapter about {chapter}" if number % 2 == 0 else f"{chapter}.1 Details of {chapter}"
        canvas.drawString(72, 770, heading)
        canvas.setFont("Helvetica", 11)
        for line in range(20):
            canvas.drawString(72, 740 - 15 * line, f"{SENTENCE} ({number}/{line})")
        canvas.drawString(72, 740 - 15 * 20, f"# Comment {number} in some code.")
        canvas.showPage()
    canvas.save()
    return path


def test_a_manual_has_pages_headings_and_no_furniture(tmp_path: Path) -> None:
    extracted = extract(manual(tmp_path / "file"), PDF)
    assert extracted.title == "The Manual"
    by_number = {page.number: page.text for page in extracted.pages}
    assert by_number[2].startswith(f"# 1 Chapter about 1\n\n{SENTENCE} (2/0)")
    assert by_number[5].startswith("## 2.1 Details of 2\n")
    everything = "\n".join(by_number.values())
    assert "release 7" not in everything
    assert ". . ." not in everything
    assert everything.count(SENTENCE) == 8 * 20


def test_passages_of_a_manual_know_chapter_and_page(tmp_path: Path) -> None:
    passages = split(extract(manual(tmp_path / "file"), PDF), title="The Manual")
    about = next(passage for passage in passages if "(7/3)" in passage.text)
    assert (about.heading, about.page) == (("3 Chapter about 3", "3.1 Details of 3"), 7)
    assert any("\n# Comment 7 in some code." in passage.text for passage in passages)


def headed(path: Path, *, leading: float, heading: float = 12, label: str = "{page}", pages: int = 6) -> Path:
    """Text of 10 points with a heading a page; `label` is drawn at the foot of each page, before its text."""
    canvas = new_canvas(str(path))
    for page in range(1, pages + 1):
        canvas.setFont("Helvetica", 8)
        canvas.drawRightString(520, 40, label.format(page=page))
        canvas.setFont("Helvetica-Bold", heading)
        canvas.drawString(72, 770, f"About {page} pumps")
        y = 770.0
        for paragraph, lines in enumerate((1, 2, 3, 5, 9, 2, 1)):
            y -= 16
            canvas.setFont("Helvetica", 10)
            for line in range(lines):
                y -= 10 * leading
                canvas.drawString(72, y, f"{SENTENCE} ({page}/{paragraph}/{line})")
        canvas.showPage()
    canvas.save()
    return path


def headings(extracted: Extracted) -> list[str]:
    lines = "\n".join(page.text for page in extracted.pages).splitlines()
    return [line.lstrip("# ") for line in lines if line.startswith("#")]


@pytest.mark.parametrize("leading", [1.1, 1.2, 1.4, 1.6, 1.8])
def test_headings_a_little_larger_are_found_however_far_apart_lines_are(tmp_path: Path, leading: float) -> None:
    path = headed(tmp_path / "file", leading=leading, label="")
    assert headings(extract(path, PDF)) == [f"About {page} pumps" for page in range(1, 7)]


def test_a_page_number_before_the_text_is_no_part_of_the_heading(tmp_path: Path) -> None:
    extracted = extract(headed(tmp_path / "file", leading=1.2, heading=18), PDF)
    assert headings(extracted) == [f"About {page} pumps" for page in range(1, 7)]
    assert all(page.text.startswith(f"# About {page.number}") for page in extracted.pages)


def test_a_protected_pdf_says_so(tmp_path: Path) -> None:
    path = manual(tmp_path / "file", encrypt=encryption("secret"))
    with pytest.raises(ExtractionFailed, match="password"):
        extract(path, PDF)


def test_an_unprotected_reading_right_is_enough(tmp_path: Path) -> None:
    path = manual(tmp_path / "file", encrypt=encryption("", ownerPassword="secret"))
    assert len(extract(path, PDF).pages) == 9


def test_a_pdf_without_text_says_so(tmp_path: Path) -> None:
    canvas = new_canvas(str(tmp_path / "file"))
    canvas.rect(10, 10, 100, 100, fill=1)
    canvas.save()
    with pytest.raises(ExtractionFailed, match="No text was found"):
        extract(tmp_path / "file", PDF)


@pytest.mark.parametrize("keep", [9, 400, 2000])
def test_a_broken_pdf_says_so(tmp_path: Path, keep: int) -> None:
    path = manual(tmp_path / "file")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ExtractionFailed, match="damaged"):
        extract(path, PDF)


def test_a_pdf_with_too_much_text_says_so(tmp_path: Path) -> None:
    with pytest.raises(ExtractionFailed, match="more than 1,000 characters"):
        extract(manual(tmp_path / "file"), PDF, Limits(output_chars=1000))


def bomb(path: Path, page: bytes) -> Path:
    """A PDF of a few kilobytes whose only page is `page`, packed twice."""
    packed = zlib.compress(zlib.compress(page, 1))
    objects = [
        b"<</Type /Catalog /Pages 2 0 R>>",
        b"<</Type /Pages /Kids [3 0 R] /Count 1>>",
        b"<</Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources <</Font <</F 5 0 R>>>>>>",
        b"<</Length %d /Filter [/FlateDecode /FlateDecode]>>\nstream\n%s\nendstream" % (len(packed), packed),
        b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>",
    ]
    numbered = (b"%d 0 obj\n%s\nendobj\n" % (number, content) for number, content in enumerate(objects, start=1))
    path.write_bytes(b"%PDF-1.4\n" + b"".join(numbered) + b"trailer <</Size 6 /Root 1 0 R>>\n%%EOF")
    return path


def test_a_packed_page_is_read(tmp_path: Path) -> None:
    extracted = extract(bomb(tmp_path / "file", b"BT /F 12 Tf 72 700 Td (hello) Tj ET\n"), PDF)
    assert extracted.pages == [Page(1, "hello")]


def test_a_bomb_of_memory_is_stopped(tmp_path: Path) -> None:
    path = bomb(tmp_path / "file", b" " * (256 << 20))
    assert path.stat().st_size < 10_000
    with pytest.raises(ExtractionFailed, match="more than 200 MB of memory"):
        extract(path, PDF, Limits(memory_mb=200))


def test_a_bomb_of_work_is_stopped(tmp_path: Path) -> None:
    path = bomb(tmp_path / "file", b"BT /F 12 Tf 72 700 Td (hello) Tj ET\n" * 1_000_000)
    with pytest.raises(ExtractionFailed, match=r"longer than [14] seconds"):
        extract(path, PDF, Limits(seconds=1, memory_mb=4096))


def test_pages_that_are_all_alike_are_still_text(tmp_path: Path) -> None:
    canvas = new_canvas(str(tmp_path / "file"))
    for _ in range(5):
        canvas.drawString(72, 700, "Danger")
        canvas.showPage()
    canvas.save()
    assert extract(tmp_path / "file", PDF).pages == [Page(number, "Danger") for number in range(1, 6)]


def test_a_worthless_title_is_none(tmp_path: Path) -> None:
    assert extract(manual(tmp_path / "file", chapters=1, title="Microsoft Word - draft.doc"), PDF).title is None


Run = Callable[..., bytes]
PATIENT = Limits(seconds=10)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A Python program in the place of the parser, within the same walls; leaves no process behind."""
    file = tmp_path / "file"
    file.write_bytes(b"content")

    def run_program(program: str, limits: Limits = PATIENT, **more: Any) -> bytes:
        with file.open("rb") as stdin:
            return supervise([sys.executable, "-c", program], stdin, limits, str(tmp_path), **more)

    us = psutil.Process()
    before = set(us.children())  # the servers of other tests
    yield run_program
    assert set(us.children()) <= before


def _runs(pid: int) -> bool:
    """Not so for a zombie, which only waits for whoever adopted it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_is_believed_to_be_at_a_page_that_can_be(run: Run) -> None:
    told: list[tuple[int, int]] = []
    lies = ["[-1,4]", "[5,4]", "[1,9999999999]", "[1]", "{", "null", '["x",2]', "[[1],2]", ""]
    for said in ["[1,4]", *lies, "[4,4]"]:
        program = f"import sys; sys.stdout.write({said!r} + chr(30)); sys.stdout.write('answer')"
        assert run(program, tell=lambda done, total: told.append((done, total))) == b"answer"
    assert told == [(1, 4), (4, 4)]


class TestWalls:
    def test_a_child_gets_the_file_and_nothing_of_our_environment(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SECRET_KEY", "canary")
        assert run("import sys, os; print(sys.stdin.read(), 'canary' in str(os.environ))") == b"content False\n"

    def test_spinning_ends(self, run: Run) -> None:
        # By its own time, or on a busy machine by the clock.
        with pytest.raises(ExtractionFailed, match=r"longer than [14] seconds"):
            run("while True: pass", Limits(seconds=1))

    def test_sleeping_ends(self, run: Run) -> None:
        with pytest.raises(ExtractionFailed, match=r"longer than 0\.8 seconds"):
            run("import time; time.sleep(60)", Limits(seconds=0.2))

    def test_sleeping_with_closed_output_ends(self, run: Run) -> None:
        with pytest.raises(ExtractionFailed, match=r"longer than 0\.8 seconds"):
            run("import os, time; os.close(1); time.sleep(60)", Limits(seconds=0.2))

    def test_eating_memory_ends(self, run: Run) -> None:
        with pytest.raises(ExtractionFailed, match="more than 100 MB"):
            run("import time; eaten = b'x' * (300 << 20); time.sleep(60)", Limits(seconds=10, memory_mb=100))

    def test_crashing_is_told(self, run: Run) -> None:
        with pytest.raises(ExtractionFailed, match="crash"):
            run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")

    def test_being_killed_by_others_says_nothing_of_the_file(self, run: Run) -> None:
        with pytest.raises(ReaderKilled, match="Try again"):
            run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")

    def test_endless_output_ends(self, run: Run) -> None:
        with pytest.raises(ExtractionFailed, match="more than 1,000 characters"):
            run("while True: print('x' * 10000)", Limits(seconds=10, output_chars=1000))

    def test_its_children_die_with_it(self, run: Run) -> None:
        child = int(run("import os, time\npid = os.fork()\nif not pid:\n os.close(1)\n time.sleep(600)\nprint(pid)"))
        deadline = time.monotonic() + 60
        while _runs(child):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def test_no_core_is_dumped(self, run: Run) -> None:
        assert run("import resource; print(resource.getrlimit(resource.RLIMIT_CORE))") == b"(0, 0)\n"


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b'"error"',
        b'{"pages": 3, "title": null}',
        b'{"pages": [[1]], "title": null}',
        b'{"pages": [["x", "y"]], "title": null}',
        b'{"pages": [[1, "y"]]}',
    ],
)
def test_a_senseless_answer_of_the_child_is_a_failure(output: bytes) -> None:
    with pytest.raises(ExtractionFailed):
        extraction._answer(output, Limits())


def test_a_childs_answer_is_data() -> None:
    answer = extraction._answer(b'{"pages": [[1, "a\\u0000b"], [null, "c"]], "title": "t\\u0000"}', Limits())
    assert answer == Extracted([Page(1, "ab"), Page(None, "c")], "t")
    with pytest.raises(TooLarge, match="much"):
        extraction._answer(b'{"error": "Too much.", "too_large": true}', Limits())


def test_the_parser_is_not_loaded_here() -> None:
    # A worker process must never parse a file itself. In a process of its own: other tests here load the readers.
    program = "import sys, django; django.setup(); import apps.knowledge.tasks; sys.exit('kreuzberg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up being root")
def test_the_child_gives_up_its_rights_before_it_reads() -> None:
    program = (
        "import ctypes, os, resource; from chatbot import extraction; libc = ctypes.CDLL(None);"
        "extraction._confine(libc); dies_with_parent = ctypes.c_int(); libc.prctl(2, ctypes.byref(dies_with_parent));"
        "print(os.getuid(), os.getgid(), os.getgroups(), resource.getrlimit(resource.RLIMIT_FSIZE),"
        "[line.split()[1] for line in open('/proc/self/status') if line.startswith('NoNewPrivs')],"
        "dies_with_parent.value)"
    )
    with Path(os.devnull).open("rb") as nothing:
        said = supervise([sys.executable, "-c", program], nothing, Limits(), "/nonexistent")
    assert said.decode().strip() == "65534 65534 [] (0, 0) ['1'] 9"


def test_a_long_pdf_tells_how_far_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    told: list[tuple[int, int]] = []
    canvas: Any = Canvas(str(path))  # type: ignore[no-untyped-call]
    canvas.setTitle("Log of pumps")
    for number in range(1, 131):
        canvas.drawString(72, 700, f"Pump {number} was looked at.")
        canvas.showPage()
    canvas.save()
    extracted = extract(path, PDF, tell=lambda done, total: told.append((done, total)))
    # What comes at once is told as one, as far as it has come.
    assert told == sorted(told)
    assert set(told) <= {(0, 130), (50, 130), (100, 130), (130, 130)}
    assert told[-1] == (130, 130)
    assert extracted.title == "Log of pumps"
    assert extracted.pages == [Page(n, f"Pump {n} was looked at.") for n in range(1, 131)]
    told.clear()
    pdf.read(path.read_bytes(), lambda done, total: told.append((done, total)))
    assert told == [(0, 130), (50, 130), (100, 130), (130, 130)]
