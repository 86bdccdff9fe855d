"""The examples of the OpenAPI schema: one customer's story, told once for each body, the same in all routes."""

from __future__ import annotations

import json
from typing import Any

ASSISTANT = {
    "id": "b9f00570-da7b-4686-9e83-554ab310f9a7",
    "slug": "guide",
    "name": "Pump guide",
    "description": "Answers questions about our pumps from their manuals.",
}
COLLECTION = {
    "id": "5a3a2f7e-56a1-4f5c-8f2f-0a1a6d1f8a10",
    "name": "Manuals",
    "slug": "manuals",
    "description": "What comes with the pumps.",
    "fields": ["series"],
    "documents": 12,
    "index": {"model": "bge-small-en-v1.5", "dimension": 384},
    "second_index": None,
    "created": "2026-03-02T08:15:30.120417Z",
}
BUILDING = {
    "model": "bge-m3",
    "dimension": 1024,
    "state": "building",
    "switched": False,
    "progress": {"done": 2400, "total": 5100},
    "failure": None,
    "created": "2026-05-11T18:02:14.120417Z",
}
DOCUMENT = {
    "id": "973bef4d-bd01-4a0f-9c36-a3c97faafc71",
    "collection": "manuals",
    "title": "Pump manual",
    "file_name": "pump.pdf",
    "source_url": "",
    "fetched_at": None,
    "media_type": "application/pdf",
    "size": 482113,
    "status": "queued",
    "ahead": 3,
    "progress": {"done": 0, "total": 0, "unit": "passages"},
    "failure": None,
    "retry_at": None,
    "tags": ["parts"],
    "fields": {"series": 40},
    "language": "",
    "stemming": "english",
    "pages": 0,
    "passages": 0,
    "created": "2026-03-31T18:58:04.806111Z",
    "ready_at": None,
}
READY = {
    **DOCUMENT,
    "status": "ready",
    "ahead": None,
    "progress": {"done": 96, "total": 96, "unit": "passages"},
    "pages": 48,
    "passages": 96,
    "ready_at": "2026-03-31T18:58:21.442907Z",
}
FAILED = {
    **DOCUMENT,
    "status": "failed",
    "ahead": None,
    "failure": {"code": "encrypted", "message": "The file is encrypted: save it without a password."},
}
SOURCE = {
    "n": 1,
    "chunk": "8ff5fc63-7a0e-4f0a-9f3e-5d8c4f1b6a27",
    "document": DOCUMENT["id"],
    "title": "Pump manual",
    "heading": ["Spare parts"],
    "page": 12,
    "text": "The seal P-40 fits all pumps built since 2019.",
    "score": 0.0328,
}
CONVERSATION = {
    "id": "36109d90-4e93-424d-b7ab-b22a4fe06a4a",
    "assistant": "guide",
    "user": "customer-17",
    "title": "Which seal fits?",
    "shared": False,
    "created": "2026-03-31T18:57:42.083171Z",
    "active_at": "2026-03-31T18:59:10.530262Z",
}
ATTACHMENT = {
    "id": "0f2bd0a4-5b0c-4f1e-9a57-4b5b6ee0a1c3",
    "name": "my pump.pdf",
    "media_type": "application/pdf",
    "size": 48211,
    "tokens": 812,
    "cut": False,
    "used": False,
    "created": "2026-03-31T18:59:02.310229Z",
}
QUESTION = {
    "id": "38401455-9c0f-4a3f-bf65-6a6a26a3a9a1",
    "role": "user",
    "text": "Which seal fits?",
    "attachments": [{name: ATTACHMENT[name] for name in ("id", "name", "size")}],
    "citations": [],
    "created": "2026-03-31T18:59:10.524400Z",
}
ANSWER = {
    "id": "c2b889ab-3f8b-4f63-8a51-94b2f0b3c7d5",
    "role": "assistant",
    "text": "The seal P-40 fits [1].",
    "attachments": [],
    "citations": [SOURCE],
    "created": "2026-03-31T18:59:11.158024Z",
}
TURN = {
    "id": "3fb8b3ab-62a5-4f0e-8f0c-6a3f4c1e9d72",
    "conversation": CONVERSATION["id"],
    "parent": None,
    "continues": None,
    "state": "finished",
    "finish_reason": "stop",
    "client_id": "q-1",
    "question": QUESTION,
    "answer": ANSWER,
    "text": ANSWER["text"],
    "citations": [SOURCE],
    "sources": [SOURCE],
    "usage": {"prompt_tokens": 747, "completion_tokens": 9, "total_tokens": 756, "estimated": False},
    "timings": {"search_ms": 41.3, "first_token_ms": 340.1, "total_ms": 628.1, "degraded": []},
    "error": None,
    "created": "2026-03-31T18:59:10.526113Z",
    "closed_at": "2026-03-31T18:59:11.157260Z",
}
WEBHOOK = {
    "id": "6f0c1c39-6f0f-4a07-8d0c-52b1c1c9a1d4",
    "name": "Ticket system",
    "url": "https://tickets.example.com/parley",
    "events": ["turn.finished", "document.failed"],
    "assistants": [],
    "collections": [],
    "enabled": True,
    "disabled_at": None,
    "disabled_reason": "",
    "failures": 0,
    "failing_since": None,
    "created": "2026-03-30T11:02:45.310229Z",
}
DELIVERY = {
    "id": "msg_2f4d9a6c1b7e4d0a8c3f5e6b7a8d9c0e",
    "type": "document.failed",
    "data": {"document": DOCUMENT["id"], "collection": "manuals"},
    "status": "delivered",
    "attempts": 1,
    "next_attempt_at": None,
    "status_code": 204,
    "error": "",
    "duration_ms": 84,
    "created": "2026-03-31T18:58:21.442907Z",
    "delivered_at": "2026-03-31T18:58:21.561882Z",
}
TOTALS = {
    "requests": 3,
    "unsettled": 0,
    "prompt_tokens": 2241,
    "completion_tokens": 180,
    "pages": 0,
    "total_tokens": 2421,
    "cost": "0.00153450",
    "bills": {"once": 2, "delivered": 1, "loss": 0, "none": 0},
}
EVENTS = """\
id: 1-1
event: turn.started
data: {"turn":"3fb8b3ab-62a5-4f0e-8f0c-6a3f4c1e9d72","conversation":"36109d90-4e93-424d-b7ab-b22a4fe06a4a",\
"question":"38401455-9c0f-4a3f-bf65-6a6a26a3a9a1"}

id: 1-2
event: sources
data: {"sources":[]}

id: 1-3
event: token
data: {"text":"The seal P-40 fits."}

id: 1-4
event: turn.finished
data: {"turn":"3fb8b3ab-62a5-4f0e-8f0c-6a3f4c1e9d72","state":"finished","finish_reason":"stop",\
"answer":"c2b889ab-3f8b-4f63-8a51-94b2f0b3c7d5","text":"The seal P-40 fits.",\
"usage":{"prompt_tokens":747,"completion_tokens":9,"estimated":false,"total_tokens":756},"citations":[],\
"timings":{"search_ms":41.3,"first_token_ms":340.1,"total_ms":628.1,"degraded":[]}}

"""
DOCUMENT_EVENTS = "".join(f"event: document\ndata: {json.dumps(state)}\n\n" for state in (DOCUMENT, READY))

