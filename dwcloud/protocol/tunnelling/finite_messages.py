"""The method ``finite_messages``: short POSTs up, long-polled GETs down.

Every request and every answer is bounded and carries a
:class:`~dwcloud.protocol.tunnelling.byte_stream.Message`. Any of them may be lost,
repeated or cut; what a failed POST carried is sent again, and the GET after a failed
one asks for everything again that has not come.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import attrs

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.tunnelling.byte_stream import Flags, Message, Receiver, Sender

__all__ = [
    "HOLD",
    "LARGEST_BODY",
    "MessageClient",
    "MessageServer",
    "PlannedRequest",
]

HOLD = 20.0
"""Seconds that a GET waits for data at the server; less where a proxy cuts it."""

LARGEST_BODY = 60 * 1024
"""Bytes of data in one request or answer."""

_LINGER = 10.0
_NOTHING = Flags(0)
_ROUNDING = 1e-6  # seconds by which a clock may be early
_LEAST_BODY = 1024
_FIRST_BODY = 16 * 1024
_MOST_IN_FLIGHT = 6
_ONE_MORE_PER = 0.02  # seconds of round trip for which one more request is in flight
_UP_LIMIT = 15.0  # seconds for a POST
_DOWN_GRACE = 10.0  # seconds for a GET beyond its hold
_GIVE_UP = 30.0  # seconds of failures only
_LONGEST_PAUSE = 2.0
_SILENCE = 60.0  # seconds without a request after which the server forgets a tunnel
_REMEMBERED = 64  # answers that can be repeated


@attrs.frozen
class PlannedRequest:
    """A request to make now.

    :ivar number: unique in its tunnel, so that no cache knows its URL.
    :ivar is_post: else a GET.
    :ivar body: the message, in the URL of a GET.
    :ivar hold: seconds that the server may keep a GET.
    """

    number: int
    is_post: bool
    body: bytes
    hold: float = 0.0


@attrs.define
class _InFlight:
    is_post: bool
    started: float
    deadline: float
    offset: int = 0
    until: int = 0
    told_end: bool = False


class MessageClient:
    """The client's end of a tunnel.

    :ivar sender: what goes up; write to it.
    :ivar receiver: what came down; read from it.
    :ivar lost: why the tunnel is broken; empty while it is not.
    """

    linger = _LINGER
    """Seconds that the far end has to end its direction after we closed."""

    def __init__(self) -> None:
        self.sender = Sender()
        self.receiver = Receiver()
        self.lost = ""
        self._number = 0
        self._in_flight: dict[int, _InFlight] = {}
        self._again: list[tuple[int, int]] = []
        self._body = _FIRST_BODY
        self._ceiling = LARGEST_BODY
        self._most_up = 1
        self._most_down = 1
        self._hold = HOLD
        self._round_trip = math.inf
        self._told_limit = 0
        self._rewind = False
        self._reset = False
        self._parted = False
        self._failures = 0
        self._failing_since: float | None = None
        self._not_before = 0.0

    @property
    def closed(self) -> bool:
        """Whether both directions have ended and nothing is left to do."""
        return self.receiver.ended and self.sender.end_acknowledged

    def abort(self) -> None:
        """Break the tunnel off; the next request tells the server."""
        self._reset = True

    def requests(self, *, now: float) -> list[PlannedRequest]:
        """What to request now."""
        planned: list[PlannedRequest] = []
        if self.lost or (self.closed and self._parted):
            return planned
        if now < self._not_before - _ROUNDING:
            return planned
        self._not_before = 0.0
        if self._reset:
            self.lost = "the tunnel was broken off here"
            return [self._post(now, self.sender.sent, self.sender.sent, Flags.RESET)]
        if self.closed:
            # The server is to learn that we have its end.
            if not self._count(True):
                at = self.sender.sent
                planned.append(self._post(now, at, at))
            return planned
        while self._count(True) < self._most_up:
            if self._again:
                offset, until = self._again.pop()
                if offset != until <= self.sender.acknowledged:
                    continue  # another request has brought it there
                first = max(offset, self.sender.acknowledged)
                if until - first > self._body:
                    self._again.append((first + self._body, until))
                    until = first + self._body
                planned.append(self._post(now, first, until))
            elif self.sender.sendable:
                offset, data, _ = self.sender.take(self._body)
                planned.append(self._post(now, offset, offset + len(data)))
            elif self.receiver.limit - self._told_limit >= LARGEST_BODY * 4 and (
                self._told_limit
            ):
                # The server may wait for room while it holds our GETs.
                at = self.sender.sent
                planned.append(self._post(now, at, at))
            else:
                break
        while self._count(False) < self._most_down:
            planned.append(self._get(now))
        return planned

    def _count(self, is_post: bool) -> int:
        return sum(r.is_post is is_post for r in self._in_flight.values())

    def _message(self, offset: int, data: bytes, flags: Flags) -> bytes:
        self._told_limit = self.receiver.limit
        wanted = self.receiver.wanted
        return Message(wanted, self._told_limit, offset, data, flags).encode()

    def _post(
        self, now: float, offset: int, until: int, flags: Flags = _NOTHING
    ) -> PlannedRequest:
        self._number += 1
        data, end = self.sender.again(offset, until)
        if end:
            flags |= Flags.END
        self._in_flight[self._number] = _InFlight(
            True, now, now + _UP_LIMIT, offset, until, self.receiver.ended
        )
        body = self._message(max(offset, self.sender.acknowledged), data, flags)
        return PlannedRequest(self._number, True, body)

    def _get(self, now: float) -> PlannedRequest:
        self._number += 1
        flags = Flags.REWIND if self._rewind else _NOTHING
        self._rewind = False
        deadline = now + self._hold + _DOWN_GRACE
        self._in_flight[self._number] = _InFlight(False, now, deadline)
        body = self._message(0, b"", flags)
        return PlannedRequest(self._number, False, body, self._hold)

    def receive_answer(
        self, number: int, status: int, body: bytes, *, now: float
    ) -> None:
        """The answer to a request came, whole."""
        request = self._in_flight.get(number)
        if request is None or self.lost:
            return
        if status in (404, 410):
            if self.closed:
                self._parted = True
                return
            self.lost = "the server does not know the tunnel any more"
            return
        if status == 413 and request.is_post:
            size = request.until - request.offset
            self._ceiling = min(self._ceiling, max(_LEAST_BODY, size // 2))
            if size > _LEAST_BODY:
                # That is no trouble on the way: a smaller one may go at once.
                del self._in_flight[number]
                self._body = min(self._body, self._ceiling)
                self._again.append((request.offset, request.until))
                return
        if status != 200:
            self.fail(number, f"the answer was HTTP status {status}", now=now)
            return
        try:
            message = Message.decode(body)
            self.sender.acknowledge(message.wanted, message.limit)
            self.receiver.receive(message)
        except RemoteProtocolError as e:
            self.fail(number, str(e), now=now)
            return
        del self._in_flight[number]
        # A POST that started before the end says less than the one after it.
        self._parted |= self.closed and request.is_post and request.told_end
        if Flags.RESET in message.flags:
            self.lost = "the far end broke the tunnel off"
        self._failures, self._failing_since, self._not_before = 0, None, 0.0
        self._adapt(request, len(message.data), now)

    def _adapt(self, request: _InFlight, down: int, now: float) -> None:
        """Fill the round trip, and no more."""
        if request.is_post:
            self._round_trip = min(self._round_trip * 1.1, now - request.started)
            if request.until - request.offset >= self._body:
                self._body = min(self._body * 2, self._ceiling)
        fitting = _MOST_IN_FLIGHT
        if self._round_trip < math.inf:
            fitting = min(fitting, 1 + math.ceil(self._round_trip / _ONE_MORE_PER))
        if request.is_post:
            self._most_up = min(self._most_up + 1, fitting)
        elif down >= LARGEST_BODY:
            self._most_down = min(self._most_down + 1, fitting)
        elif not down:
            self._most_down = 1

    def fail(self, number: int, reason: str, *, now: float) -> None:
        """A request failed, or its answer was cut."""
        request = self._in_flight.pop(number, None)
        if request is None or self.lost:
            return
        if request.is_post:
            self._again.append((request.offset, request.until))
            self._body = max(_LEAST_BODY, min(self._body // 2, self._ceiling))
            self._most_up = 1
        else:
            self._rewind = True
            waited = now - request.started
            if 2.0 < waited < self._hold + _DOWN_GRACE:
                # Somebody on the way does not let requests wait for so long.
                self._hold = max(1.0, min(self._hold, waited / 2))
        self._failures += 1
        self._not_before = now + min(0.05 * 2.0**self._failures, _LONGEST_PAUSE)
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since >= _GIVE_UP:
            self.lost = f"nothing got through for {_GIVE_UP:.0f} s: {reason}"

    def expired(self, *, now: float) -> list[int]:
        """Requests to give up now; report each by :meth:`fail`."""
        return [n for n, r in self._in_flight.items() if r.deadline <= now + _ROUNDING]

    def next_timer(self) -> float | None:
        """When to look again, None for never."""
        if self.lost or (self.closed and self._parted):
            return None
        times = [request.deadline for request in self._in_flight.values()]
        if self._not_before:
            times.append(self._not_before)
        return min(times, default=None)


class MessageServer:
    """The server's end of a tunnel.

    :ivar sender: what goes down; write to it.
    :ivar receiver: what came up; read from it.
    :ivar lost: why the tunnel is broken; empty while it is not.
    """

    linger = _LINGER
    """Seconds that the far end has to end its direction after we closed."""

    def __init__(self, *, now: float) -> None:
        self.sender = Sender()
        self.receiver = Receiver()
        self.lost = ""
        self._heard = now
        self._held: OrderedDict[int, float] = OrderedDict()
        self._answered: OrderedDict[int, tuple[int, int]] = OrderedDict()
        self._newest = 0
        self._reset = False

    @property
    def closed(self) -> bool:
        """Whether both directions have ended."""
        return self.receiver.ended and self.sender.end_acknowledged

    def abort(self) -> None:
        """Break the tunnel off; the next answers tell the client."""
        self._reset = True
        self.lost = self.lost or "the tunnel was broken off here"

    def _take(self, body: bytes, now: float) -> Message:
        message = Message.decode(body)
        self._heard = now
        self.sender.acknowledge(message.wanted, message.limit)
        self.receiver.receive(message)
        if Flags.RESET in message.flags:
            self.lost = self.lost or "the far end broke the tunnel off"
        return message

    def _answer(self, offset: int = 0, data: bytes = b"", end: bool = False) -> bytes:
        flags = Flags.END if end else _NOTHING
        if self._reset:
            flags |= Flags.RESET
        receiver = self.receiver
        return Message(receiver.wanted, receiver.limit, offset, data, flags).encode()

    def receive_post(self, body: bytes, *, now: float) -> bytes:
        """Take a POST and return its answer.

        :raises RemoteProtocolError: if it is no message.
        """
        self._take(body, now)
        return self._answer(self.sender.sent)

    def receive_get(self, number: int, body: bytes, hold: float, *, now: float) -> None:
        """Take a GET; :meth:`answers` has its answer, now or later.

        :raises RemoteProtocolError: if it is no message, or is to be held for a time
            that is no number.
        """
        if not math.isfinite(hold):
            raise RemoteProtocolError("a request cannot be held for so long", 400)
        message = self._take(body, now)
        self._newest = max(self._newest, number)
        fresh = number not in self._answered and number not in self._held
        if fresh and Flags.REWIND in message.flags:
            self.sender.rewind()
        self._held[number] = now + min(max(hold, 0.0), HOLD)

    def forget_get(self, number: int) -> None:
        """Nobody waits for the answer to a GET any more."""
        self._held.pop(number, None)

    def answers(self, *, now: float) -> list[tuple[int, bytes]]:
        """Answers to GETs that are due: the number of each, and its body."""
        due: list[tuple[int, bytes]] = []
        for number, until in list(self._held.items()):
            known = self._answered.get(number)
            if known is not None:
                data, end = self.sender.again(*known)
                start = min(max(known[0], self.sender.acknowledged), self.sender.end)
                due.append((number, self._answer(start, data, end)))
            elif number <= self._newest - _REMEMBERED:
                # A late echo of a request: its client would not see the answer.
                due.append((number, self._answer(self.sender.sent)))
            elif self.sender.sendable and not self.lost:
                offset, data, end = self.sender.take(LARGEST_BODY)
                self._remember(number, offset, offset + len(data))
                due.append((number, self._answer(offset, data, end)))
            elif now >= until - _ROUNDING or self.lost or self.closed:
                at = self.sender.sent
                self._remember(number, at, at)
                due.append((number, self._answer(at)))
        for number, _ in due:
            del self._held[number]
        return due

    def _remember(self, number: int, offset: int, until: int) -> None:
        self._answered[number] = (offset, until)
        while len(self._answered) > _REMEMBERED:
            self._answered.popitem(last=False)

    def handle_timer(self, *, now: float) -> None:
        """Give up a client that has not been heard for long."""
        if now - self._heard >= _SILENCE - _ROUNDING and not self.lost:
            self.lost = f"the client was silent for {_SILENCE:.0f} s"

    def next_timer(self) -> float:
        """When to look again."""
        if self.lost:
            return math.inf
        return min([*self._held.values(), self._heard + _SILENCE])
