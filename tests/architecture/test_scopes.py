"""Every door says what it asks of a caller, and one that says nothing lets nobody in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from rest_framework.views import APIView

from apps.access.authentication import Caller
from apps.access.doors import Guarded
from apps.conversations.consumers import ChatConsumer
from apps.conversations.visitors_api import PageVisitors
from apps.tenants import rights
from apps.tenants.models import Tenant
from apps.widget.api import WidgetSettings
from chatbot.errors import NotPermitted
from tests.architecture.test_routes import OURS

DOORS = {route: pattern.callback.cls for route, pattern in OURS.items() if re.match(r"(api/)?v1/", route)}  # type: ignore[attr-defined]
ORIGIN_ALONE = {PageVisitors, WidgetSettings}  # ask for no credential


@pytest.mark.parametrize("route", sorted(DOORS))
def test_every_method_declares_its_scope(route: str) -> None:
    door: Any = DOORS[route]
    assert issubclass(door, Guarded)
    if door not in ORIGIN_ALONE:
        assert set(door.scopes) == set(door.answered())
        assert set(door.scopes.values()) <= rights.ALL


def test_nothing_else_speaks_for_a_tenant() -> None:
    """Outside these addresses no view of the REST framework authenticates anybody."""
    others = [getattr(pattern.callback, "cls", None) for route, pattern in OURS.items() if route not in DOORS]
    views: list[Any] = [view for view in others if isinstance(view, type) and issubclass(view, APIView)]
    assert not any(view.authentication_classes for view in views)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", ""])
def test_what_declares_nothing_lets_nobody_in(method: str) -> None:
    class Forgotten(Guarded):
        pass

    with pytest.raises(NotPermitted):
        Forgotten.admit(Caller(tenant=Tenant(), scopes=rights.ALL), method)


def test_every_frame_declares_its_scope() -> None:
    documented = set(re.findall(r"^### (\w+)$", Path("docs/websocket.md").read_text("utf-8"), re.MULTILINE))
    assert set(ChatConsumer.scopes.values()) <= rights.ALL
    assert set(ChatConsumer.scopes) == {"ask", "regenerate", "continue", "stop", "resume"}
    assert set(ChatConsumer.scopes) <= documented
