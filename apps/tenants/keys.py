"""API keys: `parley_<id>_<secret><crc>`. The id finds the row, the secret proves, the CRC catches a mistyped key."""

from __future__ import annotations

import hmac
import re
import secrets
import string
import uuid
import zlib
from collections.abc import Collection
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import OuterRef, Subquery

from apps.tenants import rights
from apps.tenants.models import ApiKey, Membership, ServiceAccount, Tenant, User
from apps.tenants.scoping import tenant_scope
from chatbot.errors import NotPermitted

_ALPHABET = string.ascii_letters + string.digits
_FORM = re.compile(r"parley_([A-Za-z0-9]{12})_([A-Za-z0-9]{43})([A-Za-z0-9]{6})")


class Parts(NamedTuple):
    key_id: str
    secret: str


def _crc(body: str) -> str:
    """The CRC-32 of everything before it, as six characters of base 62."""
    number = zlib.crc32(body.encode())
    digits = ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _ALPHABET[digit] + digits
    return digits


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def digest(secret: str) -> bytes:
    """HMAC-SHA256 with the pepper. The secret has 256 random bits, so a slow hash would add nothing."""
    return hmac.digest(settings.PARLEY_KEY_PEPPER.encode(), secret.encode(), "sha256")


def parse(text: str) -> Parts | None:
    """The parts of a well-formed key, or None: a mistyped one costs no query."""
    match = _FORM.fullmatch(text)
    if not match:
        return None
    key_id, secret, crc = match.groups()
    if not hmac.compare_digest(_crc(f"parley_{key_id}_{secret}"), crc):
        return None
    return Parts(key_id, secret)


def issue(
    tenant: Tenant,
    *,
    name: str,
    scopes: Collection[str],
    service_account: ServiceAccount | None = None,
    created_by: User | None = None,
    **limits: Any,
) -> tuple[ApiKey, str]:
    """Make a key and return its text, which is never stored and cannot be shown again.

    It belongs to the service account, or else to the member who makes it. limits: `expires_at`, `assistant_ids`,
    `ip_ranges`. Raises NotPermitted where `scopes` go beyond what the maker may do.
    """
    key_id, secret = _random(12), _random(43)
    with tenant_scope(tenant):
        if created_by and (beyond := set(scopes) - rights.of(created_by, tenant.pk)):
            raise NotPermitted(f"A key of yours cannot have the scope {', '.join(sorted(beyond))}, which you lack.")
        row = ApiKey.objects.create(
            tenant=tenant,
            name=name,
            key_id=key_id,
            digest=digest(secret),
            member=None if service_account else created_by,
            service_account=service_account,
            created_by=created_by,
            scopes=sorted(set(scopes)),
            **limits,
        )
    body = f"parley_{key_id}_{secret}"
    return row, body + _crc(body)


def usable(tenant_id: uuid.UUID, pk: uuid.UUID) -> ApiKey | None:
    """The key, with what `permitted` asks for, where it is still of use; one query. Call it in the tenant's scope."""
    role = Membership.objects.filter(tenant=OuterRef("tenant"), user=OuterRef("created_by")).values("role")[:1]
    rows = ApiKey.objects.for_tenant(tenant_id).usable().annotate(role_of_maker=Subquery(role))
    row: ApiKey | None = rows.select_related("tenant", "created_by").filter(pk=pk).first()
    return row if row and permitted(row) else None


def permitted(row: ApiKey) -> frozenset[str]:
    """What a key of `usable` may do: of its scopes those that its maker has now. Those of commands have no maker."""
    scopes, maker = rights.known(row.scopes), row.created_by
    if maker is None:
        return scopes
    if not maker.is_active:
        return frozenset()
    return scopes if maker.is_superuser else scopes & rights.OF_ROLE.get(row.role_of_maker, frozenset())  # type: ignore[attr-defined]


def service_account(tenant: Tenant, name: str) -> ServiceAccount:
    """The tenant's service account of this name, made where it is new."""
    with tenant_scope(tenant):
        return ServiceAccount.objects.get_or_create(tenant=tenant, name=name)[0]
