"""The audit log's rows: who did what to which row, from where, each chained to the one before by its hash."""

from __future__ import annotations

import uuid

from django.db import models

from apps.tenants.models.tenant import Tenant
from apps.tenants.scoping import TenantOwned

# Whose chain holds what concerns no tenant. An id and not NULL, so that one policy serves all chains.
PLATFORM = uuid.UUID(int=0)


class AuditEntry(TenantOwned):
    """One deed. PostgreSQL alone writes them (the function audit_append), and lets nobody change or delete one.

    hash: SHA-256 over all other columns, `previous` first; audit_chain.py has the encoding. previous: the hash of the
    entry before, empty for the first of a chain. facts: names and words, never texts or secrets.
    """

    class Kind(models.TextChoices):
        USER = "user", "A person"
        KEY = "key", "An API key"
        OAUTH = "oauth", "An OAuth2 client"
        VISITOR = "visitor", "A visitor"
        COMMAND = "command", "A command"
        SYSTEM = "system", "Parley"

    # No constraint: the log outlives its tenant, and the platform's chain has none.
    tenant = models.ForeignKey(
        Tenant, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    seq = models.BigIntegerField()
    at = models.DateTimeField()
    actor_kind = models.CharField("kind of actor", max_length=16, choices=Kind)
    actor_id = models.CharField(max_length=64)
    actor_label = models.CharField(max_length=200)
    address = models.CharField(max_length=45)
    action = models.CharField(max_length=64)
    row_type = models.CharField(max_length=64)
    row_id = models.CharField(max_length=64)
    row_label = models.CharField(max_length=200)
    facts = models.JSONField(default=dict)
    request_id = models.CharField(max_length=64)
    previous = models.BinaryField(max_length=32)
    hash = models.BinaryField(max_length=32)

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"
        ordering = ("-at", "-id")
        constraints = [models.UniqueConstraint(fields=["tenant", "seq"], name="audit_entry_once")]
        indexes = [
            # The admin's list, newest first: a tenant's, a tenant's of one action, one row's story, the operators' all.
            models.Index(fields=["tenant", "-at", "-id"], name="audit_of_tenant"),
            models.Index(fields=["tenant", "action", "-at"], name="audit_of_action"),
            models.Index(fields=["tenant", "row_id"], name="audit_of_row"),
            models.Index(fields=["tenant", "actor_id", "-at"], name="audit_of_actor"),
            models.Index(fields=["-at", "-id"], name="audit_newest"),
        ]

    def __str__(self) -> str:
        return f"Entry {self.seq}: {self.action}"


class AuditHead(models.Model):
    """The last entry of a chain, by which a tail that was cut off is found. The app's role only reads it."""

    chain = models.UUIDField(primary_key=True)
    seq = models.BigIntegerField()
    hash = models.BinaryField(max_length=32)
