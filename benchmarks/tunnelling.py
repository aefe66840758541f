"""Short requests through a proxy that keeps each body until it is whole.

``python -m benchmarks.tunnelling`` sends bytes up and brings bytes down for some
seconds, by a TCP connection and by the tunnelling method ``finite_messages``, in turn,
without and with a round trip of 50 ms to the proxy, and prints Mbit/s and the ratio of
the two. Service and proxy (:mod:`dwcloud.testing.proxy`) are one further process on the
same machine; a cable in it that holds all bytes back stands for the round trip.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater, react
from zope.interface import implementer

from benchmarks.tunnelling_peer import HOST, PATH, TOKEN
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.tunnel_endpoints import TunnelEndpoint
from dwcloud.protocol.tunnelling.methods import FINITE_MESSAGES
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.protocol.tunnelling.urls import ServiceURL

_BLOCK = bytes(64 * 1024)
_WARM_UP = 1.0
_NEEDED = {0.0: 20.0, 0.05: 5.0}
"""Mbit/s that ``finite_messages`` is to carry, by round trip."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class _Client(Protocol):
    """Sends or receives as much as it can."""

    transport: Any

    def __init__(self, reactor: Any, kind: str) -> None:
        self._reactor = reactor
        self._kind = kind
        self._paused = False
        self._answer = b""
        self.count = 0
        self.ended: Deferred[int] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self._kind.encode())
        if self._kind == "U":
            self.transport.registerProducer(self, True)
            self._give()

    def _give(self) -> None:
        if not self._paused:
            self.transport.write(_BLOCK)
            self._reactor.callLater(0, self._give)

    def resumeProducing(self) -> None:
        self._paused = False
        self._give()

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self._paused = True

    def finish(self) -> None:
        """Send no more; the count of what came follows."""
        self._paused = True
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        self.count += len(data)
        self._answer = (self._answer + data)[-8:]

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Any = None) -> None:
        self._paused = True
        self.ended.callback(int.from_bytes(self._answer, "big"))


async def _measure(reactor: Any, endpoint: Any, kind: str, seconds: float) -> float:
    """Mbit/s of one direction.

    Up, all that was sent counts, until the service tells that it has come; down, what
    came within some seconds, after a warm-up.
    """
    began = reactor.seconds()
    client: Any = await connectProtocol(endpoint, _Client(reactor, kind))
    if kind == "U":
        await deferLater(reactor, seconds)
        client.finish()
        count = await client.ended
        return count * 8e-6 / (reactor.seconds() - began)  # type: ignore[no-any-return]
    await deferLater(reactor, _WARM_UP)
    count, began = client.count, reactor.seconds()
    await deferLater(reactor, seconds)
    rate = (client.count - count) * 8e-6 / (reactor.seconds() - began)
    client.transport.abortConnection()
    await client.ended
    return rate  # type: ignore[no-any-return]


@contextmanager
def _far_side(round_trip: float) -> Iterator[dict[str, int]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.tunnelling_peer", str(round_trip)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


async def _run(reactor: Any, rounds: int, seconds: float) -> None:
    print("Mbit/s          direct   finite_messages   ratio   needed")
    for round_trip, needed in _NEEDED.items():
        with _far_side(round_trip) as ports:
            direct = TCP4ClientEndpoint(reactor, HOST, ports["raw"])
            proxies = Proxies(reactor, ProxySettings.of(Proxy(HOST, ports["proxy"])))
            url = ServiceURL("http", HOST, ports["service"])
            messages = TunnelEndpoint(
                reactor, url, PATH, TOKEN, method=FINITE_MESSAGES, proxies=proxies
            )
            for kind, name in (("U", "up"), ("D", "down")):
                plain, tunnelled = [], []
                for _ in range(rounds):
                    plain.append(await _measure(reactor, direct, kind, seconds))
                    tunnelled.append(await _measure(reactor, messages, kind, seconds))
                one, other = statistics.median(plain), statistics.median(tunnelled)
                where = f"{round_trip * 1000:.0f} ms {name}"
                print(
                    f"{where:<12} {one:>9.0f} {other:>17.1f} {other / one:>7.4f} "
                    f"{needed:>8.0f}",
                    flush=True,
                )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tunnelling")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each")
    options = parser.parse_args()
    react(
        lambda reactor: Deferred.fromCoroutine(
            _run(reactor, options.rounds, options.seconds)
        )
    )


if __name__ == "__main__":
    main()
