"""What became of introductions: paths, failures, holes punched, and durations."""

from __future__ import annotations

from collections import Counter

from dwcloud.metrics import Histogram
from dwcloud.protocol.mediation.messages import ConnectionResult
from dwcloud.protocol.mediation.result_codes import ResultCode
from dwcloud.protocol.mediation.session import ConnectSessionCore
from dwcloud.protocol.nat import NATSummary

__all__ = ["PATHS", "Outcomes"]

PATHS = ("lan", "tcp", "udp", "relay")
"""The kinds of path that a client may tell; whatever else it says counts as failure."""

_ACK_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0)
_CONNECT_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)

_OTHER_PATH = "other path"
_UNKNOWN, _BLOCKED = "unknown", "udp-blocked"


class Outcomes:
    """Counts outcomes; labels come from fixed lists, whatever strangers say.

    :ivar by_path: connections made.
    :ivar by_reason: failures by the label of the result.
    :ivar punches: by kind of the client's NAT, of the server's, and what came of it:
        ``direct``, ``later``, ``relayed`` or ``failed``.
    :ivar ack_seconds: see docs/howto/operate.
    :ivar connect_seconds: the same, by path.
    """

    def __init__(self) -> None:
        self.by_path = dict.fromkeys(PATHS, 0)
        self.by_reason = {
            code.label: 0
            for code in ResultCode
            if code is not ResultCode.OK and code >= ResultCode.NO_SUITABLE_METHOD
        }
        self.punches: Counter[tuple[str, str, str]] = Counter()
        self.ack_seconds = Histogram(_ACK_BOUNDS)
        self.connect_seconds = {path: Histogram(_CONNECT_BOUNDS) for path in PATHS}

    def acknowledged(self, core: ConnectSessionCore, *, now: float) -> None:
        """The server of a session has confirmed."""
        self.ack_seconds.observe(now - core.started)

    def told(
        self, core: ConnectSessionCore, result: ConnectionResult, *, now: float
    ) -> str:
        """A client told the outcome of a session; returns it in a word."""
        path = result.path
        succeeded = result.result is ResultCode.OK and path in PATHS
        if not succeeded or path is None:
            label = result.result.label
            if result.result is ResultCode.OK:
                label = _OTHER_PATH
            self.by_reason[label] = self.by_reason.get(label, 0) + 1
            self._punched(core, result, "failed")
            return label
        self.by_path[path] += 1
        observed = now - core.started
        claimed = observed if result.connect_time is None else result.connect_time
        self.connect_seconds[path].observe(min(observed, claimed))
        if path in ("udp", "relay"):
            self._punched(core, result, "direct" if path == "udp" else "relayed")
        return path

    def results(self) -> dict[str, int]:
        """Return how often each path was told, or each reason."""
        told = {**self.by_path, **self.by_reason}
        return {outcome: n for outcome, n in told.items() if n}

    def improved(self, core: ConnectSessionCore, result: ConnectionResult) -> None:
        """A session that had got a relay's path has got a direct one after all."""
        self._punched(core, result, "later")

    def _punched(
        self, core: ConnectSessionCore, result: ConnectionResult, outcome: str
    ) -> None:
        if core.answer is None or not core.answer.udp_endpoints:
            return  # there was nowhere to punch to
        client = _kind(result.nat)
        if client == _UNKNOWN and core.observed is None:
            client = _BLOCKED
        if client == _UNKNOWN and outcome in ("relayed", "failed"):
            return  # clients that punched tell their NAT; this one did not try
        self.punches[client, _kind(core.server_nat), outcome] += 1


def _kind(nat: NATSummary | None) -> str:
    return _UNKNOWN if nat is None else nat.kind
