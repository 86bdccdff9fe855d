"""It wants a table that somebody does not let go of."""

from django.db import migrations

from apps.edge.table_locks import lock_together


class Migration(migrations.Migration):
    dependencies = [("widget", "0002_row_level_security")]

    operations = [
        migrations.RunSQL(f"DO $$ BEGIN {lock_together('widget_widget', without='web', patience='1 second')} END $$")
    ]
