"""What peers report about connections and themselves: frozen values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from twisted.logger import Logger

from dwcloud.protocol.path_kinds import PathKind
from dwcloud.protocol.tunnelling.prober import (
    Candidate,
    Carrier,
    ProbeReport,
    ProbeResult,
)

__all__ = [
    "AttemptFailure",
    "ConnectionReport",
    "PathKind",
    "ProbeReport",
    "ProbeResult",
    "ServerEvent",
    "failed_methods",
]


def failed_methods(reports: Iterable[ProbeReport]) -> dict[str, str]:
    """The tunnelling methods that a probe found not to work, and why."""
    return {
        str(Candidate(report.method, Carrier(report.carrier))): report.reason
        for report in reports
        if report.result is ProbeResult.FAILED
    }


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
    :ivar method: the tunnelling method that leads to the relay, None without one.
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
    method: str | None = None

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

    :ivar event: ``"online"``, ``"offline"``, ``"relay"``, ``"port_mapping"``,
        ``"access"``, ``"stream_opened"``, ``"stream_refused"`` or ``"stream_closed"``.
    :ivar details: plain values that belong to it.
    """

    event: str
    details: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The event with plain values, for JSON."""
        return {"event": self.event, **self.details}

    def log(self, log: Logger) -> None:
        """Write it into a log; what concerns a connect session carries its id."""
        session = self.details.get("connect_session_id")
        if session is None:
            log.info("{event}", event=self.as_dict())
            return
        details = {k: v for k, v in self.details.items() if k != "connect_session_id"}
        log.info(
            "session {connect_session_id}: {what}: {details}",
            connect_session_id=session,
            what=self.event.replace("_", " "),
            details=", ".join(f"{name} {value}" for name, value in details.items()),
        )
