"""Which of our scopes an application may ask for, and what tokens of it permit now."""

from __future__ import annotations

from typing import Any

from oauth2_provider.scopes import BaseScopes

from apps.oauth.models import Application
from apps.tenants import rights
from apps.tenants.models import Membership, User


class Scopes(BaseScopes):  # type: ignore[misc]
    """Where a client asks for none in particular, it asks for all that it may."""

    def get_all_scopes(self) -> dict[str, str]:
        return rights.SCOPES

    def get_available_scopes(
        self, application: Application | None = None, request: Any = None, *args: Any, **kwargs: Any
    ) -> list[str]:
        return sorted(rights.known(application.scopes)) if application else []

    get_default_scopes = get_available_scopes


def permitted(application: Application, user: User | None) -> frozenset[str]:
    """What the application may do now: by itself, or in the name of a member whose role bounds it.

    Call it in the tenant's scope.
    """
    own = rights.known(application.scopes)
    if user is None:
        return own
    membership = Membership.objects.for_tenant(application.tenant_id).filter(user=user, user__is_active=True).first()
    return own & rights.OF_ROLE[membership.role] if membership else frozenset()
