"""Streams to servers that the gateway opens, as clients do on other paths."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from twisted.internet.defer import inlineCallbacks
from twisted.internet.interfaces import IAddress, IProtocolFactory, IReactorTime

from dwcloud.errors import ServiceRefused
from dwcloud.net.path import Path
from dwcloud.net.signing import SigningKey
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.grants import ClientGrant
from dwcloud.protocol.opening.messages import RefusalCode
from dwcloud.protocol.path_kinds import PathKind
from dwcloud.relay.gateway.sessions import WebSession
from dwcloud.relay.gateway.statistics import GatewayStatistics
from dwcloud.relay.gateway.tunnels import InnerTunnel
from dwcloud.relay.switchboard import Switchboard

__all__ = ["CLIENT_NAME", "MAX_STREAMS", "ServerStreams"]

CLIENT_NAME = "browser"
"""How the server's log calls who comes."""

MAX_STREAMS = 32
"""Of one session at a time; a browser opens six, and some WebSockets."""

_WEB = "web"
_ONLY_ONE = ""


class ServerStreams:
    """Opens a stream to the web service of a session's server.

    :param key: that of the gateway, to which grants are bound.
    :param statistics: where bytes are counted.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        switchboard: Switchboard,
        key: SigningKey,
        statistics: GatewayStatistics,
    ) -> None:
        self._reactor = reactor
        self._switchboard = switchboard
        self._key = key
        self._statistics = statistics
        self.opened = 0

    @inlineCallbacks
    def open(
        self, session: WebSession, address: Address, factory: IProtocolFactory
    ) -> Any:
        """Open one.

        :param address: of the browser, for the server's log.
        :return: a Deferred that fires with the protocol; fails with
            RemoteProtocolError if the server is not here or has no connection free,
            :class:`~dwcloud.errors.AccessDenied` if it does not let the account in,
            another CloudError or ConnectError. Cancelling gives up.
        """
        if len(session.streams) > MAX_STREAMS:
            raise RemoteProtocolError("this browser has too many connections open", 503)
        names = [_WEB, _ONLY_ONE] if session.service is None else [session.service]
        for name in names:
            try:
                protocol = yield self._open(session, address, name, factory)
            except ServiceRefused as e:
                if e.code == RefusalCode.UNKNOWN_SERVICE and name != names[-1]:
                    continue
                session.service = None
                raise
            session.service = name
            self.opened += 1
            return protocol
        raise AssertionError("no name was tried")

    @inlineCallbacks
    def _open(
        self,
        session: WebSession,
        address: Address,
        service: str,
        factory: IProtocolFactory,
    ) -> Any:
        path = Path(
            self._reactor,
            PathKind.RELAY,
            "gateway",
            session.target,
            None,
            CLIENT_NAME,
            grant=ClientGrant(session.encoded, self._key.sign),
        )
        carrier = path.protocol_factory().buildProtocol(cast(IAddress, None))
        assert carrier is not None
        make_tunnel = partial(
            InnerTunnel, protocol=carrier, statistics=self._statistics
        )
        yield self._request(session, address, make_tunnel)
        yield path.verified
        protocol = yield path.start(service, factory)
        return protocol

    def _request(self, session: WebSession, address: Address, make_tunnel: Any) -> Any:
        """Take a connection of the server that the session had before, or of any."""
        if session.pairing:
            try:
                self._switchboard.check_session(session.pairing)
            except RemoteProtocolError:
                session.pairing, session.service = "", None
        if not session.pairing:
            session.pairing, _ = self._switchboard.create_session(session.target)
        return self._switchboard.request_tunnel(
            session.pairing, CLIENT_NAME, address, make_tunnel=make_tunnel
        )
