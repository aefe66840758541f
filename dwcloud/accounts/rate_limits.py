"""How often something may be asked by an address."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

import attrs

from dwcloud.protocol.addresses import parse_ip

__all__ = ["Allowance", "RateLimit", "network_of"]


def network_of(address: str) -> str:
    """Return whom an address counts for: itself, or its /64 of IPv6, that one customer
    has all of."""
    try:
        parsed = parse_ip(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


@attrs.frozen
class Allowance:
    """How much is allowed.

    :ivar burst: at once.
    :ivar per_minute: in the long run.
    """

    burst: int
    per_minute: float


class RateLimit:
    """Counts what each one asks, and forgets who has not asked for long.

    Each has a bucket of ``burst`` tokens that fills by ``per_minute``.

    :param capacity: how many are kept apart; one more makes that one forgotten that
        asked the longest time ago.
    """

    def __init__(self, allowance: Allowance, capacity: int = 20_000) -> None:
        self._allowance = allowance
        self._capacity = capacity
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait_for(self, who: str, *, now: float) -> float:
        """Count a request; return 0 if it is allowed, else the seconds to wait."""
        rate = self._allowance.per_minute / 60
        tokens, since = self._buckets.pop(who, (float(self._allowance.burst), now))
        tokens = min(
            float(self._allowance.burst), tokens + max(0.0, now - since) * rate
        )
        allowed = tokens >= 1
        self._buckets[who] = (tokens - 1 if allowed else tokens, now)
        while len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) / rate
