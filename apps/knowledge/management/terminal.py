"""What the commands of this app share: naming a tenant, and a progress bar that knows whether anybody watches."""

from __future__ import annotations

import shutil

from django.core.management.base import CommandError, OutputWrapper

from apps.tenants import lookups
from apps.tenants.models import Tenant
from chatbot.errors import ParleyError


def tenant_named(slug: str) -> Tenant:
    tenant = lookups.find_tenant(slug)
    if tenant is None:
        raise CommandError(f"There is no tenant {slug!r}.")
    return tenant


def sentence(error: ParleyError) -> str:
    return " ".join((error.fields or {"": error.message}).values())


class Bar:
    """A line that is drawn over and over; on anything but a terminal it is not drawn at all."""

    WIDTH = 24

    def __init__(self, out: OutputWrapper) -> None:
        self._out = out
        self._drawn = out.isatty()

    def draw(self, share: float, text: str) -> None:
        """share: from 0 to 1."""
        if self._drawn:
            full = round(min(max(share, 0.0), 1.0) * self.WIDTH)
            line = f"[{'█' * full}{'░' * (self.WIDTH - full)}] {text}"
            self._put(line[: shutil.get_terminal_size().columns - 1])

    def clear(self) -> None:
        if self._drawn:
            self._put("")

    def _put(self, line: str) -> None:
        self._out.write(f"\r\x1b[K{line}", ending="")
        self._out.flush()
