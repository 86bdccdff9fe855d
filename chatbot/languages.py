"""Languages: which one a text is in, and by which configuration PostgreSQL makes stems of its words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# By the codes of ISO 639-1: that of ISO 639-3, and the configuration, as PostgreSQL has had them since 14.
_KNOWN: Final = {
    "ar": ("ara", "arabic"),
    "hy": ("hye", "armenian"),
    "eu": ("eus", "basque"),
    "ca": ("cat", "catalan"),
    "da": ("dan", "danish"),
    "nl": ("nld", "dutch"),
    "en": ("eng", "english"),
    "fi": ("fin", "finnish"),
    "fr": ("fra", "french"),
    "de": ("deu", "german"),
    "el": ("ell", "greek"),
    "hi": ("hin", "hindi"),
    "hu": ("hun", "hungarian"),
    "id": ("ind", "indonesian"),
    "ga": ("gle", "irish"),
    "it": ("ita", "italian"),
    "lt": ("lit", "lithuanian"),
    "ne": ("nep", "nepali"),
    "no": ("nob", "norwegian"),
    "pt": ("por", "portuguese"),
    "ro": ("ron", "romanian"),
    "ru": ("rus", "russian"),
    "sr": ("srp", "serbian"),
    "es": ("spa", "spanish"),
    "sv": ("swe", "swedish"),
    "ta": ("tam", "tamil"),
    "tr": ("tur", "turkish"),
    "yi": ("yid", "yiddish"),
}
OTHER: Final = "other"  # one of which PostgreSQL knows no stems
LANGUAGES: Final = (*_KNOWN, OTHER)
PLAIN: Final = "simple"  # the configuration that leaves words as they are
_BY_LONG_CODE = {long: code for code, (long, _) in _KNOWN.items()}

# Enough to tell a language by, from all over the text: its beginning may be a title page or a table of contents.
SAMPLES, SAMPLE_CHARS = 20, 300
# Of a detector that says 1 where it is certain. Higher, short texts are in no language; lower, in any.
_CONFIDENCE = 0.2


def stemming(language: str) -> str:
    """The configuration for one of LANGUAGES."""
    return _KNOWN[language][1] if language in _KNOWN else PLAIN


def long_code(language: str) -> str:
    """As ISO 639-3 has it; empty for none and for another."""
    return _KNOWN[language][0] if language in _KNOWN else ""


def name(language: str) -> str:
    """For people."""
    return _KNOWN[language][1].title() if language in _KNOWN else "Another"


def detect(passages: Sequence[str]) -> str:
    """Which of LANGUAGES a text is in, by its passages; OTHER also where that is not certain."""
    # Only workers ask, and it takes 25 MiB.
    from kreuzberg import (  # noqa: PLC0415
        ExtractionConfig,
        LanguageDetectionConfig,
        extract_bytes_sync,
    )

    step = max(1, len(passages) // SAMPLES)
    sample = "\n".join(passage[:SAMPLE_CHARS] for passage in passages[::step])
    detecting = LanguageDetectionConfig(enabled=True, min_confidence=_CONFIDENCE, detect_multiple=False)
    config = ExtractionConfig(use_cache=False, language_detection=detecting)
    found = extract_bytes_sync(sample.encode(errors="replace"), "text/plain", config=config).detected_languages
    return _BY_LONG_CODE.get(found[0], OTHER) if found else OTHER
