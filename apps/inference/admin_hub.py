"""Operators see the dedicated Inference Endpoints that a Hugging Face token's owner has, and add one by a click.

The token stands in no address, log or session: it comes in a form's body, goes back into the page encrypted and with an
end, for the click that follows, and is stored encrypted in the endpoint that the click adds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import orjson
from asgiref.sync import async_to_sync
from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from apps.edge.encryption import Undecryptable, decrypt, encrypt
from apps.inference import gateway
from apps.inference.models import Endpoint, host_of
from apps.inference.probe import probe, remember
from chatbot.errors import InvalidRequest, NotFound, ParleyError
from chatbot.inference.waking import RUNNING, Dedicated

URL = "admin:inference_hub"
SEALED_SECONDS: Final = 15 * 60
LONGEST_TOKEN: Final = 2000
# What a task at Hugging Face is here. A container of one's own mostly is a chat server.
KINDS: Final = {
    "text-generation": Endpoint.Kind.CHAT,
    "image-text-to-text": Endpoint.Kind.CHAT,
    "custom": Endpoint.Kind.CHAT,
    "feature-extraction": Endpoint.Kind.EMBEDDING,
    "sentence-embeddings": Endpoint.Kind.EMBEDDING,
    "sentence-similarity": Endpoint.Kind.EMBEDDING,
    "sentence-ranking": Endpoint.Kind.RERANK,
    "text-ranking": Endpoint.Kind.RERANK,
}
WORDS: Final = {"scaledToZero": "scaled to zero", "updateFailed": "update failed"}
VARIANTS: Final = {RUNNING: "success", "failed": "danger", "updateFailed": "danger"}


@dataclass(frozen=True, slots=True)
class Line:
    """One of them in words. hindrance: why it cannot be added, "" where it can; added: the endpoint that it is here."""

    found: Dedicated
    kind: str
    state: str
    variant: str
    hindrance: str
    added: Endpoint | None


class TokenForm(forms.Form):
    token = forms.CharField(label="Hugging Face token", max_length=LONGEST_TOKEN)


def hub_page(admin: Any, request: HttpRequest) -> HttpResponse:
    """Ask for a token, show what its owner has, and add what was chosen."""
    if not admin.has_add_permission(request):
        raise PermissionDenied
    context: dict[str, Any] = {**admin.admin_site.each_context(request), "title": "Inference Endpoints at Hugging Face"}
    if request.method == "POST":
        try:
            token = _token(request)
            found = async_to_sync(gateway.dedicated)(token)
            context |= {"lines": _lines(found), "sealed": _seal(request, token)}
            if wanted := request.POST.get("add"):
                return _add(admin, request, token, _chosen(found, wanted))
        except ParleyError as error:
            context["error"] = error.message
    return TemplateResponse(request, "admin/inference/hub.html", context)


def _token(request: HttpRequest) -> str:
    """As it was entered, or as this page had sealed it. Raises InvalidRequest."""
    if sealed := request.POST.get("sealed"):
        return _unseal(request, sealed)
    form = TokenForm(request.POST)
    if not form.is_valid():
        raise InvalidRequest("Enter a token.")
    return str(form.cleaned_data["token"])


def _seal(request: HttpRequest, token: str) -> str:
    kept = {"token": token, "user": str(request.user.pk), "until": time.time() + SEALED_SECONDS}
    return encrypt(orjson.dumps(kept).decode())


def _unseal(request: HttpRequest, sealed: str) -> str:
    try:
        kept = orjson.loads(decrypt(sealed))
        if kept["user"] == str(request.user.pk) and time.time() < kept["until"]:
            return str(kept["token"])
    except (Undecryptable, orjson.JSONDecodeError, TypeError, KeyError):
        pass
    raise InvalidRequest("This page is too old. Enter the token again.")


def _chosen(found: list[Dedicated], full_name: str) -> Dedicated:
    """Looked up anew, so that nothing of what is stored comes from the page."""
    for one in found:
        if one.full_name == full_name:
            return one
    raise NotFound("This endpoint is no longer there.")


def _lines(found: list[Dedicated]) -> list[Line]:
    rows = list(Endpoint.objects.filter(protocol=Endpoint.Protocol.HF))
    return [_line(one, rows) for one in found]


def _line(one: Dedicated, rows: list[Endpoint]) -> Line:
    kind = KINDS.get(one.task)
    return Line(
        found=one,
        kind=kind.label if kind else one.task,
        state=WORDS.get(one.state, one.state),
        variant=VARIANTS.get(one.state, "warning"),
        hindrance=_hindrance(one, kind),
        added=next((row for row in rows if _is(row, one)), None),
    )


def _hindrance(one: Dedicated, kind: Endpoint.Kind | None) -> str:
    if kind is None:
        return "Parley has no use for this task."
    if not one.url:
        return "Hugging Face tells its address once it was started."
    if kind == Endpoint.Kind.EMBEDDING and one.state != RUNNING:
        return "The dimension of its vectors can be measured while it runs."
    return ""


def _is(row: Endpoint, one: Dedicated) -> bool:
    return row.hub_name == one.full_name or bool(one.url and host_of(row.base_url) == host_of(one.url))


def _add(admin: Any, request: HttpRequest, token: str, one: Dedicated) -> HttpResponse:
    """Raises InvalidRequest."""
    (line,) = _lines([one])
    if line.added:
        raise InvalidRequest(f"It is here already, as {line.added.name}.")
    if line.hindrance:
        raise InvalidRequest(line.hindrance)
    row = Endpoint(
        name=_name(one),
        kind=KINDS[one.task],
        protocol=Endpoint.Protocol.HF,
        base_url=one.url,
        model=one.model,
        api_key=token,
        hub_name=one.full_name,
    )
    said = _measured(row) if one.state == RUNNING else f"It is {line.state}, so it was not tested."
    try:
        row.full_clean()
    except ValidationError as error:
        raise InvalidRequest(" ".join(error.messages)) from error
    admin.save_model(request, row, None, change=False)
    admin.log_addition(request, row, [{"added": {}}])
    messages.success(request, f"{row.name} is added, and serves every tenant unless you choose some below. {said}")
    return HttpResponseRedirect(reverse("admin:inference_endpoint_change", args=[row.pk]))


def _measured(row: Endpoint) -> str:
    """Take over what the server tells of itself; what the test said."""
    result = async_to_sync(probe)(row)
    if told := result.offers(row):
        for field, value in told.items():
            setattr(row, field, value)
        result = async_to_sync(probe)(row)
    if row.kind == Endpoint.Kind.EMBEDDING and row.dimension is None:
        raise InvalidRequest(f"The dimension of its vectors could not be measured. {result.error}")
    remember(row, result)
    return f"Its test said: {result.error}" if result.error else "It was tested, and works."


def _name(one: Dedicated) -> str:
    """As it is called there, unless another one here is called so."""
    short = one.full_name.partition("/")[2]
    names = [short, one.full_name, *(f"{one.full_name} {number}" for number in range(2, 100))]
    taken = set(Endpoint.objects.filter(name__in=names).values_list("name", flat=True))
    return next(name for name in names if name not in taken)
