"""Finding out what a firewall has to admit, and whether the one here does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import attrs
import h11
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.net.http_client import HTTPClientConnection, carrier_endpoint
from dwcloud.net.local_network import local_network
from dwcloud.net.tls import UnverifiedTLS
from dwcloud.peer.allowlist import ROUTER, Admission, Direction
from dwcloud.peer.discovery import GROUP, LANTable, lan_interfaces
from dwcloud.peer.port_mapping import PortMapper
from dwcloud.peer.round_trips import stun_over_tcp, stun_over_udp
from dwcloud.peer.surroundings import EXPECTED, Surroundings, all_of
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.port_mapping.mappings import MappedPort, Transport

__all__ = ["Verdict", "find_other_address", "resolve_hosts", "try_all"]

_TIMEOUT = 5.0
_LAN_WAIT = 0.5


@attrs.frozen
class Verdict:
    """Whether something is admitted.

    :ivar reachable: None if that cannot be found out from here.
    :ivar reason: how it is known, why it is not, or why it cannot be.
    """

    reachable: bool | None
    reason: str


@implementer(IResolutionReceiver)
class _Resolved:
    """Collects the addresses of a name."""

    def __init__(self, done: Deferred[tuple[str, ...]]) -> None:
        self._done = done
        self._hosts: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Nothing to do yet."""

    def addressResolved(self, address: IAddress) -> None:
        """One more."""
        self._hosts.append(cast(Any, address).host)

    def resolutionComplete(self) -> None:
        """All are known."""
        self._done.callback(tuple(dict.fromkeys(self._hosts)))


async def resolve_hosts(
    here: Surroundings, hosts: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """Return the addresses of names, IPv4 and IPv6; none for what is no name."""

    async def resolve(host: str) -> tuple[str, tuple[str, ...]]:
        done: Deferred[tuple[str, ...]] = Deferred()
        here.reactor.nameResolver.resolveHostName(_Resolved(done), host)
        try:
            return host, await here.limited(done)
        except EXPECTED:
            return host, ()

    return dict(await all_of(resolve(host) for host in hosts))


async def find_other_address(
    here: Surroundings, hosts: Iterable[str]
) -> Address | None:
    """Ask a mediator over UDP for its second address; None if it does not say.

    :param hosts: its addresses.
    """
    assert here.mediator is not None
    for host in hosts:
        server = Address(host, here.mediator.port)
        try:
            answer = await here.limited(
                stun_over_udp(here.reactor, server, here.interface)
            )
        except EXPECTED:
            continue
        return answer.other
    return None


async def try_all(
    here: Surroundings, admissions: list[Admission], other: Address | None
) -> list[Verdict]:
    """Try each from here.

    :param other: the mediator's second address, if it has one.
    """
    looks = _Looks(here, other)
    return await all_of(looks.look_at(admission) for admission in admissions)


class _Looks:
    """What is tried for which line."""

    def __init__(self, here: Surroundings, other: Address | None) -> None:
        self._here = here
        self._other = other

    async def look_at(self, admission: Admission) -> Verdict:
        """Try one."""
        if admission.direction is Direction.IN:
            return Verdict(None, "has to be tried from outside")
        if admission.host == ROUTER or admission.ports == "1900":
            return await self._ask_router(admission)
        if admission.host == GROUP:
            return await self._look_for_servers()
        if "-" in admission.ports:
            return await self._try_any(admission)
        if not admission.addresses:
            return Verdict(False, f"the name {admission.host} has no address")
        return await self._try_addresses(admission)

    async def _try_addresses(self, admission: Admission) -> Verdict:
        """Try all addresses; one that works makes the line work."""
        failures = []
        for host in admission.addresses:
            try:
                seconds = await self._here.limited(
                    self._ask(admission, Address(host, int(admission.ports)))
                )
            except EXPECTED:
                reason = self._here.reason_of(Failure())
                failures.append(f"{host}: {reason}")
                continue
            return Verdict(True, f"{host} answers in {seconds * 1000:.0f} ms")
        return Verdict(False, "; ".join(failures))

    async def _ask(self, admission: Admission, address: Address) -> float:
        reactor, interface = self._here.reactor, self._here.interface
        if admission.protocol == "udp":
            return (await stun_over_udp(reactor, address, interface)).seconds
        bind = (interface, 0) if interface else None
        if admission.url is None:
            endpoint = HostnameEndpoint(
                reactor, address.host, address.port, _TIMEOUT, bind
            )
            return (await stun_over_tcp(reactor, endpoint, _TIMEOUT)).seconds
        url = attrs.evolve(admission.url, host=address.host)
        carrier = carrier_endpoint(
            reactor,
            url,
            timeout=_TIMEOUT,
            interface=interface,
            # Whether it is let through is asked, not whose it is.
            tls=UnverifiedTLS(admission.host) if url.secure else None,
        )
        return await self._ask_http(admission, carrier)

    async def _ask_http(self, admission: Admission, carrier: Any) -> float:
        assert admission.url is not None
        reactor = self._here.reactor
        connection = HTTPClientConnection(admission.url.authority)
        await connectProtocol(carrier, connection)
        try:
            started = reactor.seconds()
            page = admission.url.path + admission.page
            answer = await connection.request("HEAD", page)
            seconds: float = reactor.seconds() - started
        finally:
            connection.disconnect()
        if answer.status != 200:
            raise h11.RemoteProtocolError(
                f"something else answers there, with status {answer.status}"
            )
        return seconds

    async def _try_any(self, admission: Admission) -> Verdict:
        if admission.protocol == "udp" and self._other is not None:
            try:
                await self._here.limited(
                    stun_over_udp(self._here.reactor, self._other, self._here.interface)
                )
            except EXPECTED:
                reason = self._here.reason_of(Failure())
                return Verdict(False, f"tried with {self._other}: {reason}")
            return Verdict(True, f"tried with {self._other}, which answers")
        return Verdict(None, "has to be tried with a server: 'dwcloud check PEER' does")

    async def _look_for_servers(self) -> Verdict:
        reactor, interface = self._here.reactor, self._here.interface
        found = local_network(reactor).localAddresses()
        table = LANTable(reactor, lan_interfaces(found, interface))
        table.start()
        try:
            await deferLater(reactor, _LAN_WAIT)
            heard = len(table.entries())
        finally:
            await table.stop()
        if heard:
            return Verdict(True, f"{heard} servers heard")
        return Verdict(None, "no server is heard; there may be none")

    async def _ask_router(self, admission: Admission) -> Verdict:
        methods = ("pcp", "nat-pmp") if admission.ports == "5351" else ("upnp",)
        reactor, interface = self._here.reactor, self._here.interface
        port = reactor.listenUDP(0, DatagramProtocol(), interface=interface)
        mapped = MappedPort(Transport.UDP, port.getHost().port)
        mapper = PortMapper(
            reactor, [mapped], lambda _: None, methods=methods, interface=interface
        )
        mapper.startService()
        try:
            found = await self._here.limited(mapper.when_searched())
            if found.external:
                return Verdict(True, f"{found.router} forwards ports")
            return Verdict(None, f"no router forwards ports so: {mapper.reason}")
        except EXPECTED:
            return Verdict(None, self._here.reason_of(Failure()))
        finally:
            await mapper.stopService()
            await maybeDeferred(port.stopListening)
