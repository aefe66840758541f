"""All connect sessions of a mediator: found by id, bounded, forgotten in time."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Callable

import attrs

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.admittance import AdmitEverybody, Admitter
from dwcloud.protocol.mediation.messages import (
    Connect,
    ConnectionAck,
    ConnectionAckResponse,
    ConnectionResult,
    ConnectResponse,
)
from dwcloud.protocol.mediation.parameters import ConnectionParameters
from dwcloud.protocol.mediation.registry import Registry, ServerRecord
from dwcloud.protocol.mediation.result_codes import ResultCode
from dwcloud.protocol.mediation.session import (
    ConnectSession,
    ConnectSessionCore,
    RequestCopy,
    connect_session_machine,
)
from dwcloud.protocol.stun.message import STUNMessage

__all__ = ["ANSWER_LIFETIME", "ConnectSessions", "SessionCounts"]

ANSWER_LIFETIME = 60.0
"""Seconds that an answer is kept for late copies: they come for 39.5 s at most."""


@attrs.define
class SessionCounts:
    """What became of the sessions, since the start.

    :ivar started: sessions begun.
    :ivar answered: by result code.
    :ivar without_udp: answered OK without UDP addresses, though the client wanted some.
    :ivar evicted: answered sessions forgotten early, to make room.
    :ivar refused: requests refused because all sessions were waiting.
    :ivar unreported: answered OK and forgotten without news of the outcome; but for
        those in which the server sends first, which belong to another one.
    :ivar not_admitted: clients who may not connect, told that the peer is unknown.
    """

    started: int = 0
    answered: dict[ResultCode, int] = attrs.field(factory=dict)
    without_udp: int = 0
    evicted: int = 0
    refused: int = 0
    unreported: int = 0
    not_admitted: int = 0


@attrs.frozen
class _Entry:
    core: ConnectSessionCore
    machine: ConnectSession


class ConnectSessions:
    """Takes requests, confirmations and time; answers through the copies.

    Full, it forgets the session that was answered first; if none is answered, it
    refuses new ones.

    :param registry: where servers are looked up.
    :param parameters: for all sessions.
    :param relay_urls: told to clients.
    :param random_bytes: a source of randomness, for tokens.
    :param max_sessions: kept at a time.
    :param on_answered: told each answer.
    :param admitter: decides who may connect.
    :ivar mediator_endpoints: UDP addresses of the mediator, told to clients.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        parameters: ConnectionParameters,
        relay_urls: tuple[str, ...],
        random_bytes: Callable[[int], bytes],
        max_sessions: int = 20_000,
        on_answered: Callable[[ConnectSessionCore, ConnectResponse], None] = (
            lambda core, answer: None
        ),
        admitter: Admitter | None = None,
    ) -> None:
        self.counts = SessionCounts()
        self.mediator_endpoints: tuple[Address, ...] = ()
        self._registry = registry
        self._parameters = parameters
        self._relay_urls = relay_urls
        self._random_bytes = random_bytes
        self._max_sessions = max_sessions
        self._on_answered = on_answered
        self._admitter: Admitter = AdmitEverybody() if admitter is None else admitter
        self._sessions: dict[uuid.UUID, _Entry] = {}
        # Both in the order of their deadlines, because all wait equally long.
        self._waiting: OrderedDict[uuid.UUID, float] = OrderedDict()
        self._answered: OrderedDict[uuid.UUID, float] = OrderedDict()
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, session_id: uuid.UUID) -> bool:
        return session_id in self._sessions

    @property
    def waiting_count(self) -> int:
        """Sessions that wait for their server."""
        return len(self._waiting)

    def get(self, session_id: uuid.UUID) -> ConnectSessionCore | None:
        """Return what is known of a session."""
        entry = self._sessions.get(session_id)
        return entry.core if entry else None

    def receive_connect(
        self, connect: Connect, copy: RequestCopy, *, now: float
    ) -> None:
        """Take a ``connect``; its answer goes out through ``copy``, now or later.

        A client who may not connect gets the answer for a server that nobody knows.

        :raises RemoteProtocolError: code 400 if the session is another one's, 503 if
            there are too many.
        """
        self._now = now
        entry = self._sessions.get(connect.session_id)
        if entry is None:
            self._start(connect, copy, now)
            return
        first = entry.core.request
        if (first.target, first.grant) != (connect.target, connect.grant):
            raise RemoteProtocolError("the session is that of another request", 400)
        entry.machine.copy_received(copy)

    def receive_ack(
        self, message: STUNMessage, source: Address, *, now: float
    ) -> tuple[STUNMessage, bytes]:
        """Take a ``connection_ack`` that came from ``source``.

        :return: the answer, and the key to protect it with.
        :raises RemoteProtocolError: code 401 if it is not authentic, or there is no
            such session: a stranger cannot tell.
        """
        self._now = now
        ack = ConnectionAck.from_stun(message)
        entry = self._sessions.get(ack.session_id)
        if entry is None or not message.verify_integrity(entry.core.token):
            raise RemoteProtocolError("connection_ack is not authentic", 401)
        entry.core.note_server_nat(ack.nat, source)
        entry.machine.ack_received(source, ack.udp_endpoints)
        response = ConnectionAckResponse().to_stun(message.transaction_id)
        return response, entry.core.token

    def receive_result(self, result: ConnectionResult) -> ConnectSessionCore | None:
        """Take a ``connection_result``; returns its session if this is news of it.

        It is news once, and once more if a direct path follows on a relay's.
        """
        entry = self._sessions.get(result.session_id)
        if entry is None or entry.core.answer is None:
            return None
        core, direct = entry.core, result.path in ("lan", "tcp", "udp")
        if core.reported and not (core.relayed and direct):
            return None
        core.reported = True
        core.relayed = result.path == "relay"
        return core

    def server_lost(self, server: ServerRecord, *, now: float) -> None:
        """Answer what waits for a server whose control channel is gone."""
        self._now = now
        for session_id in list(self._waiting):
            entry = self._sessions[session_id]
            if entry.core.server is server:
                entry.machine.server_lost()

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` wants to be called, absolute seconds."""
        heads = [
            next(iter(deadlines.values()))
            for deadlines in (self._waiting, self._answered)
            if deadlines
        ]
        return min(heads, default=None)

    def handle_timer(self, *, now: float) -> None:
        """Answer what has waited long enough, forget what was answered long ago."""
        self._now = now
        for session_id in _due(self._waiting, now):
            self._sessions[session_id].machine.ack_timed_out()
        for session_id in _due(self._answered, now):
            del self._answered[session_id]
            self._forget(session_id)

    def _start(self, connect: Connect, copy: RequestCopy, now: float) -> None:
        self._make_room()
        core = ConnectSessionCore(
            connect,
            self._random_bytes(16),
            self._parameters,
            self._relay_urls,
            self._answer_given,
            self._admitter.relay_grant,
            self._admitter.admit(connect.target, connect.grant),
            started=now,
            mediator_endpoints=self.mediator_endpoints,
        )
        entry = _Entry(core, connect_session_machine(core))
        self._sessions[connect.session_id] = entry
        self._waiting[connect.session_id] = now + self._parameters.ack_timeout
        self.counts.started += 1
        entry.machine.copy_received(copy)
        if core.admittance is None:
            self.counts.not_admitted += 1
            entry.machine.server_missing(ResultCode.PEER_UNKNOWN)
            return
        target = core.admittance.target
        server = self._registry.find(target)
        if server is not None:
            entry.machine.server_chosen(server)
            if connect.without_udp:
                entry.machine.ack_unneeded()
        elif self._registry.is_known(target) or self._admitter.is_bound(target.system):
            entry.machine.server_missing(ResultCode.PEER_OFFLINE)
        else:
            entry.machine.server_missing(ResultCode.PEER_UNKNOWN)

    def _make_room(self) -> None:
        if len(self._sessions) < self._max_sessions:
            return
        if not self._answered:
            self.counts.refused += 1
            raise RemoteProtocolError("too many connect sessions", 503)
        session_id, _ = self._answered.popitem(last=False)
        self._forget(session_id)
        self.counts.evicted += 1

    def _forget(self, session_id: uuid.UUID) -> None:
        core = self._sessions.pop(session_id).core
        if core.answer is not None and core.answer.result is ResultCode.OK:
            self.counts.unreported += not (core.reported or core.request.server_first)

    def _answer_given(self, core: ConnectSessionCore, answer: ConnectResponse) -> None:
        self._waiting.pop(core.session_id, None)
        self._answered[core.session_id] = self._now + ANSWER_LIFETIME
        counts = self.counts
        counts.answered[answer.result] = counts.answered.get(answer.result, 0) + 1
        unconfirmed = not (answer.udp_endpoints or core.request.without_udp)
        counts.without_udp += answer.result is ResultCode.OK and unconfirmed
        self._on_answered(core, answer)


def _due(deadlines: OrderedDict[uuid.UUID, float], now: float) -> list[uuid.UUID]:
    """Return what is due, from the front of an ordered table."""
    due = []
    for session_id, at in deadlines.items():
        if at > now:
            break
        due.append(session_id)
    return due
