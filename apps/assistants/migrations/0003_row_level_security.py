"""Each tenant's rows are shown in its own scope alone, and point to no other's."""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import Protect


class Migration(migrations.Migration):
    dependencies = [("knowledge", "0008_row_level_security"), ("assistants", "0002_visitor_origins")]

    operations = [
        Protect("assistants", "Prompt"),
        Protect("assistants", "PromptVersion"),
        Protect("assistants", "Assistant"),
        Protect("assistants", "AssistantCollection"),
    ]
