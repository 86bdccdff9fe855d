"""The worker's and beat's application: `celery -A config.celery worker`."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# Bulk inserts of passages may take longer than a request's statement; nobody waits for them.
os.environ.setdefault("PARLEY_SQL_TIMEOUT_MS", "30000")

from celery import Celery

app = Celery("parley")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["apps.knowledge.crawl", "apps.knowledge.second"])
