"""The pages of an endpoint in Chromium: the form that explains each protocol, and its dialogs on real servers."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Browser, Page

from tests import factories
from tests.browser.conftest import SCREENSHOTS, open_page, session_of
from tests.browser.test_admin_pages import inspect, look
from tests.conftest import serving as web_process
from tests.fakes.dialects import VLLM
from tests.fakes.hub import TOKEN, FakeHub, Kept
from tests.fakes.inference import FakeInference

HERE = SCREENSHOTS / "endpoints"


@contextmanager
def serving(fake: Any) -> Iterator[None]:
    """It serves from a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(fake.__aenter__(), loop).result()
    yield
    asyncio.run_coroutine_threadsafe(fake.__aexit__(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def vllm() -> Iterator[str]:
    """The address of a vLLM whose context is shorter than most rows say."""
    fake = FakeInference(dialect=VLLM("meta-llama/Llama-3.1-8B-Instruct"))
    with serving(fake):
        yield fake.base_url


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


def at(hub: FakeHub, folder: Path) -> dict[str, str]:
    """The environment of a process that finds Hugging Face there; one of its addresses is fixed in the library."""
    patch = f"from huggingface_hub import constants\nconstants.INFERENCE_ENDPOINTS_ENDPOINT = {hub.address!r}\n"
    (folder / "sitecustomize.py").write_text(patch)
    return {"HF_ENDPOINT": hub.address, "PYTHONPATH": str(folder)}


def test_an_inference_endpoint_is_found_by_its_token_and_added(
    database: None, vllm: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    session = session_of(factories.make_user("operator@example.com", is_superuser=True))
    model = "meta-llama/Llama-3.1-8B-Instruct"
    hub = FakeHub(
        Kept("alice/chatter", vllm, "running", model),
        Kept("acme/sleeper", "https://k2n8s0abcdef.eu-west-1.aws.endpoints.huggingface.cloud", "scaledToZero", model),
        Kept("acme/paused-since-the-pilot", "https://none.example", "paused", model),
        Kept(
            "acme/painter", "https://p0.us-east-1.aws.endpoints.huggingface.cloud", "running", "org/sd", "text-to-image"
        ),
    )
    with serving(hub), web_process(**at(hub, tmp_path)) as web:
        browser: Browser = request.getfixturevalue("browser")
        page, watch = open_page(browser, web, session)
        page.goto(reverse("admin:inference_endpoint_changelist"))
        page.get_by_role("link", name="From Hugging Face").click()
        field = page.get_by_label("Hugging Face token")
        assert field.get_attribute("type") == "password"
        assert not inspect(page, watch, "hub", HERE)
        field.fill("hf_wrong")
        page.get_by_role("button", name="Show them").click()
        page.get_by_text("does not let this token").wait_for()
        page.get_by_label("Hugging Face token").fill(TOKEN)
        page.get_by_role("button", name="Show them").click()
        page.get_by_text("acme/paused-since-the-pilot").wait_for()
        assert TOKEN not in page.content()
        assert not inspect(page, watch, "hub-list", HERE)
        page.get_by_role("button", name="Add alice/chatter").click()
        page.get_by_text("chatter is added").wait_for()
        assert page.locator("#id_hub_name").input_value() == "alice/chatter"
        assert TOKEN not in page.content() + page.url
