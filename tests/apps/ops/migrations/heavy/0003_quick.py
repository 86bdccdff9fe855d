"""Nobody notices this one."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("widget", "0002_row_level_security")]

    operations = [
        migrations.CreateModel(
            name="Note",
            fields=[("id", models.BigAutoField(primary_key=True)), ("text", models.TextField())],
        ),
        migrations.AddField("note", "later", models.TextField(null=True)),
    ]
