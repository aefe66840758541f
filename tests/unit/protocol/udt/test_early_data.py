"""Connections to a listener whose cookie is known: data go with the handshake."""

from __future__ import annotations

import random
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt import Connection, SocketType, State
from dwcloud.protocol.udt.early_data import (
    LIMIT,
    EarlyPieces,
    EarlyWrites,
    confirmation_of,
)
from dwcloud.protocol.udt.packets import DataPacket, HandshakePacket, Packet, decode
from tests.unit.protocol.udt.simulation import Link, Port, World

DELAY = 0.05


def offered(data: bytes) -> list[bytes]:
    """What goes behind the conclusions of a client that wrote these bytes."""
    writes = EarlyWrites()
    writes.append(data)
    return writes.offer()


class PieceTests(SynchronousTestCase):
    """Cutting early data and putting them together."""

    # [udt:early-data]
    @given(st.integers(0, LIMIT), st.randoms(use_true_random=False))
    def test_any_order(self, size: int, chance: random.Random) -> None:
        """In any order, with repetitions, the last piece completes them."""
        data = chance.randbytes(size)
        pieces = offered(data)
        order = [*pieces[:-1], *pieces[:-1]]
        chance.shuffle(order)
        listener = EarlyPieces()
        for piece in order:
            self.assertIsNone(listener.receive("client", piece))
        self.assertEqual(listener.receive("client", pieces[-1]), data)

    def test_packets_of_the_base_size(self) -> None:
        """No packet is larger than what passes every path, headers included."""
        for piece in offered(bytes(LIMIT)):
            self.assertLessEqual(28 + 16 + 48 + len(piece), 1260)

    def test_same_each_time(self) -> None:
        """What is written later does not go with repetitions, but behind."""
        writes = EarlyWrites()
        writes.append(b"first")
        first = writes.offer()
        writes.append(b", second")
        self.assertEqual(writes.offer(), first)
        writes.settle(confirmation_of(b"first"))
        self.assertEqual(b"".join(writes.take()), b", second")

    def test_not_confirmed(self) -> None:
        """What the listener did not confirm is still to be sent, all of it."""
        for confirmation in (b"", b"dwce", confirmation_of(b"firs"), bytes(99)):
            writes = EarlyWrites()
            writes.append(b"first")
            writes.offer()
            writes.settle(confirmation)
            self.assertEqual(writes.take(), [b"first"])

    def test_confirmed_unasked(self) -> None:
        """Nothing is dropped by who never got anything."""
        writes = EarlyWrites()
        writes.append(b"first")
        writes.settle(confirmation_of(b"first"))
        self.assertEqual(writes.take(), [b"first"])

    @given(st.lists(st.binary(max_size=40), max_size=30))
    def test_any_bytes(self, received: list[bytes]) -> None:
        """Whatever follows a conclusion, nothing long or unasked comes of it."""
        listener = EarlyPieces()
        head = offered(bytes(1200))[0][:8]
        for trailing in received:
            for bytes_ in (trailing, head[:4] + trailing):
                whole = listener.receive("client", bytes_)
                self.assertLessEqual(len(whole or b""), LIMIT)

    def test_malformed(self) -> None:
        """Lengths that contradict each other make no early data."""
        listener = EarlyPieces()
        mark = offered(b"x")[0][:4]
        for total, offset, size in ((LIMIT + 1, 0, 1), (5, 4, 2), (5, 9, 1), (0, 0, 1)):
            head = mark + total.to_bytes(2) + offset.to_bytes(2)
            self.assertEqual(listener.receive(1, head + bytes(size)), b"")

    def test_bounded(self) -> None:
        """Neither many clients nor many small pieces take memory without end."""
        listener = EarlyPieces()
        piece = offered(bytes(2000))[0]
        for client in range(1000):
            self.assertIsNone(listener.receive(client, piece))
        self.assertLessEqual(len(listener._clients), 256)
        mark = piece[:4]
        answers = [
            listener.receive("x", mark + (4000).to_bytes(2) + at.to_bytes(2) + b"x")
            for at in range(1, 100)
        ]
        self.assertIn(b"", answers)
        kept = max(len(pieces) for pieces in listener._clients.values())
        self.assertLess(kept, 8)


