"""A record of no turn is that of a call for embeddings."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("usage", "0002_usagerecord_assistant_id")]

    operations = [migrations.AlterField("usagerecord", "turn_id", models.UUIDField(null=True, unique=True))]
