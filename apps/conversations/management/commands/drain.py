"""Drain web processes: for a container's preStop hook, and before a machine is taken away."""

from __future__ import annotations

import socket
import time
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Now

from apps.conversations.models import Replica
from apps.conversations.replicas import BURY, DEAD_SECONDS, ME

SPARE_SECONDS = 10  # beyond what a process allows itself


class Command(BaseCommand):
    help = (
        "Have web processes of this host send their readers elsewhere and end or hand over their answers, and wait for"
        " that. They go on running, without readiness, until they are stopped."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default=socket.gethostname(), help="another host's, as `--list` names it")
        parser.add_argument("--list", action="store_true", help="name the processes that run turns, and do nothing")

    def handle(self, *, host: str, list: bool, **_: Any) -> None:  # noqa: A002 - an option's name
        if list:
            for replica in _living():
                self.stdout.write(f"{replica.name}  {'draining' if replica.draining else 'running'}")
            return
        left = _living(host).update(draining=True)
        if not left:
            self.stdout.write(f"No web process runs on {host}.")
            return
        limit = settings.PARLEY_DRAIN_GRACE_SECONDS + settings.PARLEY_DRAIN_SECONDS + SPARE_SECONDS
        until = time.monotonic() + limit
        while _living(host).filter(draining=True).exists():
            if time.monotonic() > until:
                raise CommandError(f"A web process on {host} is not drained after {limit} seconds.")
            time.sleep(0.2)
        self.stdout.write(self.style.SUCCESS(f"Drained {left} web process{'es' if left > 1 else ''} on {host}."))


def _living(host: str = "") -> QuerySet[Replica]:
    """Nobody waits for what was killed, also where no other process is left to see that it is dead."""
    with connection.cursor() as cursor:
        cursor.execute(BURY, {"me": ME, "judging": False, "dead": DEAD_SECONDS})
    living = Replica.objects.filter(beat__gte=Now() - timedelta(seconds=DEAD_SECONDS))
    return living.filter(name__startswith=f"{host}:") if host else living
