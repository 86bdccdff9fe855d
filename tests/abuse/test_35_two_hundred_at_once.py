"""Abuse case 35: two hundred questions at once, from four processes whose clocks differ, with room for exactly ten."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from apps.tenants.scoping import tenant_scope
from apps.usage.models import UsageRecord
from tests import factories
from tests.environment import ROOT

PROCESSES, EACH, ROOM = 4, 50, 10
ROUNDS = 50 if os.environ.get("PARLEY_FAULTS_FULL") else 5
# Each round has a tenant of its own. All processes begin it when the last of them is there.
WORK = """
import asyncio, sys, time, uuid
import django
django.setup()
from apps.edge import shared_state
from apps.edge.shared_state import redis
from apps.tenants.models import Tenant
from apps.tenants.scoping import unit
from apps.usage import meter
from apps.usage.limits import accounts_of
from chatbot.errors import QuotaExceeded
from chatbot.quota import Amounts

meter.SECONDS = shared_state.SECONDS = 60  # that a busy machine may take
processes, each, skew, *tenants = sys.argv[1:]
meter.time.time = (lambda now: lambda: now() + float(skew))(time.time)

async def ask(tenant):
    accounts = accounts_of(
        assistant_id=None, api_key_id=None, oauth_client_id=None, end_user=None, scope="chat:write"
    )
    try:
        await meter.reserve(tenant, uuid.uuid4(), accounts, Amounts(requests=1, tokens=5, turns=1))
        return 1
    except QuotaExceeded:
        return 0

async def main():
    client = await redis()
    for pk in tenants:
        tenant = await unit(lambda whose: Tenant.objects.get(pk=whose), uuid.UUID(pk))
        await client.incr(f"here:{pk}")
        while int(await client.get(f"here:{pk}")) < int(processes):
            await asyncio.sleep(0.001)
        print(pk, sum(await asyncio.gather(*(ask(tenant) for _ in range(int(each))))), flush=True)

asyncio.run(main())
"""


@pytest.mark.timeout(300)
def test_exactly_as_many_are_admitted_as_fit(database: None, request: pytest.FixtureRequest) -> None:
    tenants = [factories.make_tenant() for _ in range(ROUNDS)]
    for tenant in tenants:
        factories.make_quota(tenant=tenant, metric="requests", amount=ROOM)
        factories.make_quota(tenant=tenant, metric="tokens", window="month", amount=5 * ROOM + 4)
    ids = [str(tenant.pk) for tenant in tenants]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, str(PROCESSES), str(EACH), skew, *ids],
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for skew in ("0", "600", "-600", "0")
    ]
    request.addfinalizer(lambda: [worker.kill() for worker in workers])
    admitted = dict.fromkeys(ids, 0)
    for worker in workers:
        told, _ = worker.communicate(timeout=200)
        assert worker.returncode == 0
        for line in told.splitlines():
            if line.count(" ") == 1 and line.split()[0] in admitted:
                pk, count = line.split()
                admitted[pk] += int(count)
    assert set(admitted.values()) == {ROOM}
    with tenant_scope(tenants[0]):
        assert not UsageRecord.objects.for_tenant(tenants[0]).exists()
