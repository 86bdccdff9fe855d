"""The ledger added up by day, and triggers that withdraw a day's sums when something changes in the ledger after all."""

import uuid

import django.db.models.deletion
from django.db import migrations, models

from apps.tenants.row_security import Protect

# A day begins with the first of the moments that its zone calls midnight; PostgreSQL would take the last.
DAY_START = """
    CREATE FUNCTION usage_day_start(day date, zone text) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
        SELECT CASE
            WHEN ((day::timestamp AT TIME ZONE zone - interval '1 hour') AT TIME ZONE zone)::date >= day
            THEN day::timestamp AT TIME ZONE zone - interval '1 hour'
            ELSE day::timestamp AT TIME ZONE zone
        END
    $$
"""
# The lock is the one that rollups.py holds while it adds up: either it sees the change, or the change finds its mark.
# Days are rolled up two hours after their end at the earliest, so what is younger than one hour is in no such day.
WITHDRAW = """
    CREATE FUNCTION usage_withdraw_day() RETURNS trigger LANGUAGE plpgsql
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
        END LOOP;
        RETURN NULL;
    END $$;
    CREATE TRIGGER withdraw_day_of_inserted AFTER INSERT ON usage_usagerecord FOR EACH ROW
        WHEN (NEW.created < now() - interval '1 hour') EXECUTE FUNCTION usage_withdraw_day();
    CREATE TRIGGER withdraw_day_of_deleted AFTER DELETE ON usage_usagerecord FOR EACH ROW
        WHEN (OLD.created < now() - interval '1 hour') EXECUTE FUNCTION usage_withdraw_day();
    CREATE TRIGGER withdraw_day_of_updated AFTER UPDATE ON usage_usagerecord FOR EACH ROW
        WHEN (
            (OLD.created < now() - interval '1 hour' OR NEW.created < now() - interval '1 hour')
            AND (
                OLD.kind, OLD.assistant_id, OLD.oauth_client_id, OLD.model, OLD.state, OLD.bill, OLD.prompt_tokens,
                OLD.completion_tokens, OLD.cost, OLD.created,
                -- What is deleted is forgotten by the ledger, and its id means nobody in the roll-ups.
                coalesce(NEW.end_user_id, OLD.end_user_id), coalesce(NEW.api_key_id, OLD.api_key_id)
            ) IS DISTINCT FROM (
                NEW.kind, NEW.assistant_id, NEW.oauth_client_id, NEW.model, NEW.state, NEW.bill, NEW.prompt_tokens,
                NEW.completion_tokens, NEW.cost, NEW.created, OLD.end_user_id, OLD.api_key_id
            )
        )
        EXECUTE FUNCTION usage_withdraw_day();
"""
KEEP = """
    DROP TRIGGER withdraw_day_of_inserted ON usage_usagerecord;
    DROP TRIGGER withdraw_day_of_deleted ON usage_usagerecord;
    DROP TRIGGER withdraw_day_of_updated ON usage_usagerecord;
    DROP FUNCTION usage_withdraw_day();
"""


def tenant(**options):
    return models.ForeignKey(
        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.tenant", **options
    )


def key():
    return models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)


def sums():
    return [
        ("id", key()),
        ("day", models.DateField()),
        ("requests", models.PositiveIntegerField()),
        ("once", models.PositiveIntegerField()),
        ("delivered", models.PositiveIntegerField()),
        ("loss", models.PositiveIntegerField()),
        ("none", models.PositiveIntegerField()),
        ("prompt_tokens", models.BigIntegerField()),
        ("completion_tokens", models.BigIntegerField()),
        ("cost", models.DecimalField(decimal_places=8, max_digits=24)),
        ("tenant", tenant(db_index=False)),
    ]


def use():
    return [
        ("kind", models.CharField(max_length=10)),
        ("assistant_id", models.UUIDField(null=True)),
        ("api_key_id", models.UUIDField(null=True)),
        ("oauth_client_id", models.UUIDField(null=True)),
        ("model", models.CharField(blank=True, default="", max_length=200)),
    ]


class Migration(migrations.Migration):
    dependencies = [("tenants", "0005_row_level_security"), ("usage", "0006_what_it_cost")]

    operations = [
        migrations.CreateModel(
            "RolledDay",
            [
                ("id", key()),
                ("day", models.DateField()),
                ("zone", models.CharField(max_length=64)),
                ("starts", models.DateTimeField()),
                ("ends", models.DateTimeField()),
                ("tenant", tenant()),
            ],
            options={"constraints": [models.UniqueConstraint(fields=("tenant", "day"), name="usage_rolled_once")]},
        ),
        migrations.CreateModel(
            "DailyUsage",
            [*sums(), *use()],
            options={"indexes": [models.Index(fields=["tenant", "day"], name="usage_daily_day")]},
        ),
        migrations.CreateModel(
            "DailyUsageByUser",
            [*sums(), *use(), ("end_user_id", models.UUIDField(null=True))],
            options={
                "indexes": [
                    models.Index(fields=["tenant", "day"], name="usage_by_user_day"),
                    models.Index(
                        condition=models.Q(("end_user_id__isnull", False)),
                        fields=["tenant", "end_user_id", "day"],
                        name="usage_by_user_user",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            "DailyUser",
            [*sums(), ("end_user_id", models.UUIDField(null=True))],
            options={"indexes": [models.Index(fields=["tenant", "day"], name="usage_user_day")]},
        ),
        Protect("usage", "RolledDay"),
        Protect("usage", "DailyUsage"),
        Protect("usage", "DailyUsageByUser"),
        Protect("usage", "DailyUser"),
        migrations.RunSQL(DAY_START, "DROP FUNCTION usage_day_start(date, text)"),
        migrations.RunSQL(WITHDRAW, KEEP),
    ]
