"""The ways by which TCP leads to a mediator: directly, or inside HTTP.

All of them carry the same STUN messages. A way counts as working once the mediator has
answered a Binding request through it: a firewall or a proxy may let a connection be
opened on which no byte passes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import attrs
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.errors import MediatorUnreachable
from dwcloud.net.host_endpoint import host_endpoint
from dwcloud.net.http_client import carrier_endpoint
from dwcloud.net.protocol_switch import SwitchingProtocol
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.staggered import Candidate, RaceLost, WayMemory, Winner, race
from dwcloud.net.tls import UnverifiedTLS
from dwcloud.net.tunnel_echo import UsableTunnel
from dwcloud.net.tunnel_endpoints import TunnelEndpoint
from dwcloud.net.tunnel_opening import AUTO
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.paths import TUNNEL_PATH, TUNNEL_TOKEN
from dwcloud.protocol.stun.binding import binding_request
from dwcloud.protocol.stun.message import STUNMessage
from dwcloud.protocol.stun.stream import StreamDecoder
from dwcloud.protocol.tunnelling.methods import FINITE_MESSAGES
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = ["MediatorWays", "SelectedWay"]

STAGGER = 1.0
"""Seconds until the next way is tried beside those that are under way."""

WAY_TIMEOUT = 20.0
"""Seconds for one way, its check included."""

_LASTING = 300.0
"""Seconds after which the loss of a stream is none of the way's making."""
_CUTS = 2
_CUT_FOR = 3600.0
"""Seconds for which endless streams are not tried again by a way that is cut."""


@attrs.frozen
class SelectedWay:
    """How a mediator is reached.

    :ivar name: of the way, for people: ``TCP cloud.example.org:3345`` or
        ``https://cloud.example.org by upgrade``.
    :ivar direct: whether the connection leads to the mediator's own machine.
    :ivar tunnelled: whether it runs inside HTTP.
    :ivar failures: ways that were tried before and failed, with the reason of each.
    """

    name: str
    direct: bool
    tunnelled: bool
    failures: Mapping[str, str] = attrs.field(factory=dict)

    def __str__(self) -> str:
        """The name, and why it is not a better one."""
        if not self.failures:
            return self.name
        reasons = "; ".join(f"{name}: {why}" for name, why in self.failures.items())
        return f"{self.name} ({reasons})"


class _Check(SwitchingProtocol):
    """Asks whether a mediator is at the far end, then gives the stream away.

    :ivar answered: fires with this object when it is.
    """

    def __init__(self) -> None:
        self._transaction = os.urandom(12)
        self._decoder = StreamDecoder()
        self.answered: Deferred[_Check] = Deferred(lambda _: self.abort())

    def connectionMade(self) -> None:
        """Ask."""
        message = binding_request(self._transaction)
        cast(Any, self.transport).write(message.encode())

    def bytesReceived(self, data: bytes) -> None:
        """Wait for the answer."""
        for raw in self._decoder.receive_data(data):
            try:
                answer = STUNMessage.decode(raw)
            except RemoteProtocolError:
                break
            if answer.transaction_id == self._transaction:
                self._answered(self)
                return
        if self._decoder.failure is not None:
            self._answered(
                Failure(MediatorUnreachable("what answers there is no mediator"))
            )
            self.abort()

    def connectionEnded(self, reason: Failure) -> None:
        """No answer comes."""
        self._answered(
            Failure(
                MediatorUnreachable(
                    "the connection was closed before the mediator answered"
                )
            )
        )

    def _answered(self, result: _Check | Failure) -> None:
        if not self.answered.called:
            self.answered.callback(cast(_Check, result))

    def abort(self) -> None:
        """Break the connection off."""
        cast(Any, self.transport).abortConnection()


@attrs.frozen(eq=False)
class _Opened:
    """A stream that leads to the mediator."""

    check: _Check
    method: str


@attrs.frozen(eq=False)
class _Way:
    """One way.

    :ivar open: opens a stream for the protocol given; fires with the name of the
        tunnelling method, empty without one.
    """

    name: str
    direct: bool
    tunnelled: bool
    open: Callable[[_Check], Deferred[str]]


