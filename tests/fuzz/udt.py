"""Feed UDT with mutated packets: ``python -m tests.fuzz.udt [SECONDS [SEED]]``.

Each target takes any bytes, so that a fuzzer that watches coverage can use it, too.
What it must not do is raise, grow without bound, or answer with more than it got.
"""

from __future__ import annotations

import random
import sys
import time

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.udt import (
    CloseReason,
    Connection,
    ConnectionClosed,
    SocketType,
    State,
)
from dwcloud.protocol.udt.packets import HandshakePacket, decode
from tests.unit.protocol.udt.simulation import Port, World
from tests.unit.protocol.udt.vectors import all_datagrams

_ENDS = (CloseReason.PEER_SHUTDOWN, CloseReason.PROTOCOL_ERROR)

WINDOW = 64
"""Packets in the receive buffers of the connections that are fed."""


def feed_parser(data: bytes) -> None:
    """Decode, and encode again what could be decoded."""
    try:
        packet = decode(data)
    except RemoteProtocolError:
        return
    again = decode(packet.encode())
    assert again.encode() == packet.encode()


def feed_connection(data: bytes) -> None:
    """Let a live connection and its listener receive packets made of ``data``.

    A length of two bytes goes before each packet; numbers near those in use are put
    into some of them, for otherwise hardly one would get past the first check.
    """
    settings = {
        "socket_type": SocketType.DATAGRAM if data[:1] > b"\x80" else SocketType.STREAM,
        "receive_buffer_packets": WINDOW,
    }
    world = World()
    client, server = world.port(1, **settings), world.port(2, **settings)
    server.multiplexer.listen(backlog=5)
    ours = client.connect(server)
    world.run(lambda: bool(server.accepted))
    theirs = server.accepted[0]
    _send_something(server, theirs)
    first = client.packets(HandshakePacket)[0]
    assert isinstance(first, HandshakePacket)
    start = first.handshake.initial_sequence
    position = 1
    while position + 3 < len(data):
        size = data[position] % 96
        mode = data[position + 1]
        packet = bytearray(data[position + 2 : position + 2 + size])
        position += 2 + size
        if mode & 1 and len(packet) >= 16:
            packet[12:16] = theirs.socket_id.to_bytes(4)
        if mode & 2 and len(packet) >= 16:
            offset = 16 if packet[0] & 0x80 else 0
            near = (start + (mode >> 3) - 4) & 0x7FFFFFFF
            packet[offset : offset + 4] = near.to_bytes(4)
        server.inject(bytes(packet), client)
        if mode & 4:
            world.run(seconds=mode / 500)
        _check_bounds(server, theirs)
    world.run(seconds=1.0)
    _check_bounds(server, theirs)
    closed = server.of(ConnectionClosed)
    if theirs.state is State.CONNECTED:
        assert not closed
    elif theirs.state in (State.CLOSING, State.CLOSED):
        # It ended with a word: the peer's shutdown, or what the peer did wrong.
        (event,) = (event for event in closed if event.connection is theirs)
        assert isinstance(event, ConnectionClosed)
        assert event.reason in _ENDS, event
        assert event.detail or event.reason is CloseReason.PEER_SHUTDOWN
    assert ours.socket_id


def feed_opening(data: bytes) -> None:
    """Let a client or a rendezvous that waits for its peer receive such packets.

    The input is that of :func:`feed_connection`.
    """
    world = World()
    waiting, peer = world.port(1, receive_buffer_packets=WINDOW), world.port(2)
    meets = data[:1] > b"\x80"
    connection = waiting.rendezvous(peer) if meets else waiting.connect(peer)
    first = waiting.packets(HandshakePacket)[0]
    assert isinstance(first, HandshakePacket)
    position = 1
    while position + 3 < len(data):
        size = data[position] % 96
        mode = data[position + 1]
        packet = bytearray(data[position + 2 : position + 2 + size])
        position += 2 + size
        if mode & 1 and len(packet) >= 16:
            packet[12:16] = connection.socket_id.to_bytes(4)
        if mode & 2 and len(packet) >= 64:
            # As a listener of ours would answer.
            packet[16:36] = first.handshake.encode()[:20]
            packet[36:40] = (2 - (mode >> 3) % 5).to_bytes(4, signed=True)
        waiting.inject(bytes(packet), peer)
        if mode & 4:
            world.run(seconds=mode / 500)
        opening = connection._opening
        assert opening is not None and len(opening.early) <= 64
        assert len(waiting.multiplexer.connections) <= 1
        assert len(connection._control) <= 100
    world.run(seconds=60.0)
    assert not waiting.multiplexer.connections
    closed = waiting.closed()
    assert closed.detail or closed.reason is CloseReason.PEER_SHUTDOWN, closed


def _send_something(port: Port, connection: Connection) -> None:
    if port.multiplexer.configuration.socket_type is SocketType.STREAM:
        port.write(connection, bytes(20_000))
    else:
        port.send(connection, bytes(9000), bytes(3000), b"end")


def _check_bounds(port: Port, connection: Connection) -> None:
    assert len(port.multiplexer.connections) <= 1 + 5
    receiver = connection._receiver
    assert receiver is not None
    assert len(receiver.losses) <= WINDOW
    assert connection.readable_bytes <= (WINDOW + 4) * 1456
    assert len(connection._control) <= 100


def mutate(chance: random.Random, data: bytes) -> bytes:
    """Return the bytes with a few changes."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        where = chance.randrange(len(changed) + 1)
        match chance.randrange(5):
            case 0 if where < len(changed):
                changed[where] = chance.choice([0, 1, 0x7F, 0x80, 0xFF])
            case 1 if where < len(changed):
                changed[where] ^= 1 << chance.randrange(8)
            case 2:
                del changed[where : where + chance.randrange(1, 9)]
            case 3:
                changed[where:where] = chance.randbytes(chance.randrange(1, 9))
            case _:
                changed[where : where + 4] = chance.choice(
                    [bytes(4), b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff" * 4]
                )
    return bytes(changed)


def make_script(chance: random.Random, packets: list[bytes]) -> bytes:
    """Return input for :func:`feed_connection` made of mutated packets."""
    parts = [chance.randbytes(1)]
    for _ in range(chance.randrange(1, 30)):
        packet = mutate(chance, chance.choice(packets))[:95]
        # Most of them reach the connection, as 3 of 4 modes have the lowest bit.
        mode = chance.randrange(256) | (chance.random() < 0.5)
        parts.append(bytes([len(packet), mode]) + packet)
    return b"".join(parts)


def run(seconds: float, seed: int) -> int:
    """Feed all targets for some time; return how many inputs that were."""
    chance = random.Random(seed)
    packets = [data for _, data in all_datagrams()]
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        data = mutate(chance, chance.choice(packets))
        script = make_script(chance, packets)
        for target, text in (
            (feed_parser, data),
            (feed_connection, script),
            (feed_opening, script),
        ):
            try:
                target(text)
            except BaseException as error:
                error.add_note(f"{target.__name__}(bytes.fromhex({text.hex()!r}))")
                raise
        count += 1
    return count


def main(arguments: list[str]) -> None:
    """Run as told by the command line."""
    seconds = float(arguments[0]) if arguments else 60.0
    seed = int(arguments[1]) if len(arguments) > 1 else random.randrange(1 << 32)
    print(f"seed {seed}")
    print(f"{run(seconds, seed)} inputs")


if __name__ == "__main__":
    main(sys.argv[1:])
