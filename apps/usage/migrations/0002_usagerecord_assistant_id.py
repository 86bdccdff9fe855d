"""A record names the assistant that answered, by id alone, so that usage can be told by assistant."""

from django.db import migrations, models

FILL = """
    UPDATE usage_usagerecord AS record SET assistant_id = turn.assistant_id
    FROM conversations_turn AS turn WHERE turn.id = record.turn_id
"""


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0001_initial"),
        ("conversations", "0003_turns_without_a_conversation"),
    ]

    operations = [
        migrations.AddField("usagerecord", "assistant_id", models.UUIDField(null=True)),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
    ]
