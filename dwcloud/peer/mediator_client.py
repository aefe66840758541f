"""A client's questions to its mediator: introduce me, and this is how it went."""

from __future__ import annotations

import ipaddress
import os
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.errors import AllAttemptsFailed, ConnectTimeout, IdentityMismatch
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.introduction import LIMIT, request_connection
from dwcloud.peer.local_addresses import local_addresses
from dwcloud.peer.mediator_resolution import resolve_for_port
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.attributes import MAX_ENDPOINTS
from dwcloud.protocol.mediation.messages import (
    Connect,
    ConnectionResult,
    ConnectResponse,
)
from dwcloud.protocol.mediation.result_codes import ResultCode
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.stun.message import STUNMessage
from dwcloud.protocol.stun.transaction import Timing

__all__ = ["MediatorClient", "request_connection", "result_code_of"]

_REMEMBERED = 256
_MAX_CLIENT_NAME = 128
_RESULT_TIMING = Timing(tries=3, initial_interval=0.5, last_wait=1.0)


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
    :param host: the mediator's name or address.
    :param mediator_port: its TCP and UDP port.
    :param limit: seconds for an introduction.
    :param addresses: gives this machine's own IP addresses.
    :param endpoint: leads to the mediator over TCP; direct by default.
    :param interface: local IP address to connect from directly, empty for any.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        udp: SharedUDPPort,
        stun: STUNDatagramClient,
        host: str,
        mediator_port: int,
        *,
        limit: float = LIMIT,
        random_bytes: Callable[[int], bytes] = os.urandom,
        addresses: Callable[[], list[str]] = local_addresses,
        endpoint: IStreamClientEndpoint | None = None,
        interface: str = "",
    ) -> None:
        self._endpoint = endpoint
        self._interface = interface
        self._reactor = reactor
        self._udp = udp
        self._stun = stun
        self._host = host
        self._port = mediator_port
        self._limit = limit
        self._random_bytes = random_bytes
        self._addresses = addresses
        self._response_times: OrderedDict[uuid.UUID, float] = OrderedDict()

    def request_connection(
        self, session_id: uuid.UUID, target: PeerName, client_name: str = ""
    ) -> Deferred[ConnectResponse]:
        """Ask for an introduction; see :func:`request_connection`.

        :param session_id: random, and new for each introduction.
        """
        request = Connect(
            session_id=session_id,
            target=target,
            client_name=_printable(client_name),
            udp_endpoints=self._local_endpoints(),
        )
        started = self._reactor.seconds()
        asking = request_connection(
            self._reactor,
            self._udp,
            self._stun,
            self._host,
            self._port,
            request,
            limit=self._limit,
            endpoint=self._endpoint,
            interface=self._interface,
            random_bytes=self._random_bytes,
        )

        def answered(response: ConnectResponse) -> ConnectResponse:
            self._response_times[session_id] = self._reactor.seconds() - started
            while len(self._response_times) > _REMEMBERED:
                self._response_times.popitem(last=False)
            return response

        return asking.addCallback(answered)

    def report_result(
        self,
        session_id: uuid.UUID,
        path: str | None,
        failure: Failure | None,
        started: float,
    ) -> None:
        """Tell the mediator how a connection ended; nobody waits for that.

        :param path: what it took, where it succeeded.
        :param failure: why it did not.
        :param started: when it began, seconds of the reactor's clock.
        """
        result = ConnectionResult(
            session_id=session_id,
            result=ResultCode.OK if failure is None else result_code_of(failure),
            path=path,
            response_time=self._response_times.pop(session_id, None),
            connect_time=self._reactor.seconds() - started,
        )
        resolving = resolve_for_port(self._reactor, self._host, self._port, self._udp)
        resolving.addCallback(self._send_result, result)
        resolving.addErrback(self._not_reported, session_id)

    def _send_result(
        self, address: Address, result: ConnectionResult
    ) -> Deferred[STUNMessage]:
        return self._stun.request(
            result.to_stun(self._random_bytes(12)), address, timing=_RESULT_TIMING
        )

    def _not_reported(self, reason: Failure, session_id: uuid.UUID) -> None:
        self._log.debug(
            "session {session}: the result could not be reported: {reason}",
            session=str(session_id),
            reason=reason.getErrorMessage(),
        )

    def _local_endpoints(self) -> tuple[Address, ...]:
        """Return the local addresses of the port that punches."""
        host, port = self._udp.getHost()
        ip = ipaddress.ip_address(host)
        hosts = self._addresses() if ip.is_unspecified else [host]
        endpoints = [Address(host, port) for host in hosts]
        # A socket of one family cannot be reached at addresses of the other.
        fitting = [a for a in endpoints if a.family == ip.version]
        return tuple(fitting[: MAX_ENDPOINTS - 1])


def _printable(name: str) -> str:
    """Return as much of a name as can be sent."""
    kept = "".join(character for character in name if character.isprintable())
    return kept.encode()[:_MAX_CLIENT_NAME].decode(errors="ignore")