@implementer(IStreamClientEndpoint)
class MediatorWays:
    """An endpoint that leads to a mediator by the first way that works.

    :param proxies: those to use where the settings say so.
    :param interface: local IP address to connect from, empty for any.
    :param timeout: seconds for each way.
    :ivar selected: how the mediator was reached last, None before.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        address: MediatorAddress,
        *,
        proxies: Proxies | None = None,
        interface: str = "",
        timeout: float = WAY_TIMEOUT,
    ) -> None:
        self._reactor = reactor
        self._address = address
        self._proxies = proxies or Proxies(reactor)
        self._interface = interface
        self._timeout = timeout
        self._ways = self._all_ways()
        self._memory = WayMemory(reactor)
        self._demoted = ""
        self._cuts: dict[str, tuple[int, float]] = {}
        self.selected: SelectedWay | None = None

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect a protocol of the factory to the mediator.

        :return: fails with MediatorUnreachable, which names each way and why it
            failed. Cancelling it gives up.
        """

        def won(winner: Winner[_Opened]) -> IProtocol:
            check = winner.result.check
            self._select(winner)
            protocol = protocolFactory.buildProtocol(
                cast(Any, check.transport).getPeer()
            )
            if protocol is None:
                check.abort()
                raise ConnectError(string="the factory made no protocol")
            check.switch_to(protocol)
            return protocol

        racing: Deferred[Any] = self._race(self._in_order())
        racing.addErrback(self._none_works)
        return racing.addCallback(won)

    def _race(self, ways: Sequence[_Way]) -> Deferred[Winner[_Opened]]:
        return race(
            self._reactor,
            [Candidate(way.name, self._starter(way)) for way in ways],
            stagger=STAGGER,
            dispose=lambda opened: opened.check.abort(),
        )

    def demote(self) -> None:
        """The way selected last turned out not to work: try it last."""
        self._demoted = self._memory.first(self._address) or self._demoted
        self._memory.forget(self._address)

    def cut(self, seconds: float) -> None:
        """The stream by the way selected last was lost, having worked before.

        There are proxies that cut whatever has lived for some time. After two such
        cuts in a row short requests take the place of endless streams by that way.

        :param seconds: how long it lasted.
        """
        name = self._memory.first(self._address)
        way = next((way for way in self._ways if way.name == name), None)
        if way is None or way.direct:
            return
        if seconds >= _LASTING:
            self._cuts.pop(name, None)
            return
        count, _ = self._cuts.get(name, (0, 0.0))
        self._cuts[name] = (count + 1, self._reactor.seconds())
        if count + 1 == _CUTS:
            self._memory.forget(self._address)
            self._log.info(
                "{way} is cut again and again; short requests take its place",
                way=name,
            )

    def find_cheaper(self) -> Deferred[bool]:
        """Look whether a cheaper way than the one selected last works by now.

        :return: fires with whether one does; it is tried first then. Cancellable.
        """
        names = [way.name for way in self._ways]
        current = self._memory.first(self._address)
        cheaper = [
            way
            for way in self._ways[: names.index(current) if current in names else 0]
            if way.name != self._demoted and not self._is_cut(way.name)
        ]
        if not cheaper:
            return succeed(False)

        def works(winner: Winner[_Opened]) -> bool:
            winner.result.check.abort()
            self._memory.worked(self._address, winner.candidate.name)
            return True

        def none_works(failure: Failure) -> bool:
            failure.trap(RaceLost)
            return False

        return self._race(cheaper).addCallbacks(works, none_works)

    def forget(self) -> None:
        """Try the cheapest way first again, as in another network."""
        self._memory.forget(self._address)
        self._demoted = ""
        self._cuts.clear()

    # The ways

    def _all_ways(self) -> list[_Way]:
        address = self._address
        if address.url is not None:
            return [self._tunnel(address.url, verified=True)]
        ways = [self._tcp()]
        urls = [ServiceURL("https", address.host, 443)]
        settings = self._proxies.settings
        if settings.choose(address.host, address.port, secure=False) is not None:
            # Proxies pass on requests to ports that they do not CONNECT to.
            urls.append(ServiceURL("http", address.host, address.port))
        urls.append(ServiceURL("http", address.host, 80))
        ways += [self._tunnel(url, verified=False) for url in dict.fromkeys(urls)]
        return ways

    def _through(self, url: ServiceURL) -> str:
        proxy = self._proxies.settings.choose(url.host, url.port, secure=url.secure)
        return "" if proxy is None else f" through proxy {proxy}"

    def _tcp(self) -> _Way:
        host, port = self._address.host, self._address.port
        proxied = self._proxies.endpoint(
            host, port, timeout=self._timeout, interface=self._interface
        )
        endpoint = proxied or host_endpoint(
            self._reactor,
            host,
            port,
            # The limit of the way comes first, and tells what there was no answer to.
            timeout=2 * self._timeout,
            interface=self._interface,
        )

        def open_(check: _Check) -> Deferred[str]:
            connecting: Deferred[Any] = connectProtocol(endpoint, check)
            return connecting.addCallback(lambda _: "")

        through = self._through(ServiceURL("https", host, port))
        return _Way(f"TCP {self._address}{through}", proxied is None, False, open_)

    def _tunnel(self, url: ServiceURL, *, verified: bool) -> _Way:
        carrier: IStreamClientEndpoint | None = None
        if url.secure and not verified:
            # Nobody asked for TLS: it is there to get through, see docs/security.
            carrier = carrier_endpoint(
                self._reactor,
                url,
                timeout=self._timeout,
                interface=self._interface,
                tls=UnverifiedTLS(url.host),
                through=self._proxies.endpoint(
                    url.host, url.port, interface=self._interface
                ),
            )
        name = f"{url}{self._through(url)}"

        def open_(check: _Check) -> Deferred[str]:
            def opened(tunnel: UsableTunnel) -> str:
                tunnel.connect(check)
                return tunnel.method

            endpoint = TunnelEndpoint(
                self._reactor,
                url,
                TUNNEL_PATH,
                TUNNEL_TOKEN,
                method=FINITE_MESSAGES if self._is_cut(name) else AUTO,
                carrier=carrier,
                proxies=self._proxies,
                interface=self._interface,
                timeout=self._timeout,
            )
            opening: Deferred[Any] = endpoint.open()
            return opening.addCallbacks(opened, _tell_tls_error, errbackArgs=(url,))

        return _Way(name, False, True, open_)

    def _is_cut(self, name: str) -> bool:
        """Whether endless streams by a way do not last."""
        count, at = self._cuts.get(name, (0, 0.0))
        return count >= _CUTS and self._reactor.seconds() - at < _CUT_FOR

    def _in_order(self) -> list[_Way]:
        first, last = self._memory.first(self._address), self._demoted

        def rank(way: _Way) -> tuple[bool, bool]:
            lasts = way.tunnelled or not self._is_cut(way.name)
            return way.name != first, way.name == last or not lasts

        return sorted(self._ways, key=rank)

    def _starter(self, way: _Way) -> Callable[[], Deferred[_Opened]]:
        def start() -> Deferred[_Opened]:
            check = _Check()
            opening: Deferred[Any] = way.open(check)
            opening.addCallback(
                lambda method: check.answered.addCallback(
                    lambda _: _Opened(check, method)
                )
            )
            return opening.addTimeout(self._timeout, self._reactor, self._timed_out)

        return start

    def _timed_out(self, result: _Opened | Failure, timeout: float) -> _Opened:
        if isinstance(result, Failure):
            raise MediatorUnreachable(f"no answer within {timeout:g} seconds")
        return result

    # What came of it

    def _select(self, winner: Winner[_Opened]) -> None:
        way = next(w for w in self._ways if w.name == winner.candidate.name)
        method = winner.result.method
        known = self._memory.first(self._address) == way.name
        failures = {n: f.getErrorMessage() for n, f in winner.failures.items()}
        if known and not failures and self.selected is not None:
            failures = dict(self.selected.failures)
        elif not known:
            for other in self._ways[: self._ways.index(way)]:
                failures.setdefault(other.name, "no answer so far")
        self._memory.worked(self._address, way.name)
        if self._demoted == way.name:
            self._demoted = ""
        name = f"{way.name} by {method}" if method else way.name
        self.selected = SelectedWay(name, way.direct, bool(method), failures)
        self._log.info(
            "mediator {mediator} is reached by {way}",
            mediator=str(self._address),
            way=str(self.selected),
        )

    def _none_works(self, failure: Failure) -> Any:
        if not failure.check(RaceLost):
            return failure
        self._memory.forget(self._address)
        failures = cast(RaceLost, failure.value).failures
        ways: dict[str, list[str]] = {}
        for name, reason in failures.items():
            ways.setdefault(reason.getErrorMessage(), []).append(name)
        if len(ways) == 1:
            return next(iter(failures.values()))
        raise MediatorUnreachable(
            "; ".join(f"{', '.join(names)}: {why}" for why, names in ways.items())
        )


def _tell_tls_error(failure: Failure, url: ServiceURL) -> Failure:
    """Say in words what is wrong with a certificate."""
    if failure.check(VerificationError):
        raise MediatorUnreachable(f"its certificate is not that of {url.host}")
    if failure.check(SSL.Error):
        if "certificate verify failed" in repr(failure.value):
            raise MediatorUnreachable(
                "nobody known here vouches for its certificate; http:// or a plain "
                "HOST does without"
            )
        raise MediatorUnreachable("what answers there is not TLS")
    return failure
