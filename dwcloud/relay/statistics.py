"""Figures about a relay."""

from __future__ import annotations

from collections import Counter

import attrs

__all__ = ["Statistics"]


@attrs.define
class Statistics:
    """What a relay has done since it began.

    :ivar began: the reactor's time then, seconds.
    :ivar bytes_to_server: payload from clients, of tunnels that have ended.
    :ivar bytes_to_client: payload from servers, of tunnels that have ended.
    :ivar refused: answers of refusal by HTTP status.
    """

    began: float
    tunnels: int = 0
    bytes_to_server: int = 0
    bytes_to_client: int = 0
    longest_wait: float = 0.0
    proofs_accepted: int = 0
    refused: Counter[int] = attrs.Factory(Counter)

    def totals(self) -> dict[str, object]:
        """The figures as JSON has them."""
        return {
            "tunnels": self.tunnels,
            "bytes_to_server": self.bytes_to_server,
            "bytes_to_client": self.bytes_to_client,
            "longest_wait": round(self.longest_wait, 3),
            "proofs_accepted": self.proofs_accepted,
            "refused": {str(status): n for status, n in sorted(self.refused.items())},
        }
