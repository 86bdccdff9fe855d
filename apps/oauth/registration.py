"""What can happen to an application: a tenant registers it, and deletes it with all its tokens."""

from __future__ import annotations

from typing import Any

from apps.oauth import texts
from apps.oauth.models import Application
from apps.tenants import taking_back
from apps.tenants.models import Tenant, User
from apps.tenants.scoping import tenant_scope


def register(tenant: Tenant, *, created_by: User | None = None, **fields: Any) -> tuple[Application, str]:
    """A new application and its secret, which is never stored and cannot be shown again; empty for a public client.

    fields: `name`, `authorization_grant_type`, `client_type`, `redirect_uris`, `scopes`. Raises ValidationError.
    """
    secret = texts.client_secret() if fields["client_type"] == Application.CLIENT_CONFIDENTIAL else ""
    application = Application(tenant=tenant, created_by=created_by, client_secret=secret, **fields)
    with tenant_scope(tenant):
        application.full_clean()
        application.save()
    return application, secret


def delete(application: Application) -> None:
    """Delete it with its tokens, and end what was let in with one."""
    with tenant_scope(application):
        Application.objects.for_tenant(application.tenant_id).filter(pk=application.pk).delete()
        taking_back.announce(f"oauth:{application.pk}")


def change(application: Application) -> None:
    """Save what was changed. Its tokens may do no more than it may ask for now."""
    with tenant_scope(application):
        application.save()
        taking_back.announce(f"oauth:{application.pk}")
