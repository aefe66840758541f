"""The UDP face of a mediator: Binding, ``connect``, ``connection_ack``, results.

No answer is longer than its request, so that nobody can be flooded by requests with a
forged source address. The exception is Binding, whose answer RFC 8489 fixes: 32 bytes
for a request of 20, and 56 where NAT behaviour can be discovered (RFC 5780).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from dwcloud.mediator.mediator import Mediator
from dwcloud.protocol.addresses import Address, unmapped
from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.mediation.messages import ConnectResponse, error_answer
from dwcloud.protocol.mediation.methods import Method
from dwcloud.protocol.stun.attributes import error_attribute
from dwcloud.protocol.stun.behaviour import BehaviourServer
from dwcloud.protocol.stun.binding import binding_response, is_binding_request
from dwcloud.protocol.stun.message import MessageClass, STUNMessage

__all__ = ["MediatorDatagrams"]


class MediatorDatagrams(DatagramProtocol):
    """One UDP socket of the mediator.

    :param discovery: where it is one of four for the discovery of NAT behaviour.
    :param own: the socket's address, then.
    :ivar siblings: all four of them, by address.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        mediator: Mediator,
        discovery: BehaviourServer | None = None,
        own: Address | None = None,
    ) -> None:
        self._mediator = mediator
        self._discovery = discovery
        self._own = own
        self.siblings: dict[Address, MediatorDatagrams] = {}

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
            self._binding_received(message, addr)
        elif message.message_class is MessageClass.REQUEST:
            self._request_received(message, addr)

    def _binding_received(self, request: STUNMessage, addr: Any) -> None:
        sender = self
        if self._discovery is None or self._own is None:
            response = binding_response(request, addr[:2])
        else:
            source = addr[:2]
            response, origin = self._discovery.answer(request, source, self._own)
            sender = self.siblings[origin]
        sender.send(response.encode(fingerprint=request.has_fingerprint), addr)

    def _request_received(self, request: STUNMessage, addr: Any) -> None:
        source = unmapped(addr[:2])
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
        self.send(encoded, addr)

    def send(self, encoded: bytes, addr: Any) -> None:
        """Send a datagram from this socket."""
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
