"""Origins as people write them become what browsers send, or are refused."""

from __future__ import annotations

import pytest

from apps.edge.origins import origin_in
from chatbot.errors import InvalidRequest


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://shop.example", "https://shop.example"),
        ("https://shop.example/", "https://shop.example"),
        ("HTTPS://Shop.Example:443", "https://shop.example"),
        ("https://shop.example:8443", "https://shop.example:8443"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("https://203.0.113.7", "https://203.0.113.7"),
        ("https://[2001:DB8:0::1]:444", "https://[2001:db8::1]:444"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[::1]:5173", "http://[::1]:5173"),
    ],
)
def test_an_origin_has_one_form(written: str, sent: str) -> None:
    assert origin_in(written) == sent
    assert origin_in(sent) == sent


@pytest.mark.parametrize(
    "text",
    ["", "null", "*", "shop.example", "//shop.example", "http://shop.example", "https://", "https://*.example",
     "https://shop.example/path", "https://shop.example?x", "https://shop.example#", "https://shop.example//",
     "https://a@shop.example", "https://shop.example:x", "https://shop.example:99999", "https://shop.example:-1",
     "https://bücher.example", "https://shop example", "https://shop.example\n", "https:\\\\shop.example",
     "https://[::1", "https://[x]", "https://.example", "https://shop.example.", "file://", "javascript:alert(1)",
     "https://" + "a." * 120 + "example", "http://localhost.evil.example", "https://shop.example\0"],
)  # fmt: skip
def test_what_no_browser_sends_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        origin_in(text)
