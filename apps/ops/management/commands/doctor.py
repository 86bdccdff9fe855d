"""`manage.py doctor`: what is right and what is wrong with all that Parley stands on."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from apps.ops.doctor import CHECKS


class Command(BaseCommand):
    help = (
        "Check every dependency, version, role, extension, queue, clock and disk; say what to do. Exits with 1 when"
        " something fails."
    )
    requires_system_checks = ()

    def handle(self, *_args: Any, **_options: Any) -> None:
        styles = {"ok": self.style.SUCCESS, "warn": self.style.WARNING, "fail": self.style.ERROR}
        failed = False
        for check in CHECKS:
            for finding in check():
                self.stdout.write(f"{styles[finding.level](f'{finding.level:5}')}{finding.subject:12}{finding.says}")
                if finding.advice:
                    self.stdout.write(f"{'':17}-> {finding.advice}")
                failed = failed or finding.level == "fail"
        if failed:
            sys.exit(1)
