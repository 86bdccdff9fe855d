"""`manage.py backup`: everything that lasts, in one file."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.ops.archive import BackupError
from apps.ops.backup import write_backup


class Command(BaseCommand):
    help = "Write the database's rows and the stored files into one file, while Parley runs. Needs OWNER_DATABASE_URL."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("target", type=Path, help="a directory, in which the file is named by the time; or a file")

    def handle(self, *, target: Path, **_options: Any) -> None:
        try:
            made = write_backup(target)
        except BackupError as error:
            raise CommandError(str(error)) from error
        for name in made.missing:
            self.stderr.write(self.style.WARNING(f"Gone before it could be copied: {name}"))
        self.stdout.write(
            self.style.SUCCESS(f"{made.path}: {made.rows} rows and {made.files} files, {made.size / 2**20:.1f} MiB.")
        )
        self.stdout.write(
            "Keep SECRET_KEY, PARLEY_KEY_PEPPER and PARLEY_ENCRYPTION_KEYS elsewhere: the backup holds none of them."
        )
