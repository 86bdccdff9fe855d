"""Posted forms reach Django as they are: the server beneath it neither parses them nor refuses any by itself."""

from __future__ import annotations

import httpx
import pytest

from tests.journeys.conftest import World, web_process

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
def test_a_malformed_form_is_refused_in_our_words(world: World, server: str) -> None:
    headers = {"Authorization": f"Bearer {world.key}", "Content-Type": "multipart/form-data; boundary=b"}
    with web_process(server) as address:
        for body in (
            b"--b--\r\n",
            b"--b\r\nnonsense",
            b'--b\r\nContent-Disposition: form-data; name="collection"\r\n\r\nx',
        ):
            refused = httpx.post(f"{address}/api/v1/documents", headers=headers, content=body)
            assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request"), body
            assert refused.json()["request_id"] == refused.headers["X-Request-Id"]
        form = {"collection": (None, "manuals"), "file": ("hours.md", b"Monday to Friday, 8 to 17.")}
        taken = httpx.post(
            f"{address}/api/v1/documents", headers={"Authorization": headers["Authorization"]}, files=form
        )
        assert taken.status_code in {200, 202}, taken.text
