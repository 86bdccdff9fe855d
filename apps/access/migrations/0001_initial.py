"""Takes over the table of idempotency keys as it stands (conversations/0010)."""

import uuid

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = [("conversations", "0010_idempotency_keys"), ("tenants", "0005_row_level_security")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name="IdempotencyKey",
                    fields=[
                        (
                            "id",
                            models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False),
                        ),
                        ("key", models.CharField(max_length=200)),
                        ("route", models.CharField(db_default="", default="", max_length=100)),
                        ("fingerprint", models.CharField(max_length=64)),
                        ("turn_id", models.UUIDField(null=True)),
                        ("status", models.PositiveSmallIntegerField(null=True)),
                        ("body", models.TextField(db_default="", default="")),
                        ("created", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                        (
                            "end_user",
                            models.ForeignKey(
                                null=True,
                                on_delete=django.db.models.deletion.CASCADE,
                                related_name="+",
                                to="tenants.enduser",
                            ),
                        ),
                        (
                            "tenant",
                            models.ForeignKey(
                                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.tenant"
                            ),
                        ),
                    ],
                    options={
                        "db_table": "conversations_idempotencykey",
                        "indexes": [models.Index(fields=["tenant", "created"], name="idempotency_key_age")],
                        "constraints": [
                            models.UniqueConstraint(
                                fields=("tenant", "end_user", "key"),
                                name="idempotency_key_alone",
                                nulls_distinct=False,
                            )
                        ],
                    },
                )
            ]
        )
    ]
