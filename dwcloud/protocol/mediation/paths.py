"""The mediator's HTTP resources (docs/protocol/mediation)."""

from __future__ import annotations

__all__ = ["RELAYS_PATH", "STATISTICS_PATH", "TUNNEL_PATH", "TUNNEL_TOKEN"]

TUNNEL_PATH = "/mediator/tunnel"
"""Path of tunnels that carry STUN, without the tunnelling method."""

TUNNEL_TOKEN = "dwcloud-mediator"
"""``Upgrade`` token of what is inside."""

STATISTICS_PATH = "/mediator/statistics/"
"""Where the counters are shown."""

RELAYS_PATH = "/mediator/relays/"
"""Where the relays are listed that the mediator announces."""
