"""What is taken back: each deed writes its row and its audit entry, and ends what hangs on it in every process."""

from __future__ import annotations

from functools import partial

from django.db import transaction
from django.db.models import F, Model, QuerySet
from django.utils import timezone

from apps.edge import bus
from apps.tenants import audit, lookups
from apps.tenants.audit import Actor
from apps.tenants.models import ApiKey, Erasure, Membership, Tenant, User
from apps.tenants.scoping import tenant_scope
from chatbot.errors import InvalidRequest, NotFound

TOPIC = "ended"


def announce(*words: str) -> None:
    """Tell every process what has ended, once this transaction commits: "tenant:<id>", "key:<id>", "user:<id>",
    "member:<tenant>:<user>" and what else stands in a caller's `ends_with`."""
    # Robust: the rows are committed by then, and whatever happens to a message does not undo that.
    if words:
        transaction.on_commit(partial(bus.publish, TOPIC, words), robust=True)


def words_of(row: Model) -> list[str]:
    """What may have ended where this row was changed or deleted."""
    match row:
        case Tenant():
            return [f"tenant:{row.pk}"]
        case User():
            return [f"user:{row.pk}"]
        case ApiKey():
            return [f"key:{row.pk}"]
        case Membership():
            return [f"{kind}:{row.tenant_id}:{row.user_id}" for kind in ("member", "asker")]
    return []


def suspend_tenant(tenant: Tenant, actor: Actor) -> None:
    """No credential of the tenant works any more, and its sockets, streams and turns end, until it is resumed."""
    _switch(tenant, actor, active=False)
    announce(f"tenant:{tenant.pk}")


def resume_tenant(tenant: Tenant, actor: Actor) -> None:
    """Raises InvalidRequest where it is being erased."""
    _switch(tenant, actor, active=True)
    announce(f"tenant:{tenant.pk}")  # so that nobody goes on believing that it is suspended


def _switch(tenant: Tenant, actor: Actor, *, active: bool) -> None:
    with tenant_scope(tenant):
        # Whoever begins to erase it holds the row, too.
        Tenant.objects.select_for_update(no_key=True).filter(pk=tenant.pk).first()
        if active and Erasure.objects.filter(pk=tenant.pk).exists():
            raise InvalidRequest("This tenant is being erased and cannot be resumed.")
        if Tenant.objects.filter(pk=tenant.pk).exclude(is_active=active).update(is_active=active):
            audit.record(tenant, "tenant.resumed" if active else "tenant.suspended", actor, tenant)
    tenant.is_active = active


def revoke_key(key: ApiKey, actor: Actor) -> None:
    """End a key; again, it does nothing."""
    with tenant_scope(key):
        rows = ApiKey.objects.for_tenant(key.tenant_id).filter(pk=key.pk)
        if rows.filter(revoked_at=None).update(revoked_at=timezone.now()):
            audit.record(key, "key.revoked", actor, key)
            announce(f"key:{key.pk}")
    key.revoked_at = key.revoked_at or timezone.now()


def change_role(membership: Membership, role: str, actor: Actor) -> None:
    """Raises InvalidRequest where the tenant would be left without an owner, NotFound where they are no member."""
    with tenant_scope(membership):
        current = _locked(membership)
        if current.role == role:
            return
        _keep_an_owner(current)
        before, current.role = current.role, role
        current.save(update_fields=["role"])
        audit.record(current, "member.role_changed", actor, current, before=before, after=role)
        announce(*words_of(current))
    membership.role = role


def remove_member(membership: Membership, actor: Actor) -> None:
    """End a membership with the keys of its member, which would come back with them otherwise.

    Raises as change_role() does.
    """
    with tenant_scope(membership):
        current = _locked(membership)
        _keep_an_owner(current)
        for key in keys_of(current):
            revoke_key(key, actor)
        audit.record(current, "member.removed", actor, current, role=current.role)
        current.delete()
        announce(*words_of(membership))


def keys_of(membership: Membership) -> QuerySet[ApiKey]:
    """A member's own keys that are not revoked: they must not come back to life should the person return."""
    rows: QuerySet[ApiKey] = ApiKey.objects.for_tenant(membership.tenant_id)
    return rows.filter(member=membership.user_id, revoked_at=None)


def _locked(membership: Membership) -> Membership:
    # The tenant's row keeps two owners from going at once.
    Tenant.objects.select_for_update(no_key=True).get(pk=membership.tenant_id)
    rows = Membership.objects.for_tenant(membership.tenant_id).select_related("user")
    current: Membership | None = rows.filter(pk=membership.pk).first()
    if current is None:
        raise NotFound("There is no such member.")
    return current


def _keep_an_owner(leaving: Membership) -> None:
    owners = Membership.objects.for_tenant(leaving.tenant_id).filter(role=Membership.Role.OWNER)
    if leaving.role == Membership.Role.OWNER and not owners.exclude(pk=leaving.pk).exists():
        raise InvalidRequest("A tenant needs an owner: make somebody else an owner first.")


def deactivate_user(user: User, actor: Actor) -> None:
    """Nobody logs in as them any more, and what they were let in with ends."""
    with transaction.atomic():
        User.objects.filter(pk=user.pk).update(is_active=False)
        end_sessions(user)
        _tell(user, "user.deactivated", actor)
    user.is_active = False


def sign_out_everywhere(user: User, actor: Actor) -> None:
    """End every session of a user; their keys and tokens stay."""
    with transaction.atomic():
        end_sessions(user)
        _tell(user, "user.signed_out", actor)


def end_sessions(user: User) -> None:
    User.objects.filter(pk=user.pk).update(session_epoch=F("session_epoch") + 1)
    user.refresh_from_db(fields=["session_epoch"])
    announce(f"user:{user.pk}")


def _tell(user: User, action: str, actor: Actor) -> None:
    """Each tenant that they belong to, and the platform."""
    for membership in lookups.memberships_of(user.pk):
        audit.record(membership.tenant_id, action, actor, user)
    audit.record(None, action, actor, user)
