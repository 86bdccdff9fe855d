"""Abuse case 37: costs pushed to where nobody looks: floods of uploads, and documents that are larger than a quota."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from apps.knowledge.collections import create_collection
from apps.knowledge.models import Document
from tests import factories
from tests.environment import ROOT

PROCESSES, EACH, ROOM = 4, 50, 10
ROUNDS = 25 if os.environ.get("PARLEY_FAULTS_FULL") else 3
# Each round has a tenant of its own. All processes begin it when the last of them is there.
WORK = """
import sys, time, uuid
from concurrent.futures import ThreadPoolExecutor
import django
django.setup()
import redis
from django.conf import settings
from django.db import connections
from apps.knowledge.ingest import add_document
from apps.knowledge.models import Collection
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from chatbot.errors import QuotaExceeded

# So long a busy machine may keep two hundred waiting for each other.
settings.DATABASES["default"]["OPTIONS"]["options"] += " -c lock_timeout=60000 -c statement_timeout=60000"
me, processes, each, *tenants = sys.argv[1:]
client = redis.Redis.from_url(settings.REDIS_URL)

def add(tenant, collection, number):
    try:
        add_document(tenant, collection, name="note.md", content=b"%s-%d" % (me.encode(), number))
        return 1
    except QuotaExceeded:
        return 0
    finally:
        connections.close_all()

for pk in tenants:
    with tenant_scope(uuid.UUID(pk)):
        tenant = Tenant.objects.get(pk=pk)
        collection = Collection.objects.for_tenant(tenant).get()
    client.incr(f"here:{pk}")
    while int(client.get(f"here:{pk}")) < int(processes):
        time.sleep(0.001)
    with ThreadPoolExecutor(4) as threads:
        admitted = list(threads.map(lambda number: add(tenant, collection, number), range(int(each))))
    print(pk, sum(admitted), flush=True)
"""


@pytest.mark.timeout(300)
def test_of_two_hundred_uploads_at_once_as_many_get_in_as_there_is_room_for(
    database: None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    factories.make_endpoint("http://127.0.0.1:9", kind="embedding")
    tenants = [factories.make_tenant() for _ in range(ROUNDS)]
    for tenant in tenants:
        create_collection(tenant, name="Notes")
        factories.make_quota(tenant=tenant, metric="documents", window="once", amount=ROOM)
    ids = [str(tenant.pk) for tenant in tenants]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "PARLEY_HOME": str(tmp_path)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, str(number), str(PROCESSES), str(EACH), *ids],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    request.addfinalizer(lambda: [worker.kill() for worker in workers])
    admitted = dict.fromkeys(ids, 0)
    for worker in workers:
        told, complaints = worker.communicate(timeout=150)
        assert worker.returncode == 0, complaints[-2000:]
        for line in told.splitlines():
            if line.split()[0] in admitted:
                pk, count = line.split()
                admitted[pk] += int(count)
    assert set(admitted.values()) == {ROOM}
    for tenant in tenants:
        stored = Document.objects.filter(tenant=tenant).values_list("stored", flat=True)
        on_disk = list((tmp_path / "media" / "documents" / str(tenant.pk)).iterdir())
        assert len(stored) == len(on_disk) == ROOM
