"""The UDP face of a mediator: Binding, ``connect``, ``connection_ack``, results.

No answer is longer than its request, so that nobody can be flooded by requests with a
forged source address. The exception is Binding, whose answer RFC 8489 fixes: 32 bytes
for a request of 20.
"""

from __future__ import annotations

import ipaddress
from functools import partial
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from dwcloud.mediator.mediator import Mediator
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.mediation.messages import ConnectResponse, error_answer
from dwcloud.protocol.mediation.methods import Method
from dwcloud.protocol.stun.attributes import error_attribute
from dwcloud.protocol.stun.binding import binding_response, is_binding_request
from dwcloud.protocol.stun.message import MessageClass, STUNMessage

__all__ = ["MediatorDatagrams"]


class MediatorDatagrams(DatagramProtocol):
    """One UDP socket of the mediator."""

    noisy = False
    _log = Logger()

    def __init__(self, mediator: Mediator) -> None:
        self._mediator = mediator

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Answer a request; anything else is ignored (called by Twisted)."""
        statistics = self._mediator.statistics
        try:
            message = STUNMessage.decode(datagram)
        except RemoteProtocolError:
            statistics.datagrams_ignored += 1
            return
        statistics.datagrams_received += 1
        if is_binding_request(message):
            statistics.bindings += 1
            self._send(
                binding_response(message, addr[:2]).encode(
                    fingerprint=message.has_fingerprint
                ),
                addr,
            )
        elif message.message_class is MessageClass.REQUEST:
            self._request_received(message, addr)

    def _request_received(self, request: STUNMessage, addr: Any) -> None:
        source = _unmapped(addr)
        try:
            if request.method == Method.CONNECT:
                self._mediator.receive_connect(
                    request,
                    source,
                    observed=True,
                    reply=partial(self._introduce, request, addr),
                )
            elif request.method == Method.CONNECTION_ACK:
                answer, key = self._mediator.receive_ack(request, source)
                self._answer(request, addr, answer.encode(integrity_key=key))
            elif request.method == Method.CONNECTION_RESULT:
                answer = self._mediator.receive_result(request)
                self._answer(request, addr, answer.encode())
            else:
                raise RemoteProtocolError("not a method for UDP", 400)
        except RemoteProtocolError as error:
            self._log.debug(
                "request 0x{method:03X} of {source} refused: {reason}",
                method=request.method,
                source=str(source),
                reason=str(error),
            )
            answer = error_answer(request, error)
            if len(answer.encode()) > len(request.raw):
                answer = request.error([error_attribute(error.code or 400, "")])
            self._answer(request, addr, answer.encode())

    def _introduce(
        self, request: STUNMessage, addr: Any, response: ConnectResponse
    ) -> None:
        try:
            answer = response.fitted(request.transaction_id, len(request.raw))
        except LocalProtocolError:
            self._mediator.statistics.answers_withheld += 1
            return
        self._answer(request, addr, answer.encode())

    def _answer(self, request: STUNMessage, addr: Any, encoded: bytes) -> None:
        if len(encoded) > len(request.raw):
            self._mediator.statistics.answers_withheld += 1
            return
        self._send(encoded, addr)

    def _send(self, encoded: bytes, addr: Any) -> None:
        if self.transport is None:
            return
        try:
            self.transport.write(encoded, addr)
        except OSError as error:
            # As good as lost on the way: the client repeats its request.
            self._mediator.statistics.send_failures += 1
            self._log.debug(
                "sending to {address} failed: {reason}",
                address=str(addr),
                reason=str(error),
            )


def _unmapped(addr: Any) -> Address:
    """Return the source of a datagram, IPv4 as such also from a dual-stack socket."""
    ip = ipaddress.ip_address(addr[0])
    if ip.version == 6 and ip.ipv4_mapped is not None:
        return Address(str(ip.ipv4_mapped), addr[1])
    return Address(addr[0], addr[1])
