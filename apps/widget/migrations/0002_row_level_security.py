"""Each tenant's widgets are shown in its own scope alone; a logo is found by its content's digest, before a tenant is."""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import DefinerFunction, Protect


class Migration(migrations.Migration):
    dependencies = [("widget", "0001_initial"), ("assistants", "0003_row_level_security")]

    operations = [
        Protect("widget", "Widget"),
        DefinerFunction(
            "logo_of",
            "wanted text",
            "TABLE (tenant_id uuid, id uuid)",
            "SELECT tenant_id, id FROM public.widget_widget WHERE logo_digest = wanted AND logo_digest <> '' LIMIT 5",
            reads={"widget_widget": ("tenant_id", "id", "logo_digest")},
        ),
    ]
