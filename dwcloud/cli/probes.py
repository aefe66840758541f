"""Looking at one thing at a time: does the mediator answer, who is on the LAN."""

from __future__ import annotations

import ipaddress
import uuid
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError, ConnectBindError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from dwcloud.cli.failures import is_expected, one_line, words_of
from dwcloud.errors import ConfigurationError, PeerUnknown
from dwcloud.interfaces import IGrantSource
from dwcloud.net.local_network import local_network
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.tunnel_endpoints import probe_methods
from dwcloud.peer.discovery import LANTable, lan_interfaces
from dwcloud.peer.mediator_address import MediatorAddress, resolve_relay_url
from dwcloud.peer.mediator_client import MediatorClient
from dwcloud.peer.mediator_ways import MediatorWays
from dwcloud.peer.round_trips import (
    RoundTrip,
    stun_over_tcp,
    stun_over_udp,
    stun_port,
)
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.messages import ConnectResponse
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.tunnelling.prober import Carrier, ProbeReport, ProbeResult
from dwcloud.protocol.tunnelling.proxies import ProxySettings
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = ["Part", "look_at_lan", "look_at_mediator", "look_at_peer"]

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
        "tcp": f"check --mediator, and allow TCP to port {mediator.port}, or 443",
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


def _answered(name: str, answer: RoundTrip) -> Part:
    address = str(answer.address)
    milliseconds = round(answer.seconds * 1000, 2)
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
    server = Address(host, mediator.port)
    return _answered("udp", await stun_over_udp(reactor, server, interface))


async def _ask_tcp(
    reactor: Any, mediator: MediatorAddress, interface: str, proxies: ProxySettings
) -> Part:
    shared = Proxies(reactor, proxies)
    ways = MediatorWays(
        reactor, mediator, proxies=shared, interface=interface, timeout=_TCP_TIMEOUT
    )
    try:
        answer = await stun_over_tcp(reactor, ways, _TCP_TIMEOUT)
    finally:
        shared.tunnels.stop()
    part = _answered("tcp", answer)
    way = ways.selected
    assert way is not None
    values = {**part.values, "way": way.name, "failed_ways": dict(way.failures)}
    text = f"{part.text}; by {way}" if way.failures else part.text
    return attrs.evolve(part, text=text, values=values)


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
    found = local_network(reactor).localAddresses()
    table = LANTable(reactor, [interface] if interface else lan_interfaces(found))
    table.start()
    try:
        await deferLater(reactor, _LAN_WAIT)
        entries = table.entries()
    finally:
        await table.stop()
    servers = [{"peer": str(e.server), "address": str(e.address)} for e in entries]
    lines = [f"{each['peer']} at {each['address']}" for each in servers]
    text = "no server heard; it must run in this network, and multicast must pass"
    if lines:
        text = _INDENT.join(lines)
    return Part("lan", True, text, {"servers": servers})


async def _introduction(
    asking: MediatorClient, peer: PeerName, grants: IGrantSource | None
) -> ConnectResponse:
    """Ask for a server with the grant at hand, and if it is refused with a new one."""
    grant = None if grants is None else await grants.grant_for(peer)
    for renew in (True, False):
        encoded = None if grant is None else grant.encoded
        try:
            return await asking.request_connection(uuid.uuid4(), peer, grant=encoded)
        except PeerUnknown:
            if grants is None or grant is None or not renew:
                raise
        grant = await grants.grant_for(peer, renew=True)
    raise AssertionError("the second try returns or raises")


async def look_at_peer(
    reactor: Any,
    mediator: MediatorAddress,
    peer: PeerName,
    interface: str,
    proxies: Proxies,
    grants: IGrantSource | None = None,
) -> Part:
    """Have a mediator ask a server whether it is there, without connecting to it.

    Its relays are tried by each tunnelling method.

    :param interface: the only local IP address to use, empty for any.
    :param proxies: those that lead to the relays.
    :param grants: what lets this client in where only accounts with a role may.
    """
    port, stun = stun_port(reactor, interface)
    port.start()
    try:
        asking = MediatorClient(reactor, port, stun, mediator)
        response = await _introduction(asking, peer, grants)
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
    methods = {}
    for url in relays:
        reports = await _try_relay(reactor, url, interface, proxies)
        lines += [_method_line(url, report) for report in reports]
        methods[url] = [attrs.asdict(report) for report in reports]
    values = {
        "online": True,
        "server": str(response.server),
        "tcp_endpoints": tcp,
        "udp_endpoints": udp,
        "relays": relays,
        "relay_methods": methods,
    }
    return Part("peer", True, _INDENT.join(lines), values)


async def _try_relay(
    reactor: Any, url: str, interface: str, proxies: Proxies
) -> tuple[ProbeReport, ...]:
    try:
        service = ServiceURL.parse(url)
    except ValueError:
        return ()  # nobody can use it; the list of relays shows it as it is
    return await probe_methods(reactor, service, proxies=proxies, interface=interface)


def _method_line(url: str, report: ProbeReport) -> str:
    what = f"{url} by {report.method}"
    if report.carrier != Carrier.DIRECT:
        what += f" ({report.carrier})"
    if report.result is ProbeResult.WORKS:
        return f"{what}: works, {report.seconds * 1000:.0f} ms"
    return f"{what}: {report.reason}"


def _relay_url(url: str, mediator: MediatorAddress) -> str:
    """The URL that a client would use; one that is none is told as it is."""
    try:
        return resolve_relay_url(url, mediator)
    except ConfigurationError:
        return url
