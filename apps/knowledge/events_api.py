"""SSE: a document's way to ready or failed, told as it happens."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from drf_spectacular.utils import OpenApiResponse, extend_schema

from apps.access.authentication import Caller
from apps.access.doors import Door
from apps.access.revocation import Watch, watch_over
from apps.edge.errors import body_of, translate
from apps.edge.event_schemas import event_block
from apps.edge.frames import HEARTBEAT_SECONDS, KEEP_ALIVE, RETRY
from apps.edge.schema import ERRORS
from apps.knowledge.models import Document
from apps.knowledge.queue import count_ahead
from apps.knowledge.serializers import DocumentSerializer
from apps.tenants.models import Tenant
from apps.tenants.scoping import unit
from chatbot.errors import NotFound, ParleyError

POLL_SECONDS = 1.0
SETTLED = {Document.Status.READY, Document.Status.FAILED}
STREAM = {"oneOf": [event_block("document", "Document"), event_block("error", "Error")]}


class DocumentEvents(Door):
    scopes = {"GET": "knowledge:read"}

    @extend_schema(
        operation_id="follow_document",
        responses={(200, "text/event-stream"): OpenApiResponse(STREAM, "The document, at each change."), **ERRORS},
    )
    async def get(self, request: HttpRequest, caller: Caller, document_id: uuid.UUID) -> HttpResponseBase:
        """Follow a document until it is ready or has failed. Each event is the document as it stands then."""
        document = await unit(_state, caller.tenant, document_id)
        return StreamingHttpResponse(
            _changes(request, caller, document),
            content_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )


def _state(tenant: Tenant, document_id: uuid.UUID) -> dict[str, Any]:
    """The document as the API shows it. Raises NotFound."""
    document = Document.objects.for_tenant(tenant).select_related("collection").filter(pk=document_id).first()
    if document is None:
        raise NotFound
    count_ahead(tenant.pk, [document])
    return dict(DocumentSerializer(document).data)


async def _changes(request: HttpRequest, caller: Caller, state: dict[str, Any]) -> AsyncIterator[bytes]:
    watch = watch_over(request, caller)
    try:
        async for block in _told(caller.tenant, state, watch):
            yield block
    finally:
        watch.close()


async def _told(tenant: Tenant, state: dict[str, Any], watch: Watch) -> AsyncIterator[bytes]:
    told, spoke = None, time.monotonic()
    while True:
        if state != told:
            lead = b"" if told else RETRY
            told, spoke = state, time.monotonic()
            yield lead + _event("document", state)
        elif time.monotonic() - spoke > HEARTBEAT_SECONDS:
            spoke = time.monotonic()
            yield KEEP_ALIVE
        if state["status"] in SETTLED:
            return
        await asyncio.sleep(POLL_SECONDS)
        try:
            watch.refuse_ended()
            state = await _looked_at(tenant, uuid.UUID(state["id"]))
        except ParleyError as error:
            yield _event("error", body_of(error))
            return


async def _looked_at(tenant: Tenant, document_id: uuid.UUID) -> dict[str, Any]:
    """Raises ParleyError: deleted, or no database to ask."""
    try:
        return await unit(_state, tenant, document_id)
    except Exception as raised:
        raise translate(raised) from raised


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data))
