"""The pages of a forgotten password in Chromium, wide and narrow; the pictures are in var/screenshots/."""

from __future__ import annotations

from django.contrib.auth.tokens import default_token_generator
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from playwright.sync_api import Browser

from apps.tenants.models import User
from tests import factories
from tests.browser.conftest import SCREENSHOTS, open_page
from tests.browser.test_admin_pages import inspect, look

PICTURES = SCREENSHOTS / "people"


def link_for(user: User) -> str:
    place = {"uidb64": urlsafe_base64_encode(force_bytes(user.pk)), "token": default_token_generator.make_token(user)}
    return reverse("password_reset_confirm", kwargs=place)


def test_a_forgotten_password_is_replaced(database: None, web: str, request: object) -> None:
    link = link_for(factories.make_user("alice@example.com"))
    browser: Browser = request.getfixturevalue("browser")  # type: ignore[attr-defined]  # after the rows
    page, watch = open_page(browser, web)
    assert not look(page, watch, reverse("admin:login"), "login-with-reset", PICTURES)
    page.get_by_role("link", name="Forgotten your password").click()
    assert not inspect(page, watch, "password-forgotten", PICTURES)
    page.get_by_label("E-mail").fill("alice@example.com")
    page.get_by_role("button", name="Send the link").click()
    page.get_by_text("a link is on its way").wait_for()
    assert not inspect(page, watch, "password-sent", PICTURES)
    assert not look(page, watch, link, "password-choose", PICTURES)
    page.locator("#id_new_password1").fill("a new horse, a new battery")
    page.locator("#id_new_password2").fill("another horse")
    page.get_by_role("button", name="Set the password").click()
    assert not inspect(page, watch, "password-refused", PICTURES)
    for number in (1, 2):
        page.locator(f"#id_new_password{number}").fill("a new horse, a new battery")
    page.get_by_role("button", name="Set the password").click()
    page.get_by_text("Your password is set").wait_for()
    assert not inspect(page, watch, "password-chosen", PICTURES)
    assert not look(page, watch, link, "password-link-used", PICTURES)