class EarlyTestCase(SynchronousTestCase):
    """A client and a listener."""

    def setUp(self) -> None:
        self.world = World(link=Link(delay=DELAY))
        self.client, self.server = self.world.port(1), self.world.port(2)
        self.server.multiplexer.listen()

    def first(self) -> None:
        """Have a connection before, which leaves the cookie behind."""
        ours = self.client.connect(self.server)
        self.world.run(self.server.is_up)
        self.world.run(seconds=0.2)
        ours.abort(now=self.world.now)
        self.client.flush()
        self.world.run(seconds=2.0)
        self.forget()

    def forget(self) -> None:
        """Look only at what comes from now on."""
        for port in (self.client, self.server):
            port.events.clear()
            port.accepted.clear()
            port.sent.clear()

    def early(self, data: bytes) -> Connection:
        """Connect and write in the same turn."""
        now = self.world.now
        connection = self.client.multiplexer.connect(
            self.server.address, now=now, early=True
        )
        connection.write(data, now=now)
        self.client.multiplexer.handle_timer(now=now)
        self.client.flush()
        return connection

    def answered(self, ours: Connection, data: bytes, answer: bytes) -> float:
        """Let the server answer what it got; seconds until the client has that."""
        started = self.world.now
        self.world.run(lambda: bool(self.server.accepted))
        theirs = self.server.accepted[0]
        self.world.run(lambda: bytes(self.server.received.get(theirs, b"")) == data)
        self.server.write(theirs, answer)
        self.world.run(lambda: bytes(self.client.received.get(ours, b"")) == answer)
        return self.world.now - started

    def assertExchanged(self, data: bytes, answer: bytes, round_trips: int) -> None:
        """Data arrive once, and so does the answer, after so many round trips."""
        seconds = self.answered(self.early(data), data, answer)
        self.assertApproximates(seconds / (2 * DELAY), round_trips, 0.01)
        self.world.run(seconds=3.0)
        theirs = self.server.accepted[0]
        self.assertEqual(bytes(self.server.received[theirs]), data)
        self.assertEqual(len(self.server.accepted), 1)


class EarlyConnectionTests(EarlyTestCase):
    """Connections by a cookie that is known."""

    # [udt:known-cookie]
    def test_one_round_trip(self) -> None:
        """The answer to the first data is there after one round trip."""
        for size in (1, 1160, 1562, LIMIT):
            with self.subTest(size=size):
                self.setUp()
                self.first()
                self.assertExchanged(random.Random(size).randbytes(size), b"yes", 1)
                self.assertEqual(self.client.packets(DataPacket), [])

    def test_more_than_fits(self) -> None:
        """What does not fit into the handshake follows it."""
        self.first()
        data = random.Random(1).randbytes(3 * LIMIT)
        self.answered(self.early(data), data, b"yes")

    def test_nothing_written(self) -> None:
        """Without data it is a handshake of one round trip."""
        self.first()
        ours = self.early(b"")
        self.world.run(lambda: self.client.is_up())
        self.assertIs(ours.state, State.CONNECTED)
        self.assertEqual(len(self.client.packets(HandshakePacket)), 1)

    def test_no_cookie_yet(self) -> None:
        """Who has no cookie asks for one; the data go with the conclusion."""
        self.assertExchanged(b"x" * 2000, b"yes", 2)

    # [udt:rendezvous-cookie]
    def test_after_a_rendezvous(self) -> None:
        """A rendezvous with a port that listens leaves its cookie behind."""
        self.client.rendezvous(self.server)
        self.server.rendezvous(self.client)
        self.world.run(lambda: self.client.is_up() and self.server.is_up())
        self.forget()
        self.assertExchanged(b"x" * 2000, b"yes", 1)

    def test_rendezvous_with_no_listener(self) -> None:
        """One that does not listen gives nothing out."""
        self.server.multiplexer.stop_listening()
        self.client.rendezvous(self.server)
        self.server.rendezvous(self.client)
        self.world.run(lambda: self.client.is_up() and self.server.is_up())
        self.forget()
        self.server.multiplexer.listen()
        self.assertExchanged(b"x", b"yes", 2)

    def restart(self) -> None:
        """Let the server begin anew, with other secrets."""
        self.server = Port(self.world, self.server.address)
        self.server.random.seed(99)
        self.world.ports[self.server.address] = self.server
        self.server.multiplexer.listen()

    # [udt:outdated-cookie]
    def test_outdated(self) -> None:
        """An outdated cookie is answered by a new one, and nothing is lost."""
        self.first()
        self.restart()
        self.assertExchanged(b"x" * 2000, b"yes", 2)

    def test_later(self) -> None:
        """Each connection brings a fresh cookie; after twenty minutes it is stale."""
        self.first()
        self.world.run(seconds=500.0)
        self.assertExchanged(b"one", b"yes", 1)
        self.world.run(seconds=500.0)
        self.forget()
        self.assertExchanged(b"two", b"yes", 1)
        self.world.run(seconds=1300.0)
        self.forget()
        self.assertExchanged(b"three", b"yes", 2)

    def test_loss(self) -> None:
        """Any of the packets may be lost, doubled or overtaken."""
        for seed in range(60):
            chance = random.Random(seed)

            def lose(
                source: object, packet: Packet, chance: random.Random = chance
            ) -> bool:
                return chance.random() < 0.4

            self.setUp()
            self.first()
            self.world.link.jitter, self.world.link.duplication = 0.1, 0.2
            self.world.link.lose = lose
            data = chance.randbytes(chance.randrange(1, 9000))
            ours = self.early(data)
            self.world.run(lambda: bool(self.server.accepted), 2.5)
            if not self.server.accepted:
                continue
            self.world.link.lose = None
            self.answered(ours, data, b"yes")
            self.world.run(seconds=1.0)
            self.assertEqual(len(self.server.accepted), 1, seed)

    def test_other_listener(self) -> None:
        """One that knows nothing of early data gets them in numbered packets."""
        self.first()
        send = self.world.send

        def strip(source: Any, to: Any, data: bytes) -> None:
            packet = decode(data)
            if isinstance(packet, HandshakePacket):
                data = attrs.evolve(packet, trailing=b"").encode()
            send(source, to, data)

        self.patch(self.world, "send", strip)
        data = bytes(range(256)) * 10
        self.answered(self.early(data), data, b"yes")

    def test_messages(self) -> None:
        """Where messages are sent nothing goes with the handshake, nor is it taken."""
        kind = {"socket_type": SocketType.DATAGRAM}
        client, server = self.world.port(3, **kind), self.world.port(4, **kind)
        server.multiplexer.listen()
        client.connect(server)
        self.world.run(server.is_up)
        conclusion = client.packets(HandshakePacket)[-1]
        assert isinstance(conclusion, HandshakePacket)
        other = attrs.evolve(
            conclusion,
            handshake=attrs.evolve(conclusion.handshake, socket_id=77),
            trailing=offered(b"x")[0],
        )
        server.inject(other.encode(), client)
        self.assertEqual(len(server.accepted), 2)
        self.assertEqual(server.packets(HandshakePacket)[-1].trailing, b"")


