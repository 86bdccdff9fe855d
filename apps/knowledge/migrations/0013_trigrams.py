"""The index by which words that are spelled otherwise find passages; built while passages are read and written."""

import django.contrib.postgres.indexes
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("knowledge", "0012_filters")]

    operations = [
        AddIndexConcurrently(
            "chunk",
            django.contrib.postgres.indexes.GinIndex(
                models.F("tenant"),
                django.contrib.postgres.indexes.OpClass(models.F("text"), name="gin_trgm_ops"),
                name="chunk_trigrams",
            ),
        )
    ]
