"""What is wrong with the role that the product runs as: row-level security protects nobody from some."""

from __future__ import annotations

from typing import NamedTuple

from django.db import connection

ADVICE = "Give DATABASE_URL a plain role; the owner's login migrates."

_ROLE = """
    SELECT rolname, rolsuper, rolbypassrls,
        (SELECT count(*) FROM pg_class WHERE relowner = r.oid AND relkind IN ('r', 'p', 'v', 'm')
            AND relpersistence <> 't'),
        (SELECT string_agg(roleid::regrole::text, ', ' ORDER BY 1) FROM pg_auth_members WHERE member = r.oid)
    FROM pg_roles r WHERE rolname = current_user
"""


class Role(NamedTuple):
    """faults: as they follow its name in a sentence; empty where it may do no more than it should."""

    name: str
    faults: list[str]


def of_the_product() -> Role:
    """The role of DATABASE_URL. Raises DatabaseError."""
    with connection.cursor() as cursor:
        cursor.execute(_ROLE)
        name, superuser, bypasses, owned, memberships = cursor.fetchone()
    wrong = {
        "is a superuser": superuser,
        "bypasses row-level security": bypasses,
        f"owns {owned} tables": owned,
        f"is a member of {memberships}": memberships,
    }
    return Role(name, [fault for fault, holds in wrong.items() if holds])
