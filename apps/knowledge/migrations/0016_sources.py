"""Sources that bring many documents: their runs, their pages, and which tenants have any that are due."""

import apps.edge.encryption
import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import django.utils.timezone
import uuid
from django.conf import settings
from django.db import migrations, models

from apps.tenants.row_security import BindReferences, DefinerFunction, Protect


class Migration(migrations.Migration):

    dependencies = [
        ('knowledge', '0015_judgements'),
        ('tenants', '0005_row_level_security'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='document',
            name='modified',
            field=models.CharField(blank=True, db_default='', default='', editable=False, max_length=200),
        ),
        migrations.CreateModel(
            name='Source',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=100)),
                ('kind', models.CharField(choices=[('site', 'Web site'), ('sitemap', 'Sitemap'), ('folder', 'Folder'), ('bucket', 'Bucket')], max_length=10)),
                ('location', models.CharField(max_length=2000)),
                ('depth', models.PositiveSmallIntegerField(default=3, validators=[django.core.validators.MaxValueValidator(10)])),
                ('hosts', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=253), blank=True, default=list, size=None)),
                ('max_pages', models.PositiveIntegerField(default=500, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(10000)], verbose_name='page limit')),
                ('every_hours', models.PositiveIntegerField(default=0, validators=[django.core.validators.MaxValueValidator(8784)], verbose_name='repeated every (hours)')),
                ('endpoint', models.CharField(blank=True, default='', max_length=300)),
                ('region', models.CharField(blank=True, default='', max_length=50)),
                ('access_key', models.CharField(blank=True, default='', max_length=200)),
                ('secret_key', apps.edge.encryption.EncryptedTextField(blank=True, default='', editable=False)),
                ('next_run_at', models.DateTimeField(blank=True, editable=False, null=True, verbose_name='next run')),
                ('created', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('collection', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='sources', to='knowledge.collection')),
                ('created_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'ordering': ('-created',),
            },
        ),
        migrations.CreateModel(
            name='SourcePage',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('address', models.CharField(max_length=2000)),
                ('listing', models.BooleanField(default=False)),
                ('version', models.CharField(blank=True, default='', max_length=200)),
                ('depth', models.PositiveSmallIntegerField(default=0)),
                ('hops', models.PositiveSmallIntegerField(default=0, help_text='Redirects that led here, one after the other.')),
                ('visited', models.BooleanField(default=False)),
                ('moved', models.BooleanField(default=False)),
                ('absent', models.BooleanField(default=False)),
                ('duplicate', models.BooleanField(default=False)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('due_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('absences', models.PositiveSmallIntegerField(default=0)),
                ('source', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='pages', to='knowledge.source')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'verbose_name': 'page of a source',
                'verbose_name_plural': 'pages of sources',
            },
        ),
        migrations.AddField(
            model_name='document',
            name='source_page',
            field=models.OneToOneField(blank=True, editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='document', to='knowledge.sourcepage'),
        ),
        migrations.CreateModel(
            name='SourceRun',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('state', models.CharField(choices=[('queued', 'Queued'), ('running', 'Running'), ('finished', 'Finished'), ('stopped', 'Stopped'), ('failed', 'Failed')], default='queued', max_length=10)),
                ('done', models.PositiveIntegerField(default=0, help_text='Pages that were looked at, of those that were found.')),
                ('found', models.PositiveIntegerField(default=0)),
                ('new', models.PositiveIntegerField(default=0)),
                ('changed', models.PositiveIntegerField(default=0)),
                ('unchanged', models.PositiveIntegerField(default=0)),
                ('gone', models.PositiveIntegerField(default=0)),
                ('refused', models.PositiveIntegerField(default=0)),
                ('refusals', models.JSONField(default=list)),
                ('cut', models.BooleanField(default=False)),
                ('judged', models.BooleanField(default=False)),
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
                ('ended', models.DateTimeField(blank=True, null=True)),
                ('source', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='runs', to='knowledge.source')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'verbose_name': 'run',
                'ordering': ('-created',),
            },
        ),
        migrations.AddField(
            model_name='sourcepage',
            name='run',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='knowledge.sourcerun'),
        ),
        migrations.AddIndex(
            model_name='source',
            index=models.Index(condition=models.Q(('next_run_at__isnull', False)), fields=['next_run_at'], name='source_scheduled'),
        ),
        migrations.AddConstraint(
            model_name='source',
            constraint=models.UniqueConstraint(fields=('collection', 'kind', 'location', 'endpoint'), name='source_once', violation_error_message='Another source of this collection begins there.'),
        ),
        migrations.AddConstraint(
            model_name='source',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['site', 'sitemap', 'folder', 'bucket'])), name='source_kind'),
        ),
        migrations.AddConstraint(
            model_name='source',
            constraint=models.CheckConstraint(condition=models.Q(('depth__lte', 10), ('max_pages__gte', 1), ('max_pages__lte', 10000)), name='source_bounds'),
        ),
        migrations.AddIndex(
            model_name='sourcerun',
            index=models.Index(fields=['source', '-created'], name='run_of_source'),
        ),
        migrations.AddIndex(
            model_name='sourcerun',
            index=models.Index(condition=models.Q(('state__in', ['queued', 'running'])), fields=['next_slice_at'], name='run_unfinished'),
        ),
        migrations.AddConstraint(
            model_name='sourcerun',
            constraint=models.UniqueConstraint(condition=models.Q(('state__in', ['queued', 'running'])), fields=('source',), name='run_one_at_a_time'),
        ),
        migrations.AddConstraint(
            model_name='sourcerun',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('ended', None), ('state__in', ['queued', 'running'])), models.Q(('ended__isnull', False), ('state__in', ['finished', 'stopped', 'failed'])), _connector='OR'), name='run_whole'),
        ),
        migrations.AddConstraint(
            model_name='sourcerun',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'failed'), _negated=True), models.Q(('failure_message', ''), _negated=True), _connector='OR'), name='run_failure_says_why'),
        ),
        migrations.AddIndex(
            model_name='sourcepage',
            index=models.Index(condition=models.Q(('visited', False)), fields=['run', 'due_at'], name='page_to_visit'),
        ),
        migrations.AddConstraint(
            model_name='sourcepage',
            constraint=models.UniqueConstraint(fields=('source', 'address'), name='source_page_once'),
        ),
        Protect('knowledge', 'Source'),
        Protect('knowledge', 'SourceRun'),
        Protect('knowledge', 'SourcePage'),
        BindReferences('knowledge', 'Document'),
        DefinerFunction(
            'tenants_with_due_sources',
            'moment timestamptz',
            'TABLE (tenant_id uuid)',
            """
            SELECT tenant_id FROM public.knowledge_source WHERE next_run_at <= moment
            UNION
            SELECT tenant_id FROM public.knowledge_sourcerun
            WHERE state IN ('queued', 'running') AND (lease_until IS NULL OR lease_until < moment)
              AND next_slice_at <= moment
            """,
            reads={
                'knowledge_source': ('tenant_id', 'next_run_at'),
                'knowledge_sourcerun': ('tenant_id', 'state', 'lease_until', 'next_slice_at'),
            },
        ),
    ]
