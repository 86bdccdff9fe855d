"""Each tenant's rows are shown in its own scope alone, and point to no other's."""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import Protect


class Migration(migrations.Migration):
    dependencies = [("assistants", "0003_row_level_security"), ("conversations", "0005_lookups")]

    operations = [
        Protect("conversations", "Conversation"),
        Protect("conversations", "Message"),
        Protect("conversations", "Turn"),
        Protect("conversations", "Feedback"),
        Protect("conversations", "IdempotencyKey"),
    ]
