"""The fields in which clients read where they stand."""

from __future__ import annotations

import pytest
from django.http import HttpResponse

from apps.edge.errors import headers_of, openai_error
from apps.edge.ratelimit_headers import Limit, add, render, render_openai
from chatbot.errors import RateLimited

ADDRESS = Limit("address", quota=100, window=60.0, remaining=50, reset=29.2)
KEY = Limit("credential", quota=20, window=0.4, remaining=3, reset=0.0)
TOKENS = Limit("tokens-a-day", quota=100_000, window=86_400, remaining=-5, reset=3_600, unit="tokens")


def test_each_limit_is_an_item() -> None:
    assert render([ADDRESS, KEY, TOKENS]) == {
        "RateLimit-Policy": '"address";q=100;w=60, "credential";q=20;w=1, "tokens-a-day";q=100000;qu="tokens";w=86400',
        "RateLimit": '"address";r=50;t=30, "credential";r=3;t=0, "tokens-a-day";r=0;t=3600',
    }


def test_without_limits_nothing_is_told() -> None:
    response = HttpResponse()
    add(response, [], path="/v1/models")
    assert (render([]), render_openai([])) == ({}, {})
    assert not {name.lower() for name in response.headers} & {"ratelimit", "ratelimit-policy"}


def test_openai_learns_of_the_limit_with_the_least_left_of_each_unit() -> None:
    assert render_openai([ADDRESS, KEY, TOKENS]) == {
        "x-ratelimit-limit-requests": "20",
        "x-ratelimit-remaining-requests": "3",
        "x-ratelimit-reset-requests": "0s",
        "x-ratelimit-limit-tokens": "100000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1h0m0s",
    }


def test_several_tell_of_theirs_in_one_response() -> None:
    response = HttpResponse()
    add(response, [KEY], path="/v1/models")
    add(response, [ADDRESS], path="/v1/models")
    assert response["RateLimit"] == '"credential";r=3;t=0, "address";r=50;t=30'
    assert response["RateLimit-Policy"] == '"credential";q=20;w=1, "address";q=100;w=60'
    assert response["x-ratelimit-remaining-requests"] == "3"
    add(response, [Limit("quota", 5, 60, 1, 12)], path="/v1/models")
    assert [response[f"x-ratelimit-{what}-requests"] for what in ("limit", "remaining", "reset")] == ["5", "1", "12s"]


def test_elsewhere_openais_own_are_not_told() -> None:
    response = HttpResponse()
    add(response, [KEY], path="/api/v1/conversations")
    assert "x-ratelimit-limit-requests" not in response


def test_a_limit_that_was_reached_is_told_in_whole_numbers() -> None:
    assert TOKENS.told() == {"name": "tokens-a-day", "limit": 100_000, "remaining": 0, "reset": 3_600}


@pytest.mark.parametrize(("wait", "told"), [(0.0, "1"), (0.4, "1"), (1.0, "1"), (1.4, "2"), (29.2, "30")])
def test_who_waits_as_told_comes_in_time(wait: float, told: str) -> None:
    assert headers_of(RateLimited(retry_after=wait))["Retry-After"] == told
    assert openai_error({"message": "", "retry_after": wait}, 429)["Retry-After"] == told
