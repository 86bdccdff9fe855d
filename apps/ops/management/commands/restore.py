"""`manage.py restore`: a backup back into an empty instance."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.ops.archive import BackupError
from apps.ops.restore import FILES, restore_backup


class Command(BaseCommand):
    help = (
        "Restore a backup into an empty instance: after setup_database, before the first login. A damaged backup, or"
        " one that does not fit, is refused before anything is touched. Needs OWNER_DATABASE_URL."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="what `manage.py backup` wrote")
        parser.add_argument(
            "--other-secrets",
            action="store_true",
            help="although PARLEY_KEY_PEPPER or PARLEY_ENCRYPTION_KEYS differ: API keys or credentials are lost then",
        )

    def handle(self, *, file: Path, other_secrets: bool, **_options: Any) -> None:
        try:
            manifest = restore_backup(file, other_secrets=other_secrets)
        except BackupError as error:
            raise CommandError(str(error)) from error
        rows = sum(table["rows"] for table in manifest["tables"].values())
        files = sum(part["name"].startswith(FILES) for part in manifest["parts"])
        self.stdout.write(self.style.SUCCESS(f"Restored {rows} rows and {files} files, as of {manifest['made']}."))
        for name in manifest["missing"]:
            self.stderr.write(self.style.WARNING(f"The backup has no bytes of {name}."))
