"""A client that invents its own address gets no second chance: guessing passwords ends all the same."""

from __future__ import annotations

import pytest
from django.conf import settings as django_settings
from django.test import Client

from tests import factories
from tests.environment import Backends

pytestmark = pytest.mark.django_db
HEADERS = ("X-Forwarded-For", "X-Real-Ip", "Forwarded", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip")
ALICE, BOB = "alice@acme.example", "bob@acme.example"


def login(name: str, password: str, **headers: str) -> int:
    """200: the form again. 302: logged in. 429: locked."""
    form = {"username": name, "password": password}
    return Client(headers=headers).post("/admin/login/?next=/admin/", form).status_code


@pytest.fixture(autouse=True)
def people(servers: Backends) -> None:
    servers.empty_redis()  # which counts what came from this address
    factories.make_user(ALICE)
    factories.make_user(BOB)


def guess(times: int, *names: str, header: str = "X-Forwarded-For") -> None:
    for n in range(times):
        login(names[n % len(names)], "wrong", **{header: f"192.0.2.{n}"})


@pytest.mark.parametrize("header", HEADERS)
def test_guesses_are_counted_together(header: str) -> None:
    guess(django_settings.AXES_FAILURE_LIMIT, ALICE, header=header)
    # A locked account does not open to the right guess either.
    assert login(ALICE, factories.PASSWORD, **{header: "198.51.100.1"}) == 429
    assert login(ALICE, factories.PASSWORD) == 429


def test_another_spelling_is_the_same_account() -> None:
    guess(django_settings.AXES_FAILURE_LIMIT, ALICE, ALICE.upper(), "Alice@acme.example", f" {ALICE} ")
    for name in (ALICE, "aLICE@acme.example"):
        assert login(name, factories.PASSWORD) == 429


def test_one_accounts_lock_shuts_out_nobody_else() -> None:
    guess(django_settings.AXES_FAILURE_LIMIT, ALICE)
    assert login(BOB, factories.PASSWORD) == 302


def test_a_good_password_opens_before_that() -> None:
    guess(django_settings.AXES_FAILURE_LIMIT - 1, ALICE)
    assert login(ALICE, factories.PASSWORD) == 302
