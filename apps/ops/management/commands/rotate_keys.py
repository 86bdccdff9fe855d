"""`manage.py rotate_keys`: encrypts stored secrets anew with the first key of PARLEY_ENCRYPTION_KEYS."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand

from apps.edge.encryption import keyring
from apps.ops import rotation
from apps.tenants import audit

# A row is left to the next pass while somebody saves it; nobody saves one that often.
PASSES = 5


class Command(BaseCommand):
    help = (
        "Encrypt all stored secrets with the first key of PARLEY_ENCRYPTION_KEYS, while Parley runs. Harmless twice;"
        " interrupted, it goes on where it was. Exits with 1 while another key is still needed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="only say which keys are still in use")

    def handle(self, *, check: bool, **_: Any) -> None:
        if not check:
            rotated = sum(self._rotate(place) for place in rotation.places())
            actor = audit.actor_of_command("rotate_keys")
            audit.record(None, "secrets.rotated", actor, key=next(iter(keyring())), secrets=rotated)
        if not self._told(rotation.keys_in_use()):
            sys.exit(1)

    def _rotate(self, place: rotation.Place) -> int:
        rotated, done = 0, rotation.Done()
        for _pass in range(PASSES):
            done = rotation.Done()
            for done in rotation.rotate(place):
                self.stdout.write(f"{place}: {rotated + done.rotated} encrypted anew")
            rotated += done.rotated
            if not done.rotated:
                break
        if done.unreadable:
            self.stderr.write(f"{place}: {done.unreadable} that no key of PARLEY_ENCRYPTION_KEYS can read")
        return rotated

    def _told(self, used: Counter[str]) -> bool:
        """Print what each key is needed for. Whether the first one is enough for all."""
        ring = list(keyring())
        for key in dict.fromkeys([*ring, *used]):
            says = "writes" if key == ring[0] else "only reads" if key in ring else "is missing from the keyring"
            if key == rotation.UNLABELLED:
                says = "not known: written before key ids were stored"
            removable = ": it can be removed" if key in ring[1:] and not used[key] and not used[""] else ""
            self.stdout.write(f"key {key or '?':10}{says:12}  {used[key]:>8,} secrets{removable}")
        return not any(count for key, count in used.items() if key != ring[0])