RUN = {
    "id": "0d9a4b57-2f4e-4d0c-8f3a-5b1d8f0c2a66",
    "state": "finished",
    "progress": {"done": 42, "total": 42, "unit": "pages"},
    "found": 42,
    "new": 3,
    "changed": 1,
    "unchanged": 37,
    "gone": 0,
    "refused": 1,
    "refusals": [
        {
            "address": "https://docs.example.com/internal/",
            "code": "robots_forbid",
            "message": "The host's robots.txt forbids to fetch this.",
        }
    ],
    "complete": True,
    "failure": None,
    "created": "2026-03-31T18:58:05.806111Z",
    "ended": "2026-03-31T18:58:51.120417Z",
}
NEW_SOURCE = {"collection": "manuals", "kind": "site", "location": "https://docs.example.com/", "every_hours": 24}
KNOWLEDGE_SOURCE = {
    "id": "c1f0a3de-6b7e-4f39-9a55-7d2c4e8b1f03",
    "name": "docs.example.com",
    **NEW_SOURCE,
    "depth": 3,
    "hosts": [],
    "max_pages": 500,
    "endpoint": "",
    "region": "",
    "access_key": "",
    "documents": 41,
    "next_run_at": "2026-04-01T18:58:05.806111Z",
    "last_run": RUN,
    "created": "2026-03-31T18:58:04.806111Z",
}

RESUMABLE = {
    "id": "6b0c3f2e-2f4b-4c7e-9a35-0b7d5a1f4c18",
    "collection": "manuals",
    "file_name": "pump.pdf",
    "title": "",
    "language": "",
    "size": 482113,
    "offset": 0,
    "results": [],
    "created": "2026-03-02T08:20:11.120417Z",
    "expires": "2026-03-02T09:20:11.120417Z",
}
OUTCOME = {"file_name": "pump.pdf", "added": True, "document": DOCUMENT["id"], "refusal": None}
WHOLE = {**RESUMABLE, "offset": 482113, "results": [OUTCOME], "expires": "2026-03-03T08:20:11.120417Z"}

