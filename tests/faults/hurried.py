"""The worker's and beat's application with shorter waits: `celery -A tests.faults.hurried worker`.

What is waited for is the same as in production, and happens for the same reasons; only the seconds are fewer.
"""

from __future__ import annotations

import datetime

import django

from config.celery import app

django.setup()

from apps.knowledge import lease, pipeline, queue  # noqa: E402 - models need the settings that are ready by now

lease.LEASE = datetime.timedelta(seconds=8)
lease.RENEW_EVERY = 2.0
queue.RESEND_AFTER = datetime.timedelta(seconds=5)
pipeline.FIRST_BACKOFF, pipeline.LONGEST_BACKOFF = 0.5, 1.0
app.conf.beat_schedule["resend-documents"]["schedule"] = 2.0