class HostileTests(EarlyTestCase):
    """What strangers may make of it."""

    def forge(self, **changes: int) -> list[bytes]:
        """Send conclusions with data that are not those of a client; the answers."""
        self.first()
        ours = self.early(b"x" * 2000)
        packets = self.client.packets(HandshakePacket)
        self.client.multiplexer.connect(self.server.address, now=self.world.now)
        ours.abort(now=self.world.now)
        self.world.queue.clear()
        for packet in packets:
            assert isinstance(packet, HandshakePacket)
            handshake = attrs.evolve(packet.handshake, **changes)
            forged = attrs.evolve(packet, handshake=handshake)
            self.server.inject(forged.encode(), self.client)
            answers = [data for _, data in self.server.sent]
            self.assertLessEqual(sum(map(len, answers)), 2 * len(forged.encode()))
        return [data for _, data in self.server.sent]

    def test_without_cookie(self) -> None:
        """Data with a wrong cookie are not taken, and bring no more than a cookie."""
        answers = self.forge(cookie=12345, socket_id=4711)
        self.assertEqual(self.server.accepted, [])
        self.assertEqual(len(self.server.multiplexer._by_peer), 0)
        for data in answers:
            packet = decode(data)
            assert isinstance(packet, HandshakePacket)
            self.assertEqual((packet.handshake.request_type, len(data)), (1, 64))

    def test_other_address(self) -> None:
        """A cookie is of no use at another address."""
        stranger = self.world.port(9)
        self.first()
        self.early(b"x")
        (packet,) = self.client.packets(HandshakePacket)
        self.world.queue.clear()
        self.server.inject(packet.encode(), stranger)
        self.assertEqual(self.server.accepted, [])

    def test_repeated(self) -> None:
        """Who repeats what he overheard gets the response again, nothing else."""
        self.first()
        self.early(b"x" * 2000)
        packets = self.client.packets(HandshakePacket)
        self.world.run(self.server.is_up)
        theirs = self.server.accepted[0]
        self.world.run(seconds=0.5)
        self.server.sent.clear()
        for packet in packets * 5:
            self.server.inject(packet.encode(), self.client)
        self.assertEqual(len(self.server.accepted), 1)
        self.assertEqual(bytes(self.server.received[theirs]), b"x" * 2000)
        answers = self.server.packets(HandshakePacket)
        self.assertEqual(len(self.server.sent), len(answers), "only responses")
        self.assertLessEqual(len(answers), len(packets * 5))

    def test_incomplete(self) -> None:
        """A part of the data makes no connection."""
        self.first()
        self.early(b"x" * 2000)
        packet = self.client.packets(HandshakePacket)[0]
        self.world.queue.clear()
        for _ in range(20):
            self.server.inject(packet.encode(), self.client)
        self.assertEqual((self.server.accepted, self.server.sent), ([], []))


class ReadyPeerTests(SynchronousTestCase):
    """Whom data need not wait for."""

    # [udt:ready-peer]
    def test_rendezvous(self) -> None:
        """Two of our own send data as soon as they have met."""
        world = World(link=Link(delay=DELAY))
        first, second = world.port(1), world.port(2)
        ours = first.rendezvous(second)
        second.rendezvous(first)
        ours.write(b"at once", now=world.now)
        world.run(first.is_up)
        started = world.now
        world.run(lambda: bool(first.packets(DataPacket)))
        self.assertEqual(world.now, started)
        world.run(lambda: b"at once" in second.received.values(), 1.0)
        self.assertIn(b"at once", second.received.values())
