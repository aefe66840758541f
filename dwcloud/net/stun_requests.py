"""STUN requests as Deferreds, for datagrams and for streams alike."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from dwcloud.errors import CloudError, RequestRefused, RequestTimeout
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.stun.attributes import AttributeType, decode_error_code
from dwcloud.protocol.stun.message import MessageClass, STUNMessage
from dwcloud.protocol.stun.transaction import (
    MAX_PENDING,
    ClientTransactions,
    FailureReason,
    Timing,
    TransactionAnswered,
)

__all__ = ["PendingRequests"]


class PendingRequests:
    """Drives a :class:`ClientTransactions`: sends, one timer, one Deferred a request.

    :param send: puts encoded requests on their way, to the address given.
    :param capacity: requests that may be pending at a time.
    :param known_attributes: see :class:`ClientTransactions`.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        send: Callable[[bytes, Address], None],
        *,
        capacity: int = MAX_PENDING,
        known_attributes: frozenset[int] | None = None,
    ) -> None:
        self._reactor = reactor
        self._send = send
        self._transactions = ClientTransactions(
            capacity=capacity, known_attributes=known_attributes
        )
        self._waiting: dict[bytes, tuple[Deferred[STUNMessage], Address, Timing]] = {}
        self._timer: IDelayedCall | None = None
        self._stopped: Failure | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def request(
        self,
        message: STUNMessage,
        address: tuple[str, int],
        *,
        timing: Timing,
        encoded: bytes | None = None,
        integrity_key: bytes | None = None,
        any_source: bool = False,
    ) -> Deferred[STUNMessage]:
        """Send a request.

        Cancelling the Deferred ends the retransmissions. The parameters are those of
        :meth:`ClientTransactions.start`.

        :return: fires with the success answer; fails with :exc:`RequestRefused`,
            :exc:`RequestTimeout`, :exc:`LocalProtocolError` if the request cannot be
            made, or with the reason given to :meth:`stop`.
        """
        if self._stopped is not None:
            return fail(self._stopped)
        try:
            self._transactions.start(
                message,
                address,
                now=self._reactor.seconds(),
                timing=timing,
                datagram=encoded,
                integrity_key=integrity_key,
                any_source=any_source,
            )
        except LocalProtocolError:
            return fail(Failure())

        def cancel(_: Deferred[STUNMessage]) -> None:
            self._waiting.pop(message.transaction_id, None)
            self._transactions.cancel(message.transaction_id)
            self._rearm()

        deferred: Deferred[STUNMessage] = Deferred(cancel)
        self._waiting[message.transaction_id] = deferred, Address(*address), timing
        self._pump()
        return deferred

    def receive_datagram(self, data: bytes, address: tuple[str, int]) -> bool:
        """Take a datagram; tell whether it belonged to a request of ours."""
        now = self._reactor.seconds()
        taken = self._transactions.receive_datagram(data, address, now=now)
        if taken:
            self._pump()
        return taken

    def receive_message(self, message: STUNMessage, address: tuple[str, int]) -> bool:
        """Take a decoded answer; tell whether it belonged to a request of ours."""
        now = self._reactor.seconds()
        taken = self._transactions.receive_message(message, address, now=now)
        if taken:
            self._pump()
        return taken

    def stop(self, reason: Failure) -> None:
        """Fail all pending requests, and all to come, with ``reason``."""
        self._stopped = reason
        waiting, self._waiting = self._waiting, {}
        for transaction_id in waiting:
            self._transactions.cancel(transaction_id)
        self._rearm()
        for deferred, _, _ in waiting.values():
            deferred.errback(reason)

    def _pump(self) -> None:
        for data, address in self._transactions.datagrams_to_send():
            self._send(data, address)
        # A callback may make further requests, and so come here again.
        while (event := self._transactions.next_event()) is not None:
            if isinstance(event, TransactionAnswered):
                self._answer(event.message)
            else:
                self._fail(event.transaction_id, event.reason)
        self._rearm()

    def _answer(self, message: STUNMessage) -> None:
        deferred, address, _ = self._waiting.pop(message.transaction_id)
        if message.message_class is MessageClass.SUCCESS:
            deferred.callback(message)
        else:
            deferred.errback(_refusal(message, address))

    def _fail(self, transaction_id: bytes, reason: FailureReason) -> None:
        deferred, address, timing = self._waiting.pop(transaction_id)
        error: CloudError
        if reason is FailureReason.UNKNOWN_ATTRIBUTES:
            error = RequestRefused(f"{address} gave {reason.value}", 420)
        else:
            error = RequestTimeout(
                f"{reason.value} from {address} within {timing.total:g} seconds"
            )
        deferred.errback(error)

    def _rearm(self) -> None:
        at = self._transactions.next_timer()
        timer = self._timer
        if timer is not None and (at is None or timer.getTime() != at):
            timer.cancel()
            self._timer = timer = None
        if at is not None and timer is None:
            delay = max(0.0, at - self._reactor.seconds())
            self._timer = self._reactor.callLater(delay, self._timed_out)

    def _timed_out(self) -> None:
        self._timer = None
        self._transactions.handle_timer(now=self._reactor.seconds())
        self._pump()


def _refusal(message: STUNMessage, address: Address) -> RequestRefused:
    """Return the exception for an error answer."""
    try:
        code, reason = decode_error_code(message.require(AttributeType.ERROR_CODE))
    except RemoteProtocolError:
        code, reason = 500, "an error without a code"
    text = f"{address} refused the request: {code} {reason}".rstrip()
    return RequestRefused(text, code, message)
