"""`manage.py erase_tenant`: everything of a suspended tenant, for good; and whether an erased one is still gone."""

from __future__ import annotations

import os
import sys
import uuid
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from redis.exceptions import RedisError

from apps.ops import manifests
from apps.ops.erasing import ErasureError, begin, erase, traces_of
from apps.ops.manifests import ManifestError
from apps.tenants.audit import actor_of_command
from apps.tenants.lookups import find_tenant
from apps.tenants.models import Erasure, Tenant, User
from apps.tenants.scoping import tenant_scope


class Command(BaseCommand):
    help = (
        "Erase a suspended tenant: rows, vectors, files, and what Redis holds. It asks for the slug once more, looks"
        " everywhere when it is done, and writes a signed manifest of what is gone. Cut short, it goes on when it is"
        " started again. Backups are not touched."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("slug", nargs="?")
        which.add_argument("--verify", type=Path, metavar="MANIFEST", help="check a manifest, and that nothing is back")
        which.add_argument("--again", type=Path, metavar="MANIFEST", help="erase what is back of a manifest's tenant")
        parser.add_argument("--slug-again", metavar="SLUG", help="the slug once more, where nobody can be asked")
        parser.add_argument("--manifest", type=Path, metavar="FILE", help="where to write it; erased-SLUG.json here")

    def handle(
        self,
        *,
        slug: str | None,
        verify: Path | None,
        again: Path | None,
        slug_again: str | None,
        manifest: Path | None,
        **_: Any,
    ) -> None:
        if verify:
            self._verify(verify)
        elif again:
            tenant = _read(again)["tenant"]
            self._erase(tenant["slug"], uuid.UUID(tenant["id"]), slug_again, manifest)
        elif slug:
            self._erase(slug, None, slug_again, manifest)

    def _erase(self, slug: str, tenant_id: uuid.UUID | None, again: str | None, manifest: Path | None) -> None:
        """tenant_id: of an erased one, whose slug may be another's by now."""
        path = manifest or Path(f"erased-{slug}.json")
        if path.exists() or not path.absolute().parent.is_dir():
            raise CommandError(f"{path} cannot be written: it exists, or its directory does not.")
        try:
            erasure = self._erased(slug, tenant_id, again)
        except ErasureError as error:
            raise CommandError(str(error)) from error
        except (DatabaseError, RedisError, OSError) as error:
            said = str(error).strip().partition("\n")[0]
            raise CommandError(f"It was cut short: {said}. Run the same command again, and it goes on.") from error
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(erasure.manifest)
        except OSError as error:
            raise CommandError(
                f"{slug} is erased, but {path} cannot be written: {error.strerror}. Run this again with another"
                " --manifest."
            ) from error
        self._report(erasure, path)

    def _erased(self, slug: str, tenant_id: uuid.UUID | None, again: str | None) -> Erasure:
        tenant, actor = _tenant(slug, tenant_id), actor_of_command("erase_tenant")
        if tenant is None:
            erasure = _left_of(slug, tenant_id)
            if erasure.finished and not traces_of(erasure.pk):
                return erasure
        self._ask_again(slug, again)
        if tenant:
            erasure = begin(tenant, actor)
        elif erasure._state.adding:
            erasure.save()
        erase(erasure, actor, self.stdout.write)
        return erasure

    def _ask_again(self, slug: str, again: str | None) -> None:
        if again is None:
            if not sys.stdin.isatty():
                raise CommandError("Nobody can be asked here: give the slug a second time, as --slug-again.")
            again = input(f"This erases all that {slug} has, and cannot be undone.\nIts slug, once more: ")
        if again != slug:
            raise CommandError(f"{again!r} is not {slug!r}: nothing was erased.")

    def _report(self, erasure: Erasure, path: Path) -> None:
        found = erasure.found
        rows = sum(found["tables"].values())
        self.stdout.write(
            self.style.SUCCESS(
                f"{erasure.slug} is erased: {rows} rows, {found['files']['count']} files, {found['keys']} keys. The"
                f" manifest is {path}."
            )
        )
        for name in found["endpoints"]:
            self.stdout.write(f"Endpoint {name!r} served it alone, and is switched off.")
        for user in User.objects.filter(pk__in=found["accounts"]).order_by("email"):
            self.stdout.write(f"The account {user.email} belongs to no tenant any more: delete it under Users.")

    def _verify(self, path: Path) -> None:
        erased = _read(path)
        tenant = erased["tenant"]
        if found := traces_of(uuid.UUID(tenant["id"])):
            raise CommandError(
                f"{tenant['slug']} is back: {'; '.join(found)}. Erase it again: manage.py erase_tenant --again {path}"
            )
        self.stdout.write(self.style.SUCCESS(f"{tenant['slug']} was erased on {erased['finished']}, and is gone."))


def _read(path: Path) -> dict[str, Any]:
    try:
        return manifests.read(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {error}.") from error
    except ManifestError as error:
        raise CommandError(f"{path}: {error}") from error


def _tenant(slug: str, tenant_id: uuid.UUID | None) -> Tenant | None:
    if tenant_id is None:
        return find_tenant(slug)
    with tenant_scope(tenant_id):
        return Tenant.objects.filter(pk=tenant_id).first()


def _left_of(slug: str, tenant_id: uuid.UUID | None) -> Erasure:
    """Once the row of a tenant is gone, or all of it, its erasure is left; or not even that, after a restore."""
    if tenant_id is not None:
        return Erasure.objects.filter(pk=tenant_id).first() or Erasure(pk=tenant_id, slug=slug)
    erasure = Erasure.objects.filter(slug=slug).order_by("-began").first()
    if erasure is None:
        raise CommandError(f"There is no tenant {slug!r}.")
    return erasure
