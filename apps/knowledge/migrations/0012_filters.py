"""By what searches can be narrowed: tags of documents, and fields that a collection declares."""

import django.contrib.postgres.fields
from django.db import migrations, models

import apps.knowledge.models


class Migration(migrations.Migration):

    dependencies = [("knowledge", "0011_document_turns")]

    operations = [
        migrations.AddField(
            model_name="collection",
            name="fields",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=40),
                blank=True,
                db_default=[],
                default=list,
                help_text="Names of your own by which its documents can be told apart in a search, such as department.",
                size=None,
                validators=[apps.knowledge.models.validate_fields],
            ),
        ),
        migrations.AddField(
            model_name="document",
            name="tags",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=50), blank=True, db_default=[], default=list, size=None
            ),
        ),
        migrations.AddField(
            model_name="document", name="fields", field=models.JSONField(blank=True, db_default={}, default=dict)
        ),
    ]
