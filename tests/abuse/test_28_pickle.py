"""A pickle on the broker is never executed, nor one in the cache; what else waits there is done all the same."""

from __future__ import annotations

import base64
import json
import os
import pickle
import uuid
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.cache import cache
from redis import Redis

from apps.knowledge.ingest import add_document
from apps.knowledge.models import Collection, Document
from apps.tenants.models import Tenant
from tests.apps.knowledge.conftest import acme, embeddings, endpoint, manuals
from tests.apps.knowledge.ingesting import manual, until
from tests.apps.knowledge.test_worker import otlp, worker

__all__ = ["acme", "embeddings", "endpoint", "manuals", "otlp", "worker"]


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def message(body: bytes, *, content_type: str, task: str) -> str:
    """As kombu puts it on a Redis list."""
    number = str(uuid.uuid4())
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "binary",
            "content-type": content_type,
            "headers": {"lang": "py", "task": task, "id": number, "argsrepr": "()", "kwargsrepr": "{}"},
            "properties": {
                "correlation_id": number,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": "celery"},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": number,
            },
        }
    )


def test_the_broker_accepts_json_alone(acme: Tenant, manuals: Collection, worker: Path, tmp_path: Path) -> None:
    executed = tmp_path / "executed"
    body = pickle.dumps(((Bomb(executed),), {}, {}))
    with Redis.from_url(django_settings.CELERY_BROKER_URL) as broker:
        for kind in ("application/x-python-serialize", "application/x-yaml"):
            broker.lpush("celery", message(body, content_type=kind, task="knowledge.ingest"))
        broker.lpush("celery", message(b"[[], {}, {}]", content_type="application/json", task="os.system"))
    document, _ = add_document(acme, manuals, name="manual.md", content=manual(1))
    until(lambda: Document.objects.filter(pk=document.pk, status="ready").exists(), seconds=60)
    with Redis.from_url(django_settings.CELERY_BROKER_URL) as broker:
        until(lambda: broker.llen("celery") == 0)
    assert not executed.exists()


def test_the_cache_reads_json_alone(redis: None, tmp_path: Path) -> None:
    executed = tmp_path / "executed"
    cache.set("innocent", 1)
    with Redis.from_url(django_settings.CACHES["default"]["LOCATION"]) as server:
        (key,) = server.keys("*innocent*")  # type: ignore[misc]
        server.set(key, pickle.dumps(Bomb(executed)))
    with pytest.raises(ValueError, match="utf-8"):  # it is read as JSON
        cache.get("innocent")
    assert not executed.exists()
    assert "pickle" not in django_settings.CACHES["default"]["OPTIONS"]["SERIALIZER"]
    assert not django_settings.SESSION_SERIALIZER.endswith("PickleSerializer")
