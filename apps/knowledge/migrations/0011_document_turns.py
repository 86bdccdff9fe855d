"""The order in which documents are taken up."""

from django.conf import settings
from django.db import migrations, models

from apps.tenants.row_security import DefinerFunction


class Migration(migrations.Migration):

    dependencies = [
        ('knowledge', '0010_tombstones'),
        ('tenants', '0005_row_level_security'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddIndex(
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
