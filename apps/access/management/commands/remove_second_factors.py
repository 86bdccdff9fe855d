"""`manage.py remove_second_factors E-MAIL`: for somebody who lost their authenticator app, codes and passkeys."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from allauth.mfa.models import Authenticator
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from apps.tenants import audit, taking_back
from apps.tenants.models import User


class Command(BaseCommand):
    help = "Take somebody's second factors and passkeys away and end their sessions. Their password stays."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")

    def handle(self, *, email: str, **_: Any) -> None:
        user = User.objects.filter(email__iexact=email.strip()).first()
        if user is None:
            raise CommandError(f"Nobody has an account with {email}.")
        with transaction.atomic():
            removed, _by_model = Authenticator.objects.filter(user=user).delete()
            taking_back.end_sessions(user)
            actor = audit.actor_of_command("remove_second_factors")
            audit.record(None, "second_factor.removed", actor, user, count=removed)
        self.stdout.write(f"{user.email}: {removed} removed.")
