"""The mediator itself: what its UDP and TCP faces share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from dwcloud.errors import IdentityMismatch
from dwcloud.mediator.configuration import MediatorConfiguration
from dwcloud.mediator.statistics import MediatorStatistics
from dwcloud.net.identity import KeyAgreement, verify_certificates, verify_signature
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.key_exchange import KeyExchange
from dwcloud.protocol.mediation.messages import (
    Connect,
    ConnectionResult,
    ConnectionResultResponse,
    ConnectResponse,
    ListenResponse,
)
from dwcloud.protocol.mediation.registry import MemoryRegistry, Registry, ServerRecord
from dwcloud.protocol.mediation.result_codes import ResultCode
from dwcloud.protocol.mediation.session import ConnectSessionCore, RequestCopy
from dwcloud.protocol.mediation.sessions import ConnectSessions
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.stun.message import STUNMessage

__all__ = ["Mediator"]

_PATHS = frozenset({"lan", "tcp", "udp", "relay"})


class Mediator:
    """Servers, connect sessions and counters of one mediator.

    :param registry: where servers are kept; in memory by default.
    :param random_bytes: a source of randomness.
    :param new_exchange: makes a key agreement.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        configuration: MediatorConfiguration,
        *,
        registry: Registry | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
        new_exchange: Callable[[], KeyExchange] = KeyAgreement,
    ) -> None:
        limits = configuration.limits
        self.reactor = reactor
        self.configuration = configuration
        self.random_bytes = random_bytes
        self.new_exchange = new_exchange
        self.statistics = MediatorStatistics()
        self.registry: Registry = registry or MemoryRegistry(
            max_servers=limits.servers, max_known=limits.known_servers
        )
        self.sessions = ConnectSessions(
            self.registry,
            parameters=configuration.parameters,
            relay_urls=configuration.relay_urls,
            random_bytes=random_bytes,
            max_sessions=limits.sessions,
            on_answered=self._answered,
        )
        self._running = True
        self._timer: IDelayedCall | None = None
        self._gauges: dict[str, Callable[[], int]] = {}

    def start(self) -> None:
        """Let the clock run."""
        self._running = True
        self._rearm()

    def stop(self) -> None:
        """Stop the clock; what happens to connections after that needs none."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Servers

    def verify(
        self, certificates: tuple[bytes, bytes], signature: bytes, data: bytes
    ) -> PeerName:
        """Return the name that certificates and a signature prove.

        :raises RemoteProtocolError: code 401, if they prove none.
        """
        try:
            name = verify_certificates(certificates)
            if not verify_signature(certificates[0], signature, data):
                raise IdentityMismatch(f"the signature is not that of {name}")
        except IdentityMismatch as error:
            self.statistics.bad_proofs += 1
            self._log.info("proof of identity refused: {reason}", reason=str(error))
            raise RemoteProtocolError(str(error), 401) from error
        return name

    def check_registration(self, name: PeerName) -> None:
        """Let a server register whose identity is proven, or not.

        :raises RemoteProtocolError: code 403 or 503.
        """
        try:
            self.configuration.policy.check(name)
            self.registry.check_capacity(name)
        except RemoteProtocolError as error:
            self.statistics.refused_registrations += 1
            self._log.info(
                "server {peer} refused: {reason}", peer=str(name), reason=str(error)
            )
            raise

    def welcome(self, public_key: bytes) -> ListenResponse:
        """Return the answer to a ``listen`` that was accepted."""
        configuration = self.configuration
        return ListenResponse(
            public_key=public_key,
            keep_alive=configuration.keep_alive,
            parameters=configuration.parameters,
            relay_urls=configuration.relay_urls,
            reconnect_delay=configuration.reconnect_delay,
        )

    def server_online(self, record: ServerRecord) -> None:
        """A server has a control channel; an older one of it is closed."""
        replaced = self.registry.add(record)
        self.statistics.registrations += 1
        self._log.info("server {peer} is online", peer=str(record.name))
        if replaced is not None:
            self.statistics.replacements += 1
            replaced.channel.replaced()
            self._server_gone(replaced)

    def server_offline(self, record: ServerRecord, reason: str) -> None:
        """A server's control channel is gone."""
        if self.registry.remove(record):
            self._log.info(
                "server {peer} is offline: {reason}",
                peer=str(record.name),
                reason=reason,
            )
            self._server_gone(record)

    def _server_gone(self, record: ServerRecord) -> None:
        self.sessions.server_lost(record, now=self.reactor.seconds())
        self._rearm()

    # Clients

    def receive_connect(
        self,
        request: STUNMessage,
        source: Address,
        *,
        observed: bool,
        reply: Callable[[ConnectResponse], None],
    ) -> None:
        """Take a ``connect``; ``reply`` is called once with the answer, or never.

        :param observed: whether ``source`` is the address that the client punches
            from.
        :raises RemoteProtocolError: if the request is refused.
        """
        connect = Connect.from_stun(request)
        if connect.session_id not in self.sessions:
            self._log.info(
                "session {session}: {client!r} at {source} asks for {peer}",
                session=str(connect.session_id),
                client=connect.client_name,
                source=str(source),
                peer=str(connect.target),
            )
        copy = RequestCopy(request, source, observed, reply)
        self.sessions.receive_connect(connect, copy, now=self.reactor.seconds())
        self._rearm()

    def receive_ack(
        self, request: STUNMessage, source: Address
    ) -> tuple[STUNMessage, bytes]:
        """Take a ``connection_ack``; see :meth:`ConnectSessions.receive_ack`."""
        now = self.reactor.seconds()
        try:
            answer = self.sessions.receive_ack(request, source, now=now)
        except RemoteProtocolError:
            self.statistics.bad_acks += 1
            raise
        self._rearm()
        return answer

    def receive_result(self, request: STUNMessage) -> STUNMessage:
        """Take a ``connection_result`` and return its answer.

        A stranger gets the same answer: he learns nothing about sessions.

        :raises RemoteProtocolError: if it is malformed.
        """
        result = ConnectionResult.from_stun(request)
        session = self.sessions.receive_result(result)
        if session is not None:
            path = result.path if result.path in _PATHS else None
            succeeded = result.result is ResultCode.OK and path is not None
            outcome = str(path) if succeeded else result.result.label
            self.statistics.count_result(outcome)
            self._log.info(
                "session {session}: {outcome}, {seconds} s",
                session=str(result.session_id),
                outcome=outcome,
                seconds=result.connect_time,
            )
        return ConnectionResultResponse().to_stun(request.transaction_id)

    def _answered(self, core: ConnectSessionCore, answer: ConnectResponse) -> None:
        self._log.info(
            "session {session}: answered {result}, server {server}, "
            "UDP {udp}, observed client {observed}",
            session=str(core.session_id),
            result=answer.result.label,
            server=str(answer.server),
            udp=[str(address) for address in answer.udp_endpoints],
            observed=str(core.observed),
        )

    # Time

    def _rearm(self) -> None:
        at = self.sessions.next_timer()
        # A timer that is early does no harm and need not be moved.
        if self._timer is not None and (at is None or self._timer.getTime() <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None and self._running:
            delay = max(0.0, at - self.reactor.seconds())
            self._timer = self.reactor.callLater(delay, self._timer_due)

    def _timer_due(self) -> None:
        self._timer = None
        self.sessions.handle_timer(now=self.reactor.seconds())
        self._rearm()

    # Statistics

    def add_gauge(self, name: str, value: Callable[[], int]) -> None:
        """Show one more value in :meth:`snapshot`."""
        self._gauges[name] = value

    def snapshot(self) -> dict[str, Any]:
        """Return all counters and the fill of all tables, ready for JSON."""
        counts = self.sessions.counts
        return {
            **attrs.asdict(self.statistics),
            "servers_online": self.registry.online_count,
            "servers_known": self.registry.known_count,
            "servers_forgotten": self.registry.forgotten_count,
            "sessions": len(self.sessions),
            "sessions_waiting": self.sessions.waiting_count,
            "sessions_started": counts.started,
            "sessions_without_udp": counts.without_udp,
            "sessions_evicted": counts.evicted,
            "sessions_refused": counts.refused,
            "answers": {code.label: count for code, count in counts.answered.items()},
            **{name: value() for name, value in self._gauges.items()},
        }
