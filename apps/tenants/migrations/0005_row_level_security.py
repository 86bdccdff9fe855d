"""Each tenant's rows are shown in its own scope alone, and point to no other's."""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import Protect


class Migration(migrations.Migration):
    dependencies = [("tenants", "0004_lookups")]

    operations = [
        Protect("tenants", "Tenant", column="id"),
        Protect("tenants", "Membership"),
        Protect("tenants", "EndUser"),
        Protect("tenants", "ServiceAccount"),
        Protect("tenants", "ApiKey"),
        Protect("tenants", "Invitation"),
        Protect("tenants", "AuditEntry"),
        Protect("tenants", "AuditHead", column="chain"),
    ]
