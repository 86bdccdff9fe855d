"""Files for questions: read when they are sent, kept as text, and gone with their conversation or by themselves.

The text is all that a model is ever given, so the bytes are not kept: the text is what counts as a tenant's bytes.
"""

from __future__ import annotations

import datetime
import shutil
import tempfile
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from django.conf import settings
from django.core.files.base import File
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from apps.access.authentication import Caller
from apps.assistants.prompting import room_for_files
from apps.conversations.models import Attached, Attachment, Conversation
from apps.conversations.parties import conversation_of
from apps.edge.errors import ServiceUnavailable
from apps.inference import gateway
from apps.knowledge import reading, storage
from apps.knowledge.metering import pages_of
from apps.tenants import lookups
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from apps.usage import ingesting, keeping
from apps.usage.ingesting import QuotaUsedUp
from chatbot.errors import InvalidRequest, NotFound, QuotaExceeded
from chatbot.extraction import Extracted, Page, extract
from chatbot.formats import detect
from chatbot.supervising import Limits, ReaderKilled
from chatbot.tokens import estimate

LIMIT = ("An attachment", "PARLEY_MAX_ATTACHMENT_BYTES")
MOST_KEPT = 50  # of a conversation
UNUSED = datetime.timedelta(days=1)  # after which a file that no question came for is forgotten
PORTION = 100
BETWEEN = "\n\n"  # pages
# Somebody waits for it, so it may take less than a document.
LIMITS = Limits(seconds=10, output_chars=5_000_000, scans=3)
# One at a time: a reader may take as much memory as LIMITS say, beside the answers that this process writes. Those of a
# tenant stand in line among themselves first, so that others wait for one of theirs at most.
_READING = threading.Lock()
_OF_TENANT: defaultdict[uuid.UUID, threading.Lock] = defaultdict(threading.Lock)
PATIENCE = 20.0  # seconds, in each of the two lines


def attach(
    caller: Caller, conversation: Conversation, name: str, content: File[bytes], *, sending: str = ""
) -> Attachment:
    """Read a file for a question of a conversation within reach; it takes seconds and no transaction. sending: the same
    for repeats of a request, of which those that come at once attach one file.

    Raises InvalidRequest where the assistant takes none or the conversation has too many, UnsupportedType,
    PayloadTooLarge, ExtractionFailed with a code of its own, QuotaExceeded, and ServiceUnavailable where too many are
    being read or the reader was killed.
    """
    tenant, name = caller.tenant, storage.safe_name(name)
    if content.size > settings.PARLEY_MAX_ATTACHMENT_BYTES:
        raise storage.too_large(*LIMIT)
    if not content.size:
        raise InvalidRequest(fields={"file": "The file is empty."})
    media_type = detect(name, content)
    with tenant_scope(caller), _pages_refused():
        _refuse(conversation)
        keeping.refuse_beyond(tenant, None, exactly=False, bytes=1)
        ingesting.refuse_beyond(tenant, "pages", 1)
    extracted = _read(tenant, content, media_type)
    text = BETWEEN.join(page.text for page in extracted.pages)
    kept = text[: settings.PARLEY_MAX_ATTACHMENT_CHARS]
    attachment = Attachment(
        id=uuid.uuid5(conversation.pk, sending) if sending else uuid.uuid4(),
        tenant=tenant,
        conversation=conversation,
        name=name,
        media_type=media_type,
        size=content.size,
        text=kept,
        kept=len(kept.encode()),
        tokens=estimate(kept),
        shortened=len(kept) < len(text),
    )
    with tenant_scope(caller), _pages_refused():
        keeping.refuse_beyond(tenant, None, exactly=True, bytes=attachment.kept)
        # It may be gone, and others of it may have come.
        conversation = conversation_of(caller, conversation.pk, lock=True)
        if sending and (earlier := attachments_of(conversation).filter(pk=attachment.pk).first()):
            return cast("Attachment", earlier)
        _refuse(conversation)
        attachment.save(force_insert=True)
        ingesting.charge_pages(tenant, attachment.pk, pages_of(_up_to(extracted, len(kept))))
    return attachment


