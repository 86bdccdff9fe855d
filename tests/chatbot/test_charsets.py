"""Texts in the encodings that people's files are in, most of which say nothing of it."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.charsets import decoded, known_charset

TEXTS = {
    "cp1252": "Die größere Pumpe jährlich prüfen. L\u2019été, c\u2019est déjà réglé: 5 °C ±1 \u2013 \u201cgut\u201d.",
    "cp1256": "افحص المضخة الكبيرة كل سنة. أغلق الصمام ثم استبدل الحشية المطاطية.",
    "gb18030": "每年检查一次大泵。关闭阀门，然后更换橡胶密封圈。",
    "big5": "每年檢查一次大泵。關閉閥門，然後更換橡膠密封圈。",
    "shift_jis": "大きいポンプは毎年点検してください。バルブを閉めてから、ゴムのパッキンを交換します。",
    "euc_jp": "大きいポンプは毎年点検してください。バルブを閉めてから、ゴムのパッキンを交換します。",
    "euc_kr": "큰 펌프는 매년 점검하십시오. 밸브를 닫은 다음 고무 씰을 교체하십시오.",
    "cp1251": "Ежегодно проверяйте большой насос. Закройте клапан и замените уплотнение.",
    "koi8_r": "Ежегодно проверяйте большой насос. Закройте клапан и замените уплотнение.",
    "cp1253": "Ελέγχετε τη μεγάλη αντλία κάθε χρόνο. Κλείστε τη βαλβίδα.",
}
MANUAL = "Pump manual 3.2\r\nClose the valve, then replace the seal.\r\n"


@pytest.mark.parametrize("charset", TEXTS)
@pytest.mark.parametrize("before", ["", MANUAL * 50])
def test_what_says_nothing_is_told_by_its_signs(charset: str, before: str) -> None:
    text = before + TEXTS[charset]
    data = text.encode(charset)
    assert decoded(data) == text
    assert decoded(data[:-1])[: len(text) - 2] == text[:-2]  # a file's head may end within a character


@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("text", TEXTS.values())
def test_what_is_marked_is_certain(charset: str, text: str) -> None:
    assert decoded(text.encode(charset), "koi8-r") == text


@pytest.mark.parametrize("charset", ["utf-16-le", "utf-16-be"])
def test_wide_text_without_a_mark(charset: str) -> None:
    assert decoded((MANUAL + "Grüße").encode(charset)) == MANUAL + "Grüße"


@pytest.mark.parametrize("text", ["crème brûlée", "¿Él? ¡Ñandú!", "süß", "Ærø", "FUSSBÖDEN ÜBERPRÜFEN", "§ 5: ½ × ¼"])
def test_western_words_are_no_others(text: str) -> None:
    assert decoded(text.encode("cp1252")) == text


def test_what_was_pasted_into_utf8_spoils_nothing_else() -> None:
    assert decoded("Die größere Öl-Pumpe: ".encode() + "süß".encode("cp1252")) == "Die größere Öl-Pumpe: süß"
    text = "水泵的维护。" * 20
    assert decoded(text.encode() + b"\xff\xfe" + text.encode()) == f"{text}ÿþ{text}"


@pytest.mark.parametrize("unit", ["ж".encode() * 1000, b"a" * 1000 + "😀".encode(), "ж".encode() + b"\xff"])
def test_one_strange_byte_takes_no_multiple_of_the_memory(unit: bytes) -> None:
    """Text is decoded outside of the walls of extraction."""
    data = unit * (200_000 // len(unit)) + b"\xff"
    decoded(data[:10_000])  # what is loaded once counts not
    tracemalloc.start()
    try:
        decoded(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * len(data)  # a character takes four bytes, and there are two such texts at a time


@given(st.binary(max_size=200))
def test_any_bytes_are_some_text(data: bytes) -> None:
    assert isinstance(decoded(data), str)


@pytest.mark.parametrize(
    ("data", "declared", "text"),
    [
        ("Grüße".encode(), "latin-1", "Grüße"),  # what is valid UTF-8 is no accident
        ("“Grüße”".encode("cp1252"), "ISO-8859-1", "“Grüße”"),
        ("Привет".encode("koi8-r"), "koi8-r", "Привет"),
        ("“Grüße”".encode("cp1252"), "no such thing", "“Grüße”"),
        ("Grüße".encode("utf-16"), "utf-8", "Grüße"),
    ],
)
def test_encodings(data: bytes, declared: str, text: str) -> None:
    assert decoded(data, declared) == text


@pytest.mark.parametrize("name", ["", "zip", "rot13", "hex", "idna", "undefined", "unicode_escape", "x\0y", "\ud800"])
def test_what_is_no_encoding_of_text(name: str) -> None:
    assert known_charset(name) == ""
