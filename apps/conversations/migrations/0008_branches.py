"""A turn knows the one before it on its branch, and the one whose answer it goes on with."""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

from apps.tenants.row_security import BindReferences


def turn(**how: object) -> models.ForeignKey:
    return models.ForeignKey(
        to="conversations.turn", on_delete=django.db.models.deletion.CASCADE, null=True, related_name="+", **how
    )


class Migration(migrations.Migration):
    dependencies = [("conversations", "0007_replicas")]

    operations = [
        migrations.AddField("turn", "parent", turn()),
        migrations.AddField("turn", "begins", models.BooleanField(default=False, db_default=False)),
        migrations.AddField(
            "turn",
            "continues",
            turn(db_index=False, help_text="The turn whose answer this one's begins with."),
        ),
        migrations.AddIndex(
            "turn", models.Index(fields=["continues"], condition=Q(continues__isnull=False), name="turn_continued")
        ),
        BindReferences("conversations", "Turn"),
    ]
