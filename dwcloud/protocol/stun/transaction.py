"""Requests that wait for their answers (RFC 8489, 6.2 and 6.3), as a client.

One :class:`ClientTransactions` holds all transactions of a socket or a connection.
Over UDP it repeats a request with doubling intervals; over a stream it only waits.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from enum import Enum

import attrs

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.deadlines import Deadlines
from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.stun.attributes import AttributeType, decode_error_code
from dwcloud.protocol.stun.message import MessageClass, STUNMessage

__all__ = [
    "DATAGRAM_TIMING",
    "STREAM_TIMING",
    "ClientTransactions",
    "FailureReason",
    "Timing",
    "TransactionAnswered",
    "TransactionEvent",
    "TransactionFailed",
]

MAX_PENDING = 1000
"""Transactions that one object holds at most, unless told otherwise."""

_UNSIGNED_ERRORS = frozenset({400, 401, 438})
"""Errors of a server that could not check the request's integrity and hence could
not sign its answer (RFC 8489, 9.1.3 and 9.2.4)."""


@attrs.frozen
class Timing:
    """How often and how long to ask (RFC 8489, 6.2.1 and 6.2.2).

    :ivar tries: transmissions in all (Rc).
    :ivar initial_interval: seconds between the first two (RTO); each further
        interval is twice the one before.
    :ivar last_wait: seconds to wait after the last transmission (Rm x RTO).
    """

    tries: int
    initial_interval: float
    last_wait: float

    @property
    def total(self) -> float:
        """Seconds until a transaction fails."""
        return self.initial_interval * ((1 << self.tries - 1) - 1) + self.last_wait


DATAGRAM_TIMING = Timing(tries=7, initial_interval=0.5, last_wait=8.0)
"""Over UDP: at 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s; failure at 39.5 s."""

STREAM_TIMING = Timing(tries=1, initial_interval=0.5, last_wait=39.5)
"""Over TCP: sent once; failure after Ti = 39.5 s."""


class FailureReason(Enum):
    """Why a transaction ended without an answer."""

    TIMED_OUT = "no answer"
    INTEGRITY = "no answer with the right message integrity"
    UNKNOWN_ATTRIBUTES = "an answer that cannot be understood"


@attrs.frozen
class TransactionAnswered:
    """The answer came, success or error; its integrity is verified if there is a key.

    :ivar message: the answer; its transaction id tells to what.
    """

    message: STUNMessage


@attrs.frozen
class TransactionFailed:
    """No answer came that can be used."""

    transaction_id: bytes
    reason: FailureReason


TransactionEvent = TransactionAnswered | TransactionFailed


@attrs.define
class _Transaction:
    request: STUNMessage
    datagram: bytes
    address: Address
    timing: Timing
    key: bytes | None
    any_source: bool
    interval: float
    sent: int = 0
    integrity_failed: bool = False


class ClientTransactions:
    """Pending requests, matched to their answers by transaction id and method.

    :param capacity: pending transactions at most.
    :param known_attributes: comprehension-required attributes that the caller
        understands; an answer with others fails its transaction (RFC 8489, 6.3.3).
        None leaves that to the caller.
    """

    def __init__(
        self,
        *,
        capacity: int = MAX_PENDING,
        known_attributes: frozenset[int] | None = None,
    ) -> None:
        self._capacity = capacity
        self._known_attributes = known_attributes
        self._pending: dict[bytes, _Transaction] = {}
        self._deadlines: Deadlines[bytes] = Deadlines()
        self._outbox: list[tuple[bytes, Address]] = []
        self._events: deque[TransactionEvent] = deque()

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, transaction_id: bytes) -> bool:
        return transaction_id in self._pending

    def start(
        self,
        request: STUNMessage,
        address: tuple[str, int],
        *,
        now: float,
        timing: Timing = DATAGRAM_TIMING,
        datagram: bytes | None = None,
        integrity_key: bytes | None = None,
        any_source: bool = False,
    ) -> None:
        """Send a request and wait for its answer.

        :param datagram: the request's encoding; by default made here, with
            MESSAGE-INTEGRITY-SHA256 if there is an ``integrity_key``.
        :param integrity_key: the key that the answer, too, must be protected with;
            answers which are not are taken for forgeries and ignored. Only the
            errors 400, 401 and 438 may come without.
        :param any_source: take the answer from anywhere, not only from ``address``
            (for RFC 5780, where the server is asked to answer from elsewhere).
        :raises LocalProtocolError: if it is no request, its transaction id is in
            use, or too many are pending.
        """
        transaction_id = request.transaction_id
        if request.message_class is not MessageClass.REQUEST:
            raise LocalProtocolError("only a request has an answer")
        if transaction_id in self._pending:
            raise LocalProtocolError("the transaction id is in use")
        if len(self._pending) >= self._capacity:
            raise LocalProtocolError(f"{self._capacity} requests are pending already")
        if datagram is None:
            datagram = request.encode(integrity_key=integrity_key)
        transaction = _Transaction(
            request,
            datagram,
            _canonical(address),
            timing,
            integrity_key,
            any_source,
            timing.initial_interval,
        )
        self._pending[transaction_id] = transaction
        self._transmit(transaction, now)

    def cancel(self, transaction_id: bytes) -> None:
        """Forget a transaction, without an event; it need not be pending."""
        self._pending.pop(transaction_id, None)
        self._deadlines.cancel(transaction_id)

    def receive_datagram(
        self, data: bytes, address: tuple[str, int], *, now: float
    ) -> bool:
        """Take a datagram; see :meth:`receive_message`. Garbage is ignored."""
        # A cheap look first: most of what a busy port gets are not our answers.
        if data[8:20] not in self._pending:
            return False
        try:
            message = STUNMessage.decode(data)
        except RemoteProtocolError:
            return False
        return self.receive_message(message, address, now=now)

    def receive_message(
        self, message: STUNMessage, address: tuple[str, int], *, now: float
    ) -> bool:
        """Take an answer.

        :return: True if it belonged to a pending transaction.
        """
        transaction = self._pending.get(message.transaction_id)
        if (
            transaction is None
            or message.message_class not in (MessageClass.SUCCESS, MessageClass.ERROR)
            or message.method != transaction.request.method
            or not (transaction.any_source or transaction.address == address)
        ):
            return False
        if not _is_authentic(message, transaction.key):
            # As if it had never come: the genuine one may still do.
            transaction.integrity_failed = True
            return True
        self.cancel(message.transaction_id)
        if self._is_understood(message):
            self._events.append(TransactionAnswered(message))
        else:
            self._events.append(
                TransactionFailed(
                    message.transaction_id, FailureReason.UNKNOWN_ATTRIBUTES
                )
            )
        return True

    def handle_timer(self, *, now: float) -> None:
        """Repeat or give up what is due."""
        for transaction_id in self._deadlines.pop_due(now):
            transaction = self._pending[transaction_id]
            if transaction.sent < transaction.timing.tries:
                self._transmit(transaction, now)
                continue
            del self._pending[transaction_id]
            reason = FailureReason.TIMED_OUT
            if transaction.integrity_failed:
                reason = FailureReason.INTEGRITY
            self._events.append(TransactionFailed(transaction_id, reason))

    def datagrams_to_send(self) -> list[tuple[bytes, Address]]:
        """Return the encoded requests that are to be sent now, and where to."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def next_event(self) -> TransactionEvent | None:
        """Return what happened next, or None."""
        return self._events.popleft() if self._events else None

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` is wanted, absolute seconds, or None."""
        return self._deadlines.next()

    def _transmit(self, transaction: _Transaction, now: float) -> None:
        self._outbox.append((transaction.datagram, transaction.address))
        transaction.sent += 1
        wait = transaction.interval
        if transaction.sent == transaction.timing.tries:
            wait = transaction.timing.last_wait
        transaction.interval *= 2
        self._deadlines.set(transaction.request.transaction_id, now + wait)

    def _is_understood(self, message: STUNMessage) -> bool:
        if self._known_attributes is None:
            return True
        return not message.unknown_attributes(self._known_attributes)


def _canonical(address: tuple[str, int]) -> Address:
    """Return an address in the form that a socket reports: IPv6 has many."""
    host, port = address
    if ":" in host:
        try:
            host = str(ipaddress.ip_address(host))
        except ValueError as error:
            raise LocalProtocolError(f"{host} is not an IP address") from error
    return Address(host, port)


def _is_authentic(message: STUNMessage, key: bytes | None) -> bool:
    if key is None or message.verify_integrity(key):
        return True
    if message.message_class is not MessageClass.ERROR or message.has_integrity:
        return False
    try:
        value = message.require(AttributeType.ERROR_CODE)
        return decode_error_code(value).code in _UNSIGNED_ERRORS
    except RemoteProtocolError:
        return False
