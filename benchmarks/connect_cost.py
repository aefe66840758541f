"""What it costs the processor to set up a connection, by path.

``python -m benchmarks.connect_cost`` runs a mediator, a relay, a server and a client on
loopback in this one process, so that its processor time is that of all four together,
the kernel's work for them included. Measured is from the call to connect to the first
byte of a service that speaks first, and until the client has ended it.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater, react

from benchmarks.greeting import Greeted, Greeter
from dwcloud.mediator.configuration import MediatorConfiguration
from dwcloud.mediator.service import MediatorService, StreamSocket, UDPSocket
from dwcloud.net.identity import SystemIdentity
from dwcloud.peer.client import CloudClient, ConnectOptions
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.server import CloudServer
from dwcloud.peer.status import ServerEvent
from dwcloud.relay.service import RelayService

__all__ = ["main"]

_PATHS = ("tcp", "udp", "relay")
_HOST, _MEDIATOR, _RELAY = "127.0.0.1", 23345, 23349
_COUNT = 50
_PAUSE = 0.2
"""Seconds between two connections, for what one of them leaves to be done."""


async def _cloud(reactor: Any) -> CloudServer:
    """Start everything but the client; return the server once clients can come."""
    relay = RelayService(reactor, [f"tcp:{_RELAY}:interface={_HOST}"])
    relay.startService()
    endpoint = f"tcp:{_MEDIATOR}:interface={_HOST}"
    MediatorService(
        reactor,
        MediatorConfiguration(relay_urls=(f"http://{_HOST}:{_RELAY}",)),
        [StreamSocket(endpoint, serverFromString(reactor, endpoint))],
        [UDPSocket(_MEDIATOR, _HOST, None)],
    ).startService()
    ready: Deferred[None] = Deferred()

    def on_event(event: ServerEvent) -> None:
        listening = event.event == "relay" and event.details["state"] == "listening"
        if listening and not ready.called:
            ready.callback(None)

    server = CloudServer(
        reactor,
        SystemIdentity.generate().issue_server(),
        {"greeting": Factory.forProtocol(Greeter)},
        MediatorAddress(_HOST, _MEDIATOR),
        onEvent=on_event,
        interface=_HOST,
        portMapping=(),
        lan=False,
    )
    server.startService()
    await ready
    return server


async def _connect(reactor: Any, server: CloudServer, path: str) -> float:
    """Connect with a new client; return the seconds of the processor that took."""
    address = MediatorAddress(_HOST, _MEDIATOR)
    client = CloudClient(reactor, address, lan=False, interface=_HOST)
    client.start()
    await deferLater(reactor, _PAUSE)
    gc.collect()
    begin = time.process_time()
    protocol: Any = await client.connect(
        server.identity.name,
        "greeting",
        Factory.forProtocol(Greeted),
        ConnectOptions(path=path),
    )
    await protocol.heard
    protocol.transport.abortConnection()
    await client.stop()
    await deferLater(reactor, _PAUSE)
    return time.process_time() - begin


async def _measure(reactor: Any, count: int) -> None:
    server = await _cloud(reactor)
    await deferLater(reactor, 1.0)
    print("path    median     least   ms of the processor")
    for path in _PATHS:
        await _connect(reactor, server, path)  # what is made once for all
        seconds = [await _connect(reactor, server, path) for _ in range(count)]
        median, least = statistics.median(seconds) * 1e3, min(seconds) * 1e3
        print(f"{path:5} {median:8.1f}  {least:8.1f}", flush=True)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.connect_cost")
    parser.add_argument("--connects", type=int, default=_COUNT, help="by each path")
    count = parser.parse_args().connects
    react(lambda reactor: Deferred.fromCoroutine(_measure(reactor, count)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
