"""Tests of how connections end."""

from __future__ import annotations

import hashlib

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.udt import (
    CloseReason,
    ConnectionClosed,
    State,
)
from dwcloud.protocol.udt.packets import (
    DataPacket,
    Shutdown,
)
from dwcloud.protocol.udt.states import TRANSITIONS
from tests.unit.protocol.udt.simulation import (
    Link,
    World,
    connected_pair,
)

FAST = {"congestion_control": "fixed", "fixed_rate": 20_000.0}


def sha256(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


class EndTests(SynchronousTestCase):
    """How connections end."""

    # [udt:linger]
    def test_linger(self) -> None:
        """Nothing that was written before close is lost, on a bad link too."""
        world = World(link=Link(loss=0.1))
        client, ours, server, theirs = connected_pair(world, **FAST)
        data = world.random.randbytes(200_000)
        client.write(ours, data)
        client.close(ours)
        self.assertRaises(LocalProtocolError, ours.write, b"more", now=world.now)
        world.run(lambda: bool(client.of(ConnectionClosed)))
        world.run(seconds=2.0)
        self.assertEqual(sha256(server.received[theirs]), sha256(data))
        self.assertIs(client.closed().reason, CloseReason.LOCAL)
        self.assertIs(server.closed().reason, CloseReason.PEER_SHUTDOWN)

    # [udt:shutdown]
    def test_shutdown_is_repeated(self) -> None:
        """Nobody confirms a shutdown, so it is sent three times."""
        world = World()
        client, ours, server, _ = connected_pair(world)
        client.close(ours)
        world.run(seconds=2.0)
        self.assertEqual(len(client.packets(Shutdown)), 3)
        self.assertEqual(len(server.of(ConnectionClosed)), 1)

    # [udt:drain]
    def test_read_before_the_end(self) -> None:
        """What came before the shutdown is read first, however late."""
        world = World()
        client, ours, server, theirs = connected_pair(world)
        server.reads = False
        client.write(ours, b"last words")
        client.close(ours)
        world.run(seconds=5.0)
        self.assertIs(theirs.state, State.DRAINING)
        self.assertEqual(server.of(ConnectionClosed), [])
        theirs.write(b"into the void", now=world.now)
        self.assertEqual(theirs.read(4), b"last")
        server.flush()
        self.assertEqual(server.of(ConnectionClosed), [])
        self.assertEqual(theirs.read(), b" words")
        server.flush()
        self.assertIs(server.closed().reason, CloseReason.PEER_SHUTDOWN)
        self.assertEqual(theirs.read(), b"")

    def test_abort(self) -> None:
        """Abort drops what was written; the peer sees a shutdown."""
        world = World()
        client, ours, server, _ = connected_pair(world)
        ours.write(bytes(100_000), now=world.now)
        ours.abort(now=world.now)
        client.flush()
        world.run(seconds=2.0)
        self.assertIs(client.closed().reason, CloseReason.ABORTED)
        self.assertIs(server.closed().reason, CloseReason.PEER_SHUTDOWN)
        self.assertEqual(client.packets(DataPacket), [])
        ours.abort(now=world.now)
        ours.close(now=world.now)

    def test_abandoned(self) -> None:
        """An attempt can be given up; a peer that had answered is told."""
        world = World()
        first, second = world.port(1), world.port(2)
        meeting = first.rendezvous(second)
        first.close(meeting)
        self.assertIs(meeting.state, State.CLOSED)
        self.assertIs(first.closed().reason, CloseReason.LOCAL)
        again = first.rendezvous(second)
        second.rendezvous(first)
        world.run(lambda: again.state is State.AGREEING)
        again.abort(now=world.now)
        first.flush()
        self.assertEqual(len(first.packets(Shutdown)), 1)
        world.run(seconds=1.0)
        self.assertEqual(first.multiplexer.connections, ())

    # [udt:late-acks]
    def test_undelivered(self) -> None:
        """A shutdown before our data were acknowledged is told so, after a second."""
        world = World()
        client, ours, server, theirs = connected_pair(world)
        world.run(seconds=0.1)
        world.link.lose = lambda source, packet: isinstance(packet, DataPacket)
        server.write(theirs, b"lost")
        client.close(ours)
        started = world.now
        world.run(lambda: bool(server.of(ConnectionClosed)))
        self.assertApproximates(world.now - started, 1.0, 0.02)
        self.assertIn("4 bytes", server.closed().detail)

    # [udt:half-open]
    def test_silence(self) -> None:
        """A peer that falls silent is given up; half-open connections end."""
        world = World()
        client, _, server, theirs = connected_pair(world, silence_limit=20.0)
        world.run(seconds=60.0)
        self.assertIs(theirs.state, State.CONNECTED)
        del world.ports[client.address]
        world.run(lambda: bool(server.of(ConnectionClosed)))
        self.assertIs(server.closed().reason, CloseReason.BROKEN)

    def test_linger_ends(self) -> None:
        """A peer that never reads is waited for as long as configured."""
        world = World()
        client, ours, server, _ = connected_pair(
            world, linger=5.0, receive_buffer_packets=40, **FAST
        )
        server.reads = False
        client.write(ours, bytes(200_000))
        client.close(ours)
        started = world.now
        world.run(lambda: bool(client.of(ConnectionClosed)))
        self.assertApproximates(world.now - started, 5.0, 0.1)
        self.assertIs(client.closed().reason, CloseReason.ABORTED)

    def test_transitions(self) -> None:
        """Every state but the last can be left, and leads to the last."""
        for state, following in TRANSITIONS.items():
            self.assertEqual(bool(following), state is not State.CLOSED)
        reached = {State.CLOSED}
        while True:
            more = {s for s, following in TRANSITIONS.items() if following & reached}
            if more <= reached:
                break
            reached |= more
        self.assertEqual(reached, set(State))
        world = World()
        _, ours, _, _ = connected_pair(world)
        self.assertRaises(AssertionError, ours._enter, State.MEETING, world.now)