# By the component that describes the body; each example has a name.
EXAMPLES: dict[str, dict[str, Any]] = {
    "Assistant": {"guide": ASSISTANT},
    "Collection": {"manuals": COLLECTION, "changing its model": {**COLLECTION, "second_index": BUILDING}},
    "SecondIndexBuildRequest": {"multilingual": {"model": "bge-m3"}},
    "CollectionRequest": {"manuals": {"name": "Manuals", "description": "What comes with the pumps."}},
    "PatchedCollectionChangeRequest": {"rename": {"name": "Manuals of all pumps"}},
    "Document": {"queued": DOCUMENT, "ready": READY, "failed": FAILED},
    "UploadRequest": {
        "text": {
            "collection": "manuals",
            "title": "Opening hours",
            "text": "# Opening hours\n\nMonday to Friday, 8 to 17.",
        }
    },
    "Resumable": {"begun": RESUMABLE, "whole": WHOLE},
    "ReplaceRequest": {"text": {"text": "# Opening hours\n\nMonday to Saturday, 8 to 17."}},
    "KnowledgeSource": {"docs": KNOWLEDGE_SOURCE},
    "SourceCreationRequest": {
        "site": NEW_SOURCE,
        "bucket": {
            "collection": "manuals",
            "kind": "bucket",
            "location": "manuals/published",
            "region": "eu-central-1",
            "access_key": "…",
            "secret_key": "…",
        },
    },
    "PatchedSourceChangeRequest": {"weekly": {"every_hours": 168, "hosts": ["www.example.com"]}},
    "SourceRun": {"finished": RUN},
    "SearchRequest": {
        "seal": {
            "collection": "manuals",
            "query": "Which seal fits?",
            "limit": 3,
            "filter": {"tags": ["parts"], "series": 40},
        }
    },
    "PatchedDocumentChangeRequest": {"tags": {"tags": ["parts"], "fields": {"series": 40}}},
    "Results": {
        "seal": {
            "results": [
                {
                    **SOURCE,
                    "scores": {"vector": 0.871, "text": 0.82, "trigram": None, "fused": 0.7862, "rerank": None},
                    "why": "No. 1 by meaning, no. 1 by words.",
                }
            ],
            "timings": {"embedding_ms": 9.1, "database_ms": 2.3, "rerank_ms": None, "degraded": []},
        }
    },
    "BeginRequest": {"guide": {"assistant": "guide", "user": "customer-17"}},
    "Conversation": {"seal": CONVERSATION},
    "PatchedConversationRequest": {"rename": {"title": "Seals"}},
    "Message": {"answer": ANSWER},
    "PlacedMessage": {
        "question": {**QUESTION, "turns": [TURN["id"]], "parent": None, "continues": None},
        "answer": {**ANSWER, "turns": [TURN["id"]], "parent": None, "continues": None},
    },
    "AskRequest": {
        "seal": {"text": "Which seal fits?", "client_id": "q-1"},
        "edit": {"text": "Which seal fits the P-4?", "edits": TURN["id"]},
        "file": {"text": "Which seal fits my pump?", "attachments": [ATTACHMENT["id"]]},
    },
    "Attachment": {"pump": ATTACHMENT},
    "Turn": {"finished": TURN},
    "PolledTurn": {
        "running": {
            **TURN,
            "state": "running",
            "answer": None,
            "text": "",
            "events": [{"id": "1-3", "type": "token", "text": "The seal"}],
            "cursor": "1-3",
        }
    },
    "GiveFeedbackRequest": {"down": {"rating": "down", "reasons": ["wrong"], "comment": "It is P-42 since 2024."}},
    "Feedback": {
        "down": {
            "message": ANSWER["id"],
            "user": "customer-17",
            "rating": "down",
            "reasons": ["wrong"],
            "comment": "It is P-42 since 2024.",
            "created": "2026-03-31T19:02:33.709114Z",
            "changed": "2026-03-31T19:02:33.709114Z",
        }
    },
    "VisitorRequest": {
        "customer": {"assistant": "guide", "origin": "https://shop.example", "user": "customer-17"},
        "somebody": {"assistant": "guide", "origin": "https://shop.example", "seconds": 300},
    },
    "VisitorToken": {"token": {"token": "parleyv_…", "expires_at": "2026-03-31T19:14:10.524400Z", "renew_after": 600}},
    "PageVisitorRequest": {"again": {"ticket": "parleyt_…"}, "identified": {"identity": "eyJhbGciOiJIUzI1NiJ9.…"}},
    "PageVisitorToken": {
        "token": {
            "token": "parleyv_…",
            "expires_at": "2026-03-31T19:14:10.524400Z",
            "renew_after": 600,
            "ticket": "parleyt_…",
        }
    },
    "WidgetSettings": {
        "guide": {
            "tenant": "shop",
            "assistant": "guide",
            "name": "Pump guide",
            "description": "",
            "greeting": "Ask me about our pumps.",
            "starters": ["Which seal fits?"],
            "theme": {
                "primary": "#0f766e",
                "radius": 12,
                "font": "",
                "logo": "",
                "position": "right",
                "scheme": "auto",
            },
            "locale": "en",
            "direction": "ltr",
            "strings": {},
            "consent": {"text": "Your questions are stored.", "link": "https://shop.example/privacy"},
            "retention": "Conversations are deleted after 90 days.",
            "attachments": {"most": 5, "bytes": 10_485_760, "kinds": [".docx", ".pdf", ".txt"]},
            "handoff": {"kind": "webhook"},
            "identity": True,
        }
    },
    "MakeShareRequest": {"month": {"days": 30}},
    "Share": {
        "link": {
            "url": "https://parley.example/share/…",
            "created": "2026-03-31T19:05:12.104400Z",
            "expires_at": "2026-04-30T19:05:12.104400Z",
        }
    },
    "HandOffRequest": {"seal": {"email": "ada@shop.example", "note": "The seal does not fit."}},
    "HandedOver": {"seal": {"conversation": CONVERSATION["id"]}},
    "Webhook": {"tickets": WEBHOOK},
    "WebhookFieldsRequest": {"tickets": {name: WEBHOOK[name] for name in ("name", "url", "events")}},
    "PatchedWebhookFieldsRequest": {"pause": {"enabled": False}},
    "Issued": {"tickets": {**WEBHOOK, "secret": "whsec_…"}},
    "Delivery": {"delivered": DELIVERY},
    "UsageReport": {
        "march": {
            "from": "2026-03-01",
            "to": "2026-03-31",
            "group_by": "day",
            "kept": {"documents": 12, "bytes": 4_718_592},
            "total": TOTALS,
            "results": [{"key": "2026-03-31", "name": None, **TOTALS}],
        }
    },
    "UsageRecord": {
        "turn": {
            "id": "0d1a0d6b-7c5e-4c55-9a3f-2f6c1f0c8b11",
            "kind": "turn",
            "turn": TURN["id"],
            "assistant": ASSISTANT["id"],
            "document": None,
            "user": "customer-17",
            "api_key": "Web shop",
            "client": None,
            "model": "Qwen2.5-7B-Instruct",
            "state": "settled",
            "bill": "once",
            "prompt_tokens": 747,
            "completion_tokens": 9,
            "pages": 0,
            "estimated": False,
            "cost": "0.00047250",
            "created": "2026-03-31T18:59:10.526113Z",
            "settled_at": "2026-03-31T18:59:11.157260Z",
        }
    },
}


