"""REST and SSE: a turn's question answered once more, from its beginning or from where the answer broke off."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.urls import path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema

from apps.access import idempotency
from apps.access.authentication import Caller
from apps.access.doors import Door
from apps.conversations import asking
from apps.conversations.again import Deed
from apps.conversations.serializers import TurnSerializer
from apps.conversations.turns_api import answered, wants_stream
from apps.edge.schema import CONFLICT, ERRORS, IDEMPOTENCY_KEY, USER

ANSWERED: dict[str, Any] = {
    "request": None,
    "parameters": [IDEMPOTENCY_KEY, USER],
    "responses": {
        (200, "application/json"): TurnSerializer,
        (200, "text/event-stream"): OpenApiResponse(OpenApiTypes.STR, "The new turn's events as they happen."),
        **ERRORS,
        **CONFLICT,
    },
}


async def _answer(request: HttpRequest, caller: Caller, turn_id: uuid.UUID, deed: Deed) -> HttpResponseBase:
    streaming = wants_stream(request)
    asked = asking.again_in({"user": request.GET.get("user", "")}, idempotency_key=idempotency.key_in(request))
    accepted = await asking.accept_again(caller, turn_id, asked, deed)
    return await answered(request, caller, accepted, streaming=streaming)


class RegenerateTurn(Door):
    scopes = {"POST": "chat:write"}

    @extend_schema(operation_id="regenerate_turn", **ANSWERED)
    async def post(self, request: HttpRequest, caller: Caller, turn_id: uuid.UUID) -> HttpResponseBase:
        """Answer a turn's question once more. The new turn stands beside the one named; both answers stay. Answers with
        the new turn, or with its events if `Accept` is `text/event-stream`. 400 for a turn without a conversation."""
        return await _answer(request, caller, turn_id, Deed.REGENERATE)


class ContinueTurn(Door):
    scopes = {"POST": "chat:write"}

    @extend_schema(operation_id="continue_turn", **ANSWERED)
    async def post(self, request: HttpRequest, caller: Caller, turn_id: uuid.UUID) -> HttpResponseBase:
        """Go on with an answer that was stopped, interrupted or cut off at its longest. A new turn beside the one named
        begins with what that one said; both stay. 400 for an answer that came to its end, or where there is none."""
        return await _answer(request, caller, turn_id, Deed.CONTINUE)


urlpatterns = [
    path("turns/<uuid:turn_id>/regenerate", RegenerateTurn.as_view()),
    path("turns/<uuid:turn_id>/continue", ContinueTurn.as_view()),
]
