"""Attachments, and what brings them, are their tenant's alone."""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import Protect


class Migration(migrations.Migration):
    dependencies = [("conversations", "0015_attachments")]

    operations = [Protect("conversations", "Attachment"), Protect("conversations", "Attached")]
