"""What was told of limits, and which tenants are to be looked at."""

import django.contrib.postgres.indexes
import django.db.models.deletion
import django.utils.timezone
import uuid
from django.db import migrations, models

from apps.tenants.row_security import DefinerFunction, Protect

# The plan that holds for a tenant `t`, whose own row is `o`.
_PLAN = "coalesce(o.plan_id, (SELECT id FROM public.usage_plan WHERE is_default))"
_LIMITED = f"""
    EXISTS (SELECT FROM public.usage_quota q WHERE q.tenant_id = t.id)
    OR EXISTS (SELECT FROM public.usage_planlimit l WHERE l.plan_id = {_PLAN})
"""
_TENANTS = "public.tenants_tenant t LEFT JOIN public.usage_tenantplan o ON o.tenant_id = t.id"
_READS = {
    "tenants_tenant": ("id", "created"),
    "usage_tenantplan": ("tenant_id", "plan_id", "changed"),
    "usage_plan": ("id", "is_default", "changed"),
    "usage_planlimit": ("plan_id",),
    "usage_quota": ("tenant_id",),
}


class Migration(migrations.Migration):

    dependencies = [
        ('inference', '0006_rerank_and_waking'),
        ('tenants', '0005_row_level_security'),
        ('usage', '0009_ingestion'),
    ]

    operations = [
        migrations.CreateModel(
            name='LookedAt',
            fields=[
                ('only', models.BooleanField(default=True, editable=False, primary_key=True, serialize=False)),
                ('until', models.DateTimeField()),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('only', True)), name='looked_at_once')],
            },
        ),
        migrations.CreateModel(
            name='QuotaAlert',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('level', models.CharField(max_length=20, verbose_name='of whom')),
                ('subject', models.CharField(blank=True, default='', max_length=200)),
                ('known_as', models.CharField(blank=True, default='', max_length=200, verbose_name='which one')),
                ('metric', models.CharField(max_length=20, verbose_name='of what')),
                ('window', models.CharField(max_length=20, verbose_name='in which time')),
                ('begins', models.DateTimeField()),
                ('ends', models.DateTimeField()),
                ('threshold', models.PositiveSmallIntegerField(choices=[(80, '80%'), (100, 'All of it')], verbose_name='how much')),
                ('amount', models.DecimalField(decimal_places=0, max_digits=30)),
                ('used', models.DecimalField(decimal_places=0, max_digits=30)),
                ('hard', models.BooleanField(verbose_name='refuses more')),
                ('created', models.DateTimeField(default=django.utils.timezone.now, verbose_name='when')),
                ('told', models.BooleanField(default=True)),
                ('mail_at', models.DateTimeField(blank=True, null=True)),
                ('operators_at', models.DateTimeField(blank=True, null=True)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'verbose_name': 'limit reached',
                'verbose_name_plural': 'limits reached',
                'ordering': ('-created',),
                'indexes': [models.Index(fields=['tenant', '-created', '-id'], name='quota_alert_of_tenant'), models.Index(fields=['tenant', 'ends'], name='quota_alert_ends'), models.Index(condition=models.Q(('mail_at__isnull', False)), fields=['mail_at'], name='quota_alert_to_mail'), models.Index(condition=models.Q(('operators_at__isnull', False)), fields=['operators_at'], name='quota_alert_to_tell')],
                'constraints': [models.UniqueConstraint(fields=('tenant', 'level', 'subject', 'metric', 'window', 'begins', 'threshold', 'amount'), name='quota_alert_once')],
            },
        ),
        migrations.AddIndex(
            model_name='usagerecord',
            index=django.contrib.postgres.indexes.BrinIndex(fields=['settled_at'], name='usage_settled_brin'),
        ),
        Protect("usage", "QuotaAlert"),
        DefinerFunction(
            "tenants_to_look_at",
            "used_since timestamptz, changed_since timestamptz",
            "TABLE (tenant_id uuid)",
            f"""
                SELECT t.id FROM {_TENANTS} LEFT JOIN public.usage_plan p ON p.id = {_PLAN}
                WHERE ({_LIMITED}) AND (
                    greatest(o.changed, p.changed) >= changed_since
                    OR t.id IN (SELECT u.tenant_id FROM public.usage_usagerecord u WHERE u.settled_at >= used_since)
                )
            """,
            reads={**_READS, "usage_usagerecord": ("tenant_id", "settled_at")},
        ),
        DefinerFunction(
            "tenants_without_limits",
            "",
            "TABLE (tenant_id uuid)",
            f"SELECT t.id FROM {_TENANTS} WHERE NOT ({_LIMITED}) ORDER BY t.created",
            reads=_READS,
        ),
        DefinerFunction(
            "tenants_to_tell",
            "",
            "TABLE (tenant_id uuid)",
            """
                SELECT tenant_id FROM public.usage_quotaalert WHERE mail_at <= now()
                UNION SELECT tenant_id FROM public.usage_quotaalert WHERE operators_at <= now()
            """,
            reads={"usage_quotaalert": ("tenant_id", "mail_at", "operators_at")},
        ),
    ]
