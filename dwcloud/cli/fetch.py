"""Fetching a file by HTTP over a stream of the cloud, measured and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IResponse
from zope.interface import implementer

from dwcloud.cli.failures import CommandFailed
from dwcloud.peer.client import CloudClient, ConnectOptions
from dwcloud.peer.status import ConnectionReport
from dwcloud.protocol.names import PeerName

__all__ = ["Download", "fetch"]


@attrs.frozen
class Download:
    """What came, and how fast.

    :ivar sha256: of the body, hexadecimal.
    :ivar size: bytes of the body.
    :ivar first_byte_seconds: from the request for a connection to the first byte of
        the body.
    :ivar seconds: to the last one.
    :ivar report: how the connection came about.
    """

    sha256: str
    size: int
    first_byte_seconds: float
    seconds: float
    report: ConnectionReport

    @property
    def megabytes_per_second(self) -> float:
        """10^6 bytes a second, from the first byte to the last."""
        transfer = max(self.seconds - self.first_byte_seconds, 1e-6)
        return self.size / transfer / 1e6


@implementer(IStreamClientEndpoint, IAgentEndpointFactory)
@attrs.define(eq=False)
class _ServiceEndpoint:
    """The service, as Twisted's HTTP client wants it: whatever the URL, it is this."""

    client: CloudClient
    peer: PeerName
    service: str
    options: ConnectOptions
    report: ConnectionReport | None = None

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Itself."""
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect to the service."""
        return self.client.connect(
            self.peer, self.service, protocolFactory, self.options, self._reported
        )

    def _reported(self, report: ConnectionReport) -> None:
        self.report = report


class _Body(Protocol):
    """Receives the body of the answer."""

    def __init__(
        self, clock: Callable[[], float], progress: Callable[[int], None]
    ) -> None:
        self._clock = clock
        self._progress = progress
        self.hash = hashlib.sha256()
        self.size = 0
        self.first_byte_at: float | None = None
        self.done: Deferred[None] = Deferred(self._cancel)

    def _cancel(self, done: Deferred[None]) -> None:
        done.errback(CancelledError())
        # Of the connection below, Twisted's client shows a body only this much.
        assert self.transport is not None
        self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Count and hash."""
        if self.first_byte_at is None:
            self.first_byte_at = self._clock()
        self.hash.update(data)
        self.size += len(data)
        self._progress(self.size)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """The body is complete, or never will be."""
        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(None)
        else:
            self.done.errback(reason)


async def fetch(
    reactor: Any,
    client: CloudClient,
    peer: PeerName,
    service: str,
    name: str,
    options: ConnectOptions,
    progress: Callable[[int], None],
) -> Download:
    """Fetch the file ``name`` from the web server that ``service`` is.

    :param progress: told how many bytes have come so far.
    :raises CommandFailed: if the answer is not the file.
    """
    endpoint = _ServiceEndpoint(client, peer, service, options)
    agent = Agent.usingEndpointFactory(reactor, endpoint)
    started = reactor.seconds()
    response: IResponse = await agent.request(
        b"GET",
        f"http://{service}/{name}".encode(),
        Headers({"User-Agent": ["dwcloud demo"]}),
    )
    if response.code != 200:
        raise CommandFailed(f"the web server answered {response.code} to {name}")
    body = _Body(reactor.seconds, progress)
    response.deliverBody(body)
    await body.done
    ended = reactor.seconds()
    assert endpoint.report is not None
    return Download(
        sha256=body.hash.hexdigest(),
        size=body.size,
        first_byte_seconds=(body.first_byte_at or ended) - started,
        seconds=ended - started,
        report=endpoint.report,
    )
