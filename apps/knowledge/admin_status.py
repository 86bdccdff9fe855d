"""How far a document's ingestion is, in words and as a bar, for pages that keep themselves up to date."""

from __future__ import annotations

import datetime
import math
from typing import Any
from urllib.parse import urlsplit

from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe

from apps.knowledge.models import Document

SETTLED = (Document.Status.READY, Document.Status.FAILED)
VARIANTS = {
    Document.Status.READY: "success",
    Document.Status.FAILED: "danger",
    Document.Status.RETRYING: "warning",
    Document.Status.WAITING: "warning",
}
# A worker takes a document within seconds. Later than this, somebody should look whether one is running.
MINUTE = 60.0
PATIENCE = datetime.timedelta(minutes=1)


def is_finished(document: Document) -> bool:
    return document.status in SETTLED


def status_html(document: Document, *, words: bool = True) -> SafeString:
    """A badge, a progress bar and a sentence. documents.js asks for it again until the document is finished."""
    finished = is_finished(document)
    percent = None
    if document.progress_total and not finished:
        percent = min(100, round(100 * document.progress_done / document.progress_total))
    context = {
        "document": document,
        "finished": finished,
        "percent": percent,
        "variant": VARIANTS.get(Document.Status(document.status), "default" if finished else "info"),
        "words": _words(document) if words else "",
    }
    # render_to_string escapes the document's own words; what comes out is markup.
    return mark_safe(render_to_string("admin/knowledge/document/status.html", context))  # noqa: S308


def status_json(document: Document) -> dict[str, Any]:
    return {
        "id": str(document.pk),
        "finished": is_finished(document),
        "passages": f"{document.passages:,}",
        "html": status_html(document),
    }


def _words(document: Document) -> str:
    match document.status:
        case Document.Status.RETRYING:
            return f"{document.failure_message} {_again(document)}"
        case Document.Status.FAILED | Document.Status.WAITING:
            return document.failure_message
        case Document.Status.EXTRACTING | Document.Status.EMBEDDING if document.progress_total:
            what = "pages" if document.status == Document.Status.EXTRACTING else "passages"
            return f"{document.progress_done:,} of {document.progress_total:,} {what}"
        case Document.Status.EXTRACTING if document.to_fetch:
            return f"Fetching it from {urlsplit(document.source_url).hostname}"
        case Document.Status.QUEUED:
            return _in_line(document)
    return ""


def _in_line(document: Document) -> str:
    if document.ahead:
        return f"About {document.ahead:,} before it"
    late = timezone.now() - document.next_attempt_at > PATIENCE
    return "No worker has taken it yet. Is one running?" if late else ""


def _again(document: Document) -> str:
    seconds = (document.next_attempt_at - timezone.now()).total_seconds()
    return f"Tried again in {math.ceil(seconds / 60)} min." if seconds > MINUTE else "Tried again within a minute."
