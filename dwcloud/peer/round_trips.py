"""How long services take to answer: one question to each, over UDP, TCP and HTTP."""

from __future__ import annotations

import os
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure

from dwcloud.net.http_client import HTTPClientConnection
from dwcloud.net.stun_tcp import STUNStreamProtocol
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.net.udp import SharedUDPPort
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.stun.binding import (
    binding_request,
    other_address,
    reflexive_address,
)
from dwcloud.protocol.stun.message import STUNMessage
from dwcloud.protocol.stun.transaction import Timing

__all__ = [
    "RoundTrip",
    "http_round_trip",
    "stun_over_tcp",
    "stun_over_udp",
    "stun_port",
]

_TIMING = Timing(tries=4, initial_interval=0.5, last_wait=1.5)
"""Four tries over UDP and 5 s in all: somebody waits for the answer."""


@attrs.frozen
class RoundTrip:
    """An answer.

    :ivar address: as which the service saw this machine.
    :ivar other: the service's second address and port (RFC 5780), if it has them.
    """

    seconds: float
    address: Address | None = None
    other: Address | None = None


class _Receiver:
    """Hears what a mediator says unasked on a connection: nothing of interest."""

    def connectionOpened(self, connection: STUNStreamProtocol) -> None:
        """Nothing to do: the request follows."""

    def requestReceived(self, message: STUNMessage, raw: bytes) -> None:
        """Not answered."""

    def indicationReceived(self, message: STUNMessage, raw: bytes) -> None:
        """Not looked at."""

    def connectionClosed(self, reason: Failure) -> None:
        """The request has failed if it was pending."""


def stun_port(reactor: Any, interface: str) -> tuple[SharedUDPPort, STUNDatagramClient]:
    """Return a UDP port, to be started, and what makes STUN requests from it."""
    port = SharedUDPPort(reactor, interface=interface)
    client = STUNDatagramClient(reactor, port.sendDatagram)

    def heard(data: bytes, address: Address) -> None:
        client.datagramReceived(data, address)

    port.onSTUN = heard
    return port, client


async def stun_over_udp(reactor: Any, server: Address, interface: str) -> RoundTrip:
    """Ask a STUN server over UDP.

    :param interface: local IP address to ask from, empty for any.
    """
    wildcard = "::" if server.family == 6 else ""
    port, client = stun_port(reactor, interface or wildcard)
    port.start()
    try:
        asking = client.request(binding_request(os.urandom(12)), server, timing=_TIMING)
        return await _timed(reactor, asking)
    finally:
        client.stop()
        await port.stop()


async def stun_over_tcp(
    reactor: Any, endpoint: IStreamClientEndpoint, timeout: float
) -> RoundTrip:
    """Ask a STUN server on a connection of its own, which is made before.

    :param timeout: seconds for the answer.
    """
    connection = STUNStreamProtocol(reactor, _Receiver())
    await connectProtocol(endpoint, connection)
    try:
        request = binding_request(os.urandom(12))
        return await _timed(reactor, connection.request(request, timeout=timeout))
    finally:
        connection.abortConnection()


async def _timed(reactor: Any, asking: Deferred[STUNMessage]) -> RoundTrip:
    started = reactor.seconds()
    answer = await asking
    seconds = reactor.seconds() - started
    return RoundTrip(seconds, reflexive_address(answer), other_address(answer))


async def http_round_trip(
    reactor: Any, connecting: Deferred[HTTPClientConnection], path: str
) -> RoundTrip:
    """Ask an HTTP service for the head of a page, on a connection that is made before.

    The answer counts whatever its status is.
    """
    connection = await connecting
    try:
        started = reactor.seconds()
        await connection.request("HEAD", path)
        return RoundTrip(reactor.seconds() - started)
    finally:
        connection.disconnect()
