"""Row 36: the parser of a file crashes, spins or eats memory. The document fails with a sentence; the worker and the
other documents notice nothing."""

from __future__ import annotations

import io
import signal
import zipfile

import psutil
import pytest

from tests.faults.ingesting import Works, manual, sheet

pytestmark = [pytest.mark.journey, pytest.mark.fault, pytest.mark.timeout(300)]


def crashes(reader: psutil.Process) -> None:
    reader.send_signal(signal.SIGSEGV)


def spins(reader: psutil.Process) -> None:
    """The kernel tells it that the seconds which it may take are over."""
    reader.send_signal(signal.SIGXCPU)


@pytest.mark.parametrize(
    ("misbehave", "code", "said"), [(crashes, "parser", "crash"), (spins, "too_large", "took longer")]
)
async def test_the_document_fails_and_the_next_one_does_not(
    works: Works, misbehave: object, code: str, said: str
) -> None:
    canary = works.world.askers[0].canary
    worker = works.worker()
    broken = await works.upload(sheet(400_000), "sheet.csv")
    reader = await works.reading(worker)
    sound = await works.upload(manual(10, canary))
    assert callable(misbehave)
    misbehave(reader)
    reader.resume()
    seen = await works.becomes(broken, "failed", "ready")
    assert seen["status"] == "failed"
    assert seen["failure"]["code"] == code
    assert said in seen["failure"]["message"]
    await works.becomes(sound, "ready")
    works.is_whole(sound, set(works.embedded(canary)))
    assert worker.poll() is None
    assert works.count("usage_usagerecord", "document_id = %s AND bill = 'once'", broken) == 0


async def test_one_that_eats_memory(works: Works) -> None:
    canary = works.world.askers[0].canary
    worker = works.worker()
    broken = await works.upload(workbook(400_000), "sheet.xlsx")
    sound = await works.upload(manual(10, canary))
    seen = await works.becomes(broken, "failed", "ready", seconds=120)
    assert seen["status"] == "failed"
    assert seen["failure"]["code"] == "too_large"
    assert "memory" in seen["failure"]["message"]
    await works.becomes(sound, "ready")
    works.is_whole(sound, set(works.embedded(canary)))
    assert worker.poll() is None
    assert psutil.Process(worker.pid).memory_info().rss < 512 * 2**20


def workbook(rows: int) -> bytes:
    """Small as a file, and large as what a reader makes of it."""
    named = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    related = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    packaged = "http://schemas.openxmlformats.org/package/2006"
    types = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    row = "<row>" + "<c><v>1</v></c>" * 14 + "</row>"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{packaged}/content-types">'
        f'<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{types}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{types}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{packaged}/relationships"><Relationship Id="rId1" '
        f'Type="{related}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{packaged}/relationships"><Relationship Id="rId1" '
        f'Type="{related}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook {named} xmlns:r="{related}"><sheets><sheet name="All" sheetId="1" '
        f'r:id="rId1"/></sheets></workbook>',
        "xl/worksheets/sheet1.xml": f"<worksheet {named}><sheetData>{row * rows}</sheetData></worksheet>",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()
