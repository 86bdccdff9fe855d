"""An index for the latest rows of all tenants' ledgers. It is built beside the product, which goes on writing."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("usage", "0011_coarser_rollups")]

    operations = [AddIndexConcurrently("usagerecord", models.Index(fields=["-created"], name="usage_latest"))]
