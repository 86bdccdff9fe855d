"""A turn keeps what its search had to do without."""

import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("conversations", "0016_attachments_row_level_security")]

    operations = [
        migrations.AddField(
            model_name="turn",
            name="degraded",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=100),
                db_default=[],
                default=list,
                help_text="What its search had to do without.",
                size=None,
            ),
        )
    ]
