"""Whether anybody may use everything."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import DatabaseError, connection

from apps.edge.findings import Finding, ok, warn


def limits() -> Iterator[Finding]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM tenants_without_limits()")
            [without] = cursor.fetchone()
    except DatabaseError:
        return  # told of above
    finally:
        connection.close()
    if without:
        yield warn(
            "limits",
            f"{without} tenant{'' if without == 1 else 's'} may use everything, as no limit holds for them.",
            "Mark a plan with limits as the default in the admin under Plans.",
        )
    else:
        yield ok("limits", "every tenant has some")
