"""Looking at one thing at a time: does the mediator answer, who is on the LAN."""

from __future__ import annotations

import ipaddress
import os
import uuid
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import CannotListenError, ConnectBindError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from dwcloud.cli.failures import is_expected, one_line, words_of
from dwcloud.errors import ConfigurationError
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.stun_tcp import STUNStreamProtocol
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.discovery import LANTable, lan_interfaces
from dwcloud.peer.mediator_address import MediatorAddress, resolve_relay_url
from dwcloud.peer.mediator_client import MediatorClient
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.stun.binding import binding_request, reflexive_address
from dwcloud.protocol.stun.message import STUNMessage
from dwcloud.protocol.stun.transaction import Timing
from dwcloud.protocol.tunnelling.proxies import ProxySettings

__all__ = ["Part", "look_at_lan", "look_at_mediator", "look_at_peer"]

_TIMING = Timing(tries=4, initial_interval=0.5, last_wait=1.5)
"""Four tries over UDP and 5 s in all: somebody waits for the answer."""
_TCP_TIMEOUT = 5.0
_INDENT = "\n          "
_LAN_WAIT = 0.5
"""Seconds for servers on the LAN to answer; clients wait half of that."""


@attrs.frozen
class Part:
    """One line of the report.

    :ivar name: what was looked at.
    :ivar ok: whether it is as it should be.
    :ivar text: how it is, and what to do if it is not as it should be.
    :ivar values: the same as plain values.
    """

    name: str
    ok: bool
    text: str
    values: dict[str, Any]


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


def look_at_mediator(
    reactor: Any, mediator: MediatorAddress, interface: str, proxies: ProxySettings
) -> list[Deferred[Part]]:
    """Ask a mediator over UDP and TCP how this machine looks from there.

    :param interface: the only local IP address to use, empty for any.
    :param proxies: what TCP goes through.
    """
    advice = {
        "udp": f"allow UDP to port {mediator.port}, without it no direct path "
        "through NATs is possible",
        "tcp": f"check --mediator, and allow TCP to port {mediator.port}",
    }
    asking = {
        "udp": _ask_udp(reactor, mediator, interface),
        "tcp": _ask_tcp(reactor, mediator, interface, proxies),
    }
    parts = []
    for name, ask in asking.items():
        asked = Deferred.fromCoroutine(ask)
        asked.addErrback(_unreachable, name, advice[name])
        parts.append(asked)
    return parts


def _unreachable(reason: Failure, name: str, advice: str) -> Part:
    if not is_expected(reason):
        reason.raiseException()
    if reason.check(CannotListenError, ConnectBindError):
        # Nothing was sent: it is not for lack of an answer.
        line = one_line(reason)
        return Part(name, False, line, {"reachable": False, "error": line})
    return Part(
        name,
        False,
        f"no answer: {words_of(reason)}; {advice}",
        {"reachable": False, "error": one_line(reason)},
    )


def _answered(name: str, answer: STUNMessage, seconds: float) -> Part:
    address = str(reflexive_address(answer))
    milliseconds = round(seconds * 1000, 2)
    return Part(
        name,
        True,
        f"answers in {milliseconds:.1f} ms, sees this machine as {address}",
        {
            "reachable": True,
            "round_trip_ms": milliseconds,
            "reflexive_address": address,
        },
    )


async def _ask_udp(reactor: Any, mediator: MediatorAddress, interface: str) -> Part:
    host = await _resolved(reactor, mediator.host)
    port, client = _stun_port(reactor, interface)
    port.start()
    try:
        return await _timed(
            reactor,
            "udp",
            lambda: client.request(
                binding_request(os.urandom(12)), (host, mediator.port), timing=_TIMING
            ),
        )
    finally:
        client.stop()
        await port.stop()


def _stun_port(
    reactor: Any, interface: str
) -> tuple[SharedUDPPort, STUNDatagramClient]:
    port = SharedUDPPort(reactor, interface=interface)
    client = STUNDatagramClient(reactor, port.sendDatagram)

    def heard(data: bytes, address: Address) -> None:
        client.datagramReceived(data, address)

    port.onSTUN = heard
    return port, client


