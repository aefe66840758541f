"""One connect session's search for the addresses over which both ends hear each other.

Each end sends probes to the addresses that the mediator named and answers those that
come from others. Who hears its own hello echoed knows that the address it was sent to
works, and where answers come from. The client decides what is used; the server meets
it where its probes come from, once that address has proven that it hears the server.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable

import attrs

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.punching.probes import (
    HELLO_LENGTH,
    NOTHING_HEARD,
    Probe,
    ProbeCodec,
)

__all__ = [
    "MAX_DESTINATIONS",
    "AnswersElsewhere",
    "ClientFound",
    "ClientSearch",
    "PathFound",
    "PathSearch",
    "SearchEvent",
    "ServerSearch",
]

MAX_DESTINATIONS = 32
"""Addresses that one search sends to; probes from further ones are passed over."""
_MAX_FOUND = 8
"""Addresses beside those named that one search may lead to."""
_MAX_ELSEWHERE = 4
"""Addresses from which the answers of one may come."""
_EPSILON = 1e-6

_CLIENT_TIMES = (0.0, 0.05, 0.15, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Seconds after the start at which a client probes an address; then every 2 s."""
_CLIENT_INTERVAL = 2.0
_SERVER_TIMES = (0.0, 0.1, 0.4, 1.5, 4.0, 9.0)
"""The same of a server, which must not send much to who may not have asked for it:
with the handshakes of a rendezvous that nobody answers it is less than the request."""


@attrs.frozen
class PathFound:
    """Both directions work with ``address``, which the mediator had not named."""

    address: Address


@attrs.frozen
class AnswersElsewhere:
    """What is sent to ``address`` arrives, but its answers come from ``source``."""

    address: Address
    source: Address


@attrs.frozen
class ClientFound:
    """The client connects from ``address``, and hears what is sent there."""

    address: Address


SearchEvent = PathFound | AnswersElsewhere | ClientFound


@attrs.define(eq=False)
class _Destination:
    """An address that is sent to.

    :ivar hello: what only who receives there can echo.
    :ivar in_use: whether this end tries to connect there.
    :ivar heard: the latest hello that came from there.
    :ivar reached: whether the far end has echoed ours.
    :ivar used_by_peer: whether the far end said that it tries to connect from there.
    :ivar elsewhere: from where else its answers come.
    :ivar symmetric: whether its answers come from there.
    :ivar sent: how many probes went there because it was time.
    """

    address: Address
    hello: bytes
    since: float
    in_use: bool
    timed: bool
    heard: bytes = NOTHING_HEARD
    reached: bool = False
    used_by_peer: bool = False
    elsewhere: set[Address] = attrs.field(factory=set)
    symmetric: bool = False
    sent: int = 0


