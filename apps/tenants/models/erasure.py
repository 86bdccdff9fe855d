"""What is left of a tenant that was erased: that it was."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class Erasure(models.Model):
    """Written before anything of a tenant is removed, and never removed itself: from then on it is not resumed, and an
    erasure that was cut short goes on.

    id: the tenant's. found: what there was of it when that began. manifest: as erasing.py signed it, once nothing was
    left.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    slug = models.CharField(max_length=63, db_index=True)
    began = models.DateTimeField(default=timezone.now)
    found = models.JSONField(default=dict)
    finished = models.DateTimeField(null=True)
    manifest = models.TextField(default="")

    def __str__(self) -> str:
        return f"Erasure of {self.slug}"
