"""A turn knows its assistant and end user by itself, and may stand without a conversation; its messages go with it."""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

# In one statement and not in batches: the columns become NOT NULL in the same migration.
FILL = """
    UPDATE conversations_turn AS turn SET assistant_id = conversation.assistant_id, end_user_id = conversation.end_user_id
    FROM conversations_conversation AS conversation WHERE conversation.id = turn.conversation_id
"""


def reference(to: str, *, null: bool, related_name: str = "turns") -> models.ForeignKey:
    return models.ForeignKey(to=to, on_delete=django.db.models.deletion.CASCADE, null=null, related_name=related_name)


class Migration(migrations.Migration):
    dependencies = [
        ("assistants", "0001_initial"),
        ("conversations", "0002_turn_turn_of_tenant_turn_turn_newest"),
        ("tenants", "0001_initial"),
    ]

    operations = [
        migrations.AddField("turn", "assistant", reference("assistants.assistant", null=True)),
        migrations.AddField("turn", "end_user", reference("tenants.enduser", null=True)),
        # Checked at once: PostgreSQL alters no table whose deferred checks still wait.
        migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", migrations.RunSQL.noop),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        migrations.AlterField("turn", "assistant", reference("assistants.assistant", null=False)),
        migrations.AlterField("turn", "end_user", reference("tenants.enduser", null=False)),
        migrations.AlterField("turn", "conversation", reference("conversations.conversation", null=True)),
        migrations.AlterField(
            "message", "conversation", reference("conversations.conversation", null=True, related_name="messages")
        ),
        migrations.AddField(
            "message",
            "turn",
            models.ForeignKey(
                to="conversations.turn",
                on_delete=django.db.models.deletion.CASCADE,
                null=True,
                related_name="+",
                db_index=False,
            ),
        ),
        migrations.AddIndex(
            "message", models.Index(fields=["turn"], condition=Q(turn__isnull=False), name="message_of_lone_turn")
        ),
        migrations.AddConstraint(
            "message",
            models.CheckConstraint(
                condition=Q(conversation__isnull=False, turn=None) | Q(conversation=None, turn__isnull=False),
                name="message_belongs_once",
            ),
        ),
    ]
