"""Plain datagrams that punch holes, many pairs of peers at once, in this process."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Sequence

import attrs

from tests.lab.processes import PATIENCE
from tests.lab.topology import Host

__all__ = ["Pair", "mapped_address", "punch"]

Address = tuple[str, int]
_INTERVAL = 0.05
"""Seconds between two packets to the same address, at least."""
_ROUNDS = 40
"""Packets that each sends to each address, whatever comes of them."""


@attrs.define(eq=False)
class _Peer:
    """Sends to the address that it was told, and to any that it hears from.

    :ivar confirmed: whether the far end said that it hears this one.
    """

    socket: socket.socket
    targets: set[Address] = attrs.Factory(set)
    heard: set[Address] = attrs.Factory(set)
    confirmed: bool = False

    def receive(self) -> None:
        """Take one datagram."""
        text, address = self.socket.recvfrom(2048)
        self.heard.add(address)
        self.targets.add(address)
        self.confirmed = self.confirmed or text == b"heard"

    def send(self) -> None:
        """Send to each address once."""
        for target in self.targets:
            self.socket.sendto(b"heard" if target in self.heard else b"hello", target)


@attrs.frozen
class Pair:
    """Two hosts that try to reach each other.

    :ivar delay: packets that the first sends before the second begins.
    :ivar hopeful: whether to go on until they are connected.
    """

    first: Host
    second: Host
    delay: int = 0
    hopeful: bool = True


def mapped_address(source: socket.socket, mediator: socket.socket) -> Address:
    """Return the address that the mediator sees of a socket."""
    source.sendto(b"who am I", mediator.getsockname())
    mediator.settimeout(PATIENCE)
    _, address = mediator.recvfrom(2048)
    host, port = address
    return str(host), int(port)


def punch(mediator: Host, pairs: Sequence[Pair]) -> list[tuple[bool, bool]]:
    """Let each pair try; return whether each of the two knows it is connected."""
    peers: list[tuple[int, _Peer]] = []
    wanted: list[_Peer] = []
    with selectors.DefaultSelector() as selector, mediator.socket() as meeting_point:
        meeting_point.bind((mediator.address, 0))
        try:
            for pair in pairs:
                two = []
                for host, delay in ((pair.first, 0), (pair.second, pair.delay)):
                    peer = _Peer(host.socket())
                    peers.append((delay, peer))
                    two.append((peer, mapped_address(peer.socket, meeting_point)))
                    selector.register(peer.socket, selectors.EVENT_READ, peer)
                (one, first), (other, second) = two
                one.targets.add(second)
                other.targets.add(first)
                wanted += [one, other] if pair.hopeful else []
            _run(selector, peers, wanted)
        finally:
            for _, peer in peers:
                peer.socket.close()
    outcomes = [peer.confirmed for _, peer in peers]
    return list(zip(outcomes[::2], outcomes[1::2], strict=True))


def _run(
    selector: selectors.BaseSelector,
    peers: Sequence[tuple[int, _Peer]],
    wanted: Sequence[_Peer],
) -> None:
    """Send and receive for some rounds, and until those are connected."""
    due = time.monotonic()
    end = due + PATIENCE
    rounds = 0
    while (now := time.monotonic()) < end:
        if now >= due:
            if rounds >= _ROUNDS and all(peer.confirmed for peer in wanted):
                return
            for delay, peer in peers:
                if rounds >= delay:
                    peer.send()
            rounds += 1
            # From now on: after a pause of this machine none is left out.
            due = time.monotonic() + _INTERVAL
        for key, _ in selector.select(max(0.0, due - now)):
            key.data.receive()
