"""Whether the release before can work on a database that a migration has changed, as it does during an upgrade.

django-migration-linter judges each statement; what it finds is fine only where EXCEPTIONS says why. So a new migration
expands: it adds what may be left empty. What nobody uses any more is removed by a later release.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from django.db.migrations import Migration, RunPython
from django_migration_linter.migration_linter import MigrationLinter
from django_migration_linter.sql_analyser.analyser import analyse_sql_statements
from django_migration_linter.sql_analyser.base import Issue
from django_migration_linter.sql_analyser.postgresql import PostgresqlAnalyser

# The last ones that no release was promised to work beside.
BASELINE: Mapping[str, str] = MappingProxyType(
    {
        "access": "0001_initial",
        "assistants": "0005_retrieval",
        "conversations": "0016_attachments_row_level_security",
        "inference": "0006_rerank_and_waking",
        "knowledge": "0015_judgements",
        "oauth": "0003_row_level_security",
        "tenants": "0005_row_level_security",
        "usage": "0013_most_used",
        "webhooks": "0004_events",
        "widget": "0002_row_level_security",
    }
)
EXCEPTIONS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("knowledge", "0021_vectors_with_two_keys"): "the columns were unique before, and 0020 has built the index",
    }
)


def hindrances(migration: Migration, statements: Sequence[str]) -> list[str]:
    """What the linter has against it, in its words. statements: those that the migration sends."""
    told = [" ".join(statement.split()) for statement in statements]
    if migration.atomic:
        told.insert(0, "BEGIN;")
    errors, _, warnings = analyse_sql_statements(PostgresqlAnalyser, told)
    found = [*errors, *warnings]
    for operation in migration.operations:
        if isinstance(operation, RunPython):
            found += MigrationLinter.get_runpython_model_import_issues(operation.code)
    return list(dict.fromkeys(map(_said, found)))


def reason(migration: Migration) -> str:
    """Why what the linter has against it does no harm; empty where nobody said so."""
    return EXCEPTIONS.get((migration.app_label, migration.name), "")


def _said(issue: Issue) -> str:
    place = ".".join(part for part in (issue.table, issue.column) if part)
    return f"{issue.message} ({place})" if place else issue.message
