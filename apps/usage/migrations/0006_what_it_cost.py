"""The ledger tells what was used, by which program, of which model, at what price; and what may still be."""

from django.db import migrations, models

KINDS = "UPDATE usage_usagerecord SET kind = 'embeddings' WHERE turn_id IS NULL"
MONEY = {"max_digits": 18, "decimal_places": 8, "default": 0, "db_default": 0}


class Migration(migrations.Migration):
    dependencies = [("usage", "0005_row_level_security")]

    operations = [
        migrations.AddField(
            "usagerecord",
            "kind",
            models.CharField(
                choices=[("turn", "Turn"), ("embeddings", "Embeddings"), ("ingestion", "Embeddings of documents")],
                db_default="turn",
                default="turn",
                max_length=10,
            ),
        ),
        migrations.RunSQL(KINDS, migrations.RunSQL.noop),
        migrations.AddField("usagerecord", "oauth_client_id", models.UUIDField(null=True)),
        migrations.AddField(
            "usagerecord", "model", models.CharField(blank=True, db_default="", default="", max_length=200)
        ),
        migrations.AddField("usagerecord", "cost", models.DecimalField(**MONEY)),
        migrations.AddField("usagerecord", "reserved_tokens", models.PositiveIntegerField(db_default=0, default=0)),
        migrations.AddField("usagerecord", "reserved_cost", models.DecimalField(**MONEY)),
    ]
