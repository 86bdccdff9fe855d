"""Second indexes of collections, and which tenants have any that a worker is to go on with."""

import django.db.models.deletion
import django.utils.timezone
import uuid
from django.db import migrations, models

from apps.tenants.row_security import DefinerFunction, Protect


class Migration(migrations.Migration):

    dependencies = [
        ('knowledge', '0021_vectors_with_two_keys'),
        ('tenants', '0005_row_level_security'),
    ]

    operations = [
        migrations.CreateModel(
            name='SecondIndex',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('state', models.CharField(choices=[('building', 'Building'), ('waiting', 'Waiting for a quota'), ('retrying', 'Retrying'), ('ready', 'Ready'), ('failed', 'Failed'), ('dropping', 'Dropping')], default='building', max_length=10)),
                ('switched', models.BooleanField(default=False)),
                ('done', models.PositiveIntegerField(default=0)),
                ('total', models.PositiveIntegerField(default=0)),
                ('behind', models.BooleanField(default=False)),
                ('failure_code', models.CharField(blank=True, default='', max_length=50)),
                ('failure_message', models.CharField(blank=True, default='', max_length=500)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('slices', models.PositiveIntegerField(default=0)),
                ('is_sent', models.BooleanField(default=False)),
                ('lease_until', models.DateTimeField(blank=True, null=True)),
                ('lease_token', models.UUIDField(blank=True, editable=False, null=True)),
                ('next_slice_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('created', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('updated', models.DateTimeField(auto_now=True)),
                ('collection', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='second_index', to='knowledge.collection')),
                ('index', models.ForeignKey(on_delete=django.db.models.deletion.RESTRICT, related_name='+', to='knowledge.embeddingindex')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'verbose_name': 'second index',
                'verbose_name_plural': 'second indexes',
                'indexes': [models.Index(condition=models.Q(('state__in', ['ready', 'failed']), _negated=True), fields=['next_slice_at'], name='second_index_unfinished')],
                'constraints': [models.CheckConstraint(condition=models.Q(('state__in', ['building', 'waiting', 'retrying', 'ready', 'failed', 'dropping'])), name='second_index_state'), models.CheckConstraint(condition=models.Q(models.Q(('state', 'failed'), _negated=True), models.Q(('failure_message', ''), _negated=True), _connector='OR'), name='second_index_failure_says_why')],
            },
        ),
        Protect('knowledge', 'SecondIndex'),
        DefinerFunction(
            'tenants_with_due_indexes',
            'moment timestamptz',
            'TABLE (tenant_id uuid)',
            """
            SELECT DISTINCT tenant_id FROM public.knowledge_secondindex
            WHERE state NOT IN ('ready', 'failed') AND (lease_until IS NULL OR lease_until < moment)
              AND next_slice_at <= moment
            """,
            reads={'knowledge_secondindex': ('tenant_id', 'state', 'lease_until', 'next_slice_at')},
        ),
    ]
