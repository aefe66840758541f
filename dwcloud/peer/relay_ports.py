"""The ports at which a relay may be reached: its own, 443 and 80."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import attrs
import h11
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.net.http_client import HTTPClientConnection, carrier_endpoint
from dwcloud.net.proxy_endpoint import CONNECT_TIMEOUT, Proxies
from dwcloud.net.staggered import Candidate, RaceLost, WayMemory, Winner, race
from dwcloud.net.tls import UnverifiedTLS
from dwcloud.net.tunnel_selector import Destination
from dwcloud.protocol.relaying.paths import STATISTICS_PATH
from dwcloud.protocol.tunnelling.prober import Carrier
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = ["RelayPorts"]

_STAGGER = 1.0
"""Seconds for a relay's own port before the others are tried beside it."""

_Connect = Callable[[], Deferred[HTTPClientConnection]]


@attrs.frozen(eq=False)
class _Port:
    """One way to a relay."""

    name: str
    connect: _Connect


class RelayPorts(Proxies):
    """Leads to relays, also where their own port is blocked.

    A relay that is announced without TLS may listen at 443 with TLS and at 80 without,
    too. That TLS is not verified, as nobody asked for it: it is there to get through.

    :param proxies: those to use; what was learned of them is shared.
    """

    _log = Logger()

    def __init__(self, reactor: Any, proxies: Proxies) -> None:
        super().__init__(reactor, proxies.settings, proxies.tunnels)
        self._shared = proxies
        self._memory = WayMemory(reactor)

    def credentials(self, proxy: Any) -> Any:
        """The one object that knows how to authenticate at ``proxy``."""
        return self._shared.credentials(proxy)

    def reached_at(self, url: str) -> str:
        """Where else than at its URL a relay is reached; empty if it is there.

        :param url: of a relay, that can be read.
        """
        own = super().destination(ServiceURL.parse(url))
        for by in own.carriers:
            name = self._memory.first((own.key, by))
            if name:
                return "" if name == str(own.url) else name
        return ""

    def destination(
        self,
        url: ServiceURL,
        *,
        timeout: float = CONNECT_TIMEOUT,
        interface: str = "",
        carrier: IStreamClientEndpoint | None = None,
    ) -> Destination:
        """Return the ways to a relay; see :meth:`Proxies.destination`."""
        plain = partial(super().destination, timeout=timeout, interface=interface)
        own = plain(url, carrier=carrier)
        if carrier is not None or url.secure:
            return own
        https = attrs.evolve(url, scheme="https", port=443)
        http = attrs.evolve(url, port=80)

        def connect(by: Carrier) -> Deferred[HTTPClientConnection]:
            ports = [_Port(str(url), partial(own.connect, by))]
            if by is not Carrier.WEB:
                tls = carrier_endpoint(
                    self._reactor,
                    https,
                    timeout=timeout,
                    interface=interface,
                    tls=UnverifiedTLS(url.host),
                    through=self.endpoint(https.host, https.port, interface=interface),
                )
                opening = partial(_connect, tls, https)
                ports.append(_Port(str(https), partial(_checked, opening, https)))
            if http != url:
                opening = partial(plain(http).connect, by)
                ports.append(_Port(str(http), partial(_checked, opening, http)))
            return self._reach((own.key, by), ports)

        return attrs.evolve(own, connect=connect)

    def _reach(
        self, key: tuple[str, Carrier], ports: list[_Port]
    ) -> Deferred[HTTPClientConnection]:
        known = self._memory.first(key)
        own = ports[0].name

        def won(winner: Winner[HTTPClientConnection]) -> HTTPClientConnection:
            name = winner.candidate.name
            if name != known and name != own:
                self._log.info(
                    "relay {relay} is reached at {port}", relay=own, port=name
                )
            self._memory.worked(key, name)
            return winner.result

        def lost(failure: Failure) -> Failure:
            self._memory.forget(key)
            if failure.check(RaceLost):
                # That of the relay's own port says most.
                return cast(RaceLost, failure.value).failures[own]
            return failure

        racing = race(
            self._reactor,
            [
                Candidate(port.name, port.connect)
                for port in sorted(ports, key=lambda port: port.name != known)
            ],
            stagger=_STAGGER,
            dispose=HTTPClientConnection.disconnect,
        )
        return racing.addCallbacks(won, lost)


def _connect(
    endpoint: IStreamClientEndpoint, url: ServiceURL
) -> Deferred[HTTPClientConnection]:
    connection = HTTPClientConnection(url.authority)
    connecting: Deferred[Any] = connectProtocol(endpoint, connection)
    return connecting


@inlineCallbacks
def _checked(connect: _Connect, url: ServiceURL) -> Any:
    """Connect, and see that it is a relay: at these ports there may be anything."""
    connection = yield connect()
    try:
        answer = yield connection.request("HEAD", url.path + STATISTICS_PATH)
    except h11.RemoteProtocolError as e:
        raise ConnectError(string=f"{url} does not speak HTTP: {e}") from e
    if answer.status != 200:
        connection.disconnect()
        raise ConnectError(string=f"there is no relay at {url}")
    if not connection.reusable:
        connection.disconnect()
        connection = yield connect()
    return connection
