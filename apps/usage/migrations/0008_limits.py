"""Plans, quotas and grants. Each change of whose use is counted gives their limits a new version."""

import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
import django.utils.timezone
import uuid
from django.conf import settings
from django.db import migrations, models

from apps.tenants.row_security import Protect


# A plan's or a tenant's moment is later after each change of its limits, by whichever way it came.
TRIGGERS = """
    CREATE FUNCTION usage_plan_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE usage_plan SET changed = clock_timestamp() WHERE id IN (OLD.plan_id, NEW.plan_id);
        RETURN NULL;
    END $$;
    CREATE FUNCTION usage_row_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.changed = clock_timestamp();
        RETURN NEW;
    END $$;
    CREATE FUNCTION usage_quota_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        whose uuid = coalesce(NEW.tenant_id, OLD.tenant_id);
    BEGIN
        IF EXISTS (SELECT FROM tenants_tenant WHERE id = whose) THEN
            INSERT INTO usage_tenantplan (id, tenant_id) VALUES (gen_random_uuid(), whose)
            ON CONFLICT (tenant_id) DO UPDATE SET changed = clock_timestamp();
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON usage_planlimit
        FOR EACH ROW EXECUTE FUNCTION usage_plan_changed();
    CREATE TRIGGER changed BEFORE UPDATE OF name, is_default ON usage_plan
        FOR EACH ROW EXECUTE FUNCTION usage_row_changed();
    CREATE TRIGGER changed BEFORE UPDATE ON usage_tenantplan
        FOR EACH ROW EXECUTE FUNCTION usage_row_changed();
    CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON usage_quota
        FOR EACH ROW EXECUTE FUNCTION usage_quota_changed();
"""
UNTRIGGERS = """
    DROP TRIGGER changed ON usage_planlimit;
    DROP TRIGGER changed ON usage_plan;
    DROP TRIGGER changed ON usage_tenantplan;
    DROP TRIGGER changed ON usage_quota;
    DROP FUNCTION usage_plan_changed(), usage_row_changed(), usage_quota_changed();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0005_row_level_security'),
        ("usage", "0007_rollups"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Plan',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, unique=True)),
                ('description', models.TextField(blank=True)),
                ('is_default', models.BooleanField(default=False, verbose_name='for tenants without a plan')),
                ('changed', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
            options={
                'ordering': ('name',),
                'constraints': [models.UniqueConstraint(condition=models.Q(('is_default', True)), fields=('is_default',), name='plan_one_default', violation_error_message='Another plan is the one for tenants without a plan.')],
            },
        ),
        migrations.CreateModel(
            name='TenantPlan',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('changed', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('plan', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='usage.plan')),
                ('tenant', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'verbose_name': 'plan of a tenant',
                'verbose_name_plural': 'plans of tenants',
            },
        ),
        migrations.CreateModel(
            name='Grant',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('level', models.CharField(choices=[('tenant', 'The tenant as a whole'), ('assistant', 'Assistant'), ('key', 'API key'), ('client', 'OAuth2 client'), ('scope', 'Scope'), ('user', 'End user'), ('visitor', 'Visitor of a web site')], default='tenant', max_length=10, verbose_name='of whom')),
                ('metric', models.CharField(choices=[('requests', 'Questions and calls'), ('tokens', 'Tokens of prompts and answers'), ('cost', "Money, at the endpoints' prices"), ('turns', 'Questions at the same time')], default='tokens', max_length=10, verbose_name='of what')),
                ('window', models.CharField(choices=[('minute', 'A minute'), ('hour', 'An hour'), ('day', 'A day'), ('month', 'A calendar month'), ('once', 'At the same time')], default='month', max_length=6, verbose_name='in which time')),
                ('amount', models.DecimalField(decimal_places=2, help_text="Days and months are those of the tenant's time zone; what a minute allows is earned back evenly.", max_digits=18, validators=[django.core.validators.MinValueValidator(0.01)], verbose_name='at most')),
                ('subject', models.CharField(blank=True, default='', max_length=200)),
                ('reason', models.CharField(max_length=200)),
                ('created', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('expires', models.DateTimeField()),
                ('granted_by', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'ordering': ('-created',),
                'indexes': [models.Index(fields=['tenant', 'expires'], name='grant_tenant_expires')],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(models.Q(('metric', 'turns'), ('window', 'once')), models.Q(models.Q(('metric', 'turns'), _negated=True), models.Q(('window', 'once'), _negated=True)), _connector='OR'), ('amount__gt', 0)), name='grant_form')],
            },
        ),
        migrations.CreateModel(
            name='PlanLimit',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('level', models.CharField(choices=[('tenant', 'The tenant as a whole'), ('assistant', 'Assistant'), ('key', 'API key'), ('client', 'OAuth2 client'), ('scope', 'Scope'), ('user', 'End user'), ('visitor', 'Visitor of a web site')], default='tenant', max_length=10, verbose_name='of whom')),
                ('metric', models.CharField(choices=[('requests', 'Questions and calls'), ('tokens', 'Tokens of prompts and answers'), ('cost', "Money, at the endpoints' prices"), ('turns', 'Questions at the same time')], default='tokens', max_length=10, verbose_name='of what')),
                ('window', models.CharField(choices=[('minute', 'A minute'), ('hour', 'An hour'), ('day', 'A day'), ('month', 'A calendar month'), ('once', 'At the same time')], default='month', max_length=6, verbose_name='in which time')),
                ('amount', models.DecimalField(decimal_places=2, help_text="Days and months are those of the tenant's time zone; what a minute allows is earned back evenly.", max_digits=18, validators=[django.core.validators.MinValueValidator(0.01)], verbose_name='at most')),
                ('burst', models.PositiveIntegerField(blank=True, help_text="Of a minute's amount; empty for all of it. A flood of more waits for what is earned back.", null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='at once')),
                ('hard', models.BooleanField(default=True, help_text='Without it, what goes beyond is counted and not refused.', verbose_name='refuse more')),
                ('plan', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='limits', to='usage.plan')),
            ],
            options={
                'verbose_name': 'limit',
                'ordering': ('level', 'metric', 'window'),
                'constraints': [models.UniqueConstraint(fields=('plan', 'level', 'metric', 'window'), name='plan_limit_once', violation_error_message='The plan has this limit already.'), models.CheckConstraint(condition=models.Q(models.Q(models.Q(('metric', 'turns'), ('window', 'once')), models.Q(models.Q(('metric', 'turns'), _negated=True), models.Q(('window', 'once'), _negated=True)), _connector='OR'), ('amount__gt', 0)), name='plan_limit_form')],
            },
        ),
        migrations.CreateModel(
            name='Quota',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('level', models.CharField(choices=[('tenant', 'The tenant as a whole'), ('assistant', 'Assistant'), ('key', 'API key'), ('client', 'OAuth2 client'), ('scope', 'Scope'), ('user', 'End user'), ('visitor', 'Visitor of a web site')], default='tenant', max_length=10, verbose_name='of whom')),
                ('metric', models.CharField(choices=[('requests', 'Questions and calls'), ('tokens', 'Tokens of prompts and answers'), ('cost', "Money, at the endpoints' prices"), ('turns', 'Questions at the same time')], default='tokens', max_length=10, verbose_name='of what')),
                ('window', models.CharField(choices=[('minute', 'A minute'), ('hour', 'An hour'), ('day', 'A day'), ('month', 'A calendar month'), ('once', 'At the same time')], default='month', max_length=6, verbose_name='in which time')),
                ('amount', models.DecimalField(decimal_places=2, help_text="Days and months are those of the tenant's time zone; what a minute allows is earned back evenly.", max_digits=18, validators=[django.core.validators.MinValueValidator(0.01)], verbose_name='at most')),
                ('burst', models.PositiveIntegerField(blank=True, help_text="Of a minute's amount; empty for all of it. A flood of more waits for what is earned back.", null=True, validators=[django.core.validators.MinValueValidator(1)], verbose_name='at once')),
                ('hard', models.BooleanField(default=True, help_text='Without it, what goes beyond is counted and not refused.', verbose_name='refuse more')),
                ('subject', models.CharField(blank=True, default='', help_text="The id of the assistant, key or client, the name of the scope, or the end user's own id with the tenant. Empty for each of them by itself.", max_length=200, verbose_name='which one')),
                ('note', models.CharField(blank=True, default='', help_text='Why, for those who wonder later.', max_length=200)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                "verbose_name": "limit", 'ordering': ('tenant', 'level', 'metric', 'window'),
                'constraints': [models.UniqueConstraint(fields=('tenant', 'subject', 'level', 'metric', 'window'), name='quota_once', violation_error_message='There is such a limit already.'), models.CheckConstraint(condition=models.Q(models.Q(models.Q(('metric', 'turns'), ('window', 'once')), models.Q(models.Q(('metric', 'turns'), _negated=True), models.Q(('window', 'once'), _negated=True)), _connector='OR'), ('amount__gt', 0)), name='quota_form'), models.CheckConstraint(condition=models.Q(('subject', ''), models.Q(('level', 'tenant'), _negated=True), _connector='OR'), name='quota_subject')],
            },
        ),
        migrations.RunSQL(TRIGGERS, UNTRIGGERS),
        Protect("usage", "TenantPlan"),
        Protect("usage", "Quota"),
        Protect("usage", "Grant"),
    ]
