"""Who made an account by an invitation's link has not proven that its address is theirs: whoever saw the link could."""

from __future__ import annotations

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.db import transaction

from apps.tenants import taking_back
from apps.tenants.models import User


def doubt(user: User) -> None:
    """Remember that nobody has shown yet that they read this account's mail."""
    EmailAddress.objects.create(user=user, email=user.email, verified=False, primary=True)


@transaction.atomic
def prove(user: User, *, keep_password: bool) -> None:
    """Somebody showed that the address is theirs, by a mailed link or at the single sign-on.

    Where that was in doubt, whoever made the account loses it: password, passkeys, second factors and sessions.
    """
    address, _ = EmailAddress.objects.select_for_update().get_or_create(
        user=user, email=user.email.lower(), defaults={"verified": True, "primary": True}
    )
    if address.verified:
        return
    Authenticator.objects.filter(user=user).delete()
    if not keep_password:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    taking_back.end_sessions(user)
    address.verified = True
    address.save(update_fields=["verified"])
