"""Local connections and the streams behind them, without a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.forward import Forwarder
from dwcloud.errors import PeerOffline
from dwcloud.peer.client import ConnectOptions
from dwcloud.peer.status import AttemptFailure, ConnectionReport, PathKind
from dwcloud.protocol.names import PeerName
from tests.unit.cli.consoles import KeepingConsole
from tests.unit.cli.transports import PumpTransport

PEER = PeerName.parse("0190163d-8694-8c3e-9a00-7ab7d7b42e1d")


@attrs.define
class Asked:
    """A connection that was asked for."""

    service: str
    factory: Any
    options: ConnectOptions
    report: Callable[[ConnectionReport], None]
    result: Deferred[IProtocol]
    cancelled: bool = False

    def connect(self) -> PumpTransport:
        """It came about."""
        self.report(_report("connected", PathKind.UDP))
        transport = PumpTransport()
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(transport)
        self.result.callback(protocol)
        return transport


def _report(event: str, path: PathKind | None, error: str | None = None) -> Any:
    failures = (AttemptFailure("tcp 192.0.2.1:5", "refused"),)
    address = "192.0.2.1:6" if path else None
    return ConnectionReport(
        event, str(PEER), "web", path, address, 0.25, failures, None, error
    )


class Client:
    """A client that connects when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    def connect(
        self, peer: PeerName, service: str, factory: Any, options: Any, report: Any
    ) -> Deferred[IProtocol]:
        """Keep what was asked."""
        result: Deferred[IProtocol] = Deferred(lambda _: cancelled())
        asked = Asked(service, factory, options, report, result)

        def cancelled() -> None:
            asked.cancelled = True

        self.asked.append(asked)
        return result


class ForwarderTestCase(SynchronousTestCase):
    """One local connection.

    :cvar json: whether reports are for programs.
    """

    json = False

    def setUp(self) -> None:
        """Accept a connection."""
        self.client = Client()
        self.console = KeepingConsole()
        self.forwarder = Forwarder(
            self.client,  # type: ignore[arg-type]
            PEER,
            "web",
            ConnectOptions("udp"),
            self.console,
            self.json,
        )
        self.local = PumpTransport()
        self.near = self.forwarder.buildProtocol(None)
        self.near.makeConnection(self.local)
        (self.asked,) = self.client.asked


class ForwarderTests(ForwarderTestCase):
    """The connection and the stream behind it."""

    def test_asks_for_the_service(self) -> None:
        """A connection asks for a stream, as the options want it."""
        self.assertEqual(self.asked.service, "web")
        self.assertEqual(self.asked.options, ConnectOptions("udp"))

    def test_paused_until_connected(self) -> None:
        """Nothing is read before there is somebody to pass it to."""
        self.assertEqual(self.local.producerState, "paused")
        far = self.asked.connect()
        self.assertEqual(self.local.producerState, "producing")
        self.assertEqual(far.producerState, "producing")

    def test_both_directions(self) -> None:
        """Each end gets what the other sends."""
        far = self.asked.connect()
        self.near.dataReceived(b"request")
        self.assertEqual(far.value(), b"request")
        other = self.near.other
        assert other is not None
        other.dataReceived(b"answer")
        self.assertEqual(self.local.value(), b"answer")

    def test_back_pressure(self) -> None:
        """Each connection is the producer of the other."""
        far = self.asked.connect()
        self.assertIs(far.producer, self.local)
        self.assertIs(self.local.producer, far)
        self.assertTrue(far.streaming and self.local.streaming)

    def test_half_close(self) -> None:
        """The end of each direction is passed on; after both it is over."""
        far = self.asked.connect()
        other = self.near.other
        assert other is not None
        self.assertTrue(IHalfCloseableProtocol.providedBy(self.near))
        self.near.readConnectionLost()
        self.assertTrue(far.half_closed)
        self.assertFalse(self.local.half_closed)
        other.dataReceived(b"late answer")
        self.assertEqual(self.local.value(), b"late answer")
        other.readConnectionLost()
        self.assertTrue(self.local.half_closed)
        self.assertTrue(far.disconnecting and self.local.disconnecting)

    def test_broken(self) -> None:
        """A connection that breaks breaks the other."""
        far = self.asked.connect()
        self.near.connectionLost(Failure(ConnectionLost()))
        self.assertTrue(far.aborted)

    def test_local_gone_meanwhile(self) -> None:
        """A stream that nobody waits for any more is given up."""
        self.near.connectionLost(Failure(ConnectionDone()))
        far = self.asked.connect()
        self.assertTrue(far.aborted)

    def test_failed(self) -> None:
        """Without a stream the local connection is closed, and the reason told."""
        self.asked.report(_report("failed", None, "off"))
        self.asked.result.errback(PeerOffline("off"))
        self.assertTrue(self.local.aborted)
        (line,) = self.console.messages
        self.assertIn("web: asking the mediator failed: off; start", line)

    def test_told(self) -> None:
        """A person reads which path was taken."""
        self.asked.connect()
        self.assertEqual(
            self.console.messages, ["web: connected by udp to 192.0.2.1:6 in 0.25 s"]
        )

    def test_stop(self) -> None:
        """Stopping gives up what is on its way, in silence."""
        self.forwarder.stop()
        self.assertTrue(self.asked.cancelled)
        self.assertEqual(self.console.messages, [])


class JSONForwarderTests(ForwarderTestCase):
    """Reports for programs."""

    json = True

    def test_connected(self) -> None:
        """A line for a connection, with the path and how it came about."""
        self.asked.connect()
        (line,) = self.console.messages
        report = json.loads(line)
        self.assertEqual(
            {key: report[key] for key in ("event", "path", "remote_address")},
            {"event": "connected", "path": "udp", "remote_address": "192.0.2.1:6"},
        )
        self.assertEqual(report["connect_seconds"], 0.25)
        self.assertEqual(
            report["failures"], [{"attempt": "tcp 192.0.2.1:5", "reason": "refused"}]
        )

    def test_failed(self) -> None:
        """One line only, also for a failure."""
        self.asked.report(_report("failed", None, "off"))
        self.asked.result.errback(PeerOffline("off"))
        (line,) = self.console.messages
        self.assertEqual(json.loads(line)["event"], "failed")
