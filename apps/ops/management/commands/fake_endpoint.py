"""`manage.py fake_endpoint`: a model server that misbehaves as it is told, to rehearse outages with."""

from __future__ import annotations

import asyncio
import importlib
import sys
from argparse import ArgumentParser
from contextlib import suppress
from types import ModuleType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

# Not imported as usual: the product does not depend on its tests, and images come without them.
SERVER = "tests.fakes.serving"


class Command(BaseCommand):
    help = "Play a scripted model server: by itself it repeats the question; a script has it fail in every known way."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        _server().add_options(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        server = _server()
        try:
            fake = server.made(options)
        except ValueError as error:
            raise CommandError(str(error)) from error
        try:
            with suppress(KeyboardInterrupt):
                asyncio.run(server.serve(fake))
        except OSError as error:
            raise CommandError(f"It cannot listen there: {error.strerror}.") from error


def _server() -> ModuleType:
    if str(settings.BASE_DIR) not in sys.path:
        sys.path.insert(0, str(settings.BASE_DIR))
    try:
        return importlib.import_module(SERVER)
    except ModuleNotFoundError as error:
        if error.name and SERVER.startswith(error.name):
            raise CommandError(
                "The scripted model server is not part of an installed Parley: run this in a checkout, which has it in "
                "tests/fakes."
            ) from error
        raise
