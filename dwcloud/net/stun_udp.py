"""STUN requests over UDP, from a socket that other protocols may share."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.net.stun_requests import PendingRequests
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.stun.message import STUNMessage
from dwcloud.protocol.stun.transaction import DATAGRAM_TIMING, MAX_PENDING, Timing

__all__ = ["STUNDatagramClient"]


class STUNDatagramClient:
    """Makes STUN requests through a ``send`` callable and matches their answers.

    The owner of the socket hands over what arrives by :meth:`datagramReceived`.

    :param send: sends one datagram to an address. An :exc:`OSError` of it counts as
        the loss of that datagram.
    :param capacity: requests that may be pending at a time.
    :param known_attributes: comprehension-required attributes that the caller
        understands; an answer with others fails. None leaves the check to the caller.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        send: Callable[[bytes, Address], object],
        *,
        capacity: int = MAX_PENDING,
        known_attributes: frozenset[int] | None = None,
    ) -> None:
        self._send = send
        self._pending = PendingRequests(
            reactor,
            self._transmit,
            capacity=capacity,
            known_attributes=known_attributes,
        )

    def request(
        self,
        message: STUNMessage,
        address: tuple[str, int],
        *,
        integrity_key: bytes | None = None,
        fingerprint: bool = False,
        timing: Timing = DATAGRAM_TIMING,
        any_source: bool = False,
    ) -> Deferred[STUNMessage]:
        """Send a request, and again until the answer comes.

        :param integrity_key: protects the request, and must protect the answer.
        :param fingerprint: adds FINGERPRINT.
        :param timing: when to repeat and when to give up.
        :param any_source: accept the answer from another address, too.
        :return: fires with the success answer; fails with
            :exc:`~dwcloud.errors.RequestRefused` (which has the error answer) or
            :exc:`~dwcloud.errors.RequestTimeout`. Cancelling it stops the repetitions.
        """
        try:
            encoded = message.encode(
                integrity_key=integrity_key, fingerprint=fingerprint
            )
        except LocalProtocolError:
            return fail(Failure())
        return self._pending.request(
            message,
            address,
            timing=timing,
            encoded=encoded,
            integrity_key=integrity_key,
            any_source=any_source,
        )

    def datagramReceived(self, data: bytes, address: tuple[str, int]) -> bool:
        """Take a datagram from the socket.

        :return: True if it belonged to a pending request; anything else is ignored.
        """
        return self._pending.receive_datagram(data, address)

    def stop(self, reason: Failure | None = None) -> None:
        """Fail what is pending, with ``ConnectionDone`` unless told otherwise."""
        self._pending.stop(reason or Failure(ConnectionDone()))

    def _transmit(self, data: bytes, address: Address) -> None:
        try:
            self._send(data, address)
        except OSError as error:
            # As good as lost on the way: the repetition will do.
            self._log.debug(
                "sending to {address} failed: {error}",
                address=str(address),
                error=error,
            )
