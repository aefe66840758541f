"""Figures about a relay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs

from dwcloud.metrics import Histogram

__all__ = ["Figures", "Statistics", "add_figures"]

Figures = dict[str, Any]
"""Figures by name, as JSON has them; some are groups of figures."""

_WAIT_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_TUNNEL_BOUNDS = (1.0, 10.0, 60.0, 600.0, 3600.0, 21_600.0, 86_400.0)
_LARGEST_COUNTS = frozenset({"longest_wait", "uptime"})


@attrs.define
class Statistics:
    """What a relay has done since it began.

    :ivar began: the reactor's time then, seconds.
    :ivar bytes_to_server: payload from clients, of tunnels that have ended.
    :ivar bytes_to_client: payload from servers, of tunnels that have ended.
    :ivar redirected: clients sent to another relay.
    :ivar refused: answers of refusal by HTTP status.
    :ivar clients_timed_out: those for whom no connection came free in time.
    :ivar wait_seconds: from a client's request to a connection of its server.
    :ivar tunnel_seconds: how long tunnels lasted that have ended.
    """

    began: float
    tunnels: int = 0
    bytes_to_server: int = 0
    bytes_to_client: int = 0
    longest_wait: float = 0.0
    proofs_accepted: int = 0
    redirected: int = 0
    refused: Counter[int] = attrs.Factory(Counter)
    clients_timed_out: int = 0
    wait_seconds: Histogram = attrs.Factory(lambda: Histogram(_WAIT_BOUNDS))
    tunnel_seconds: Histogram = attrs.Factory(lambda: Histogram(_TUNNEL_BOUNDS))

    def totals(self) -> dict[str, object]:
        """The figures as JSON has them."""
        return {
            "tunnels": self.tunnels,
            "bytes_to_server": self.bytes_to_server,
            "bytes_to_client": self.bytes_to_client,
            "longest_wait": round(self.longest_wait, 3),
            "proofs_accepted": self.proofs_accepted,
            "redirected": self.redirected,
            "refused": {str(status): n for status, n in sorted(self.refused.items())},
            "clients_timed_out": self.clients_timed_out,
            "wait_seconds": self.wait_seconds.figures(),
            "tunnel_seconds": self.tunnel_seconds.figures(),
        }


def add_figures(parts: Sequence[Figures]) -> Figures:
    """Return the figures of a relay whose processes have those of ``parts``.

    What counts is summed, of times the longest is taken, of all else the first.
    """
    total: Figures = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        values = [part[name] for part in parts if name in part]
        if isinstance(values[0], dict):
            total[name] = add_figures(values)
        elif name in _LARGEST_COUNTS:
            total[name] = max(values)
        elif isinstance(values[0], (int, float)):
            total[name] = sum(values)
        else:
            total[name] = values[0]
    return total
