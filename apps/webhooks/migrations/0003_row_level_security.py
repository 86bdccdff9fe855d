"""Each tenant's rows are shown in its own scope alone, and point to no other's."""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import Protect


class Migration(migrations.Migration):
    dependencies = [("tenants", "0005_row_level_security"), ("webhooks", "0002_lookups")]

    operations = [
        Protect("webhooks", "Webhook"),
        Protect("webhooks", "Delivery"),
    ]
