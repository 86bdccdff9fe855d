"""It locks a table for long, writes it anew and reads it, and takes away what the release before reads."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("widget", "0003_quick")]

    operations = [
        migrations.RunSQL("ALTER TABLE tenants_tenant ADD COLUMN noted timestamptz DEFAULT clock_timestamp()"),
        migrations.RunSQL("SELECT pg_sleep(0.5)"),
        migrations.RunSQL("ALTER TABLE tenants_tenant ADD CONSTRAINT named CHECK (name <> 'nobody')"),
        migrations.RunSQL("ALTER TABLE tenants_tenant DROP COLUMN noted"),
    ]
