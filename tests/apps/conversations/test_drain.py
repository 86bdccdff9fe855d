"""`manage.py drain` as one calls it where no web process is left to answer."""

from __future__ import annotations

import socket
import uuid
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db.models.functions import Now

from apps.conversations.models import Replica


@pytest.mark.django_db
def test_nobody_waits_for_a_process_that_was_killed(capsys: pytest.CaptureFixture[str]) -> None:
    host = socket.gethostname()
    Replica.objects.create(id=uuid.uuid4(), name=f"{host}:1", lock=7, beat=Now() - timedelta(seconds=11))
    call_command("drain", "--list")
    call_command("drain")
    assert capsys.readouterr().out == f"No web process runs on {host}.\n"
