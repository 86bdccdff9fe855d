"""What was asked before there were branches stands on one: each question follows the one before it in time."""

import uuid

from django.db import migrations

CONVERSATIONS = 500  # at a time, so that no turn waits long to be closed
NEXT = "SELECT id FROM conversations_conversation WHERE id > %s ORDER BY id LIMIT %s"
# Turns of one question share a parent: the latest turn of the question before.
LINK = """
    WITH asked AS (
        SELECT conversation_id, question_id, min(created) AS first,
            (array_agg(id ORDER BY created DESC, id DESC))[1] AS latest
        FROM conversations_turn WHERE conversation_id = ANY (%(conversations)s) GROUP BY conversation_id, question_id
    ), linked AS (
        SELECT question_id, lag(latest) OVER (PARTITION BY conversation_id ORDER BY first, question_id) AS parent
        FROM asked
    )
    UPDATE conversations_turn AS turn SET parent_id = linked.parent, begins = linked.parent IS NULL
    FROM linked
    WHERE turn.question_id = linked.question_id AND turn.conversation_id = ANY (%(conversations)s)
        AND turn.parent_id IS NULL AND NOT turn.begins
"""


def link(apps, schema_editor):
    after = uuid.UUID(int=0)
    with schema_editor.connection.cursor() as cursor:
        while True:
            cursor.execute(NEXT, [after, CONVERSATIONS])
            found = [conversation for (conversation,) in cursor.fetchall()]
            if not found:
                return
            cursor.execute(LINK, {"conversations": found})
            after = found[-1]


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("conversations", "0008_branches")]

    operations = [migrations.RunPython(link, migrations.RunPython.noop)]
