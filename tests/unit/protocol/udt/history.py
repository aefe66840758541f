"""A pair of connections that anything may happen to, and what must hold."""

from __future__ import annotations

import random

from dwcloud.protocol.udt import (
    CloseReason,
    Connection,
    ConnectionClosed,
    MessageConnection,
    SocketType,
    State,
)
from dwcloud.protocol.udt.packets import (
    Ack,
    Ack2,
    DataPacket,
    KeepAlive,
    MessageDropRequest,
    Nak,
    Packet,
    Shutdown,
)
from tests.unit.protocol.udt.simulation import Link, Port, World

_WINDOW = 64
_UP = (State.CONNECTED,)


class Side:
    """One end: its connection, and what it has sent and received."""

    def __init__(self, port: Port, connection: Connection) -> None:
        self.port = port
        self.connection = connection
        self.written = bytearray()
        self.messages: list[tuple[bytes, bool, float | None]] = []
        self.closed = False

    @property
    def received(self) -> bytes:
        return bytes(self.port.received.get(self.connection, b""))

    @property
    def received_messages(self) -> list[bytes]:
        return self.port.messages.get(self.connection, [])

    @property
    def ended(self) -> bool:
        return bool(self.port.of(ConnectionClosed))


class History:
    """Two ends over a link that may be changed at any time.

    :param seed: decides on everything that is random.
    :param wrap: how many packets before sequence numbers wrap.
    """

    def __init__(
        self,
        seed: int,
        *,
        messages: bool = False,
        rendezvous: bool = False,
        wrap: int = 20,
        control: str = "fixed",
        packet_size: int = 1500,
    ) -> None:
        self.world = World(seed)
        self.random = random.Random(seed)
        settings = {
            "socket_type": SocketType.DATAGRAM if messages else SocketType.STREAM,
            "receive_buffer_packets": _WINDOW,
            "maximum_packet_size": packet_size,
            "congestion_control": control,
            "fixed_rate": 5000.0,
            "connect_timeout": 60.0,
            "rendezvous_timeout": 60.0,
        }
        one = self.world.port(1, **settings)
        two = self.world.port(2, **settings)
        for port in (one, two):
            self._start_near_wrap(port, wrap)
        if rendezvous:
            first, second = one.rendezvous(two), two.rendezvous(one)
        else:
            two.multiplexer.listen()
            first = one.connect(two)
            assert self.world.run(lambda: bool(two.accepted))
            second = two.accepted[0]
        assert self.world.run(lambda: first.state in _UP and second.state in _UP)
        self.sides = (Side(one, first), Side(two, second))

    def _start_near_wrap(self, port: Port, wrap: int) -> None:
        original, calls = port.multiplexer._random_bytes, iter(range(10))

        def random_bytes(size: int) -> bytes:
            # The first is the socket id, the second the initial number.
            if next(calls, None) == 1:
                return ((1 << 31) - 1 - wrap).to_bytes(4)
            return original(size)

        port.multiplexer._random_bytes = random_bytes

    # What may happen

    def write(self, which: int, size: int, in_order: bool, ttl: float | None) -> None:
        """Write, unless this end is closed."""
        side = self.sides[which]
        if side.closed or side.connection.state is not State.CONNECTED:
            return
        data = self.random.randbytes(size)
        if not isinstance(side.connection, MessageConnection):
            side.written += data
            side.port.write(side.connection, data)
            return
        data = len(side.messages).to_bytes(4) + data
        data = data[: side.connection.maximum_message_size]
        side.messages.append((data, in_order, ttl))
        side.port.send(side.connection, data, in_order=in_order, ttl=ttl)

    def read(self, which: int, going_on: bool) -> None:
        """Stop or resume reading."""
        side = self.sides[which]
        side.port.reads = going_on
        if going_on:
            side.port.read(side.connection)
            side.port.flush()

    def link(self, loss: float, jitter: float, duplication: float) -> None:
        """Change what the link does."""
        self.world.link = Link(loss=loss, jitter=jitter, duplication=duplication)

    def close(self, which: int) -> None:
        """Close one end."""
        side = self.sides[which]
        if not side.closed and side.connection.state is State.CONNECTED:
            side.closed = True
            side.port.close(side.connection)

    def forge(self, which: int, kind: int, rebound: bool) -> None:
        """Let an end receive what a stranger has made, or its peer from elsewhere.

        All of it carries the right socket id, but the wrong port.
        """
        side, other = self.sides[which], self.sides[1 - which]
        packet: Packet
        target = side.connection.socket_id
        packet = (
            Shutdown(destination_id=target),
            KeepAlive(destination_id=target),
            Ack2(destination_id=target, ack_number=1),
            Ack(destination_id=target, sequence=5),
            Nak(destination_id=target, ranges=((1, 5),)),
            DataPacket(destination_id=target, sequence=0, payload=b"forged"),
            MessageDropRequest(
                destination_id=target, message_number=1, first=0, last=9
            ),
        )[kind]
        stranger = self.world.port(100 + which)
        data = packet.encode()
        if rebound and other.port.sent:
            data = other.port.sent[-1][1]
        if data[12:16] != bytes(4):
            side.port.inject(data, stranger)
        del self.world.ports[stranger.address]

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.world.run(seconds=seconds)

    # What must hold

    def check(self) -> None:
        """Check what holds at any time."""
        for side, other in (self.sides, self.sides[::-1]):
            assert other.written.startswith(side.received)
            sent = [data for data, _, _ in other.messages]
            received = side.received_messages
            assert len(set(received)) == len(received)
            assert set(received) <= set(sent)
            ordered = [data for data, in_order, _ in other.messages if in_order]
            in_turn = [data for data in received if data in set(ordered)]
            assert in_turn == [data for data in ordered if data in set(in_turn)]
            assert side.connection.readable_bytes <= (_WINDOW + 4) * 1456
            assert len(side.port.multiplexer.connections) <= 1
            receiver = side.connection._receiver
            if receiver is not None:
                assert len(receiver.losses) <= _WINDOW
                assert len(receiver._acks._sent) <= 1024

    def finish(self) -> None:
        """Let the link be good again, and check that everything has arrived."""
        self.link(0.0, 0.0, 0.0)
        for which in (0, 1):
            self.read(which, True)
        one, two = self.sides

        def is_quiet() -> bool:
            return all(side.ended or not self._pending(side) for side in self.sides)

        assert self.world.run(is_quiet, 300.0), [side.connection for side in self.sides]
        self.run(1.0)
        self.check()
        for side, other in ((one, two), (two, one)):
            if not (other.closed and not side.closed):
                # Nobody closed over the head of this side.
                self._check_delivered(side, other)
        reasons = {CloseReason.LOCAL, CloseReason.PEER_SHUTDOWN}
        if one.closed or two.closed:
            # All of its shutdowns may have been lost.
            reasons.add(CloseReason.BROKEN)
        for which in (0, 1):
            self.close(which)
        self.run(60.0)
        for side in self.sides:
            assert side.port.closed().reason in reasons
            assert not side.port.multiplexer.connections
            assert side.port.multiplexer.next_timer() is None

    def _pending(self, side: Side) -> int:
        return side.connection.send_buffer_bytes

    def _check_delivered(self, sender: Side, receiver: Side) -> None:
        if receiver.closed and sender.closed:
            # Both closed: what was written before may cross a shutdown.
            return
        assert receiver.received == bytes(sender.written)
        certain = {data for data, _, ttl in sender.messages if ttl is None}
        assert certain <= set(receiver.received_messages)
