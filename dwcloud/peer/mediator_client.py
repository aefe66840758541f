"""A client's questions to its mediator: introduce me, and this is how it went."""

from __future__ import annotations

import ipaddress
import os
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.errors import (
    AllAttemptsFailed,
    ConnectTimeout,
    IdentityMismatch,
    RequestRefused,
)
from dwcloud.net.dual_udp import AnyUDPPort
from dwcloud.net.local_network import local_network
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.peer.guessing import Hole
from dwcloud.peer.introduction import LIMIT, ask_over_tcp, request_connection
from dwcloud.peer.local_addresses import own_addresses
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.mediator_udp import MediatorUDP
from dwcloud.peer.mediator_ways import MediatorWays
from dwcloud.peer.quiet_introduction import QuietIntroduction
from dwcloud.peer.reports import Reports
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.log_ids import log_id
from dwcloud.protocol.mediation.attributes import MAX_ENDPOINTS
from dwcloud.protocol.mediation.initiator import Channel
from dwcloud.protocol.mediation.messages import (
    Connect,
    ConnectionResult,
    ConnectResponse,
)
from dwcloud.protocol.mediation.result_codes import ResultCode
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.nat import NATSummary
from dwcloud.protocol.stun.message import STUNMessage
from dwcloud.protocol.stun.transaction import Timing

__all__ = ["MediatorClient", "request_connection", "result_code_of"]

_REMEMBERED = 256
_MAX_CLIENT_NAME = 128
_RESULT_TIMING = Timing(tries=2, initial_interval=0.5, last_wait=0.5)
_REPORT_LIMIT = 2.0
"""Seconds that a client which ends gives its last reports."""


@attrs.frozen
class _Answer:
    """How the mediator answered a request.

    :ivar seconds: after this long.
    """

    seconds: float
    channel: Channel


def result_code_of(failure: Failure) -> ResultCode:
    """Return the code with which a failed connection is reported."""
    error = failure.value
    if isinstance(error, AllAttemptsFailed):
        kinds = {name.partition(" ")[0] for name in error.reasons}
        return {
            frozenset({"udp"}): ResultCode.UDT_FAILED,
            frozenset({"tcp"}): ResultCode.TCP_FAILED,
            frozenset({"relay"}): ResultCode.RELAY_REFUSED,
        }.get(frozenset(kinds), ResultCode.NO_SUITABLE_METHOD)
    for kind, code in (
        (IdentityMismatch, ResultCode.IDENTITY_MISMATCH),
        (ConnectTimeout, ResultCode.TIMED_OUT),
        (CancelledError, ResultCode.CANCELLED),
    ):
        if isinstance(error, kind):
            return code
    return ResultCode.NO_SUITABLE_METHOD


