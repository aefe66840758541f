"""The searches for paths that run on one UDP port: drives the sans-IO objects."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IDelayedCall

from dwcloud.net.dual_udp import AnyUDPPort
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.punching.probes import tag_of
from dwcloud.protocol.punching.search import PathSearch, SearchEvent

__all__ = ["PathSearches"]


@attrs.define(eq=False)
class _Running:
    search: PathSearch
    on_event: Callable[[SearchEvent], None]
    end: IDelayedCall
    timer: IDelayedCall | None = None


class PathSearches:
    """All searches of one port, found by the tags of their probes.

    :param port: sends the probes.
    :param capacity: searches at a time; the oldest makes room for a new one.
    """

    def __init__(self, reactor: Any, port: AnyUDPPort, *, capacity: int = 500) -> None:
        self._reactor = reactor
        self._port = port
        self._capacity = capacity
        self._running: OrderedDict[bytes, _Running] = OrderedDict()

    def __len__(self) -> int:
        return len(self._running)

    def start(
        self,
        search: PathSearch,
        on_event: Callable[[SearchEvent], None],
        limit: float,
    ) -> None:
        """Run a search.

        :param on_event: told what it finds.
        :param limit: seconds until it ends.
        """
        self.stop(search)
        while len(self._running) >= self._capacity:
            self.stop(next(iter(self._running.values())).search)
        end = self._reactor.callLater(limit, self.stop, search)
        self._running[search.tag] = running = _Running(search, on_event, end)
        self._go_on(running)

    def find(self, tag: bytes) -> PathSearch | None:
        """Return the search whose probes have that tag."""
        running = self._running.get(tag)
        return None if running is None else running.search

    def go_on(self, search: PathSearch) -> None:
        """Send what a search has to send after something else than this changed it."""
        running = self._running.get(search.tag)
        if running is not None:
            self._go_on(running)

    def stop(self, search: PathSearch) -> None:
        """End a search, if it runs."""
        running = self._running.pop(search.tag, None)
        if running is None:
            return
        for call in (running.end, running.timer):
            if call is not None and call.active():
                call.cancel()
        running.timer = None

    def stop_all(self) -> None:
        """End all."""
        for running in list(self._running.values()):
            self.stop(running.search)

    def datagramReceived(self, data: bytes, address: Address) -> bool:
        """Take a datagram; tell whether it belongs to a search."""
        tag = tag_of(data)
        running = None if tag is None else self._running.get(tag)
        if running is None:
            return False
        now = self._reactor.seconds()
        running.search.receive_datagram(data, address, now=now)
        self._go_on(running)
        return True

    def _go_on(self, running: _Running) -> None:
        search = running.search
        while (event := search.next_event()) is not None:
            running.on_event(event)
        for address, datagram in search.datagrams_to_send():
            self._port.sendDatagram(datagram, address)
        if running.timer is not None:
            running.timer.cancel()
            running.timer = None
        at = search.next_timer()
        if at is not None and self._running.get(search.tag) is running:
            delay = max(0.0, at - self._reactor.seconds())
            running.timer = self._reactor.callLater(delay, self._timer_due, running)

    def _timer_due(self, running: _Running) -> None:
        running.timer = None
        running.search.handle_timer(now=self._reactor.seconds())
        self._go_on(running)
