"""`python -m tests.apps.ops.interrupted 0017` migrates back to a state of `knowledge`, and forth again, cut short after
each operation that stays, and begun anew."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import django

django.setup()

from django.core.management import call_command  # noqa: E402 - the settings are ready by now
from django.db import connections  # noqa: E402
from django.db.migrations.executor import MigrationExecutor  # noqa: E402
from django.db.migrations.operations.base import Operation  # noqa: E402


class CutShort(Exception):
    """As by a deadlock, a lost connection or Ctrl-C."""


@contextmanager
def cut_short_after(operation: Operation) -> Iterator[None]:
    """Fails unless the operation was come to."""
    run = operation.database_forwards

    def forwards(*arguments: Any) -> None:
        run(*arguments)
        raise CutShort

    operation.database_forwards = forwards  # type: ignore[method-assign]
    try:
        yield
    except CutShort:
        return
    finally:
        operation.database_forwards = run  # type: ignore[method-assign]
    raise AssertionError(f"Was not come to: {operation.describe()}")


def main(since: str) -> None:
    owner = connections["owner"]
    call_command("migrate", "knowledge", since, database="owner", verbosity=0)
    for migration, _ in (executor := MigrationExecutor(owner)).migration_plan(executor.loader.graph.leaf_nodes()):
        name = (migration.app_label, migration.name)
        for operation in () if migration.atomic else migration.operations:
            with cut_short_after(operation):
                MigrationExecutor(owner).migrate([name])
        MigrationExecutor(owner).migrate([name])
        sys.stdout.write(f"{migration}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