class MediatorClient:
    """Asks one mediator, from one UDP port.

    :param udp: the port that punches.
    :param stun: makes requests from that port.
    :param mediator: where it is.
    :param limit: seconds for an introduction.
    :param addresses: gives this machine's own IP addresses.
    :param proxies: those that lead to it over TCP.
    :param interface: local IP address to connect from directly, empty for any.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        udp: AnyUDPPort,
        stun: STUNDatagramClient,
        mediator: MediatorAddress,
        *,
        limit: float = LIMIT,
        random_bytes: Callable[[int], bytes] = os.urandom,
        addresses: Callable[[], list[str]] | None = None,
        proxies: Proxies | None = None,
        interface: str = "",
    ) -> None:
        self.ways = MediatorWays(
            reactor, mediator, proxies=proxies, interface=interface, timeout=limit
        )
        self._reactor = reactor
        self._udp = udp
        self._stun = stun
        self._address = mediator
        self._limit = limit
        self._random_bytes = random_bytes
        network = local_network(reactor)
        self._addresses = addresses or (lambda: own_addresses(network))
        self._mediator_udp = MediatorUDP(reactor, mediator)
        self._answered: OrderedDict[uuid.UUID, _Answer] = OrderedDict()
        self._reports = Reports(reactor, limit=_REPORT_LIMIT)

    def request_connection(
        self,
        session_id: uuid.UUID,
        target: PeerName,
        client_name: str = "",
        *,
        grant: bytes | None = None,
        without_udp: bool = False,
    ) -> Deferred[ConnectResponse]:
        """Ask for an introduction; see :func:`request_connection`.

        :param session_id: random, and new for each introduction.
        :param grant: what says that this client may connect.
        :param without_udp: whether no hole is to be punched; the answer has no UDP
            addresses then, and does not wait for the server.
        """
        request = Connect(
            session_id=session_id,
            target=target,
            client_name=_printable(client_name),
            udp_endpoints=() if without_udp else self._local_endpoints(),
            grant=grant,
            without_udp=without_udp or None,
        )
        started = self._reactor.seconds()
        asking = request_connection(
            self._reactor,
            self._udp,
            self._stun,
            self._address,
            request,
            self.ways,
            limit=self._limit,
            random_bytes=self._random_bytes,
            on_channel=lambda channel: self._note_answer(session_id, started, channel),
            addresses=self._mediator_udp,
        )
        return asking

    def _note_answer(
        self, session_id: uuid.UUID, started: float, channel: Channel
    ) -> None:
        self._answered[session_id] = _Answer(self._reactor.seconds() - started, channel)
        while len(self._answered) > _REMEMBERED:
            self._answered.popitem(last=False)

    def tell_nat(
        self,
        session_id: uuid.UUID,
        target: PeerName,
        client_name: str,
        nat: NATSummary,
        grant: bytes | None = None,
    ) -> None:
        """Let the server of a session know how the client's NAT behaves.

        The request is repeated over TCP, which proves this client's address; nobody
        waits for the answer, which is known.

        :param grant: the one of the request before.
        """
        request = Connect(
            session_id=session_id,
            target=target,
            client_name=_printable(client_name),
            udp_endpoints=self._local_endpoints(),
            nat=nat,
            grant=grant,
        )
        message = request.to_stun(self._random_bytes(12))
        telling = ask_over_tcp(self._reactor, self.ways, message)
        telling.addTimeout(self._limit, self._reactor)
        telling.addErrback(self._not_reported, session_id)

    def introduce_quietly(
        self,
        target: PeerName,
        client_name: str,
        grant: bytes | None,
        hole: Hole,
        nat: NATSummary | None,
    ) -> QuietIntroduction:
        """Begin an introduction in which the server is to send first.

        :param hole: punches in place of the usual port.
        :param nat: what is known of this client's NAT.
        """
        request = Connect(
            session_id=uuid.uuid4(),
            target=target,
            client_name=_printable(client_name),
            nat=nat,
            grant=grant,
            server_first=True,
        )
        return QuietIntroduction(
            self._reactor,
            self._mediator_udp,
            self.ways,
            request,
            hole,
            limit=self._limit,
            random_bytes=self._random_bytes,
        )

    def report_result(
        self,
        session_id: uuid.UUID,
        path: str | None,
        failure: Failure | None,
        started: float | None,
        nat: Deferred[NATSummary | None] | None = None,
    ) -> None:
        """Tell the mediator how a connection ended; nobody waits for that.

        It is told over UDP, and where that gets no answer, or is known not to get
        through, over TCP.

        :param path: what it took, where it succeeded.
        :param failure: why it did not.
        :param started: when it began, seconds of the reactor's clock, if that matters.
        :param nat: fires with what is known of this client's NAT.
        """
        answer = self._answered.pop(session_id, None)
        now: float = self._reactor.seconds()
        result = ConnectionResult(
            session_id=session_id,
            result=ResultCode.OK if failure is None else result_code_of(failure),
            path=path,
            response_time=None if answer is None else answer.seconds,
            connect_time=None if started is None else now - started,
        )
        over_udp = answer is None or answer.channel is Channel.UDP
        telling = self._reports.delayed(nat).addCallback(
            lambda nat: self._tell(attrs.evolve(result, nat=nat), over_udp)
        )
        telling.addErrback(self._not_reported, session_id)
        self._reports.add(telling)

    def finish_reports(self) -> Deferred[None]:
        """Fire when all results are told, or after 2 s."""
        return self._reports.finish()

    def _tell(self, result: ConnectionResult, over_udp: bool) -> Deferred[STUNMessage]:
        if not over_udp:
            return self._tell_over_tcp(result)
        telling: Deferred[Any] = self._mediator_udp.resolve_any(self._udp.ports)
        telling.addCallback(self._tell_over_udp, result)
        telling.addErrback(self._udp_failed, result)
        return telling

    def _tell_over_udp(
        self, address: Address, result: ConnectionResult
    ) -> Deferred[STUNMessage]:
        return self._stun.request(
            result.to_stun(self._random_bytes(12)), address, timing=_RESULT_TIMING
        )

    def _udp_failed(
        self, reason: Failure, result: ConnectionResult
    ) -> Deferred[STUNMessage]:
        if reason.check(CancelledError, RequestRefused, ConnectionDone):
            reason.raiseException()
        return self._tell_over_tcp(result)

    def _tell_over_tcp(self, result: ConnectionResult) -> Deferred[STUNMessage]:
        message = result.to_stun(self._random_bytes(12))
        telling = ask_over_tcp(self._reactor, self.ways, message)
        return telling.addTimeout(self._limit, self._reactor)

    def _not_reported(self, reason: Failure, session_id: uuid.UUID) -> None:
        self._log.debug(
            "session {connect_session_id}: the mediator could not be told: {reason}",
            connect_session_id=log_id(session_id),
            reason=reason.getErrorMessage(),
        )

    def _local_endpoints(self) -> tuple[Address, ...]:
        """Return the local addresses of the port that punches, IPv4 first."""
        endpoints: list[Address] = []
        for family, socket in sorted(self._udp.ports.items()):
            host, port = socket.getHost()
            unspecified = ipaddress.ip_address(host).is_unspecified
            hosts = self._addresses() if unspecified else [host]
            own = [Address(host, port) for host in hosts]
            # A socket of one family cannot be reached at addresses of the other.
            endpoints += [address for address in own if address.family == family]
        return tuple(endpoints[: MAX_ENDPOINTS - 1])


def _printable(name: str) -> str:
    """Return as much of a name as can be sent."""
    kept = "".join(character for character in name if character.isprintable())
    return kept.encode()[:_MAX_CLIENT_NAME].decode(errors="ignore")
