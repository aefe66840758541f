"""An examination of the network that this machine is in: everything at once."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from dwcloud.errors import (
    IdentityMismatch,
    MediatorUnreachable,
    PeerOffline,
    PeerUnknown,
    RequestRefused,
    ServerDidNotAnswer,
)
from dwcloud.interfaces import IGrantSource
from dwcloud.net.method_memory import MethodMemory
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.tunnel_opening import AUTO
from dwcloud.net.tunnel_selector import TunnelSelector
from dwcloud.peer.client import CloudClient, ConnectOptions
from dwcloud.peer.findings import Findings, PeerFinding, PeerState
from dwcloud.peer.mediator_address import ASSUMED_RELAY_URL, MediatorAddress
from dwcloud.peer.network_examination import (
    examine_ipv6,
    examine_lan,
    examine_nat,
    find_port_mapping,
    reach_udp,
)
from dwcloud.peer.service_examination import (
    ask_for_relays,
    examine_mediator_methods,
    examine_proxies,
    examine_relays,
    reach_tcp,
)
from dwcloud.peer.status import ConnectionReport
from dwcloud.peer.surroundings import Surroundings, all_of
from dwcloud.protocol.addresses import is_private_use
from dwcloud.protocol.mediation.messages import ConnectResponse
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.tunnelling.proxies import NO_PROXIES, ProxySettings

__all__ = ["Examination"]

T = TypeVar("T")

_STATES: tuple[tuple[type[Exception], PeerState, str], ...] = (
    (PeerUnknown, PeerState.UNKNOWN, "registration"),
    (PeerOffline, PeerState.OFFLINE, "registration"),
    (ServerDidNotAnswer, PeerState.UNREACHABLE, "confirmation"),
    (IdentityMismatch, PeerState.UNREACHABLE, "identity"),
    (MediatorUnreachable, PeerState.NOT_ASKED, "mediator"),
    (RequestRefused, PeerState.NOT_ASKED, "mediator"),
)


@attrs.frozen(kw_only=True)
class Examination:
    """What is to be examined, and how.

    :ivar reactor: Twisted's.
    :ivar mediator: whom to ask; None looks at the LAN and the router alone.
    :ivar peer: the server to connect to, if any.
    :ivar grants: what lets this client in where only accounts with a role may.
    :ivar interface: the only local IP address to use, empty for any.
    :ivar lan: whether to look on the LAN.
    :ivar proxies: those that lead to mediator and relays.
    :ivar proxy_source: what names them.
    :ivar method: the only tunnelling method to try, or ``auto``.
    :ivar memory: of methods that worked, for the connection to the server.
    :ivar limit: seconds for all of it.
    """

    reactor: Any
    mediator: MediatorAddress | None
    peer: PeerName | None = None
    grants: IGrantSource | None = None
    interface: str = ""
    lan: bool = True
    proxies: ProxySettings = NO_PROXIES
    proxy_source: str = ""
    method: str = AUTO
    memory: MethodMemory | None = None
    limit: float = 10.0

    def start(self) -> Deferred[Findings]:
        """Examine everything at once.

        :return: fires with what was found, also if that is nothing. Cancellable.
        """
        return Deferred.fromCoroutine(self._examine())

    async def _examine(self) -> Findings:
        started = self.reactor.seconds()
        selector = TunnelSelector(self.reactor, method=self.method)
        here = Surroundings(
            reactor=self.reactor,
            mediator=self.mediator,
            interface=self.interface,
            proxies=Proxies(self.reactor, self.proxies, selector),
            ends=started + self.limit,
            limit=self.limit,
        )
        looking: dict[str, Coroutine[Any, Any, Any]] = {
            "port_mapping": find_port_mapping(here),
            "ipv6": examine_ipv6(here),
            "proxies": examine_proxies(here, self.proxy_source),
        }
        if self.lan:
            looking["lan"] = examine_lan(here)
        if self.mediator is not None:
            looking |= {
                "nat": examine_nat(here),
                "udp": reach_udp(here),
                "tcp": reach_tcp(here),
                "mediator_methods": examine_mediator_methods(here),
            }
        if self.mediator is not None or self.peer is not None:
            looking["path"] = self._examine_path(here)
        found = dict(zip(looking, await all_of(looking.values()), strict=True))
        selector.stop()
        return self._findings(found, self.reactor.seconds() - started)

    def _findings(self, found: dict[str, Any], seconds: float) -> Findings:
        findings = Findings(
            mediator="" if self.mediator is None else str(self.mediator),
            seconds=seconds,
        )
        for name in ("port_mapping", "ipv6", "proxies", "lan", "udp"):
            if name in found:
                findings = attrs.evolve(findings, **{name: found[name]})
        if "nat" in found:
            nat, reason = found["nat"]
            tcp, way = found["tcp"]
            findings = attrs.evolve(
                findings, nat=nat, nat_reason=reason, tcp=tcp, way=way
            )
        peer, relays, methods = found.get("path", (None, (), ()))
        seen = findings.udp.address or findings.tcp.address
        return attrs.evolve(
            findings,
            peer=peer,
            relays=relays,
            methods=(*found.get("mediator_methods", ()), *methods),
            mediator_inside=seen is not None and is_private_use(seen.host),
        )

    async def _examine_path(self, here: Surroundings) -> Any:
        """Connect to the server, and look at the relays that it waits at."""
        announced: Deferred[tuple[str, ...] | None] = Deferred()
        if self.peer is None:
            announced.callback(None)
            connecting: Deferred[PeerFinding | None] = succeed(None)
        else:
            connecting = Deferred.fromCoroutine(self._connect(self.peer, announced))
        looking: Deferred[Any] = Deferred.fromCoroutine(
            self._examine_relays(here, announced)
        )
        peer, (relays, methods) = await all_of([connecting, looking])
        return peer, relays, methods

    async def _examine_relays(
        self, here: Surroundings, announced: Deferred[tuple[str, ...] | None]
    ) -> Any:
        urls = await announced
        if self.mediator is None:
            return (), ()
        if urls is None:
            urls = await ask_for_relays(here)
        assumed = urls is None
        if urls is None:
            urls = (ASSUMED_RELAY_URL,)
        return await examine_relays(here, urls, assumed=assumed)

    async def _connect(
        self, peer: PeerName, announced: Deferred[tuple[str, ...] | None]
    ) -> PeerFinding:
        introductions: list[ConnectResponse] = []

        def introduced(response: ConnectResponse) -> None:
            introductions.append(response)
            if not announced.called:
                announced.callback(response.relay_urls)

        client = CloudClient(
            self.reactor,
            self.mediator,
            interface=self.interface,
            lan=self.lan,
            proxies=self.proxies,
            method=self.method,
            memory=self.memory,
            grants=self.grants,
        )
        client.start()
        try:
            options = ConnectOptions(timeout=self.limit)
            report, failure = await client.try_out(peer, options, introduced)
        finally:
            if not announced.called:
                announced.callback(None)
            await client.stop()
        return _peer_finding(report, failure, introductions)


def _peer_finding(
    report: ConnectionReport,
    failure: Failure | None,
    introductions: list[ConnectResponse],
) -> PeerFinding:
    state, step = PeerState.CONNECTED, ""
    if failure is not None:
        # Who was introduced is online.
        state = PeerState.UNREACHABLE if introductions else PeerState.NOT_ASKED
        step = "paths" if introductions else "mediator"
        for kind, known, failed in _STATES:
            if failure.check(kind):
                state, step = known, failed
    if not introductions:
        return PeerFinding(state=state, step=step, report=report)
    response = introductions[-1]
    return PeerFinding(
        state=state,
        step=step,
        report=report,
        nat=response.nat,
        udp_endpoints=response.udp_endpoints,
        tcp_endpoints=(*response.forwarded_endpoints, *response.tcp_endpoints),
    )
