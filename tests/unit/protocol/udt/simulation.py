"""Two or more UDT ports joined by a simulated link, stepped from event to event."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

import attrs

from dwcloud.protocol.udt import (
    Configuration,
    Connected,
    Connection,
    ConnectionClosed,
    DataAvailable,
    Event,
    IncomingConnection,
    MessageConnection,
    Multiplexer,
    TraceEvent,
)
from dwcloud.protocol.udt.packets import HandshakePacket, Packet, decode

Address = tuple[str, int]


@attrs.define
class Link:
    """What happens to datagrams on their way.

    :ivar delay: seconds one way.
    :ivar jitter: up to that many more seconds, which reorders.
    :ivar rate: bytes per second, or None.
    :ivar queue: bytes that may wait for the rate.
    :ivar lose: decides on each packet; overrides ``loss``.
    """

    delay: float = 0.005
    jitter: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    rate: float | None = None
    queue: int = 1 << 20
    lose: Callable[[Address, Packet], bool] | None = None


class Port:
    """A multiplexer with what its program has seen."""

    def __init__(self, world: World, address: Address, **settings: object) -> None:
        self.world = world
        self.address = address
        self.random = random.Random(f"{world.seed} {address}")
        self.trace: list[TraceEvent] = []
        self.multiplexer = Multiplexer(
            configuration=Configuration(**settings),
            random_bytes=self.random.randbytes,
            now=world.now,
            trace=self.trace.append,
        )
        self.events: list[Event] = []
        self.received: dict[Connection, bytearray] = {}
        self.messages: dict[Connection, list[bytes]] = {}
        self.accepted: list[Connection] = []
        self.reads = True
        self.sent: list[tuple[float, bytes]] = []

    def flush(self) -> None:
        """Send and take events, as an adapter does after each call."""
        while True:
            for transmit in self.multiplexer.datagrams_to_send(now=self.world.now):
                for data in transmit.datagrams():
                    self.sent.append((self.world.now, data))
                    self.world.send(self.address, transmit.address, data)
            event = self.multiplexer.next_event()
            if event is None:
                return
            self.events.append(event)
            if isinstance(event, IncomingConnection):
                self.accepted.append(event.connection)
            if isinstance(event, DataAvailable) and self.reads:
                self.read(event.connection)

    def read(self, connection: Connection) -> None:
        """Take what a connection has received."""
        if not isinstance(connection, MessageConnection):
            buffer = self.received.setdefault(connection, bytearray())
            buffer += connection.read()
            return
        messages = self.messages.setdefault(connection, [])
        while (message := connection.read_message()) is not None:
            messages.append(message)

    def connect(self, peer: Port) -> Connection:
        """Connect as a client."""
        now = self.world.now
        connection = self.multiplexer.connect(peer.address, now=now)
        self.flush()
        return connection

    def rendezvous(self, peer: Port) -> Connection:
        """Start a rendezvous."""
        now = self.world.now
        connection = self.multiplexer.rendezvous(peer.address, now=now)
        self.flush()
        return connection

    def write(self, connection: Connection, data: bytes) -> None:
        """Write on a connection."""
        connection.write(data, now=self.world.now)
        self.flush()

    def send(self, connection: Connection, *messages: bytes, **options: Any) -> None:
        """Send messages on a connection of such."""
        assert isinstance(connection, MessageConnection)
        for message in messages:
            connection.send_message(message, now=self.world.now, **options)
        self.flush()

    def close(self, connection: Connection) -> None:
        """Close a connection."""
        connection.close(now=self.world.now)
        self.flush()

    def inject(self, data: bytes, sender: Port) -> None:
        """Receive a datagram that looks as if it came from another port."""
        now = self.world.now
        self.multiplexer.receive_datagram(data, sender.address, now=now)
        self.flush()

    def of(self, kind: type[Event]) -> list[Event]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def packets(self, kind: type[Packet]) -> list[Packet]:
        """Return the packets of one kind that were sent."""
        decoded = [decode(data) for _, data in self.sent]
        return [packet for packet in decoded if isinstance(packet, kind)]

    def is_up(self) -> bool:
        """Tell whether a connection has come up."""
        return bool(self.of(Connected) or self.accepted)

    def closed(self) -> ConnectionClosed:
        """Return the one event that tells the end."""
        (event,) = self.of(ConnectionClosed)
        assert isinstance(event, ConnectionClosed)
        return event


class World:
    """Time, links and ports; the same seed gives the same run."""

    def __init__(self, seed: int = 1, link: Link | None = None) -> None:
        self.seed = seed
        self.now = 1000.0
        self.link = link or Link()
        self.random = random.Random(seed)
        self.ports: dict[Address, Port] = {}
        self.queue: list[tuple[float, int, Address, Address, bytes]] = []
        self.counter = 0
        self.free_at: dict[Address, float] = {}

    def port(self, number: int, **settings: object) -> Port:
        """Add a port."""
        port = Port(self, ("192.0.2.1", number), **settings)
        self.ports[port.address] = port
        return port

    def send(self, source: Address, destination: Address, data: bytes) -> None:
        """Put a datagram on the link."""
        link = self.link
        if link.lose is not None:
            if link.lose(source, decode(data)):
                return
        elif self.random.random() < link.loss:
            return
        at = self.now
        if link.rate:
            free = max(self.free_at.get(source, 0.0), self.now)
            if (free - self.now) * link.rate > link.queue:
                return
            at = self.free_at[source] = free + len(data) / link.rate
        copies = 2 if self.random.random() < link.duplication else 1
        for _ in range(copies):
            self.counter += 1
            arrival = at + link.delay + self.random.random() * link.jitter
            item = (arrival, self.counter, source, destination, data)
            heapq.heappush(self.queue, item)

    def step(self) -> bool:
        """Go on to the next arrival or timer; return False if there is none."""
        timers = [(p.multiplexer.next_timer(), p) for p in self.ports.values()]
        at = min((t for t, _ in timers if t is not None), default=None)
        if self.queue and (at is None or self.queue[0][0] <= at):
            arrival, _, source, destination, data = heapq.heappop(self.queue)
            self.now = max(self.now, arrival)
            port = self.ports.get(destination)
            if port is not None:
                port.multiplexer.receive_datagram(data, source, now=self.now)
                port.flush()
            return True
        if at is None:
            return False
        self.now = max(self.now, at)
        for timer, port in timers:
            if timer is not None and timer <= self.now:
                port.multiplexer.handle_timer(now=self.now)
                port.flush()
        return True

    def run(
        self,
        until: Callable[[], bool] | None = None,
        seconds: float = 60.0,
        steps: int = 400_000,
    ) -> bool:
        """Step until something is true, or for so long; return whether it is."""
        end = self.now + seconds
        for _ in range(steps):
            if until is not None and until():
                return True
            nearest = [p.multiplexer.next_timer() for p in self.ports.values()]
            if self.queue:
                nearest.append(self.queue[0][0])
            at = min((t for t in nearest if t is not None), default=None)
            if at is None or at > end:
                self.now = end
                return until is not None and until()
            self.step()
        raise AssertionError(f"no end after {steps} steps")


def connected_pair(
    world: World, **settings: object
) -> tuple[Port, Connection, Port, Connection]:
    """Return a client and a server port with a connection between them."""
    client, server = world.port(1, **settings), world.port(2, **settings)
    server.multiplexer.listen()
    connection = client.connect(server)
    assert world.run(lambda: client.is_up() and server.is_up())
    return client, connection, server, server.accepted[0]


def is_handshake(packet: Packet) -> bool:
    """Tell whether a packet is a handshake."""
    return isinstance(packet, HandshakePacket)
