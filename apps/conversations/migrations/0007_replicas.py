"""Processes that run turns, and what another one needs to take a turn over."""

import django.db.models.functions.datetime
from django.db import migrations, models

from apps.tenants.row_security import DefinerFunction


class Migration(migrations.Migration):

    dependencies = [
        ('conversations', '0006_row_level_security'),
    ]

    operations = [
        migrations.CreateModel(
            name='Replica',
            fields=[
                ('id', models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(help_text='Host and process.', max_length=200)),
                ('lock', models.BigIntegerField(help_text='Key of the advisory lock that it holds.', null=True)),
                ('started', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('beat', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('draining', models.BooleanField(db_default=False, default=False)),
            ],
            options={
                'ordering': ('started',),
            },
        ),
        migrations.AddField(
            model_name='turn',
            name='claimed_at',
            field=models.DateTimeField(help_text='When a replica took it over from another, last.', null=True),
        ),
        migrations.AddField(
            model_name='turn',
            name='ends_with',
            field=models.JSONField(db_default=[], default=list, help_text='What, announced as ended, stops the answer.'),
        ),
        migrations.AddField(
            model_name='turn',
            name='partial',
            field=models.TextField(blank=True, db_default='', default='', help_text='What was said at the last checkpoint.'),
        ),
        migrations.AddField(
            model_name='turn',
            name='stopping',
            field=models.BooleanField(db_default=False, default=False, help_text='Somebody asked it to stop.'),
        ),
        # Open, and run by no process that is alive. What was claimed or asked later than `before` is left out.
        DefinerFunction(
            "turns_orphaned",
            "before timestamptz",
            "TABLE (tenant_id uuid, id uuid)",
            """
            SELECT t.tenant_id, t.id FROM public.conversations_turn t
            WHERE t.state IN ('queued', 'running') AND coalesce(t.claimed_at, t.created) < before
                AND NOT EXISTS (SELECT FROM public.conversations_replica r WHERE r.id = t.replica)
            ORDER BY t.created LIMIT 1000
            """,
            reads={
                "conversations_turn": ("tenant_id", "id", "state", "created", "claimed_at", "replica"),
                "conversations_replica": ("id",),
            },
        ),
    ]
