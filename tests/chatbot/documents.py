"""Small files of every format that is zipped, made of a heading, paragraphs and a table."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

_MAIN = "http://schemas.openxmlformats.org"
_RELATIONS = f"{_MAIN}/package/2006/relationships"
_OFFICE = f"{_MAIN}/officeDocument/2006/relationships"
_TYPES = "application/vnd.openxmlformats-officedocument"


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def _package(main: str, kind: str, body: str, **parts: str) -> bytes:
    types = "".join(
        f'<Override PartName="/{name}" ContentType="{_TYPES}.{its}+xml"/>'
        for name, its in {main: kind, **{part: its for part, its in _KINDS.items() if part in parts}}.items()
    )
    defaults = '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    return zipped(
        {
            "[Content_Types].xml": f'<Types xmlns="{_MAIN}/package/2006/content-types">{defaults}{types}</Types>',
            "_rels/.rels": _relations({"r1": ("officeDocument", main)}),
            main: body,
            **parts,
        }
    )


_KINDS = {
    "word/styles.xml": "wordprocessingml.styles",
    "ppt/slides/slide1.xml": "presentationml.slide",
    "xl/worksheets/sheet1.xml": "spreadsheetml.worksheet",
}


def _relations(targets: Mapping[str, tuple[str, str]]) -> str:
    each = "".join(
        f'<Relationship Id="{key}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for key, (kind, target) in targets.items()
    )
    return f'<Relationships xmlns="{_RELATIONS}">{each}</Relationships>'


def docx(heading: str, texts: Sequence[str], row: Sequence[str]) -> bytes:
    def paragraph(text: str, style: str = "") -> str:
        properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
        return f"<w:p>{properties}<w:r><w:t>{escape(text)}</w:t></w:r></w:p>"

    cells = "".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in row)
    table = f"<w:tbl>{f'<w:tr>{cells}</w:tr>' * 2}</w:tbl>"
    body = paragraph(heading, "Heading1") + "".join(map(paragraph, texts)) + table
    word = f'xmlns:w="{_MAIN}/wordprocessingml/2006/main"'
    style = '<w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style>'
    return _package(
        "word/document.xml",
        "wordprocessingml.document.main",
        f"<w:document {word}><w:body>{body}</w:body></w:document>",
        **{
            "word/styles.xml": f"<w:styles {word}>{style}</w:styles>",
            "word/_rels/document.xml.rels": _relations({"r1": ("styles", "styles.xml")}),
        },
    )


def pptx(heading: str, texts: Sequence[str], _row: Sequence[str]) -> bytes:
    def shape(kind: str, lines: Sequence[str]) -> str:
        paragraphs = "".join(f"<a:p><a:r><a:t>{escape(line)}</a:t></a:r></a:p>" for line in lines)
        place = f'<p:nvSpPr><p:cNvPr id="2" name="x"/><p:cNvSpPr/><p:nvPr><p:ph type="{kind}"/></p:nvPr></p:nvSpPr>'
        return f"<p:sp>{place}<p:spPr/><p:txBody><a:bodyPr/>{paragraphs}</p:txBody></p:sp>"

    spaces = f'xmlns:p="{_MAIN}/presentationml/2006/main" xmlns:a="{_MAIN}/drawingml/2006/main" xmlns:r="{_OFFICE}"'
    group = '<p:nvGrpSpPr><p:cNvPr id="1" name=""/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr/>'
    shapes = shape("title", [heading]) + shape("body", texts)
    slide = f"<p:sld {spaces}><p:cSld><p:spTree>{group}{shapes}</p:spTree></p:cSld></p:sld>"
    slides = '<p:sldIdLst><p:sldId id="256" r:id="r1"/></p:sldIdLst>'
    return _package(
        "ppt/presentation.xml",
        "presentationml.presentation.main",
        f"<p:presentation {spaces}>{slides}</p:presentation>",
        **{
            "ppt/_rels/presentation.xml.rels": _relations({"r1": ("slide", "slides/slide1.xml")}),
            "ppt/slides/slide1.xml": slide,
        },
    )


def xlsx(heading: str, texts: Sequence[str], row: Sequence[str]) -> bytes:
    def line(number: int, values: Sequence[str]) -> str:
        cells = "".join(
            f'<c r="{chr(65 + at)}{number}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'
            for at, value in enumerate(values)
        )
        return f'<row r="{number}">{cells}</row>'

    sheet = f'xmlns="{_MAIN}/spreadsheetml/2006/main"'
    rows = "".join(line(number, values) for number, values in enumerate([row, *([text] for text in texts)], start=1))
    sheets = f'<sheets><sheet name="{escape(heading)}" sheetId="1" r:id="r1"/></sheets>'
    return _package(
        "xl/workbook.xml",
        "spreadsheetml.sheet.main",
        f'<workbook {sheet} xmlns:r="{_OFFICE}">{sheets}</workbook>',
        **{
            "xl/_rels/workbook.xml.rels": _relations({"r1": ("worksheet", "worksheets/sheet1.xml")}),
            "xl/worksheets/sheet1.xml": f"<worksheet {sheet}><sheetData>{rows}</sheetData></worksheet>",
        },
    )


def epub(heading: str, texts: Sequence[str], _row: Sequence[str]) -> bytes:
    container = (
        '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{escape(heading)}</dc:title></metadata>'
        '<manifest><item id="c" href="c.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="c"/></spine></package>'
    )
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": container,
            "content.opf": package,
            "c.xhtml": html(heading, texts, ()),
        }
    )


def html(heading: str, texts: Sequence[str], row: Sequence[str]) -> str:
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in texts)
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
    table = f"<table><tr>{cells}</tr></table>" if row else ""
    space = 'xmlns="http://www.w3.org/1999/xhtml"'
    return (
        f"<html {space}><head><title>{heading}</title></head>"
        f"<body><h1>{escape(heading)}</h1>{paragraphs}{table}</body></html>"
    )
