"""Each tenant's applications and tokens in its scope alone."""

from __future__ import annotations

from django.db import migrations

from apps.tenants.row_security import Protect

MODELS = ("Application", "Grant", "IDToken", "AccessToken", "RefreshToken", "DeviceGrant")


class Migration(migrations.Migration):
    dependencies = [
        ("oauth", "0002_lookups"),
        # Some of the toolkit's migrations read the tables that stand in for its own.
        ("oauth2_provider", "0022_refreshtoken_token_family_index"),
    ]

    operations = [Protect("oauth", model) for model in MODELS]
