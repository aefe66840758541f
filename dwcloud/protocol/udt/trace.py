"""What the core tells about its work: an optional record for tests and debugging."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

__all__ = ["Trace", "TraceEvent"]


@attrs.frozen
class TraceEvent:
    """Something happened inside the core that no program needs to act on."""

    now: float
    """When, in seconds of the caller's clock."""

    name: str
    """What, as ``noun_participle``, for instance ``datagram_ignored``."""

    socket_id: int | None = None
    """The local UDT socket concerned, or None for the whole port."""

    fields: Mapping[str, object] = attrs.field(factory=dict)
    """Details, by name."""


Trace = Callable[[TraceEvent], None]
"""A recorder of trace events."""
