"""The endpoint board: each model server, as all processes together see it, and what operators can do about one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib import messages
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from redis.exceptions import RedisError

from apps.inference import board, gateway
from apps.inference.board import Server
from apps.inference.models import Endpoint
from apps.inference.probe import probe, remember
from apps.tenants import audit
from apps.tenants.admin_words import NOTHING, duration

VARIANTS = {"closed": "success", "half-open": "warning", "open": "danger"}
WORDS = {"closed": "Asked", "half-open": "Being tried", "open": "Not asked"}
URL = "admin:inference_board"
MINUTES_FROM = 120  # seconds


@dataclass(frozen=True, slots=True)
class Line:
    """A server in words. variant: of its state's label."""

    server: Server
    state: str
    variant: str
    first_token: str
    between: str
    speed: str
    errors: str
    failure: str
    load: str


@dataclass(frozen=True, slots=True)
class Group:
    endpoint: Endpoint
    lines: list[Line]


def board_page(admin: Any, request: HttpRequest) -> HttpResponse:
    """The page; with `part` in the URL only what it shows of the servers, for the page to renew itself."""
    if not admin.has_view_permission(request):
        raise PermissionDenied
    if request.method == "POST":
        return _act(admin, request)
    try:
        processes, servers = async_to_sync(board.seen)()
    except (RedisError, OSError):
        processes, servers = 0, []
    context = {
        "groups": _groups(servers),
        "processes": processes,
        "changes": admin.has_change_permission(request),
    }
    if "part" in request.GET:
        return TemplateResponse(request, "admin/inference/board_part.html", context)
    context |= {**admin.admin_site.each_context(request), "title": "Endpoint board"}
    return TemplateResponse(request, "admin/inference/board.html", context)


def _act(admin: Any, request: HttpRequest) -> HttpResponse:
    """Test an endpoint, or drain it, take it in again, or reset the breakers of its servers, in every process."""
    if not admin.has_change_permission(request):
        raise PermissionDenied
    endpoint = admin.row(request, request.POST.get("endpoint", ""))
    match request.POST.get("deed"):
        case "test":
            _test(request, endpoint)
        case "drain" | "take_in" as deed:
            _drain(request, endpoint, *_DRAINING[deed])
        case "reset":
            audit.record(None, "endpoint.reset", audit.actor_of(request), endpoint)
            gateway.reset(str(endpoint.pk))
            messages.success(request, f"Every process asks {endpoint.name} again, whatever failed before.")
        case _:
            raise BadRequest
    return HttpResponseRedirect(reverse(URL))


def _test(request: HttpRequest, endpoint: Endpoint) -> None:
    result = async_to_sync(probe)(endpoint)
    remember(endpoint, result)
    if result.error:
        messages.error(request, f"{endpoint.name} is not right. {result.error}")
    else:
        words = f"{endpoint.name} works. It answered within {duration(result.total_ms)}. {result.advice}"
        messages.success(request, words.strip())


def _drain(request: HttpRequest, endpoint: Endpoint, draining: bool, action: str, said: str) -> None:
    with transaction.atomic():
        endpoint.draining = draining
        endpoint.save(update_fields=["draining"])
        audit.record(None, action, audit.actor_of(request), endpoint)
        gateway.changed()
    messages.success(request, said.format(endpoint.name))


_DRAINING = {
    "drain": (True, "endpoint.drained", "{} takes no new questions, and ends those that it has."),
    "take_in": (False, "endpoint.taken_in", "{} is asked again."),
}


def _groups(servers: list[Server]) -> list[Group]:
    by_endpoint: dict[str, list[Line]] = {}
    for server in servers:
        by_endpoint.setdefault(server.endpoint, []).append(_line(server))
    rows = Endpoint.objects.order_by("kind", "tier", "name")
    return [Group(row, by_endpoint.get(str(row.pk), [])) for row in rows]


def _line(server: Server) -> Line:
    return Line(
        server=server,
        state=_state(server),
        variant=VARIANTS[server.state],
        first_token=_pair(server.first_token_p50, server.first_token_p95),
        between=_pair(server.between_p50, server.between_p95),
        speed=f"{server.tokens_per_second:,.0f}",
        errors=f"{server.error_rate:.0%}",
        failure=_failure(server),
        load=_load(server),
    )


def _state(server: Server) -> str:
    word = WORDS[server.state]
    if server.state == "open" and server.reopens_in is not None:
        return f"{word}, tried in {max(0, server.reopens_in):.0f} s"
    return word


def _pair(middle: float | None, high: float | None) -> str:
    if middle is None or high is None:
        return NOTHING
    return f"{duration(1000 * middle)}, {duration(1000 * high)}"


def _failure(server: Server) -> str:
    if server.last_failure_ago is None:
        return ""
    seconds = server.last_failure_ago
    ago = f"{seconds:.0f} s" if seconds < MINUTES_FROM else f"{seconds / 60:.0f} min"
    return f"{server.last_failure} That was {ago} ago."


def _load(server: Server) -> str:
    """What the server tells of itself, in words; "" where it tells nothing."""
    told = server.load or {}
    words = []
    if (running := told.get("running")) is not None:
        words.append(f"{running:.0f} in work")
    if (waiting := told.get("waiting")) is not None:
        words.append(f"{waiting:.0f} in line")
    if (cache := told.get("cache")) is not None:
        words.append(f"cache {cache:.0%} full")
    return ", ".join(words)
