"""How often somebody may ask for what costs no credential, counted for all processes together."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import NamedTuple

from apps.edge.shared_state import reachable, redis
from chatbot.errors import RateLimited

# GCRA: one number, the time at which the last of what was taken will have been earned. Of a burst at once exactly as
# many pass as fit, and no window has an edge to crowd at. Redis' clock counts, so that processes need not agree on one.
# Returns the seconds to wait, 0 for none. Source: https://brandur.org/rate-limiting
_TAKE = """
    local time = redis.call('TIME')
    local now, burst, every = time[1] + time[2] / 1000000, tonumber(ARGV[1]), tonumber(ARGV[2])
    local earned = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
    local wait = earned - now - every * (burst - 1)
    if wait > 0 then
        return string.format('%.3f', wait)
    end
    redis.call('SET', KEYS[1], string.format('%.6f', earned + every), 'PX', math.ceil((earned - now + every) * 1000))
    return '0'
"""


class Rate(NamedTuple):
    """`burst` deeds at once, then one in `every` seconds."""

    burst: int
    every: float


async def take(rate: Rate, what: str, *who: str) -> None:
    """Count one deed of this kind.

    Raises RateLimited, or ServiceUnavailable while Redis is away.
    """
    name = hashlib.sha256("\0".join(who).encode()).hexdigest()[:32]  # who asks is nobody's business there
    with reachable():
        waits = float(await (await redis()).eval(_TAKE, 1, f"rate:{what}:{name}", *rate))
    if waits:
        raise RateLimited(retry_after=round(waits, 1) or 0.1)


def network_of(address: str) -> str:
    """Who is behind an address, as far as it tells: of IPv6 a household has a whole /64."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:  # a server on a Unix socket knows none
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
