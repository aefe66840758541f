"""What peers report about connections and themselves: frozen values."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["AttemptFailure", "ConnectionReport", "PathKind", "ServerEvent"]


class PathKind(enum.StrEnum):
    """How the bytes of a stream travel; see docs/design.rst."""

    LAN = "lan"
    TCP = "tcp"
    UDP = "udp"
    RELAY = "relay"


@attrs.frozen
class AttemptFailure:
    """A path that was tried and failed.

    :ivar attempt: which, such as ``"udp 192.0.2.1:5"``.
    :ivar reason: a sentence.
    """

    attempt: str
    reason: str


@attrs.frozen
class ConnectionReport:
    """How one connection came about, or why it did not.

    :ivar event: ``"connected"``, ``"failed"``, or ``"closed"``.
    :ivar peer: the full name of the server as far as it is known.
    :ivar service: the name of the service; empty for the server's only one.
    :ivar path: what carries the stream; None when it failed.
    :ivar remote_address: ``host:port`` at the far end of the path, the relay's
        when it is relayed.
    :ivar connect_seconds: from the request to the outcome.
    :ivar failures: the paths that failed meanwhile, in the order of failing.
    :ivar connect_session_id: the id that the logs of all parties carry.
    :ivar error: why it failed.
    """

    event: str
    peer: str
    service: str
    path: PathKind | None
    remote_address: str | None
    connect_seconds: float
    failures: tuple[AttemptFailure, ...] = ()
    connect_session_id: str | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The report with plain values, for JSON."""
        values = attrs.asdict(self)
        values["path"] = None if self.path is None else self.path.value
        values["connect_seconds"] = round(self.connect_seconds, 4)
        values["failures"] = [attrs.asdict(failure) for failure in self.failures]
        return values


@attrs.frozen
class ServerEvent:
    """Something that happened to a server.

    :ivar event: ``"online"``, ``"offline"``, ``"relay"``, ``"stream_opened"``,
        ``"stream_refused"`` or ``"stream_closed"``.
    :ivar details: plain values that belong to it.
    """

    event: str
    details: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The event with plain values, for JSON."""
        return {"event": self.event, **self.details}
