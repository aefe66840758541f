"""The mediator itself: what its UDP and TCP faces share."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from dwcloud.errors import IdentityMismatch
from dwcloud.mediator.configuration import MediatorConfiguration
from dwcloud.mediator.metrics import families
from dwcloud.mediator.observer import IgnoreAll, Observer
from dwcloud.mediator.outcomes import PATHS, Outcomes
from dwcloud.mediator.statistics import MediatorStatistics
from dwcloud.metrics import Family
from dwcloud.net.identity import KeyAgreement, verify_certificates, verify_signature
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.log_ids import log_id
from dwcloud.protocol.mediation.admittance import AdmitEverybody, Admitter
from dwcloud.protocol.mediation.key_exchange import KeyExchange
from dwcloud.protocol.mediation.messages import (
    AccessChanged,
    ActivityReport,
    Connect,
    ConnectionAck,
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


class Mediator:
    """Servers, connect sessions and counters of one mediator.

    :param registry: where servers are kept; in memory by default.
    :param random_bytes: a source of randomness.
    :param new_exchange: makes a key agreement.
    :param admitter: decides which clients may connect; all by default.
    :param observer: told of servers and connections.
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
        admitter: Admitter | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._observer: Observer = observer or IgnoreAll()
        limits = configuration.limits
        self.reactor = reactor
        self.configuration = configuration
        self.random_bytes = random_bytes
        self.new_exchange = new_exchange
        self.statistics = MediatorStatistics()
        self.outcomes = Outcomes()
        self._began = reactor.seconds()
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
            admitter=admitter,
        )
        self._admitter: Admitter = AdmitEverybody() if admitter is None else admitter
        self._admitter.watch(self.access_changed)
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
            self._admitter.check_registration(name)
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
            mediator_endpoints=self.sessions.mediator_endpoints,
        )

    def announce(self, endpoints: tuple[Address, ...]) -> None:
        """Tell clients and servers from now on where else this mediator takes UDP."""
        self.sessions.mediator_endpoints = endpoints

    def server_online(self, record: ServerRecord) -> None:
        """A server has a control channel; an older one of it is closed."""
        replaced = self.registry.add(record)
        self.statistics.registrations += 1
        self._log.info("server {peer} is online", peer=str(record.name))
        if replaced is not None:
            self.statistics.replacements += 1
            replaced.channel.replaced()
            self._server_gone(replaced)
        change = self.access_of(record.name.system)
        if change is not None:
            record.channel.access_changed(change)
        self._observer.server_online(record.name)

    def access_of(self, system: uuid.UUID) -> AccessChanged | None:
        """Return what servers of a system are told of who may connect, if anything."""
        told = self._admitter.state(system)
        return (
            None if told is None else AccessChanged(state=told[0], revocations=told[1])
        )

    def access_changed(self, system: uuid.UUID) -> None:
        """Tell the servers of a system that others may connect to it now."""
        change = self.access_of(system)
        if change is None:
            return
        for record in self.registry.online(system):
            record.channel.access_changed(change)

    def watch(self, system: uuid.UUID) -> None:
        """Make the servers of a system tell what they carry, for a minute."""
        for record in self.registry.online(system):
            record.channel.watch()

    def receive_activity(self, record: ServerRecord, message: STUNMessage) -> None:
        """A server tells what it carries.

        :raises RemoteProtocolError: if that is malformed.
        """
        activity = ActivityReport.from_stun(message).activity
        self._observer.activity_reported(record.name, activity)

    def server_offline(self, record: ServerRecord, reason: str) -> None:
        """A server's control channel is gone."""
        if self.registry.remove(record):
            self._log.info(
                "server {peer} is offline: {reason}",
                peer=str(record.name),
                reason=reason,
            )
            self._server_gone(record)
            self._observer.server_offline(record.name)

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
                "session {connect_session_id}: {client!r} at {source} asks for {peer}",
                connect_session_id=log_id(connect.session_id),
                client=connect.client_name,
                source=str(source),
                peer=str(connect.target),
            )
        copy = RequestCopy(request, source, observed, reply, connect.nat)
        self.sessions.receive_connect(connect, copy, now=self.reactor.seconds())
        self._rearm()

    def receive_ack(
        self, request: STUNMessage, source: Address
    ) -> tuple[STUNMessage, bytes]:
        """Take a ``connection_ack``; see :meth:`ConnectSessions.receive_ack`."""
        now = self.reactor.seconds()
        try:
            session_id = ConnectionAck.from_stun(request).session_id
            core = self.sessions.get(session_id)
            late = core is not None and core.answer is not None
            answer = self.sessions.receive_ack(request, source, now=now)
        except RemoteProtocolError:
            self.statistics.bad_acks += 1
            raise
        if late:
            self._log.info(
                "session {connect_session_id}: the server confirms from {source}, "
                "after the answer",
                connect_session_id=log_id(session_id),
                source=str(source),
            )
        self._rearm()
        return answer

    def receive_result(self, request: STUNMessage) -> STUNMessage:
        """Take a ``connection_result`` and return its answer.

        A stranger gets the same answer: he learns nothing about sessions.

        :raises RemoteProtocolError: if it is malformed.
        """
        result = ConnectionResult.from_stun(request)
        known = self.sessions.get(result.session_id)
        improved = known is not None and known.reported
        session = self.sessions.receive_result(result)
        if session is None:
            pass  # no session, or no news
        elif improved:
            self.outcomes.improved(session, result)
            self._log.info(
                "session {connect_session_id}: the client tells: {outcome} after all",
                connect_session_id=log_id(result.session_id),
                outcome=result.path,
            )
            self._tell_end(session, result, str(result.path))
        else:
            now = self.reactor.seconds()
            outcome = self.outcomes.told(session, result, now=now)
            self._log.info(
                "session {connect_session_id}: the client tells: {outcome}, "
                "{seconds} s",
                connect_session_id=log_id(result.session_id),
                outcome=outcome,
                seconds=result.connect_time,
            )
            self._tell_end(session, result, outcome)
        return ConnectionResultResponse().to_stun(request.transaction_id)

    def _tell_end(
        self, core: ConnectSessionCore, result: ConnectionResult, outcome: str
    ) -> None:
        succeeded = outcome in PATHS
        self._observer.connection_ended(
            core,
            "ok" if succeeded else outcome,
            path=outcome if succeeded else "",
            seconds=result.connect_time,
        )

    def _answered(self, core: ConnectSessionCore, answer: ConnectResponse) -> None:
        if answer.udp_endpoints:
            self.outcomes.acknowledged(core, now=self.reactor.seconds())
        self._log.info(
            "session {connect_session_id}: answered {result}, server {server}, "
            "UDP {udp}, observed client {observed}",
            connect_session_id=log_id(core.session_id),
            result=answer.result.label,
            server=str(answer.server),
            udp=[str(address) for address in answer.udp_endpoints],
            observed=str(core.observed),
        )
        if answer.result is not ResultCode.OK:
            self._observer.introduction_failed(core, answer.result.label)

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
            "sessions_unreported": counts.unreported,
            "sessions_not_admitted": counts.not_admitted,
            "answers": {code.label: count for code, count in counts.answered.items()},
            "results": self.outcomes.results(),
            **{name: value() for name, value in self._gauges.items()},
        }

    def families(self) -> list[Family]:
        """Return the same as metrics, with latencies and kinds of NAT."""
        uptime = self.reactor.seconds() - self._began
        return families(self.snapshot(), self.outcomes, uptime)
