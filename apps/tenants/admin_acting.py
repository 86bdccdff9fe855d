"""For whom a request of the admin acts: people for one tenant at a time, operators for one or looking at all."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from django.contrib.admin import ModelAdmin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import HttpRequest
from django_redis.exceptions import ConnectionInterrupted

from apps.tenants import audit, lookups
from apps.tenants.models import Membership, Tenant
from apps.tenants.routing import OPERATOR, across_tenants, has_operator_login
from apps.tenants.scoping import TenantOwned, tenant_scope

V = TypeVar("V", bound=Callable[..., Any])

CHOSEN = "acting_for"  # in the session: the id of the tenant chosen in the header
# Of the site's own pages, those that show tenants' rows.
ABOUT_TENANTS = {"index", "app_list", "search", "autocomplete"}
# An operator who looks around in one tenant is written down once in this time; each change is, every time.
NOTED_SECONDS = 3600


class NoOperatorLogin(Exception):
    """The page would show rows of all tenants, and OPERATOR_DATABASE_URL is not set."""


class SeveralTenants(Exception):
    """One action was to change rows of several tenants."""


@dataclass(frozen=True, slots=True)
class Acting:
    """tenant_id: in whose scope the page runs. tenant: the same as a row; a tenant that is being added has none yet.
    role: a member's. chosen: what the header shows; None for all tenants. several: an operator who has chosen no
    tenant, so pages say whose a row is. across: reads see every tenant. switches: there are others to choose."""

    tenant_id: uuid.UUID | None = None
    tenant: Tenant | None = None
    role: str = ""
    chosen: Tenant | None = None
    several: bool = False
    across: bool = False
    switches: bool = False

    def scope(self) -> AbstractContextManager[None]:
        """What the page's queries stand in. The site enters it around a view that is not marked `enters_alone`."""
        if self.tenant_id is not None:
            return tenant_scope(self.tenant_id)
        return across_tenants() if self.across else nullcontext()


NOBODY = Acting()


def acting_of(request: HttpRequest) -> Acting:
    """Nobody outside the admin's views, such as on its login page."""
    acting: Acting = getattr(request, "acting", NOBODY)
    return acting


def enters_alone(view: V) -> V:
    """Mark a view that waits for the network: it enters `acting_of(request).scope()` by itself, for its queries, since
    nobody waits for anything inside a transaction."""
    view.enters_alone = True  # type: ignore[attr-defined]
    return view


def act(request: HttpRequest, page: ModelAdmin[Any] | None) -> Acting:
    """page: whose URL it is, if it is a model's. Raises NoOperatorLogin and SeveralTenants."""
    return _as_operator(request, page) if request.user.is_superuser else _as_member(request)


# --- Members ---


def _as_member(request: HttpRequest) -> Acting:
    """The tenant chosen last, or the first one of which the user is a member."""
    chosen = request.session.get(CHOSEN)
    found = memberships_of(request)
    for tenant_id, membership_id in sorted(found, key=lambda each: str(each.tenant_id) != chosen):
        with tenant_scope(tenant_id):
            memberships = Membership.objects.select_related("tenant").filter(tenant__is_active=True)
            membership = memberships.filter(pk=membership_id).first()
        if membership is not None:
            tenant = membership.tenant
            return Acting(tenant.pk, tenant, membership.role, chosen=tenant, switches=len(found) > 1)
    return NOBODY


def memberships_of(request: HttpRequest) -> list[lookups.Found]:
    return lookups.memberships_of(request.user.pk)  # type: ignore[arg-type]  # admin_view lets nobody else in


# --- Operators ---


def _as_operator(request: HttpRequest, page: ModelAdmin[Any] | None) -> Acting:
    chosen = _chosen(request)
    if getattr(page, "operators_only", False):
        # Rows of the platform, about which all tenants may have something to say.
        return Acting(chosen=chosen, several=True, across=has_operator_login(), switches=True)
    if page is not None and page.model is Tenant and _url_name(request).endswith("_add"):
        return Acting(uuid.uuid4(), chosen=chosen, several=chosen is None, switches=True)
    if chosen is not None:
        return Acting(chosen.pk, chosen, chosen=chosen, switches=True)
    if page is None and _url_name(request) not in ABOUT_TENANTS:
        return Acting(several=True, switches=True)
    tenant_id = _whose(request, page) if page is not None else None
    if tenant_id is not None:
        return Acting(tenant_id, tenant_with(tenant_id), several=True, switches=True)
    if not has_operator_login():
        raise NoOperatorLogin
    return Acting(several=True, across=True, switches=True)


def _chosen(request: HttpRequest) -> Tenant | None:
    kept = request.session.get(CHOSEN)
    return tenant_with(uuid.UUID(kept)) if kept else None


def tenant_with(tenant_id: uuid.UUID) -> Tenant | None:
    with tenant_scope(tenant_id):
        return Tenant.objects.filter(pk=tenant_id).first()


def tenant_called(slug: str) -> uuid.UUID | None:
    """The id of the tenant with this slug, which a person typed."""
    return None if "\0" in slug else lookups.tenant_named(slug)


def _url_name(request: HttpRequest) -> str:
    match = request.resolver_match
    return (match.url_name or "") if match else ""


def _whose(request: HttpRequest, page: ModelAdmin[Any]) -> uuid.UUID | None:
    """The tenant that a page is about: its row's, the one that the form is for, or that of the chosen rows."""
    match = request.resolver_match
    named = match.kwargs.get("object_id") if match else None
    if named is not None:
        return next(iter(_tenants_of(page.model, [unquote(str(named))])), None)
    if _url_name(request).endswith("_add"):
        return tenant_called(request.GET.get("tenant", ""))
    if request.method != "POST":
        return None
    if request.POST.get("select_across") == "1":
        raise SeveralTenants
    owners = _tenants_of(page.model, request.POST.getlist(ACTION_CHECKBOX_NAME))
    if len(owners) > 1:
        raise SeveralTenants
    return next(iter(owners), None)


def _tenants_of(model: type[Model], ids: list[str]) -> set[uuid.UUID]:
    try:
        keys = [model._meta.pk.to_python(each) for each in ids]
    except ValidationError:  # nobody's; the page says so
        return set()
    if model is Tenant:
        return set(keys)
    if not keys or not issubclass(model, TenantOwned):
        return set()
    if not has_operator_login():
        raise NoOperatorLogin
    return set(model._base_manager.using(OPERATOR).filter(pk__in=keys).values_list("tenant_id", flat=True).distinct())


# --- Crossings ---


def note(request: HttpRequest) -> None:
    """Write an operator's way into a tenant, or into all of them, into the audit log. The site does it for each view
    but those that are exempt from CsrfViewMiddleware, which call this when they have seen the token."""
    acting = acting_of(request)
    if not request.user.is_superuser or (acting.tenant is None and not acting.across):
        return
    writes = request.method == "POST" and acting.tenant is not None
    if writes or not _noted(f"operator-entered:{request.user.pk}:{acting.tenant_id or 'all'}"):
        note_entry(request, acting.tenant)


def note_entry(request: HttpRequest, tenant: Tenant | None) -> None:
    """tenant: None for all of them."""
    action = "operator.looked_across" if tenant is None else "operator.entered"
    audit.record(tenant, action, audit.actor_of(request), tenant, page=_url_name(request))


def _noted(about: str) -> bool:
    try:
        return not cache.add(about, 1, timeout=NOTED_SECONDS)
    except ConnectionInterrupted:  # rather too often than not at all
        return False
