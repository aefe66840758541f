"""Tests of the port that drives the UDT core."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError
from twisted.internet.error import (
    CannotListenError,
    ConnectError,
    ConnectionDone,
    ConnectionLost,
    NoProtocol,
    TimeoutError,
)
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from dwcloud.errors import UDTHandshakeTimeout, UDTRejected
from dwcloud.net.udt_port import steady_clock
from dwcloud.protocol.udt.configuration import Configuration, SocketType

from .udt_world import CLIENT, SERVER, Recorder, RecordingFactory, UDTWorldTestCase


class ConnectTests(UDTWorldTestCase):
    """Connections to a listener."""

    def test_connect(self) -> None:
        """Both factories build a protocol for the other's UDP address."""
        client, server = self.connect()
        self.assertEqual(self.client_factory.addresses, [IPv4Address("UDP", *SERVER)])
        self.assertEqual(self.server_factory.addresses, [IPv4Address("UDP", *CLIENT)])
        self.assertEqual(client.calls, ["made"])
        self.assertEqual(server.calls, ["made"])

    def test_many_on_one_port(self) -> None:
        """Many connections share the two ports and do not mix."""
        pairs = [self.connect() for _ in range(10)]
        for number, (client, server) in enumerate(pairs):
            client.transport.write(b"to server %d" % number)
            server.transport.write(b"to client %d" % number)
        self.world.advance(2)
        for number, (client, server) in enumerate(pairs):
            self.assertEqual(server.data, b"to server %d" % number)
            self.assertEqual(client.data, b"to client %d" % number)

    def test_nobody_there(self) -> None:
        """Without an answer the attempt fails, in the end or when told."""
        attempt = self.client_port.udt.connect(SERVER, self.client_factory)
        self.assertEqual(self.client_factory.running, 1)
        self.world.advance(2.9)
        self.assertNoResult(attempt)
        self.world.advance(0.3)
        failure = self.failureResultOf(attempt, UDTHandshakeTimeout)
        self.assertTrue(failure.check(TimeoutError))
        self.assertIn("192.0.2.1:3345", str(failure.value))
        self.assertEqual(self.client_factory.running, 0)
        attempt = self.client_port.udt.connect(SERVER, self.client_factory, 0.5)
        self.world.advance(0.6)
        self.failureResultOf(attempt, UDTHandshakeTimeout)

    def test_cancel(self) -> None:
        """Cancelling an attempt gives up and sends nothing more."""
        attempt = self.client_port.udt.connect(SERVER, self.client_factory)
        self.world.advance(0.1)
        attempt.cancel()
        self.failureResultOf(attempt, CancelledError)
        self.world.advance(5)
        self.assertEqual(self.client_factory.running, 0)
        self.assertTrue(self.client_port.udt.idle)
        self.assertEqual(self.client_host.reactor.getDelayedCalls(), [])

    def test_rejected(self) -> None:
        """A listener of the other socket type rejects."""
        self.world.run_until(self.server_port.stop())
        self.configuration = Configuration(socket_type=SocketType.DATAGRAM)
        port = self.make_port(self.server_host, SERVER[1])
        port.udt.listen(self.server_factory)
        attempt = self.client_port.udt.connect(SERVER, self.client_factory)
        self.world.advance(1)
        failure = self.failureResultOf(attempt, UDTRejected)
        self.assertIn("192.0.2.1:3345", str(failure.value))

    def test_wrong_address(self) -> None:
        """Only numeric addresses can be connected to."""
        attempt = self.client_port.udt.connect(("localhost", 1), self.client_factory)
        self.failureResultOf(attempt, ConnectError)

    def test_no_protocol_for_client(self) -> None:
        """A factory that refuses fails the attempt; the server sees a normal end."""
        self.server_port.udt.listen(self.server_factory)

        class Refusing(Factory):
            noisy = False

            def buildProtocol(self, addr: Any) -> Any:
                return None

        attempt = self.client_port.udt.connect(SERVER, Refusing())
        self.world.advance(1)
        self.failureResultOf(attempt, NoProtocol)
        [server] = self.server_factory.made
        self.assertTrue(server.reason.check(ConnectionDone))

    def test_no_protocol_for_server(self) -> None:
        """A listening factory that refuses or fails ends that connection only."""
        answers: list[Any] = [None, ZeroDivisionError()]

        class Choosing(RecordingFactory):
            def buildProtocol(self, addr: Any) -> Any:
                answer = answers.pop(0) if answers else Recorder()
                if isinstance(answer, Exception):
                    raise answer
                return answer

        self.server_port.udt.listen(Choosing())
        attempts = [
            self.client_port.udt.connect(SERVER, self.client_factory) for _ in range(3)
        ]
        self.world.advance(2)
        clients: list[Any] = [self.successResultOf(attempt) for attempt in attempts]
        self.assertEqual([client.reason is None for client in clients].count(True), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class RendezvousTests(UDTWorldTestCase):
    """Connections of two that both connect."""

    def meet(self, delay: float = 0.0) -> list[Any]:
        """Return the protocols of a rendezvous, the server's side coming later."""
        one = self.client_port.udt.rendezvous(SERVER, RecordingFactory())
        self.world.advance(delay)
        two = self.server_port.udt.rendezvous(CLIENT, RecordingFactory())
        return [self.world.run_until(one), self.world.run_until(two)]

    def test_meet(self) -> None:
        """Both get a protocol, whoever comes first, and data flows."""
        for delay in (0.0, 2.0):
            one, two = self.meet(delay)
            one.transport.write(b"hello")
            two.transport.write(b"world")
            self.world.advance(1)
            self.assertEqual((one.data, two.data), (b"world", b"hello"))
            one.transport.loseConnection()
            self.world.advance(2)
            self.assertEqual(two.calls[-1], "lost")

    def test_one_at_a_time(self) -> None:
        """A second rendezvous with the same address is refused meanwhile."""
        first = self.client_port.udt.rendezvous(SERVER, self.client_factory)
        second = self.client_port.udt.rendezvous(SERVER, self.client_factory)
        self.failureResultOf(second, ConnectError)
        self.world.advance(14.9)
        self.assertNoResult(first)
        self.world.advance(0.2)
        self.failureResultOf(first, UDTHandshakeTimeout)

    def test_streams_through_the_hole(self) -> None:
        """After a rendezvous the same ports connect and listen."""
        self.assertFalse(self.client_port.udt.has_connections_to(SERVER))
        self.meet()
        self.assertTrue(self.client_port.udt.has_connections_to(SERVER))
        client, server = self.connect()
        client.transport.write(b"more")
        self.world.advance(1)
        self.assertEqual(server.data, b"more")


class ListeningTests(UDTWorldTestCase):
    """The listener."""

    def test_interface(self) -> None:
        """Listening gives an IListeningPort."""
        listener = self.server_port.udt.listen(self.server_factory)
        self.assertTrue(verifyObject(IListeningPort, listener))
        self.assertEqual(listener.getHost(), IPv4Address("UDP", "0.0.0.0", 3345))
        self.assertEqual(self.server_factory.running, 1)

    def test_one_listener(self) -> None:
        """A second listener on the port is refused, until the first has stopped."""
        listener = self.server_port.udt.listen(self.server_factory)
        error = self.assertRaises(
            CannotListenError, self.server_port.udt.listen, RecordingFactory()
        )
        self.assertIn("listener", str(error))
        self.world.run_until(listener.stopListening())
        self.world.run_until(listener.stopListening())
        listener.startListening()
        self.connect()

    def test_stop_listening(self) -> None:
        """A stopped listener accepts nothing more; connections stay."""
        client, server = self.connect()
        listener = self.server_port.udt._listener
        assert listener is not None
        self.world.run_until(listener.stopListening())
        self.assertEqual(self.server_factory.running, 0)
        attempt = self.client_port.udt.connect(SERVER, self.client_factory)
        client.transport.write(b"still here")
        self.world.advance(4)
        self.failureResultOf(attempt, UDTHandshakeTimeout)
        self.assertEqual(server.data, b"still here")


class ClosingTests(UDTWorldTestCase):
    """The end of a port."""

    def test_stop(self) -> None:
        """Stopping a port ends all, tells the far ends, and leaves no timer."""
        client, server = self.connect()
        attempt = self.client_port.udt.connect(("192.0.2.7", 1), self.client_factory)
        self.world.run_until(self.client_port.stop())
        self.assertTrue(client.reason.check(ConnectionLost))
        self.failureResultOf(attempt, ConnectError)
        self.assertEqual(self.client_factory.running, 0)
        self.assertEqual(self.client_host.reactor.getDelayedCalls(), [])
        self.world.advance(1)
        self.assertEqual(server.calls[-1], "lost")

    def test_nothing_after_stop(self) -> None:
        """A stopped port refuses to connect and to listen."""
        self.world.run_until(self.client_port.stop())
        attempt = self.client_port.udt.connect(SERVER, self.client_factory)
        self.failureResultOf(attempt, ConnectError)
        self.assertRaises(
            CannotListenError, self.client_port.udt.listen, self.client_factory
        )
        self.client_port.datagrams_received(b"\x80" + bytes(30), None, SERVER)
        self.client_port.batch_ended()
        self.assertEqual(self.client_host.reactor.getDelayedCalls(), [])

    def test_stop_from_within(self) -> None:
        """A protocol may stop the port that calls it."""
        client, server = self.connect()
        states: list[bool] = []

        def data_received(data: bytes) -> None:
            self.server_port.stop()
            states.append(server.reason is None)

        server.dataReceived = data_received
        client.transport.write(b"stop")
        self.world.advance(1)
        self.assertEqual(states, [True])
        self.assertTrue(server.reason.check(ConnectionLost))

    def test_quiet_port_has_no_timer(self) -> None:
        """When all connections are gone, nothing wakes the reactor."""
        client, server = self.connect()
        client.transport.loseConnection()
        self.world.advance(10)
        self.assertEqual(server.calls[-1], "lost")
        self.assertTrue(self.client_port.udt.idle)
        self.assertEqual(self.client_host.reactor.getDelayedCalls(), [])
        self.assertEqual(self.client_factory.running, 0)


class RobustnessTests(UDTWorldTestCase):
    """A fault in one place does not stop the rest."""

    def fail_once(self, target: Any, name: str) -> None:
        """Let the next call of a method raise."""
        method = getattr(target, name)

        def fail(*args: Any, **kwargs: Any) -> Any:
            setattr(target, name, method)
            raise ZeroDivisionError

        setattr(target, name, fail)

    def test_fault_while_receiving(self) -> None:
        """A datagram that the core fails on is lost, no more."""
        client, server = self.connect()
        self.fail_once(self.server_port.udt._multiplexer, "receive_datagrams")
        client.transport.write(b"hello")
        self.world.advance(5)
        self.assertEqual(server.data, b"hello")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_faults_do_not_flood_the_log(self) -> None:
        """Many faults are counted, one a second is logged."""

        def fail(*args: Any, **kwargs: Any) -> None:
            raise ZeroDivisionError

        self.server_port.udt._multiplexer.receive_datagrams = fail  # type: ignore[method-assign]
        for _ in range(50):
            self.server_port.datagrams_received(bytes(30), None, CLIENT)
        self.assertEqual(self.server_port.udt.faults, 50)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.world.advance(2)
        self.server_port.datagrams_received(bytes(30), None, CLIENT)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_fault_while_serving(self) -> None:
        """After a fault in a turn the next turns go on."""
        client, server = self.connect()
        for name in ("datagrams_to_send", "next_event"):
            self.fail_once(self.client_port.udt._multiplexer, name)
            client.transport.write(b"hello")
            self.world.advance(5)
        self.assertEqual(server.data, b"hellohello")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_time_of_day_is_not_used(self) -> None:
        """Where the reactor has the time of day the core gets a steady clock."""
        clock = Clock()
        self.assertEqual(steady_clock(clock), clock.seconds)
        clock.seconds = time.time  # type: ignore[method-assign]
        self.assertIs(steady_clock(clock), time.monotonic)
