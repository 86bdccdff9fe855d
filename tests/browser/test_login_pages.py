"""Logins in Chromium: second factors, and passkeys on a simulated device; pictures are in var/screenshots/people/."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from playwright.sync_api import Browser, Page

from apps.tenants.models import Membership, User
from tests import factories
from tests.apps.access.logging_in import code_of
from tests.browser.conftest import SCREENSHOTS, open_page
from tests.browser.test_admin_pages import inspect, look
from tests.conftest import serving

PICTURES = SCREENSHOTS / "people"


@pytest.fixture
def place(servers: Any) -> Iterator[str]:
    """A web process with a name, as passkeys want it, where operators need a second factor."""
    with serving("localhost", PARLEY_REQUIRE_SECOND_FACTOR="operators") as address:
        yield address


def with_password(user: User) -> User:
    """One that the web process can check: it hashes in another way than tests do."""
    user.password = PBKDF2PasswordHasher().encode(factories.PASSWORD, "salt", iterations=1)
    user.save()
    return user


def with_device(page: Page) -> None:
    """One with a fingerprint reader that always agrees."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    device = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
    options = {**device, "isUserVerified": True, "automaticPresenceSimulation": True}
    session.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def log_in(page: Page, user: User) -> None:
    page.goto("/admin/login/")
    page.locator("#id_username").fill(user.email)
    page.locator("#id_password").fill(factories.PASSWORD)
    page.get_by_role("button", name="Log in").click()


def test_a_passkey_is_made_and_opens_the_admin_without_a_password(
    database: None, place: str, request: pytest.FixtureRequest
) -> None:
    operator = with_password(factories.make_user("operator@example.com", is_superuser=True))
    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, place)
    with_device(page)
    log_in(page, operator)
    page.get_by_text("a password alone is not enough").wait_for()
    assert not inspect(page, watch, "second-factor-set-up", PICTURES)
    page.get_by_role("link", name="A passkey").click()
    page.get_by_label("Name").fill("My laptop")
    assert not inspect(page, watch, "passkey-add", PICTURES)
    page.get_by_role("button", name="Make a passkey").click()
    page.get_by_text("they are not shown again").wait_for()
    assert not inspect(page, watch, "recovery-codes", PICTURES)
    page.get_by_role("link", name="I have stored them").click()
    page.wait_for_url("**/admin/")
    assert not look(page, watch, "/admin/security/", "security", PICTURES)
    page.get_by_text("My laptop").wait_for()

    page.context.clear_cookies()
    assert not look(page, watch, "/admin/login/?next=/admin/security/", "login-with-passkey", PICTURES)
    page.get_by_role("button", name="Use a passkey").click()
    page.get_by_text("My laptop").wait_for()  # where one wanted to go, with nothing more asked

    page.context.clear_cookies()
    log_in(page, operator)
    page.get_by_text("protected by a passkey").wait_for()
    assert not inspect(page, watch, "second-step-passkey", PICTURES)
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url("**/admin/")


def test_an_app_is_set_up_and_its_code_is_asked_for(database: None, place: str, request: pytest.FixtureRequest) -> None:
    acme = factories.make_tenant("acme")
    alice = with_password(factories.make_member(tenant=acme, email="alice@example.com", role=Membership.Role.OWNER))
    browser: Browser = request.getfixturevalue("browser")
    page, watch = open_page(browser, place)
    log_in(page, alice)
    page.wait_for_url("**/admin/")
    page.goto("/admin/security/")
    page.get_by_role("link", name="Set up").click()
    secret = page.locator("#secret").inner_text()
    assert not inspect(page, watch, "app-add", PICTURES)
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Switch it on").click()
    page.get_by_text("Incorrect code").wait_for()
    page.get_by_label("Code").fill(code_of(secret))
    page.get_by_role("button", name="Switch it on").click()
    page.get_by_role("link", name="I have stored them").click()

    page.context.clear_cookies()
    log_in(page, alice)
    page.get_by_text("protected by a second factor").wait_for()
    assert not inspect(page, watch, "second-step-code", PICTURES)
    page.get_by_label("Code").fill(code_of(secret, steps=1))  # the one before was used
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/admin/")

    page.goto("/admin/tenants/invitation/add/")
    page.get_by_label("E-mail").fill("dave@example.com")
    page.get_by_role("button", name="Save").first.click()
    link = page.locator("#key").inner_text()
    assert not inspect(page, watch, "invitation-made", PICTURES)
    assert not look(page, watch, "/admin/tenants/invitation/", "invitations", PICTURES)
    page.context.clear_cookies()
    assert not look(page, watch, link, "invitation-opened", PICTURES)
    page.get_by_role("link", name="Make an account").click()
    assert not inspect(page, watch, "invitation-account", PICTURES)
    page.locator("#id_password1").fill(factories.PASSWORD)
    page.locator("#id_password2").fill(factories.PASSWORD)
    page.get_by_role("button", name="Make the account").click()
    page.get_by_role("button", name="Accept").click()
    page.wait_for_url("**/admin/")
    page.goto(link)
    page.get_by_text("It may have been used").wait_for()
    watch.complaints.clear()  # of a page that is a 404
    assert not inspect(page, watch, "invitation-dead", PICTURES)
