"""The first moments of a connection, in which the peer may not be ready for data.

The reference library's client loses what comes within some milliseconds after the
response of a listener, and so does its rendezvous (docs/protocol/udt).
"""

from __future__ import annotations

__all__ = ["Introduction"]

_EPSILON = 1e-6


class Introduction:
    """What an acceptor or a rendezvous sends before its first data.

    :param response: the last handshake of an acceptor, None in a rendezvous.
    :param delay: how long data have to wait, in seconds; 0 for a peer that is ready,
        to which nothing needs to be said.
    :ivar response: the same.
    :ivar data_not_before: when data may leave, in seconds.
    :ivar next_time: when to call :meth:`handle_timer`, or None if all is said.
    """

    __slots__ = ("_half", "data_not_before", "next_time", "response")

    def __init__(self, response: bytes | None, delay: float, now: float) -> None:
        self.response = response
        # [udt:first-data]
        self.data_not_before = now + delay
        self._half = now + delay / 2
        self.next_time: float | None = now + delay / 4 if delay else None

    def handle_timer(self, control: list[bytes], heard: bool, now: float) -> bool:
        """Prepare the peer for data; return whether it is time for a keep-alive.

        :param control: where packets to send are put.
        :param heard: whether anything has come from the peer since the handshake.
        """
        if self.next_time is None or now < self.next_time - _EPSILON:
            return False
        # [udt:response-first] Anything else that reaches a client of the reference
        # library before the response breaks it, and some of these may be lost.
        if self.response is not None and not heard:
            control.append(self.response)
        self.next_time = self._half if now < self._half - _EPSILON else None
        return self.next_time is None
