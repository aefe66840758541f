"""The two ends that :mod:`benchmarks.connect` measures between.

``python -m benchmarks.connect_peer serve MEDIATOR DIRECTORY`` publishes a service that
says one byte first, with TLS and, under another name, without; ``... connect MEDIATOR
PEER PATH COUNT`` connects to it and prints seconds until that byte.
"""

from __future__ import annotations

import json
import pathlib
import sys
import tempfile
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater, react

from benchmarks.greeting import Greeted, Greeter
from dwcloud.net.identity import ServerIdentity
from dwcloud.peer.client import CloudClient, ConnectOptions
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.server import CloudServer
from dwcloud.peer.status import ServerEvent
from dwcloud.protocol.names import PeerName

__all__ = ["measure", "serve"]

_TLS, _PLAIN = "greet", "greet-plain"
_PAUSE = 1.0
"""Seconds from the client's start: a client that has just started is another matter."""


async def serve(reactor: Any, mediator: str, directory: str) -> None:
    """Publish until ended; print the peer name once clients can come."""

    def on_event(event: ServerEvent) -> None:
        if event.event == "relay" and event.details["state"] == "listening":
            print(server.identity.name, flush=True)

    server = CloudServer(
        reactor,
        ServerIdentity.load_or_create(pathlib.Path(directory)),
        {_TLS: Factory.forProtocol(Greeter), _PLAIN: Factory.forProtocol(Greeter)},
        MediatorAddress.parse(mediator),
        plainServices=[_PLAIN],
        onEvent=on_event,
        portMapping=(),
        lan=False,
    )
    server.startService()
    await Deferred()


async def measure(
    reactor: Any, mediator: str, peer: str, path: str, count: str
) -> None:
    """Print the seconds to the first byte of each connection."""
    address, name = MediatorAddress.parse(mediator), PeerName.parse(peer)
    figures: dict[str, list[float]] = {"cold": [], "tls": [], "plain": []}
    for _ in range(int(count)):
        client = CloudClient(reactor, address, lan=False)
        client.start()
        await deferLater(reactor, _PAUSE)
        options = ConnectOptions(path=path)
        plain = ConnectOptions(path=path, tls=False)
        for kind, service, how in (
            ("cold", _TLS, options),
            ("tls", _TLS, options),
            ("plain", _PLAIN, plain),
        ):
            begin = time.monotonic()
            connecting = client.connect(
                name, service, Factory.forProtocol(Greeted), how
            )
            protocol: Any = await connecting
            await protocol.heard
            figures[kind].append(time.monotonic() - begin)
            protocol.transport.abortConnection()
        await client.stop()
    print(json.dumps(figures), flush=True)


def main() -> None:
    """Be one of the two."""
    role, *words = sys.argv[1:]
    if role == "serve" and len(words) == 1:
        words.append(tempfile.mkdtemp())
    ends = {"serve": serve, "connect": measure}

    def run(reactor: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(ends[role](reactor, *words))

    react(run)


if __name__ == "__main__":
    main()
