"""What peers report, as plain values."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.peer.status import (
    AttemptFailure,
    ConnectionReport,
    PathKind,
    ServerEvent,
)


class ReportTests(SynchronousTestCase):
    """Reports can be written as JSON."""

    def test_connected(self) -> None:
        """A connection's report has the names that programs read."""
        report = ConnectionReport(
            event="connected",
            peer="x",
            service="web",
            path=PathKind.UDP,
            remote_address="192.0.2.1:5",
            connect_seconds=0.123456,
            failures=(AttemptFailure("tcp 192.0.2.1:4", "refused"),),
            connect_session_id="id",
        )
        self.assertEqual(
            json.loads(json.dumps(report.as_dict())),
            {
                "event": "connected",
                "peer": "x",
                "service": "web",
                "path": "udp",
                "remote_address": "192.0.2.1:5",
                "connect_seconds": 0.1235,
                "failures": [{"attempt": "tcp 192.0.2.1:4", "reason": "refused"}],
                "connect_session_id": "id",
                "error": None,
                "method": None,
            },
        )

    def test_failed(self) -> None:
        """Without a path there is none in the report."""
        report = ConnectionReport("failed", "x", "", None, None, 20.0, error="why")
        values = report.as_dict()
        self.assertEqual(
            (values["path"], values["failures"], values["error"]), (None, [], "why")
        )

    def test_server_event(self) -> None:
        """An event's details stand beside its name."""
        event = ServerEvent("offline", {"reason": "no answer"})
        self.assertEqual(event.as_dict(), {"event": "offline", "reason": "no answer"})
