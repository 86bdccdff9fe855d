"""How the vectors of an embedding index are searched: each compared with the question, or by an HNSW index."""

from __future__ import annotations

import datetime
from typing import NamedTuple

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.tenants.scoping import TenantOwned

# Neighbours that a search of an HNSW index keeps in sight: the more, the surer it finds the nearest, and the slower.
# The steps are small where most indexes find enough.
EFS = (100, 140, 160, 180, 200, 220, 240, 280, 400, 800)
MOST_DIMENSIONS = 4000  # of a halfvec that pgvector builds HNSW indexes of
# An index that is built before the documents are in takes up each further one slowly, so their end is waited for.
LONGEST_WAIT = datetime.timedelta(minutes=30)


class Verdict(NamedTuple):
    """Whether it should have an HNSW index, and why, as a sentence; none where there is nothing to say.

    waits: it should have one, and the end of its documents is waited for.
    """

    indexed: bool
    reason: str
    waits: bool = False


class Layout(TenantOwned):
    """Of an embedding index without a row, every vector is compared.

    A search may read it at any time, and finds its passages whether the HNSW index is there or not: `indexed` only says
    that one may be used (migrations/0018_layouts.py).
    """

    class Choice(models.TextChoices):
        AUTOMATIC = "automatic", "Automatic"
        EXACT = "exact", "Exact"
        INDEXED = "indexed", "Indexed"

    class State(models.TextChoices):
        EXACT = "exact", "Exact"
        BUILDING = "building", "Building"
        INDEXED = "indexed", "Indexed"

    index = models.OneToOneField(
        "knowledge.EmbeddingIndex", on_delete=models.CASCADE, related_name="layout", editable=False
    )
    choice = models.CharField(max_length=10, choices=Choice, default=Choice.AUTOMATIC)
    state = models.CharField(max_length=10, choices=State, default=State.EXACT, editable=False)
    since = models.DateTimeField("since", default=timezone.now, editable=False)
    reason = models.CharField(max_length=300, blank=True, editable=False)
    # Live vectors, as last counted: of all collections, and of each, since a search may ask few of them.
    passages = models.PositiveIntegerField(default=0, editable=False)
    by_collection = models.JSONField(default=dict, editable=False)
    # A search among as many or fewer compares each, also where there is an HNSW index.
    exact_up_to = models.PositiveIntegerField(editable=False)
    ef_search = models.PositiveSmallIntegerField("ef", default=EFS[0], editable=False)
    # Since when it should have an HNSW index, and until when none is built: one failed, or found too little.
    wanted_since = models.DateTimeField(null=True, editable=False)
    not_before = models.DateTimeField(null=True, editable=False)
    # Of the nearest ten, the share that searches by the HNSW index find, as last measured with so many questions.
    recall_at_10 = models.FloatField("recall@10", null=True, editable=False)
    measured_with = models.PositiveSmallIntegerField(default=0, editable=False)
    measured_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ("-passages", "pk")
        indexes = [
            models.Index(fields=["-passages", "id"], name="layout_largest"),
            models.Index(fields=["tenant"], condition=~Q(state="exact"), name="layout_indexed"),
        ]

    def __str__(self) -> str:
        return f"Layout of {self.index}"

    def verdict(self, *, quiet: bool, rank: int, now: datetime.datetime) -> Verdict:
        """quiet: no vector came or went since the last look. rank: how many with an HNSW index have more vectors. It
        comes with its `index`."""
        settled = self._settled(now)
        if settled:
            return settled
        above, most = settings.PARLEY_INDEX_ABOVE, settings.PARLEY_MOST_INDEXES
        has_one = self.state == self.State.INDEXED
        if self.passages <= (above // 2 if has_one else above):
            return Verdict(False, "")
        if rank >= most:
            return Verdict(False, f"There may be {most:,} HNSW indexes, and larger ones have them.")
        until = (self.wanted_since or now) + LONGEST_WAIT
        if not has_one and not quiet and now < until:
            reason = f"It gets an HNSW index when no passages come or go any more, or at {until:%H:%M} UTC."
            return Verdict(False, reason, waits=True)
        return Verdict(True, f"It grew beyond {above:,} passages.")

    def _settled(self, now: datetime.datetime) -> Verdict | None:
        """What is so, whatever its size."""
        if self.index.dimension > MOST_DIMENSIONS:
            return Verdict(False, f"An HNSW index takes vectors of {MOST_DIMENSIONS:,} dimensions at most.")
        if self.choice == self.Choice.EXACT:
            return Verdict(False, "An operator chose this.")
        if self.not_before and self.not_before > now:
            return Verdict(False, self.reason)
        return Verdict(True, "An operator chose this.") if self.choice == self.Choice.INDEXED else None
