"""Looking at the way to mediator and relays: by TCP, each HTTP method, and proxies."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from dwcloud.errors import ConfigurationError
from dwcloud.net.http_client import HTTPClientConnection, carrier_endpoint
from dwcloud.net.proxy_endpoint import Proxies, ProxyEndpoint, proxy_carrier
from dwcloud.net.staggered import Candidate as RaceCandidate
from dwcloud.net.staggered import RaceLost, Winner, race
from dwcloud.net.tls import UnverifiedTLS
from dwcloud.net.tunnel_selector import Destination
from dwcloud.peer.findings import MethodFinding, ProxyFinding, Reach, RelayFinding
from dwcloud.peer.mediator_address import MediatorAddress, resolve_relay_url
from dwcloud.peer.mediator_ways import MediatorWays
from dwcloud.peer.relay_ports import RelayPorts
from dwcloud.peer.round_trips import http_round_trip, stun_over_tcp
from dwcloud.peer.surroundings import EXPECTED, Surroundings, all_of, tidy
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.paths import RELAYS_PATH
from dwcloud.protocol.relaying.paths import STATISTICS_PATH
from dwcloud.protocol.tunnelling.connect import (
    connect_request,
    connect_target,
    read_challenges,
    why_refused,
)
from dwcloud.protocol.tunnelling.prober import Candidate, Carrier, ProbeResult
from dwcloud.protocol.tunnelling.proxies import Proxy
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = [
    "ask_for_relays",
    "examine_mediator_methods",
    "examine_proxies",
    "examine_relays",
    "reach_tcp",
]

_STAGGER = 0.5
"""Seconds for one of the mediator's ports before the next is asked beside it."""
_MOST_RELAYS = 16


async def reach_tcp(here: Surroundings) -> tuple[Reach, str]:
    """Ask the mediator over TCP by the first way that works, and name the way."""
    assert here.mediator is not None
    ways = MediatorWays(
        here.reactor,
        here.mediator,
        proxies=here.proxies,
        interface=here.interface,
        timeout=here.connect_timeout,
    )
    try:
        found = await here.limited(
            stun_over_tcp(here.reactor, ways, here.connect_timeout)
        )
    except EXPECTED:
        return Reach(works=False, reason=here.reason_of(Failure())), ""
    way = "" if ways.selected is None else ways.selected.name
    return Reach(works=True, seconds=found.seconds, address=found.address), way


async def examine_mediator_methods(here: Surroundings) -> tuple[MethodFinding, ...]:
    """Try every way to carry a stream to the mediator."""
    mediator = here.mediator
    assert mediator is not None
    surveys: list[Deferred[tuple[MethodFinding, ...]]] = []
    if mediator.url is None:
        surveys.append(here.limited(_direct(here, mediator)))
    for url in _mediator_urls(mediator):
        verified = mediator.url is not None or not url.secure
        surveys.append(
            Deferred.fromCoroutine(
                _survey(here, "mediator", url, _destination(here, url, verified))
            )
        )
    found = await all_of(surveys)
    return tuple(each for part in found for each in part)


def _mediator_urls(mediator: MediatorAddress) -> list[ServiceURL]:
    if mediator.url is not None:
        return [mediator.url]
    return [
        ServiceURL("http", mediator.host, mediator.port),
        ServiceURL("https", mediator.host, 443),
        ServiceURL("http", mediator.host, 80),
    ]


def _destination(here: Surroundings, url: ServiceURL, verified: bool) -> Destination:
    carrier: IStreamClientEndpoint | None = None
    if url.secure and not verified:
        carrier = carrier_endpoint(
            here.reactor,
            url,
            timeout=here.connect_timeout,
            interface=here.interface,
            tls=UnverifiedTLS(url.host),
            through=here.proxies.endpoint(url.host, url.port, interface=here.interface),
        )
    return here.proxies.destination(
        url, timeout=here.connect_timeout, interface=here.interface, carrier=carrier
    )