class PathSearch(ABC):
    """What both ends do; see :class:`ClientSearch` and :class:`ServerSearch`.

    :param codec: of the session's probes.
    :param named: the addresses that the mediator named.
    :param random_bytes: a source of randomness.
    :param limit: seconds until the search is over.
    """

    def __init__(
        self,
        codec: ProbeCodec,
        named: Iterable[Address],
        random_bytes: Callable[[int], bytes],
        *,
        now: float,
        limit: float,
    ) -> None:
        self._codec = codec
        self._random_bytes = random_bytes
        self._until = now + limit
        self._destinations: dict[Address, _Destination] = {}
        self._by_hello: dict[bytes, _Destination] = {}
        self._events: deque[SearchEvent] = deque()
        self._output: list[tuple[Address, bytes]] = []
        self._found = 0
        self._guess_hello = random_bytes(HELLO_LENGTH)
        self.add_named(named, now=now)

    @property
    def tag(self) -> bytes:
        """What the session's probes are known by."""
        return self._codec.tag

    def add_named(self, addresses: Iterable[Address], *, now: float) -> None:
        """Search at further addresses that the mediator named."""
        for address in addresses:
            destination = self._destination(address, now)
            if destination is not None:
                destination.in_use = destination.timed = True
        self.handle_timer(now=now)

    def feel(self, address: Address, *, now: float) -> None:
        """Send one probe to where the far end says it is, which nobody has proven.

        It opens a firewall that lets in answers. What comes from there counts as from
        any address that was not named.
        """
        destination = self._destination(address, now)
        if destination is not None:
            self._send(destination)

    def receive_datagram(self, data: bytes, address: Address, *, now: float) -> None:
        """Take a datagram with the session's tag; what is not authentic is ignored."""
        if now >= self._until:
            return
        try:
            probe = self._codec.decode(data)
        except RemoteProtocolError:
            return
        destination = self._destination(address, now)
        if destination is not None:
            self._heard(destination, probe)
        reached = self._by_hello.get(probe.heard)
        if reached is not None:
            reached.reached = True
            reached.symmetric |= reached.address == address
            self._reached(reached, address)
        if destination is not None:
            self._judge(destination)

    def _heard(self, destination: _Destination, probe: Probe) -> None:
        """Answer a probe, if it asks for that: one for one, whoever sent it."""
        news = probe.hello != destination.heard
        destination.heard = probe.hello
        if probe.in_use:
            destination.used_by_peer = True
        if news or probe.heard != destination.hello:
            self._send(destination)

    @abstractmethod
    def _reached(self, destination: _Destination, source: Address) -> None:
        """What was sent to ``destination`` arrived, says a probe from ``source``."""

    def _note_source(self, destination: _Destination, source: Address) -> None:
        """Answers of an address in use come from ``source``."""
        if (
            destination.symmetric
            or source in destination.elsewhere
            or len(destination.elsewhere) >= _MAX_ELSEWHERE
        ):
            return
        destination.elsewhere.add(source)
        self._events.append(AnswersElsewhere(destination.address, source))

    @abstractmethod
    def _judge(self, destination: _Destination) -> None:
        """A probe came from ``destination``."""

    def handle_timer(self, *, now: float) -> None:
        """Probe where it is time to."""
        for destination in self._destinations.values():
            due = self._due(destination)
            if due is not None and due <= now + _EPSILON:
                destination.sent += 1
                self._send(destination)

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` wants to be called, in absolute seconds."""
        times = map(self._due, self._destinations.values())
        return min((due for due in times if due is not None), default=None)

    def guess(self) -> bytes:
        """Return a probe for an address at which the far end may be, or nobody.

        All guesses carry one hello, which proves nothing of the address it went to:
        what comes back is answered with the hello of where it came from.
        """
        return self._codec.encode(Probe(self._guess_hello))

    def datagrams_to_send(self) -> list[tuple[Address, bytes]]:
        """Return addresses and what goes there now."""
        output, self._output = self._output, []
        return output

    def next_event(self) -> SearchEvent | None:
        """Return the next event, or None."""
        return self._events.popleft() if self._events else None

    def _due(self, destination: _Destination) -> float | None:
        """When to probe an address without being asked."""
        if not destination.timed:
            return None
        offset = self._offset(destination.sent)
        if offset is None or destination.since + offset >= self._until:
            return None
        return destination.since + offset

    @abstractmethod
    def _offset(self, number: int) -> float | None:
        """Seconds from the start to the probe with that number, None for no more."""

    def _destination(self, address: Address, now: float) -> _Destination | None:
        known = self._destinations.get(address)
        if known is not None or len(self._destinations) >= MAX_DESTINATIONS:
            return known
        made = _Destination(
            address,
            self._random_bytes(HELLO_LENGTH),
            now,
            in_use=False,
            timed=False,
        )
        self._destinations[address] = self._by_hello[made.hello] = made
        return made

    def _send(self, destination: _Destination) -> None:
        probe = Probe(destination.hello, destination.heard, destination.in_use)
        self._output.append((destination.address, self._codec.encode(probe)))

    def _use(self, destination: _Destination) -> bool:
        """Tell whether an address that was found may be used."""
        if destination.in_use or self._found >= _MAX_FOUND:
            return False
        self._found += 1
        destination.in_use = True
        return True


class ClientSearch(PathSearch):
    """The client's side: finds out where to connect to."""

    def _offset(self, number: int) -> float | None:
        beyond = number - len(_CLIENT_TIMES) + 1
        if beyond <= 0:
            return _CLIENT_TIMES[number]
        return _CLIENT_TIMES[-1] + beyond * _CLIENT_INTERVAL

    def _reached(self, destination: _Destination, source: Address) -> None:
        if destination.in_use:
            self._note_source(destination, source)
            return
        # Had one in use been reached, the server would meet us there; a second one
        # from the same address would confuse both.
        met = any(d.in_use and d.reached for d in self._destinations.values())
        if destination.symmetric and not met and self._use(destination):
            self._events.append(PathFound(destination.address))
            self._send(destination)

    def _judge(self, destination: _Destination) -> None:
        # Who sent from there has the key: a server may be asked again.
        destination.timed = True


class ServerSearch(PathSearch):
    """The server's side: finds out where the client comes from."""

    def _offset(self, number: int) -> float | None:
        return _SERVER_TIMES[number] if number < len(_SERVER_TIMES) else None

    def _reached(self, destination: _Destination, source: Address) -> None:
        if destination.in_use:
            self._note_source(destination, source)
        self._judge(destination)

    def _judge(self, destination: _Destination) -> None:
        if destination.reached and destination.used_by_peer and self._use(destination):
            self._events.append(ClientFound(destination.address))
