"""Guessing ports of a NAT, and holding many open, at the pace that one process may."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall

from dwcloud.net.dual_udp import AnyUDPPort
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.searches import PathSearches
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.punching.governor import MAX_PACKETS_PER_SECOND, Governor
from dwcloud.protocol.punching.search import PathSearch, SearchEvent

__all__ = ["Guesses", "Hole", "ManyHoles", "governor_of"]

if sys.platform != "win32":
    import resource

_TICK = 0.02
_A_TICK = MAX_PACKETS_PER_SECOND // 50

_governors: weakref.WeakKeyDictionary[Any, Governor] = weakref.WeakKeyDictionary()


def governor_of(reactor: Any) -> Governor:
    """Return the one governor of all that runs on a reactor."""
    governor = _governors.get(reactor)
    if governor is None:
        governor = _governors[reactor] = Governor(_open_files() // 3)
    return governor


def _open_files() -> int:
    """Return how many files this process may open, of which connections are some."""
    if sys.platform == "win32":
        return 8192
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if limit == resource.RLIM_INFINITY else limit


class _Ticking:
    """Does something several times a second, as often as the governor lets it."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._governor = governor_of(reactor)
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Begin."""
        self._tick()

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = self._reactor.callLater(_TICK, self._tick)
        for _ in range(_A_TICK):
            if not self._step():
                return

    def _step(self) -> bool:
        """Do it once; tell whether to do it again at once."""
        return False

    def _may_send(self) -> bool:
        return self._governor.take_packet(now=self._reactor.seconds())


class Guesses(_Ticking):
    """Probes to addresses at which the far end may be.

    :param search: whose probes they are.
    :param addresses: where to; all are tried, one after the other.
    """

    def __init__(
        self,
        reactor: Any,
        port: AnyUDPPort,
        search: PathSearch,
        addresses: Iterator[Address],
    ) -> None:
        super().__init__(reactor)
        self._port = port
        self._search = search
        self._addresses = addresses

    def _step(self) -> bool:
        if not self._may_send():
            return False
        address = next(self._addresses, None)
        if address is None:
            self.stop()
            return False
        self._port.sendDatagram(self._search.guess(), address)
        return True


class Hole:
    """A UDP port of its own, with a NAT's mapping of its own.

    :ivar port: the port.
    :ivar stun: makes requests from it.
    :ivar searches: take the probes that come to it.
    :ivar on_stun: gets STUN that is neither a probe nor an answer.
    """

    on_stun: Callable[[bytes, Address], None] | None = None

    def __init__(self, reactor: Any, interface: str, governor: Governor) -> None:
        self._governor = governor
        self.port = SharedUDPPort(reactor, interface=interface)
        self.stun = STUNDatagramClient(reactor, self.port.sendDatagram)
        self.searches = PathSearches(reactor, self.port, capacity=1)
        self.port.onSTUN = self._stun_received
        self._open = False

    def open(self) -> None:
        """Bind the port, for which the governor has given a permission.

        :raises twisted.internet.error.CannotListenError: there is no port left.
        """
        self.port.start()
        self._open = True

    def close(self) -> Deferred[None] | None:
        """Close the port and all that goes through it."""
        if not self._open:
            return None
        self._open = False
        self._governor.release_mapping()
        self.searches.stop_all()
        self.stun.stop()
        self.port.udt.on_idle = None
        return self.port.stop()

    def close_when_idle(self) -> None:
        """Close the port as soon as nothing goes through it any more."""
        if self.port.udt.idle:
            self.close()
        else:
            self.port.udt.on_idle = self._closed_when_idle

    def _closed_when_idle(self) -> Any:
        return self.close()

    def _stun_received(self, data: bytes, address: Address) -> None:
        if self.searches.datagramReceived(data, address):
            return
        if self.stun.datagramReceived(data, self.port.udt.known_as(address)):
            return
        if self.on_stun is not None:
            self.on_stun(data, address)


class ManyHoles(_Ticking):
    """Opens as many holes towards one address as it may, for the far end to hit one.

    :param target: the far end's address.
    :param new_search: makes the search of one hole.
    :param on_found: told the hole that was hit and what it found; it has to close it.
        The others are closed.
    :param interface: the local IP address, or a wildcard.
    :param limit: seconds until it gives up.
    """

    def __init__(
        self,
        reactor: Any,
        target: Address,
        new_search: Callable[[], PathSearch],
        on_found: Callable[[Hole, SearchEvent], None],
        *,
        interface: str,
        limit: float,
    ) -> None:
        super().__init__(reactor)
        self._target = target
        self._new_search = new_search
        self._on_found = on_found
        self._interface = interface
        self._limit = limit
        self._holes: list[Hole] = []
        self._end: IDelayedCall = reactor.callLater(limit, self.stop)

    def __len__(self) -> int:
        return len(self._holes)

    def stop(self) -> None:
        """Close all holes."""
        super().stop()
        if self._end.active():
            self._end.cancel()
        holes, self._holes = self._holes, []
        for hole in holes:
            hole.close()

    def _step(self) -> bool:
        if not self._governor.take_mapping():
            return False
        if not self._may_send():
            self._governor.release_mapping()
            return False
        hole = Hole(self._reactor, self._interface, self._governor)
        try:
            hole.open()
        except (CannotListenError, OSError):
            # As many as the system has.
            self._governor.release_mapping()
            return False
        self._holes.append(hole)
        search = self._new_search()
        hole.searches.start(search, lambda event: self._found(hole, event), self._limit)
        hole.port.sendDatagram(search.guess(), self._target)
        return True

    def _found(self, hole: Hole, event: SearchEvent) -> None:
        if hole not in self._holes:
            return
        self._holes.remove(hole)
        self.stop()
        self._on_found(hole, event)
