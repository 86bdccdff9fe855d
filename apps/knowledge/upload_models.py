"""Files that come in pieces, for as long as they are not whole."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from apps.tenants.models import User
from apps.tenants.scoping import TenantOwned


class Upload(TenantOwned):
    """A file of which `offset` bytes have come; with the last of them it becomes a document, or several.

    `parts` names its pieces in the storage, in order. `promised`: bytes that count as kept until then. `results`: what
    became of it, so that whoever lost the last answer can ask again.
    """

    collection = models.ForeignKey("knowledge.Collection", on_delete=models.CASCADE, related_name="+")
    file_name = models.CharField(max_length=255)
    title = models.CharField(max_length=300, blank=True)
    language = models.CharField(max_length=10, blank=True, default="", help_text="As somebody said it is in.")
    size = models.PositiveBigIntegerField(help_text="Bytes")
    sha256 = models.CharField(max_length=64, blank=True)
    offset = models.PositiveBigIntegerField(default=0)
    promised = models.PositiveBigIntegerField()
    parts = ArrayField(models.CharField(max_length=300), default=list, blank=True)
    results = models.JSONField(default=list, blank=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created = models.DateTimeField(default=timezone.now, editable=False)
    expires = models.DateTimeField()

    class Meta:
        ordering = ("-created",)
        indexes = [
            models.Index(fields=["expires"], name="upload_expiry"),
            models.Index(fields=["tenant", "collection"], name="upload_promises"),
        ]
        constraints = [models.CheckConstraint(condition=Q(offset__lte=F("size")), name="upload_within_size")]

    def __str__(self) -> str:
        return self.file_name

    @property
    def is_whole(self) -> bool:
        return self.offset == self.size
