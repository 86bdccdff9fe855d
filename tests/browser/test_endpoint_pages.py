"""The pages of an endpoint in Chromium: the form that explains each protocol, and its dialogs on real servers."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator

import pytest
from django.urls import reverse
from playwright.sync_api import Browser, Page

from tests import factories
from tests.browser.conftest import SCREENSHOTS, open_page, session_of
from tests.browser.test_admin_pages import inspect, look
from tests.fakes.dialects import VLLM
from tests.fakes.inference import FakeInference

HERE = SCREENSHOTS / "endpoints"


@pytest.fixture
def vllm() -> Iterator[str]:
    """The address of a vLLM whose context is shorter than most rows say; it serves from a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    fake = FakeInference(dialect=VLLM("meta-llama/Llama-3.1-8B-Instruct"))
    asyncio.run_coroutine_threadsafe(fake.__aenter__(), loop).result()
    yield fake.base_url
    asyncio.run_coroutine_threadsafe(fake.__aexit__(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def dialog(page: Page, name: str) -> None:
    """Open one of the page's dialogs and press its button. On a narrow screen the actions are in a menu."""
    page.set_viewport_size({"width": 1280, "height": 900})
    page.get_by_role("link", name=name).click()
    page.get_by_role("button", name=re.compile("^(Test now|Take it over|Wake it up)$")).click()


def test_an_endpoint_is_set_up_with_what_its_server_says(
    database: None, web: str, vllm: str, request: pytest.FixtureRequest
) -> None:
    model = "meta-llama/Llama-3.1-8B-Instruct"
    right = factories.make_endpoint(vllm, protocol="vllm", name="Main chat", model=model, api_key="sk-1")
    wrong = factories.make_endpoint(vllm, protocol="tgi-generate", name="Old chat", model=model)
    unknown = factories.make_endpoint(vllm, protocol="vllm", name="Typo", model="meta-llama/Lama-3")
    asleep = factories.make_endpoint("https://abc.endpoints.huggingface.cloud", protocol="hf", name="Sleeper")
    session = session_of(factories.make_user("operator@example.com", is_superuser=True))

    def page_of(pk: object) -> str:
        return reverse("admin:inference_endpoint_change", args=(pk,))

    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, web, session)
    assert not look(page, watch, reverse("admin:inference_endpoint_add"), "add", HERE)
    assert not look(page, watch, reverse("admin:inference_endpoint_changelist"), "list", HERE)
    assert not look(page, watch, page_of(right.pk), "form", HERE)
    dialog(page, "Test now")
    page.get_by_text("The context length is 8192 here, but the server takes 4096 tokens.").wait_for()
    assert not inspect(page, watch, "too-long", HERE)
    page.goto(page_of(right.pk))
    dialog(page, "Use what the server says")
    page.get_by_text("4,096 tokens").wait_for()
    assert not inspect(page, watch, "adopted", HERE)
    page.goto(page_of(right.pk))
    assert page.locator("#id_context_length").input_value() == "4096"
    dialog(page, "Test now")
    page.get_by_text("Main chat works.").wait_for()
    assert not inspect(page, watch, "works", HERE)
    page.goto(page_of(wrong.pk))
    dialog(page, "Test now")
    page.get_by_text("Choose “vLLM”").wait_for()
    assert not inspect(page, watch, "wrong-protocol", HERE)
    page.goto(page_of(unknown.pk))
    dialog(page, "Test now")
    page.get_by_text("The server has no model").wait_for()
    assert not inspect(page, watch, "unknown-model", HERE)
    page.goto(page_of(asleep.pk))
    dialog(page, "Wake it up")
    page.get_by_text("asks for a token").wait_for()
    assert not inspect(page, watch, "wake-up", HERE)


def test_a_private_address_is_refused_with_the_way_to_allow_it(
    database: None, web: str, request: pytest.FixtureRequest
) -> None:
    session = session_of(factories.make_user("operator@example.com", is_superuser=True))
    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, web, session)
    page.goto(reverse("admin:inference_endpoint_add"))
    page.locator("#id_name").fill("Inside")
    page.locator("#id_base_url").fill("http://10.0.0.7:8080")
    page.locator("#id_model").fill("m")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("PARLEY_PRIVATE_ENDPOINT_HOSTS").wait_for()
    assert not inspect(page, watch, "private", HERE)
