"""Documents that wait for a quota, and which tenants have any."""

from django.conf import settings
from django.db import migrations, models

from apps.tenants.row_security import DefinerFunction


class Migration(migrations.Migration):

    dependencies = [
        ('knowledge', '0008_row_level_security'),
        ('tenants', '0005_row_level_security'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='document',
            name='document_status',
        ),
        migrations.AddField(
            model_name='document',
            name='needs',
            field=models.PositiveBigIntegerField(db_default=0, default=0, editable=False),
        ),
        migrations.AddField(
            model_name='document',
            name='needs_metric',
            field=models.CharField(blank=True, db_default='', default='', editable=False, max_length=10),
        ),
        migrations.AlterField(
            model_name='document',
            name='status',
            field=models.CharField(choices=[('queued', 'Queued'), ('extracting', 'Extracting'), ('chunking', 'Chunking'), ('embedding', 'Embedding'), ('waiting', 'Waiting for a quota'), ('ready', 'Ready'), ('retrying', 'Retrying'), ('failed', 'Failed')], default='queued', max_length=12),
        ),
        migrations.AddConstraint(
            model_name='document',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['queued', 'extracting', 'chunking', 'embedding', 'waiting', 'ready', 'retrying', 'failed'])), name='document_status'),
        ),
        DefinerFunction(
            "tenants_with_waiting_documents",
            "moment timestamptz",
            "TABLE (tenant_id uuid)",
            """
            SELECT DISTINCT tenant_id FROM public.knowledge_document
            WHERE status = 'waiting' AND next_attempt_at > moment
            """,
            reads={"knowledge_document": ("tenant_id", "status", "next_attempt_at")},
        ),
    ]