async def _ask_tcp(
    reactor: Any, mediator: MediatorAddress, interface: str, proxies: ProxySettings
) -> Part:
    proxied = Proxies(reactor, proxies).endpoint(
        mediator.host, mediator.port, timeout=_TCP_TIMEOUT, interface=interface
    )
    endpoint = proxied or HostnameEndpoint(
        reactor,
        mediator.host,
        mediator.port,
        timeout=_TCP_TIMEOUT,
        bindAddress=(interface, 0) if interface else None,
    )
    connection = STUNStreamProtocol(reactor, _Receiver())
    await connectProtocol(endpoint, connection)
    try:
        return await _timed(
            reactor,
            "tcp",
            lambda: connection.request(
                binding_request(os.urandom(12)), timeout=_TCP_TIMEOUT
            ),
        )
    finally:
        connection.abortConnection()


async def _timed(
    reactor: Any, name: str, ask: Callable[[], Deferred[STUNMessage]]
) -> Part:
    started = reactor.seconds()
    answer = await ask()
    return _answered(name, answer, reactor.seconds() - started)


async def _resolved(reactor: Any, host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return str(await reactor.resolve(host))


async def look_at_lan(reactor: Any, interface: str) -> Part:
    """Ask who is on the LAN.

    :param interface: the only local IP address to use, empty for any.
    """
    if interface:
        try:
            port = reactor.listenUDP(0, DatagramProtocol(), interface=interface)
        except CannotListenError:
            line = one_line(Failure())
            return Part("lan", False, line, {"servers": [], "error": line})
        await maybeDeferred(port.stopListening)
    table = LANTable(reactor, [interface] if interface else lan_interfaces())
    table.start()
    try:
        await deferLater(reactor, _LAN_WAIT)
        entries = table.entries()
    finally:
        await table.stop()
    found = [{"peer": str(e.server), "address": str(e.address)} for e in entries]
    lines = [f"{each['peer']} at {each['address']}" for each in found]
    text = "no server heard; it must run in this network, and multicast must pass"
    if lines:
        text = _INDENT.join(lines)
    return Part("lan", True, text, {"servers": found})


async def look_at_peer(
    reactor: Any, mediator: MediatorAddress, peer: PeerName, interface: str
) -> Part:
    """Have a mediator ask a server whether it is there, without connecting to it.

    :param interface: the only local IP address to use, empty for any.
    """
    port, stun = _stun_port(reactor, interface)
    port.start()
    try:
        asking = MediatorClient(reactor, port, stun, mediator.host, mediator.port)
        response = await asking.request_connection(uuid.uuid4(), peer)
    except Exception:
        reason = Failure()
        if not is_expected(reason):
            raise
        values = {"online": False, "error": words_of(reason)}
        return Part("peer", False, one_line(reason), values)
    finally:
        stun.stop()
        await port.stop()
    relays = [_relay_url(url, mediator) for url in response.relay_urls]
    tcp = [str(a) for a in (*response.forwarded_endpoints, *response.tcp_endpoints)]
    udp = [str(address) for address in response.udp_endpoints]
    lines = [
        f"{response.server} is online",
        f"direct TCP to {', '.join(tcp) or 'nowhere'}",
        f"UDP to {', '.join(udp) or 'nowhere: it did not confirm over UDP'}",
        f"relays: {', '.join(relays) or 'none'}",
    ]
    values = {
        "online": True,
        "server": str(response.server),
        "tcp_endpoints": tcp,
        "udp_endpoints": udp,
        "relays": relays,
    }
    return Part("peer", True, _INDENT.join(lines), values)


def _relay_url(url: str, mediator: MediatorAddress) -> str:
    """The URL that a client would use; one that is none is told as it is."""
    try:
        return resolve_relay_url(url, mediator)
    except ConfigurationError:
        return url
