"""Flows that share a :class:`~dwcloud.testing.bottleneck.Bottleneck`.

Real UDT connections, and models of TCP. All have more to send than the path can carry.
"""

from __future__ import annotations

import random
from collections import deque

from dwcloud.protocol.udt import (
    Configuration,
    Connection,
    DataAvailable,
    IncomingConnection,
    Multiplexer,
)
from dwcloud.testing.bottleneck import Bottleneck, Link

__all__ = ["TCPModel", "UDTFlow"]

_CHUNK = bytes(1 << 18)
_SEGMENT = 1448
_SEGMENT_WIRE = 1500
_DUPLICATES = 3


class _End:
    """One UDT port and its timer."""

    def __init__(
        self, path: Bottleneck, link: Link, number: int, configuration: Configuration
    ) -> None:
        self.path = path
        self.link = link
        self.address = ("192.0.2.1", number)
        self.multiplexer = Multiplexer(
            configuration=configuration,
            random_bytes=random.Random(number).randbytes,
            now=path.now,
        )
        self.peer: _End | None = None
        self.source: Connection | None = None
        self.received = 0
        self._timer_at: float | None = None

    def arrived(self, data: bytes, segment_size: int | None) -> None:
        """Take datagrams of the other end."""
        assert self.peer is not None
        self.multiplexer.receive_datagrams(
            data, segment_size, self.peer.address, now=self.path.now
        )
        self.turn()

    def turn(self) -> None:
        """Do what an adapter does in each turn of its reactor."""
        path, multiplexer = self.path, self.multiplexer
        assert self.peer is not None
        while (event := multiplexer.next_event()) is not None:
            if isinstance(event, DataAvailable | IncomingConnection):
                self.received += len(event.connection.read())
        source = self.source
        if source is not None:
            while source.send_buffer_bytes < source.send_buffer_limit:
                source.write(_CHUNK, now=path.now)
        for transmit in multiplexer.datagrams_to_send(now=path.now):
            path.carry(
                self.link,
                bytes(transmit.payload),
                transmit.segment_size,
                self.peer.arrived,
            )
        at = multiplexer.next_timer()
        if at is not None and (self._timer_at is None or at < self._timer_at):
            self._timer_at = at
            path.call_at(at, lambda: self._timer_fired(at))

    def _timer_fired(self, at: float) -> None:
        if self._timer_at == at:
            self._timer_at = None
            self.multiplexer.handle_timer(now=self.path.now)
            self.turn()


class UDTFlow:
    """A connection that sends as fast as its controller lets it.

    :param settings: fields of :class:`~dwcloud.protocol.udt.Configuration`.
    """

    def __init__(self, path: Bottleneck, number: int, **settings: object) -> None:
        configuration = Configuration(**settings)  # type: ignore[arg-type]
        self._client = _End(path, path.there, 2 * number, configuration)
        self._server = _End(path, path.back, 2 * number + 1, configuration)
        self._client.peer, self._server.peer = self._server, self._client
        self._server.multiplexer.listen()
        self.connection = self._client.multiplexer.connect(
            self._server.address, now=path.now
        )
        self._client.source = self.connection
        self._client.turn()

    @property
    def delivered(self) -> int:
        """Bytes that the receiving program has got."""
        return self._server.received


class TCPModel:
    """A TCP sender with selective acknowledgements, Reno or CUBIC.

    Knows at once what was lost (three later packets have arrived), never times out
    unless all is lost, and is not paced: a model of how TCP shares, not of TCP.
    """

    def __init__(self, path: Bottleneck, *, cubic: bool = True) -> None:
        self.delivered = 0
        self._path = path
        self._cubic = cubic
        self._window = 10.0
        self._threshold = float("inf")
        self._next = 0
        self._outstanding: deque[int] = deque()
        self._recover = -1
        self._maximum = 0.0
        self._epoch: float | None = None
        self._heard_at = path.now
        self._sent_at: dict[int, float] = {}
        self._send()
        self._watch()

    def _send(self) -> None:
        path = self._path
        while len(self._outstanding) < int(self._window):
            number, self._next = self._next, self._next + 1
            self._outstanding.append(number)
            self._sent_at[number] = path.now
            departs = path.there.departure(_SEGMENT_WIRE, path.now)
            if departs is not None:
                # An ACK lost is made good by the next one.
                at = departs + path.there.delay + path.back.delay
                path.call_at(at, lambda n=number: self._acknowledged(n))  # type: ignore[misc]

    def _acknowledged(self, number: int) -> None:
        outstanding = self._outstanding
        self._heard_at = self._path.now
        if number not in self._sent_at:
            return
        round_trip = self._path.now - self._sent_at.pop(number)
        self.delivered += _SEGMENT
        outstanding.remove(number)
        if self._window < self._threshold:
            self._window += 1
        else:
            self._grow(round_trip)
        while outstanding and outstanding[0] < number - _DUPLICATES:
            lost = outstanding.popleft()
            del self._sent_at[lost]
            if lost > self._recover:
                self._reduce()
        self._send()

    def _grow(self, round_trip: float) -> None:
        if not self._cubic:
            self._window += 1 / self._window
            return
        now = self._path.now
        if self._epoch is None:
            self._epoch = now
        # RFC 9438: C = 0.4, beta = 0.7, and never slower than Reno.
        cubic_root = (max(0.0, self._maximum * 0.3) / 0.4) ** (1 / 3)
        elapsed = now - self._epoch
        target = 0.4 * (elapsed + round_trip - cubic_root) ** 3 + self._maximum
        reno = self._maximum * 0.7 + 0.53 * elapsed / round_trip
        target = min(max(target, reno), 1.5 * self._window)
        if target > self._window:
            self._window += (target - self._window) / self._window
        else:
            self._window += 0.01 / self._window

    def _reduce(self) -> None:
        self._recover = self._next - 1
        self._maximum = self._window
        self._epoch = None
        self._window = max(2.0, self._window * (0.7 if self._cubic else 0.5))
        self._threshold = self._window

    def _watch(self) -> None:
        """Start again when nothing was heard for a second."""
        if self._path.now - self._heard_at >= 1.0:
            self._outstanding.clear()
            self._sent_at.clear()
            self._window, self._threshold = 1.0, max(2.0, self._window / 2)
            self._heard_at = self._path.now
            self._send()
        self._path.call_at(self._path.now + 0.2, self._watch)
