"""What `manage.py check --deploy` says of Parley's own, beside Django's checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004 - Django's name
from django.db import DatabaseError

from apps.ops import roles


@register(Tags.security, deploy=True)
def behind_a_proxy(**_: Any) -> list[CheckMessage]:
    """Our servers speak plain HTTP, so with nobody before them every address redirects to itself for ever."""
    if settings.SECURE_SSL_REDIRECT and not getattr(settings, "SECURE_PROXY_SSL_HEADER", None):
        return [
            Warning(
                "Requests are redirected to HTTPS, but nothing tells which of them came by HTTPS.",
                hint="Set PARLEY_BEHIND_PROXY=on behind the proxy that speaks TLS.",
                id="parley.W001",
            )
        ]
    return []


@register(Tags.files, deploy=True)
def shared_folder(**_: Any) -> list[CheckMessage]:
    """What operators share as sources has to be there on every worker."""
    folder = settings.PARLEY_SOURCE_FOLDERS
    if folder and not (Path(folder).is_absolute() and Path(folder).is_dir()):
        return [
            Warning(
                f"PARLEY_SOURCE_FOLDERS names {folder}, which is no directory here.",
                hint="Give the whole path of a directory that is mounted on every worker.",
                id="parley.W003",
            )
        ]
    return []


@register(Tags.security, deploy=True)
def plain_role(**_: Any) -> list[CheckMessage]:
    """Row-level security must hold for the role that the product runs as."""
    try:
        name, faults = roles.of_the_product()
    except DatabaseError as error:
        said = str(error).strip().splitlines()[0]
        return [Warning(f"Nobody can tell what the role of DATABASE_URL may do: {said}", id="parley.W002")]
    if faults:
        return [
            Error(f"{name}, the role of DATABASE_URL, {' and '.join(faults)}.", hint=roles.ADVICE, id="parley.E001")
        ]
    return []