async def _direct(
    here: Surroundings, mediator: MediatorAddress
) -> tuple[MethodFinding, ...]:
    """Try TCP without HTTP, or inside a proxy's CONNECT."""
    timeout = here.connect_timeout
    proxied = here.proxies.endpoint(
        mediator.host, mediator.port, timeout=timeout, interface=here.interface
    )
    endpoint = proxied or HostnameEndpoint(
        here.reactor,
        mediator.host,
        mediator.port,
        timeout=timeout,
        bindAddress=(here.interface, 0) if here.interface else None,
    )
    started, reason = here.reactor.seconds(), ""
    try:
        await here.limited(stun_over_tcp(here.reactor, endpoint, timeout))
    except EXPECTED:
        reason = here.reason_of(Failure())
    carrier = Carrier.DIRECT if proxied is None else Carrier.CONNECT
    return (
        MethodFinding(
            service="mediator",
            url=f"tcp://{mediator}",
            method="direct",
            carrier=carrier.value,
            works=not reason,
            reason=reason,
            seconds=here.reactor.seconds() - started,
        ),
    )


async def _survey(
    here: Surroundings, service: str, url: ServiceURL, destination: Destination
) -> tuple[MethodFinding, ...]:
    """Try every tunnelling method to a service."""
    tunnels = here.proxies.tunnels
    late = f"not finished within {here.limit:g} s"
    try:
        reports = await here.limited(tunnels.survey(destination))
    except defer.TimeoutError:
        # What was stopped has told how far it came.
        reports = tunnels.memory.reports(destination.key)
    found = {}
    for report in reports:
        stopped = report.result in (ProbeResult.STOPPED, ProbeResult.NOT_TRIED)
        cut_short = report.result is ProbeResult.STOPPED
        found[report.method, report.carrier] = MethodFinding(
            service=service,
            url=str(url),
            method=report.method,
            carrier=report.carrier,
            works=None if stopped else report.result is ProbeResult.WORKS,
            reason=late if cut_short else tidy(report.reason),
            seconds=report.seconds,
        )
    return tuple(
        found.get((c.method, c.carrier.value)) or _not_tried(service, url, c, late)
        for c in destination.candidates(tunnels.method)
    )


def _not_tried(
    service: str, url: ServiceURL, candidate: Candidate, reason: str
) -> MethodFinding:
    return MethodFinding(
        service=service,
        url=str(url),
        method=candidate.method,
        carrier=candidate.carrier.value,
        works=None,
        reason=reason,
    )


async def ask_for_relays(here: Surroundings) -> tuple[str, ...] | None:
    """Ask the mediator by HTTP for the relays it announces; None if it does not say."""
    mediator = here.mediator
    assert mediator is not None

    def asker(url: ServiceURL) -> Callable[[], Deferred[tuple[str, ...]]]:
        verified = mediator.url is not None or not url.secure
        destination = _destination(here, url, verified)
        return lambda: Deferred.fromCoroutine(_read_relays(url, destination))

    urls = _mediator_urls(mediator)
    racing: Deferred[Winner[tuple[str, ...]]] = race(
        here.reactor,
        [RaceCandidate(str(url), asker(url)) for url in urls],
        stagger=_STAGGER,
        dispose=lambda _: None,
    )
    racing.addTimeout(here.connect_timeout / 2, here.reactor)
    try:
        return (await here.limited(racing)).result
    except (RaceLost, *EXPECTED):
        return None


async def _read_relays(url: ServiceURL, destination: Destination) -> tuple[str, ...]:
    # A proxy that does not CONNECT may pass requests on.
    connection = await destination.connect(destination.carriers[-1])
    try:
        answer = await connection.request("GET", url.path + RELAYS_PATH)
    finally:
        connection.disconnect()
    try:
        listed = json.loads(answer.body)["relays"]
    except (ValueError, LookupError, TypeError):
        raise RemoteProtocolError(f"{url} does not list relays") from None
    if not isinstance(listed, list) or len(listed) > _MOST_RELAYS:
        raise RemoteProtocolError(f"{url} does not list relays")
    return tuple(str(each) for each in listed)


async def examine_relays(
    here: Surroundings, urls: tuple[str, ...], *, assumed: bool
) -> tuple[tuple[RelayFinding, ...], tuple[MethodFinding, ...]]:
    """Try every tunnelling method to relays, and measure a round trip to each.

    :param urls: as a mediator announces them.
    :param assumed: whether none did, and they are where a relay usually is.
    """
    assert here.mediator is not None
    ports = RelayPorts(here.reactor, here.proxies)
    asking = [
        Deferred.fromCoroutine(_relay(here, here.mediator, ports, url, assumed))
        for url in urls
    ]
    found = await all_of(asking)
    return (
        tuple(relay for relay, _ in found),
        tuple(method for _, methods in found for method in methods),
    )


