"""What waits for Redis, and how long it does in tests.

On a busy machine PostgreSQL and Redis are not away because nobody let them work for a second. Tests of what is away for
too long say for themselves when that is; rows of the fault catalogue by the mark `stores`.
"""

from __future__ import annotations

from apps.access import rates
from apps.conversations import journal
from apps.edge import bus, shared_state
from apps.ops import gathering
from apps.usage import meter

SECONDS = 20.0  # for PostgreSQL's connections, too
STORES = (bus, gathering, journal, meter, rates, shared_state)  # by their SECONDS
CACHE = {"SOCKET_CONNECT_TIMEOUT": SECONDS, "SOCKET_TIMEOUT": SECONDS}