def examples_of(component: str) -> dict[str, Any]:
    """The examples of a body, by name; of a page, one with each row."""
    if (row := component.removeprefix("Paginated").removesuffix("List")) != component:
        rows = list(EXAMPLES.get(row, {}).values())
        return {"page": {"next": None, "previous": None, "results": rows}} if rows else {}
    return EXAMPLES.get(component, {})


def add_examples(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Give every body its examples; a hook of drf-spectacular. What a view says itself stays."""
    for operations in result["paths"].values():
        for operation in operations.values():
            for body in (operation.get("requestBody", {}), *operation["responses"].values()):
                for media_type, content in body.get("content", {}).items():
                    if media_type == "text/event-stream":
                        content.setdefault("example", _stream(content["schema"]))
                    elif media_type == "application/json" and "examples" not in content:
                        _add(content)
    return result


def _stream(schema: dict[str, Any]) -> str:
    """The example of an event stream, by the event that it begins with."""
    first = schema.get("oneOf", [{}])[0].get("title")
    return {"turn.started": EVENTS, "document": DOCUMENT_EVENTS}.get(first) or str(schema["example"])


def _add(content: dict[str, Any]) -> None:
    found = examples_of(content["schema"].get("$ref", "").rpartition("/")[2])
    if found:
        content["examples"] = {name: {"value": value} for name, value in found.items()}
