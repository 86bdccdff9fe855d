"""Sources, each of which brings many documents to a collection; their runs, and what they know of each address."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.edge.encryption import EncryptedTextField
from apps.knowledge.slice_models import Sliced, SlicedQuerySet
from apps.tenants.models import User
from apps.tenants.scoping import TenantOwned

LOCATION_CHARS = 2000  # as long as an address
DEEPEST, MOST_PAGES, MOST_HOSTS = 10, 10_000, 20
MOST_SOURCES = 100  # of a collection
LONGEST_INTERVAL = 24 * 366  # hours
TAKEN = "Another source of this collection begins there."


class Source(TenantOwned):
    """A site, a sitemap, a folder or a bucket whose pages are documents of a collection."""

    class Kind(models.TextChoices):
        SITE = "site", "Web site"
        SITEMAP = "sitemap", "Sitemap"
        FOLDER = "folder", "Folder"
        BUCKET = "bucket", "Bucket"

    collection = models.ForeignKey("knowledge.Collection", on_delete=models.CASCADE, related_name="sources")
    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=10, choices=Kind)
    # The first address, the sitemap's, a path below PARLEY_SOURCE_FOLDERS, or bucket/prefix.
    location = models.CharField(max_length=LOCATION_CHARS)
    depth = models.PositiveSmallIntegerField(default=3, validators=[MaxValueValidator(DEEPEST)])
    hosts = ArrayField(models.CharField(max_length=253), default=list, blank=True)
    max_pages = models.PositiveIntegerField(
        "page limit", default=500, validators=[MinValueValidator(1), MaxValueValidator(MOST_PAGES)]
    )
    every_hours = models.PositiveIntegerField(
        "repeated every (hours)", default=0, validators=[MaxValueValidator(LONGEST_INTERVAL)]
    )
    # Of a bucket.
    endpoint = models.CharField(max_length=300, blank=True, default="")
    region = models.CharField(max_length=50, blank=True, default="")
    access_key = models.CharField(max_length=200, blank=True, default="")
    secret_key = EncryptedTextField(blank=True, default="", editable=False)
    # When it is due by itself; null where it runs by hand alone.
    next_run_at = models.DateTimeField("next run", null=True, blank=True, editable=False)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("-created",)
        indexes = [
            models.Index(fields=["next_run_at"], condition=Q(next_run_at__isnull=False), name="source_scheduled"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["collection", "kind", "location", "endpoint"],
                name="source_once",
                violation_error_message=TAKEN,
            ),
            models.CheckConstraint(condition=Q(kind__in=["site", "sitemap", "folder", "bucket"]), name="source_kind"),
            models.CheckConstraint(
                condition=Q(depth__lte=DEEPEST, max_pages__gte=1, max_pages__lte=MOST_PAGES), name="source_bounds"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def next_after(self, now: datetime.datetime) -> datetime.datetime | None:
        return now + datetime.timedelta(hours=self.every_hours) if self.every_hours else None


class RunQuerySet(SlicedQuerySet["SourceRun"]):
    def unfinished(self) -> RunQuerySet:
        return self.filter(state__in=[SourceRun.State.QUEUED, SourceRun.State.RUNNING])


class SourceRun(Sliced):
    """One visit of all pages of a source, done in slices: see crawl."""

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        FINISHED = "finished", "Finished"
        STOPPED = "stopped", "Stopped"
        FAILED = "failed", "Failed"

    source = models.ForeignKey(Source, on_delete=models.CASCADE, related_name="runs")
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    done = models.PositiveIntegerField(default=0, help_text="Pages that were looked at, of those that were found.")
    found = models.PositiveIntegerField(default=0)
    new = models.PositiveIntegerField(default=0)
    changed = models.PositiveIntegerField(default=0)
    unchanged = models.PositiveIntegerField(default=0)
    gone = models.PositiveIntegerField(default=0)
    refused = models.PositiveIntegerField(default=0)
    # Of the first of them: address, code and sentence.
    refusals = models.JSONField(default=list)
    # Whether the page limit kept it from looking at everything: then it does not say what is gone.
    cut = models.BooleanField(default=False)
    # Whether all pages were looked at, and what was absent is marked: what is left to do is to delete.
    judged = models.BooleanField(default=False)
    failure_code = models.CharField(max_length=50, blank=True, default="")
    failure_message = models.CharField(max_length=500, blank=True, default="")
    ended = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = RunQuerySet.as_manager()

    class Meta:
        verbose_name = "run"
        ordering = ("-created",)
        indexes = [
            models.Index(fields=["source", "-created"], name="run_of_source"),
            models.Index(fields=["next_slice_at"], condition=Q(state__in=["queued", "running"]), name="run_unfinished"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["source"], condition=Q(state__in=["queued", "running"]), name="run_one_at_a_time"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["queued", "running"], ended=None)
                | Q(state__in=["finished", "stopped", "failed"], ended__isnull=False),
                name="run_whole",
            ),
            models.CheckConstraint(condition=~Q(state="failed") | ~Q(failure_message=""), name="run_failure_says_why"),
        ]

    def __str__(self) -> str:
        return f"{self.get_state_display()}, {timezone.localtime(self.created):%d %B %Y, %H:%M}"


class SourcePage(TenantOwned):
    """One address of a source: how its last run came to it. `document` is what was made of it."""

    source = models.ForeignKey(Source, on_delete=models.CASCADE, related_name="pages", db_index=False)
    # A web address, a path below the folder, or a key in the bucket.
    address = models.CharField(max_length=LOCATION_CHARS)
    # Not a page, but what says where pages are: a sitemap, the folder, the bucket.
    listing = models.BooleanField(default=False)
    # The last run that came to it. What a listing said of its version then.
    run = models.ForeignKey(SourceRun, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    version = models.CharField(max_length=200, blank=True, default="")
    depth = models.PositiveSmallIntegerField(default=0)
    hops = models.PositiveSmallIntegerField(default=0, help_text="Redirects that led here, one after the other.")
    visited = models.BooleanField(default=False)
    # Within a run: the page led elsewhere, or there was nothing for us.
    moved = models.BooleanField(default=False)
    absent = models.BooleanField(default=False)
    # Within a run: another document had its content.
    duplicate = models.BooleanField(default=False)
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(default=timezone.now)
    # Complete runs in a row that did not find it.
    absences = models.PositiveSmallIntegerField(default=0)

    class Meta:
        verbose_name = "page of a source"
        verbose_name_plural = "pages of sources"
        indexes = [models.Index(fields=["run", "due_at"], condition=Q(visited=False), name="page_to_visit")]
        constraints = [models.UniqueConstraint(fields=["source", "address"], name="source_page_once")]

    def __str__(self) -> str:
        return self.address
