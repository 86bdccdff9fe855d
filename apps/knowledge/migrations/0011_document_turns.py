"""The order in which documents are taken up; its index is built while they are."""

from django.conf import settings
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

from apps.tenants.row_security import DefinerFunction


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ('knowledge', '0010_tombstones'),
        ('tenants', '0005_row_level_security'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='document',
            index=models.Index(condition=models.Q(('status__in', ['ready', 'failed']), _negated=True), fields=['tenant', 'created'], include=('size', 'status', 'next_attempt_at', 'lease_until'), name='document_turns'),
        ),
        DefinerFunction(
            "queued_documents",
            "moment timestamptz",
            "TABLE (tenant_id uuid, large boolean, documents bigint)",
            """
            SELECT tenant_id, size > 4194304, count(*) FROM public.knowledge_document
            WHERE status = 'queued' AND (lease_until IS NULL OR lease_until < moment)
            GROUP BY 1, 2
            """,
            reads={"knowledge_document": ("tenant_id", "status", "size", "lease_until")},
        ),
    ]
