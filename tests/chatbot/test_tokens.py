import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.tokens import estimate

# Text, and the tokens that SmolLM2's, Qwen 2's, Llama 3's and Gemma's tokenizers make of it.
MEASURED = {
    "english": (
        (
            "The maintainer must be specified in the Maintainer control field with their correct name and a working "
            "email address. If one person or team maintains several packages, they should use the same form of "
            "their name."
        ),
        (41, 41, 41, 41),
    ),
    "python": (
        (
            "def fuse(rankings, *, k=60):\n    scores = {}\n    for ranking in rankings:\n"
            "        for rank, key in enumerate(ranking, start=1):\n"
            "            scores[key] = scores.get(key, 0.0) + 1 / (k + rank)\n"
            "    return sorted(scores.items(), key=lambda item: -item[1])\n"
        ),
        (81, 73, 72, 86),
    ),
    "json": ('{"id": "8f14e45f-ceea-467f-a8d9-6b3f0c1d2e4a", "score": 0.8125, "page": 217}', (58, 56, 48, 58)),
    "table": ("| 1.25 | 310.07 | 42 |\n| 9.99 | 0.50 | 1234567 |", (42, 41, 30, 42)),
    "russian": (
        "Система отвечает только на основе загруженных документов и указывает источник каждого утверждения.",
        (72, 24, 22, 16),
    ),
    "arabic": ("يجيب النظام اعتمادا على المستندات المحملة فقط ويذكر مصدر كل معلومة.", (62, 23, 21, 20)),
    "chinese": (
        "系统只根据上传的文档回答问题，并注明每个说法的来源。如果文档中没有答案，它会如实说明。",
        (76, 26, 30, 28),
    ),
    "japanese": ("アップロードされた文書だけに基づいて回答し、それぞれの出典を示します。", (57, 20, 23, 14)),
    "korean": ("업로드된 문서만을 근거로 답변하고 각 진술의 출처를 표시합니다.", (76, 25, 21, 20)),
    "french": (
        "Le système répond uniquement à partir des documents téléversés et cite la source de chaque affirmation.",
        (29, 20, 20, 19),
    ),
    "base64": (
        "R29vZCBkYXkgdG8geW91LCByZWFkZXIgb2YgdGVzdHMhIEhvdyBhcmUgeW91IGRvaW5nPyBXZWxsLg==",
        (65, 56, 52, 53),
    ),
}


@pytest.mark.parametrize("name", MEASURED)
def test_never_below_what_tokenizers_count(name: str) -> None:
    text, counts = MEASURED[name]
    assert estimate(text) >= max(counts)


@pytest.mark.parametrize("name", ["english", "python", "json", "table"])
def test_not_far_above_in_english_and_code(name: str) -> None:
    text, counts = MEASURED[name]
    assert estimate(text) <= 1.4 * max(counts)


def test_nothing_is_no_token() -> None:
    assert estimate("") == 0


@given(st.text(min_size=1))
def test_something_is_at_least_a_token(text: str) -> None:
    assert estimate(text) >= 1


@given(st.text(), st.text())
def test_pieces_add_up_to_their_whole(left: str, right: str) -> None:
    assert estimate(left + right) <= estimate(left) + estimate(right) + 45


@given(st.text(max_size=80), st.integers(2, 30))
def test_repeating_a_text_costs_about_its_multiple(text: str, times: int) -> None:
    line = f"{text}\n"
    assert estimate(line * times) <= times * (estimate(line) + 2)
    assert estimate(line * times) >= times * (estimate(line) - 2)