def attachments_of(conversation: Conversation) -> QuerySet[Any]:
    """All of a conversation, with whether a question came with it (`used`)."""
    rows: QuerySet[Any] = Attachment.objects.for_tenant(conversation.tenant_id).filter(conversation=conversation)
    found: QuerySet[Any] = rows.annotate(used=Exists(Attached.objects.filter(attachment=OuterRef("pk"))))
    return found


def room_of(conversation: Conversation) -> int:
    """The tokens that a model of the conversation's assistant surely has for files. Call it as one unit."""
    gateway.refresh()
    assistant = conversation.assistant
    return room_for_files(assistant, gateway.chat_endpoints(conversation.tenant, assistant.endpoint_id))


def detach(conversation: Conversation, attachment_id: uuid.UUID) -> None:
    """Delete a file that no question came with. Raises NotFound, also for one that came with a question: it is part of
    what was said. Call it as one unit."""
    rows = Attachment.objects.for_tenant(conversation.tenant_id).filter(conversation=conversation, pk=attachment_id)
    # A question that is just being written with it has it from then on (bringing.py).
    found = rows.select_for_update().first()
    if found is None or found.uses.exists():
        raise NotFound("There is no such attachment without a question.")
    found.delete()


def forget_unused() -> int:
    """Delete those of all tenants that no question came for, a portion at a time; how many."""
    return sum(_forget_unused(tenant_id) for tenant_id in lookups.all_tenants())


def _forget_unused(tenant_id: uuid.UUID) -> int:
    forgotten = 0
    while True:
        with tenant_scope(tenant_id):
            rows = Attachment.objects.for_tenant(tenant_id).filter(created__lt=timezone.now() - UNUSED, uses=None)
            chosen = list(rows.values_list("pk", flat=True)[:PORTION])
            # Locked first and looked at again: a question may just have come.
            locked = Attachment.objects.for_tenant(tenant_id).filter(pk__in=chosen).order_by("pk").select_for_update()
            list(locked.values_list("pk", flat=True))
            rows.filter(pk__in=chosen).delete()
        forgotten += len(chosen)
        if len(chosen) < PORTION:
            return forgotten


def _refuse(conversation: Conversation) -> None:
    if not conversation.assistant.takes_attachments:
        raise InvalidRequest("This assistant takes no attachments.")
    if Attachment.objects.for_tenant(conversation.tenant_id).filter(conversation=conversation).count() >= MOST_KEPT:
        raise InvalidRequest(f"A conversation has {MOST_KEPT} attachments at most. Begin a new one.")


def _up_to(extracted: Extracted, chars: int) -> Extracted:
    """What is kept of it."""
    pages: list[Page] = []
    for page in extracted.pages:
        if pages and chars <= 0:
            break
        pages.append(replace(page, text=page.text[: max(0, chars)]))
        chars -= len(page.text) + len(BETWEEN)
    return replace(extracted, pages=pages)


def _read(tenant: Tenant, content: File[bytes], media_type: str) -> Extracted:
    with (
        _waiting_for(_OF_TENANT[tenant.pk]),
        _waiting_for(_READING),
        tempfile.NamedTemporaryFile(prefix="parley-") as copy,
    ):
        content.seek(0)
        shutil.copyfileobj(content, copy)
        copy.flush()
        try:
            return extract(Path(copy.name), media_type, LIMITS, recognition=reading.recognition())
        except ReaderKilled as error:
            raise ServiceUnavailable(error.message, retry_after=5) from error


@contextmanager
def _waiting_for(lock: threading.Lock) -> Iterator[None]:
    if not lock.acquire(timeout=PATIENCE):
        raise ServiceUnavailable("Too many files are being read just now. Please try again.", retry_after=5)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _pages_refused() -> Iterator[None]:
    """A document would wait for the quota; whoever attaches a file is told."""
    try:
        yield
    except QuotaUsedUp as error:
        wait = (error.until - timezone.now()).total_seconds() if error.until else None
        raise QuotaExceeded(str(error), retry_after=wait and max(1.0, wait)) from error
