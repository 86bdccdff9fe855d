"""What has expired is deleted, and what still serves, to let in or to notice a theft, is kept."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.utils import timezone

from apps.oauth.models import AccessToken, Application, Grant, RefreshToken
from apps.oauth.tasks import prune_tokens
from apps.tenants.models import User
from apps.tenants.scoping import tenant_scope
from tests.apps.oauth.clients import make_site
from tests.factories import make_member, make_tenant

pytestmark = pytest.mark.django_db
HOUR = datetime.timedelta(hours=1)
DAY = datetime.timedelta(days=1)


def pair(application: Application, user: User, name: str, expires: datetime.timedelta, **fields: Any) -> None:
    """An access token that expires in so long, and its refresh token."""
    until, name = timezone.now() + expires, f"{application.tenant.slug} {name}"
    access = AccessToken.objects.create(application=application, user=user, token_checksum=name, expires=until)
    kept = None if fields.get("revoked") else access
    RefreshToken.objects.create(application=application, user=user, token_checksum=name, access_token=kept, **fields)


def test_only_what_has_expired_goes() -> None:
    now = timezone.now()
    for slug in ("acme", "globex"):
        tenant = make_tenant(slug)
        user = make_member(tenant=tenant)
        application, _ = make_site(tenant)
        with tenant_scope(tenant):
            for code, age in (("fresh", -HOUR), ("stale", 2 * DAY)):
                Grant.objects.create(
                    application=application,
                    user=user,
                    code=f"{slug} {code}",
                    expires=now - age,
                    redirect_uri="x",
                    scope="",
                )
            pair(application, user, "live", HOUR)
            pair(application, user, "idle", -29 * DAY)
            pair(application, user, "forgotten", -31 * DAY)
            pair(application, user, "rotated", -HOUR, revoked=now - HOUR)
            pair(application, user, "rotated long ago", -40 * DAY, revoked=now - 40 * DAY)
            AccessToken.objects.create(application=application, token_checksum=f"{slug} service", expires=now - HOUR)
    # A stale code, a refresh and an access token forgotten, one rotated long ago, its access token and the other's,
    # and the service's, of two tenants.
    assert prune_tokens() == 2 * 7
    assert prune_tokens() == 0
    with tenant_scope(tenant):
        assert Grant.objects.for_tenant(tenant).get().expires > now
        assert set(RefreshToken.objects.for_tenant(tenant).values_list("token_checksum", flat=True)) == {
            "globex live",
            "globex idle",
            "globex rotated",
        }
        assert set(AccessToken.objects.for_tenant(tenant).values_list("token_checksum", flat=True)) == {
            "globex live",
            "globex idle",
        }
