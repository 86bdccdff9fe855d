"""Pictures of Chinese, Japanese and Arabic: the words that people would look for are recognised."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from chatbot.extraction import extract
from chatbot.formats import PNG
from chatbot.recognition import RAPIDOCR, TESSERACT, Recognition, tesseract_library

FONTS = Path("/usr/share/fonts")
LANGUAGES = Path("/usr/share/tesseract-ocr/5/tessdata")
HAN, ARABIC = "truetype/wqy/wqy-microhei.ttc", "opentype/fonts-hosny-amiri/Amiri-Regular.ttf"
PACKAGES = {HAN: "fonts-wqy-microhei", ARABIC: "fonts-hosny-amiri"}


@dataclass(frozen=True)
class Script:
    """language: Tesseract's, which in its package's name has a hyphen. words: of the lines, those to be found."""

    language: str
    font: str
    lines: tuple[str, ...]
    words: tuple[str, ...]

    def needed(self, *, by_tesseract: bool) -> None:
        wanted = {PACKAGES[self.font]: FONTS / self.font}
        if by_tesseract:
            wanted[f"tesseract-ocr-{self.language.replace('_', '-')}"] = LANGUAGES / f"{self.language}.traineddata"
            if not tesseract_library():
                pytest.skip("Tesseract is not installed: apt-get install tesseract-ocr")
        for package, file in wanted.items():
            if not file.exists():
                pytest.skip(f"{file.name} is not installed: apt-get install {package}")

    def drawn(self, path: Path) -> Path:
        image = Image.new("RGB", (1200, 100 + 90 * len(self.lines)), "white")
        draw, font = ImageDraw.Draw(image), ImageFont.truetype(str(FONTS / self.font), 44)
        for place, line in enumerate(self.lines):
            if self.font == ARABIC:
                draw.text((1140, 40 + 90 * place), line, fill="black", font=font, anchor="ra", direction="rtl")
            else:
                draw.text((40, 40 + 90 * place), line, fill="black", font=font)
        image.save(path, "PNG")
        return path


CHINESE = Script(
    "chi_sim", HAN, ("请先关闭阀门，然后更换水泵。", "每年检查一次压力表。"), ("阀门", "更换水泵", "压力表")
)
JAPANESE = Script(
    "jpn",
    HAN,
    ("ポンプを交換してください。", "圧力計は毎年点検します。"),
    ("交換してください", "圧力計", "毎年点検します"),
)
ARABIC_TEXT = Script("ara", ARABIC, ("أغلق الصمام ثم استبدل المضخة.",), ("أغلق الصمام", "استبدل المضخة"))


def read(script: Script, directory: Path, recognition: Recognition) -> str:
    return extract(script.drawn(directory / "file"), PNG, recognition=recognition).pages[0].text


def found(script: Script, text: str) -> list[str]:
    return [word for word in script.words if word in text]


@pytest.mark.parametrize("script", [CHINESE, JAPANESE], ids=lambda script: script.language)
def test_rapidocr_knows_it(tmp_path: Path, script: Script) -> None:
    script.needed(by_tesseract=False)
    assert found(script, read(script, tmp_path, Recognition(RAPIDOCR))) == list(script.words)


@pytest.mark.parametrize("script", [CHINESE, JAPANESE, ARABIC_TEXT], ids=lambda script: script.language)
def test_tesseract_knows_it_where_operators_name_it(tmp_path: Path, script: Script) -> None:
    script.needed(by_tesseract=True)
    assert found(script, read(script, tmp_path, Recognition(TESSERACT, (script.language,)))) == list(script.words)


@pytest.mark.parametrize("script", [CHINESE, JAPANESE], ids=lambda script: script.language)
def test_tesseract_puts_no_spaces_into_it_among_other_languages(tmp_path: Path, script: Script) -> None:
    script.needed(by_tesseract=True)
    text = read(script, tmp_path, Recognition(TESSERACT, ("eng", script.language)))
    assert found(script, text) == list(script.words)


def test_a_told_language_is_looked_for_alone(tmp_path: Path) -> None:
    ARABIC_TEXT.needed(by_tesseract=True)
    told = read(ARABIC_TEXT, tmp_path, Recognition(TESSERACT, ("eng",), "ar"))
    assert found(ARABIC_TEXT, told) == list(ARABIC_TEXT.words)


def test_a_told_language_that_is_not_installed_leaves_those_that_are(tmp_path: Path) -> None:
    ARABIC_TEXT.needed(by_tesseract=True)
    if (LANGUAGES / "tam.traineddata").exists():
        pytest.skip("Tamil is installed here.")
    text = read(ARABIC_TEXT, tmp_path, Recognition(TESSERACT, ("ara",), "ta"))
    assert found(ARABIC_TEXT, text) == list(ARABIC_TEXT.words)


@pytest.mark.parametrize(("told", "name"), [("ar", "ara"), ("de", "deu"), ("no", "nor"), ("other", ""), ("", "")])
def test_languages_have_the_names_that_tesseract_gives_them(told: str, name: str) -> None:
    assert Recognition(TESSERACT, ("eng", "deu"), told).words() == ("eng+deu", name)
