"""Roll-ups by one thing at a time, and by month: a year of all tenants is quick to read.

What was rolled up before is made anew by the worker; until then reports read the ledger.
"""

import uuid

import django.db.models.deletion
from django.db import migrations, models

from apps.tenants.row_security import Protect

# As in migration 0007; {month} is what is new.
WITHDRAW = """
    CREATE OR REPLACE FUNCTION usage_withdraw_day() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, public, pg_temp AS $$
    DECLARE
        changed record;
    BEGIN
        FOREACH changed IN ARRAY CASE TG_OP WHEN 'INSERT' THEN ARRAY[NEW] WHEN 'DELETE' THEN ARRAY[OLD]
            ELSE ARRAY[OLD, NEW] END
        LOOP
            PERFORM pg_advisory_xact_lock_shared(1431519559, hashtext(changed.tenant_id::text));
            DELETE FROM usage_rolledday
                WHERE tenant_id = changed.tenant_id
                    AND day BETWEEN changed.created::date - 2 AND changed.created::date + 2
                    AND starts <= changed.created AND changed.created < ends;
            {month}
        END LOOP;
        RETURN NULL;
    END $$
"""
AND_ITS_MONTH = """
            DELETE FROM usage_rolledmonth
                WHERE tenant_id = changed.tenant_id
                    AND day BETWEEN changed.created::date - 33 AND changed.created::date + 2
                    AND starts <= changed.created AND changed.created < ends;
"""
EMPTY = "TRUNCATE usage_rolledday, usage_dailyusagebyuser, usage_dailyuser"
COUNTS = ("requests", "once", "delivered", "loss", "none")


def tenant(**options):
    return models.ForeignKey(
        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.tenant", **options
    )


def summed():
    return [
        *((name, models.PositiveIntegerField()) for name in COUNTS),
        ("prompt_tokens", models.BigIntegerField()),
        ("completion_tokens", models.BigIntegerField()),
        ("pages", models.BigIntegerField(db_default=0, default=0)),
        ("cost", models.DecimalField(decimal_places=8, max_digits=24)),
    ]


def _with_default(field):
    field.default = 0
    return field


def part():
    return [
        ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
        *summed(),
        ("day", models.DateField()),
        ("tenant", tenant(db_index=False)),
    ]


def use():
    return [
        *part(),
        ("by", models.CharField(max_length=10)),
        ("what_id", models.UUIDField(null=True)),
        ("what", models.CharField(blank=True, default="", max_length=200)),
    ]


class Migration(migrations.Migration):
    dependencies = [("usage", "0010_alerts")]

    operations = [
        migrations.RunSQL(EMPTY, EMPTY),
        migrations.DeleteModel("DailyUsage"),
        # The table is empty, so the default is nobody's.
        *(
            migrations.AddField("rolledday", name, _with_default(field), preserve_default=name == "pages")
            for name, field in [*summed(), ("used", models.BooleanField())]
        ),
        migrations.CreateModel(
            "RolledMonth",
            [
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                *summed(),
                ("day", models.DateField()),
                ("zone", models.CharField(max_length=64)),
                ("starts", models.DateTimeField()),
                ("ends", models.DateTimeField()),
                ("used", models.BooleanField()),
                ("tenant", tenant()),
            ],
            options={"constraints": [models.UniqueConstraint(fields=("tenant", "day"), name="usage_month_rolled_once")]},
        ),
        migrations.CreateModel(
            "DailyUse",
            use(),
            options={"indexes": [models.Index(fields=["by", "day", "tenant"], name="usage_daily_by")]},
        ),
        migrations.CreateModel(
            "MonthlyUse",
            use(),
            options={"indexes": [models.Index(fields=["by", "day", "tenant"], name="usage_monthly_by")]},
        ),
        migrations.CreateModel(
            "MonthlyUser",
            [*part(), ("end_user_id", models.UUIDField(null=True))],
            options={"indexes": [models.Index(fields=["tenant", "day"], name="usage_user_month")]},
        ),
        *(Protect("usage", name) for name in ("RolledMonth", "DailyUse", "MonthlyUse", "MonthlyUser")),
        migrations.RunSQL(WITHDRAW.format(month=AND_ITS_MONTH), WITHDRAW.format(month="")),
    ]
