"""Invitations: a place in a tenant, offered to one e-mail address by a link that works once, for a week."""

from __future__ import annotations

import datetime
import hmac
import secrets
from dataclasses import dataclass

from django.conf import settings
from django.core.mail import send_mail
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from apps.access.logins.second_factor import is_missing
from apps.edge import broker, encryption
from apps.tenants import audit, lookups
from apps.tenants.models import Invitation, Membership, Tenant, User
from apps.tenants.scoping import tenant_scope
from chatbot.errors import NotPermitted

LASTS = datetime.timedelta(days=7)
IN_SESSION = "invitation"
_MAIL_WITHIN = 3600.0  # seconds


@dataclass(frozen=True, slots=True)
class Offer:
    """What a link that works offers."""

    tenant: Tenant
    invitation: Invitation

    @property
    def email(self) -> str:
        return self.invitation.email.lower()


def digest(token: str) -> bytes:
    """HMAC-SHA256 with the pepper. The token has 256 random bits, so a slow hash would add nothing."""
    return hmac.digest(settings.PARLEY_KEY_PEPPER.encode(), f"invitation {token}".encode(errors="replace"), "sha256")


def link_of(token: str) -> str:
    # Never the Host header's word, as with passwords.
    return f"{settings.PARLEY_BASE_URL}{reverse('invitation', kwargs={'token': token})}"


# --- Inviting: in the tenant's scope ----------------------------------------------------------------------------------


def invite(tenant: Tenant, *, email: str, role: str, by: User) -> tuple[Invitation, str]:
    """Make an invitation and the link, which is never stored and cannot be shown again; mail it where mail is set up.

    An earlier one to the same address is withdrawn. Raises NotPermitted unless `by` is an owner or an operator, so
    that no role is above their own.
    """
    if not may_invite(by, tenant):
        raise NotPermitted("Only owners invite.")
    _pending(tenant).filter(email__iexact=email).update(withdrawn_at=timezone.now())
    token = secrets.token_urlsafe(32)
    row = Invitation.objects.create(
        tenant=tenant,
        email=email.lower(),
        role=role,
        digest=digest(token),
        invited_by=by,
        expires_at=timezone.now() + LASTS,
    )
    if settings.PARLEY_MAIL:
        # The broker is no place for a link that opens a door.
        sealed = encryption.encrypt(token)
        broker.send("access.mail_invitation", str(tenant.pk), str(row.pk), sealed, expires=_MAIL_WITHIN)
    return row, link_of(token)


def may_invite(user: User, tenant: Tenant) -> bool:
    owners = Membership.objects.for_tenant(tenant).filter(user=user, role=Membership.Role.OWNER)
    return user.is_active and (user.is_superuser or owners.exists())


def withdraw(invitation: Invitation) -> bool:
    """False where it was used or withdrawn before."""
    rows = Invitation.objects.for_tenant(invitation.tenant_id).filter(pk=invitation.pk)
    return bool(rows.filter(accepted_at=None, withdrawn_at=None).update(withdrawn_at=timezone.now()))


def _pending(tenant: Tenant) -> QuerySet[Invitation]:
    return Invitation.objects.for_tenant(tenant).filter(
        accepted_at=None, withdrawn_at=None, expires_at__gt=timezone.now()
    )


def mail_invitation(tenant_id: str, invitation_id: str, sealed: str) -> None:
    """Raises OSError where no mail leaves."""
    with tenant_scope(tenant_id):
        tenant = Tenant.objects.get(pk=tenant_id)
        row = _pending(tenant).filter(pk=invitation_id).first()
    if row is None:
        return
    words = {"tenant": tenant, "link": link_of(encryption.decrypt(sealed)), "days": LASTS.days}
    text = render_to_string("admin/invitations/mail.txt", words)
    send_mail(f"An invitation to {' '.join(tenant.name.split())} on Parley", text, None, [row.email])


# --- Accepting: before a tenant is known ------------------------------------------------------------------------------


def offer_of(token: str) -> Offer | None:
    """What the link offers now; None if it is used, withdrawn, expired, of a suspended tenant or nobody's, or if
    whoever made it may invite no more."""
    found = lookups.invitation_of(digest(token)) if token else None
    if found is None:
        return None
    with tenant_scope(found.tenant_id):
        tenant = Tenant.objects.filter(pk=found.tenant_id, is_active=True).first()
        if tenant is None:
            return None
        row = _pending(tenant).select_related("invited_by").filter(pk=found.id).first()
        if row is None or row.invited_by is None or not may_invite(row.invited_by, tenant):
            return None
        return Offer(tenant, row)


def offered(request: HttpRequest) -> Offer | None:
    """By the link that was opened in this session."""
    return offer_of(str(request.session.get(IN_SESSION, "")))


def accept(request: HttpRequest, offer: Offer) -> bool:
    """Make the user of the request a member. False where the offer is for another address, or gone by now."""
    user = request.user
    if not isinstance(user, User) or user.email.lower() != offer.email or is_missing(request, user):
        return False
    with tenant_scope(offer.tenant):
        now = timezone.now()
        claimed = _pending(offer.tenant).filter(pk=offer.invitation.pk).update(accepted_at=now)
        if not claimed:
            return False
        member, is_new = Membership.objects.get_or_create(
            tenant=offer.tenant, user=user, defaults={"role": offer.invitation.role}
        )
        audit.record(offer.tenant, "invitation.accepted", audit.actor_of(request), member, role=member.role, new=is_new)
    request.session.pop(IN_SESSION, None)
    return True


def has_account(email: str) -> bool:
    return User.objects.filter(email__iexact=email).exists()