async def _relay(
    here: Surroundings,
    mediator: MediatorAddress,
    ports: RelayPorts,
    announced: str,
    assumed: bool,
) -> tuple[RelayFinding, tuple[MethodFinding, ...]]:
    try:
        url = ServiceURL.parse(resolve_relay_url(announced, mediator))
    except (ConfigurationError, ValueError) as e:
        reach = Reach(works=False, reason=str(e))
        return RelayFinding(url=announced, reach=reach, assumed=assumed), ()
    destination = ports.destination(
        url, timeout=here.connect_timeout, interface=here.interface
    )
    asking = Deferred.fromCoroutine(_reach_relay(here, url, destination))
    surveying = Deferred.fromCoroutine(_survey(here, "relay", url, destination))
    both: list[Deferred[Any]] = [asking, surveying]
    reach, methods = await all_of(both)
    return RelayFinding(url=str(url), reach=reach, assumed=assumed), methods


async def _reach_relay(
    here: Surroundings, url: ServiceURL, destination: Destination
) -> Reach:
    connecting = destination.connect(destination.carriers[-1])
    path = url.path + STATISTICS_PATH
    try:
        found = await here.limited(http_round_trip(here.reactor, connecting, path))
    except EXPECTED:
        return Reach(works=False, reason=here.reason_of(Failure()))
    return Reach(works=True, seconds=found.seconds)


async def examine_proxies(here: Surroundings, source: str) -> tuple[ProxyFinding, ...]:
    """Ask each proxy for a connection to the mediator.

    :param source: what names them.
    """
    settings = here.proxies.settings
    proxies = dict.fromkeys(p for p in (settings.https, settings.http) if p)
    asking = [here.limited(_examine_proxy(here, proxy, source)) for proxy in proxies]
    return tuple(await all_of(asking))


async def _examine_proxy(here: Surroundings, proxy: Proxy, source: str) -> ProxyFinding:
    authentication: tuple[str, ...] | None = None
    reason = ""
    if here.mediator is None:
        return ProxyFinding(
            proxy=str(proxy), source=source, reason="no mediator is named"
        )
    url = here.mediator.url
    host = here.mediator.host
    port = here.mediator.port if url is None else url.port
    try:
        status, authentication = await here.limited(_ask_proxy(here, proxy, host, port))
        if authentication:
            await here.limited(_prove(here.proxies, here, proxy, host, port))
        elif not 200 <= status < 300:
            reason = (
                f"no CONNECT to {connect_target(host, port)}: {why_refused(status)}"
            )
    except EXPECTED:
        reason = here.reason_of(Failure())
    return ProxyFinding(
        proxy=str(proxy),
        source=source,
        authentication=authentication,
        works=not reason,
        reason=reason,
    )


async def _ask_proxy(
    here: Surroundings, proxy: Proxy, host: str, port: int
) -> tuple[int, tuple[str, ...]]:
    """Ask without proving anything; return the status and what it wants proven."""
    carrier = proxy_carrier(
        here.reactor, proxy, timeout=here.connect_timeout, interface=here.interface
    )
    connection = HTTPClientConnection(connect_target(host, port))
    await connectProtocol(carrier, connection)
    try:
        head = connect_request(host, port)
        answer = await connection.request(head.method, head.target, head.headers)
    finally:
        connection.disconnect()
    challenges = read_challenges(answer.headers)
    return answer.status, tuple(dict.fromkeys(c.scheme for c in challenges))


async def _prove(
    proxies: Proxies, here: Surroundings, proxy: Proxy, host: str, port: int
) -> None:
    """Connect with the user name and password that were given."""
    endpoint = ProxyEndpoint(
        here.reactor,
        proxy,
        host,
        port,
        credentials=proxies.credentials(proxy),
        carrier=proxy_carrier(
            here.reactor, proxy, timeout=here.connect_timeout, interface=here.interface
        ),
        timeout=here.connect_timeout,
    )
    connected = await endpoint.connect(Factory.forProtocol(Protocol))
    cast(Any, connected).transport.abortConnection()
