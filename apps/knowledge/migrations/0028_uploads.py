"""Uploads that come in pieces, and which tenants have any that nobody goes on with."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.utils.timezone
import uuid
from django.conf import settings
from django.db import migrations, models

from apps.tenants.row_security import DefinerFunction, Protect


class Migration(migrations.Migration):

    dependencies = [
        ('knowledge', '0025_hybrid_by_language'),
        ('tenants', '0005_row_level_security'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Upload',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('file_name', models.CharField(max_length=255)),
                ('title', models.CharField(blank=True, max_length=300)),
                ('language', models.CharField(blank=True, default='', help_text='As somebody said it is in.', max_length=10)),
                ('size', models.PositiveBigIntegerField(help_text='Bytes')),
                ('sha256', models.CharField(blank=True, max_length=64)),
                ('offset', models.PositiveBigIntegerField(default=0)),
                ('promised', models.PositiveBigIntegerField()),
                ('parts', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=300), blank=True, default=list, size=None)),
                ('results', models.JSONField(blank=True, default=list)),
                ('created', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('expires', models.DateTimeField()),
                ('collection', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='knowledge.collection')),
                ('created_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'ordering': ('-created',),
                'indexes': [models.Index(fields=['expires'], name='upload_expiry'), models.Index(fields=['tenant', 'collection'], name='upload_promises')],
                'constraints': [models.CheckConstraint(condition=models.Q(('offset__lte', models.F('size'))), name='upload_within_size')],
            },
        ),
        Protect('knowledge', 'Upload'),
        DefinerFunction(
            'tenants_with_expired_uploads',
            'moment timestamptz',
            'TABLE (tenant_id uuid)',
            'SELECT DISTINCT tenant_id FROM public.knowledge_upload WHERE expires <= moment',
            reads={'knowledge_upload': ('tenant_id', 'expires')},
        ),
    ]
