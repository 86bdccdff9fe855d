"""Idempotency keys serve every request that creates, so they belong to the doors: apps.access has the model from now on.

The table stays where the release before looks for it, and keeps what that one writes.
"""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("conversations", "0009_parents"), ("tenants", "0005_row_level_security")]

    operations = [
        migrations.AlterField(
            "idempotencykey",
            "end_user",
            models.ForeignKey(
                to="tenants.enduser", on_delete=django.db.models.deletion.CASCADE, null=True, related_name="+"
            ),
        ),
        # Named by its id alone. Whoever deletes a turn need not look for its keys any more.
        migrations.RunSQL(
            "ALTER TABLE conversations_idempotencykey DROP CONSTRAINT conversations_idempotencykey_turn_id_of_tenant",
            migrations.RunSQL.noop,
        ),
        migrations.AlterField(
            "idempotencykey",
            "turn",
            models.ForeignKey(
                to="conversations.turn",
                on_delete=django.db.models.deletion.CASCADE,
                null=True,
                related_name="+",
                db_constraint=False,
                db_index=False,
            ),
        ),
        migrations.AddField("idempotencykey", "route", models.CharField(default="", db_default="", max_length=100)),
        migrations.AddField("idempotencykey", "status", models.PositiveSmallIntegerField(null=True)),
        migrations.AddField("idempotencykey", "body", models.TextField(default="", db_default="")),
        migrations.AddIndex(
            "idempotencykey", models.Index(fields=["tenant", "created"], name="idempotency_key_age")
        ),
        migrations.AddConstraint(
            "idempotencykey",
            models.UniqueConstraint(
                fields=["tenant", "end_user", "key"], name="idempotency_key_alone", nulls_distinct=False
            ),
        ),
        migrations.RemoveConstraint("idempotencykey", "idempotency_key_once"),
        migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel("IdempotencyKey")]),
    ]
