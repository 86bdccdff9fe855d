"""A second embedding index of a collection, built beside the one in use."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.db.models import Q

from apps.knowledge.slice_models import Sliced, SlicedQuerySet


class SecondIndexQuerySet(SlicedQuerySet["SecondIndex"]):
    def unfinished(self) -> SecondIndexQuerySet:
        return self.exclude(state__in=SecondIndex.AT_REST)


class SecondIndex(Sliced):
    """The index that a collection has beside the one in use: see second. Switching exchanges the two."""

    class State(models.TextChoices):
        BUILDING = "building", "Building"
        WAITING = "waiting", "Waiting for a quota"
        RETRYING = "retrying", "Retrying"
        READY = "ready", "Ready"
        FAILED = "failed", "Failed"
        DROPPING = "dropping", "Dropping"

    AT_REST: ClassVar = (State.READY, State.FAILED)  # no worker has anything to do

    collection = models.OneToOneField("knowledge.Collection", on_delete=models.CASCADE, related_name="second_index")
    index = models.ForeignKey("knowledge.EmbeddingIndex", on_delete=models.RESTRICT, related_name="+")
    state = models.CharField(max_length=10, choices=State, default=State.BUILDING)
    # It was the one in use: the collection has switched to the other.
    switched = models.BooleanField(default=False)
    # Passages that questions find, and those of them that have a vector in it, as far as was counted.
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    # Passages went live without a vector in it since its worker last looked for those.
    behind = models.BooleanField(default=False)
    failure_code = models.CharField(max_length=50, blank=True, default="")
    failure_message = models.CharField(max_length=500, blank=True, default="")

    objects: ClassVar[Any] = SecondIndexQuerySet.as_manager()

    class Meta:
        verbose_name = "second index"
        verbose_name_plural = "second indexes"
        indexes = [
            models.Index(
                fields=["next_slice_at"], condition=~Q(state__in=["ready", "failed"]), name="second_index_unfinished"
            )
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["building", "waiting", "retrying", "ready", "failed", "dropping"]),
                name="second_index_state",
            ),
            models.CheckConstraint(
                condition=~Q(state="failed") | ~Q(failure_message=""), name="second_index_failure_says_why"
            ),
        ]

    def __str__(self) -> str:
        return str(self.index)
