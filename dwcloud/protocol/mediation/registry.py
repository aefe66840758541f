"""Which servers are online, and which have been seen.

:class:`Registry` is the interface; an implementation that shares its contents with
other mediators follows their changes and answers from its own copy, so that a
question never waits.
"""

from __future__ import annotations

import itertools
import uuid
from collections import OrderedDict
from typing import Protocol

import attrs

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.messages import (
    AccessChanged,
    Bind,
    ConnectionRequested,
)
from dwcloud.protocol.names import PeerName

__all__ = ["MemoryRegistry", "Registry", "ServerChannel", "ServerRecord"]


class ServerChannel(Protocol):
    """The control channel of an online server."""

    def request_connection(self, request: ConnectionRequested) -> None:
        """Tell the server that a client wants to connect."""

    def access_changed(self, change: AccessChanged) -> None:
        """Tell the server who may connect; close if nobody owns its system."""

    def watch(self) -> None:
        """Make the server tell what it carries, for a minute."""

    def replaced(self) -> None:
        """Tell the server that a newer channel of it took the place, and close."""


@attrs.define(eq=False)
class ServerRecord:
    """A server that is online.

    :ivar name: ``server.system``.
    :ivar channel: its control channel.
    :ivar addresses: what it said by ``bind``.
    :ivar since: when it came online, seconds of the mediator's clock.
    :ivar host: the IP address that its control channel comes from.
    :ivar last_chosen: number of the choice that last fell on it.
    """

    name: PeerName
    channel: ServerChannel
    addresses: Bind
    since: float
    host: str = ""
    last_chosen: int = 0


class Registry(Protocol):
    """The servers of a mediator."""

    def check_capacity(self, name: PeerName) -> None:
        """Make sure that ``name`` can be added.

        :raises RemoteProtocolError: code 503, if too many others are online.
        """

    def add(self, record: ServerRecord) -> ServerRecord | None:
        """Add a server; returns the record that it replaces, of the same server."""

    def remove(self, record: ServerRecord) -> bool:
        """Remove a server, unless another record has replaced it already."""

    def find(self, target: PeerName) -> ServerRecord | None:
        """Return a server that is online: the one named, or the best of a system."""

    def online(self, system: uuid.UUID) -> tuple[ServerRecord, ...]:
        """Return the servers of a system that are online."""

    def is_known(self, target: PeerName) -> bool:
        """Tell whether such a server is online or was, as far as remembered."""

    @property
    def online_count(self) -> int:
        """Servers that are online."""

    @property
    def known_count(self) -> int:
        """Servers remembered, the online ones included."""

    @property
    def forgotten_count(self) -> int:
        """Servers forgotten to make room."""


class MemoryRegistry:
    """A registry of one mediator, in memory.

    Full of online servers it refuses new ones: no stranger can push out a server.
    Of servers that are offline it remembers those that were seen last.

    :param max_servers: online at a time.
    :param max_known: remembered, the online ones included.
    """

    def __init__(self, *, max_servers: int = 50_000, max_known: int = 200_000) -> None:
        self._max_servers = max_servers
        self._max_known = max(max_known, max_servers)
        self._systems: dict[uuid.UUID, dict[PeerName, ServerRecord]] = {}
        self._online = 0
        self._known: OrderedDict[PeerName, None] = OrderedDict()
        self._known_of_system: dict[uuid.UUID, int] = {}
        self._forgotten = 0
        self._choices = itertools.count(1)

    def check_capacity(self, name: PeerName) -> None:
        """See :meth:`Registry.check_capacity`."""
        servers = self._systems.get(name.system, {})
        if name not in servers and self._online >= self._max_servers:
            raise RemoteProtocolError("too many servers are online", 503)

    def add(self, record: ServerRecord) -> ServerRecord | None:
        """See :meth:`Registry.add`."""
        servers = self._systems.setdefault(record.name.system, {})
        replaced = servers.get(record.name)
        servers[record.name] = record
        if replaced is None:
            self._online += 1
        self._remember(record.name)
        return replaced

    def remove(self, record: ServerRecord) -> bool:
        """See :meth:`Registry.remove`."""
        servers = self._systems.get(record.name.system, {})
        if servers.get(record.name) is not record:
            return False
        del servers[record.name]
        if not servers:
            del self._systems[record.name.system]
        self._online -= 1
        self._remember(record.name)
        return True

    def find(self, target: PeerName) -> ServerRecord | None:
        """See :meth:`Registry.find`.

        Of a system: the server that reports the best uplink; without a report, the
        one that was not chosen for the longest time.
        """
        servers = self._systems.get(target.system, {})
        if target.server is not None:
            return servers.get(target)
        if not servers:
            return None
        best = min(
            servers.values(),
            key=lambda s: (-(s.addresses.uplink_rate or 0), s.last_chosen),
        )
        best.last_chosen = next(self._choices)
        return best

    def online(self, system: uuid.UUID) -> tuple[ServerRecord, ...]:
        """See :meth:`Registry.online`."""
        return tuple(self._systems.get(system, {}).values())

    def is_known(self, target: PeerName) -> bool:
        """See :meth:`Registry.is_known`."""
        if target.server is None:
            return target.system in self._known_of_system
        return target in self._known

    @property
    def online_count(self) -> int:
        """See :attr:`Registry.online_count`."""
        return self._online

    @property
    def known_count(self) -> int:
        """See :attr:`Registry.known_count`."""
        return len(self._known)

    @property
    def forgotten_count(self) -> int:
        """See :attr:`Registry.forgotten_count`."""
        return self._forgotten

    def _remember(self, name: PeerName) -> None:
        if name in self._known:
            self._known.move_to_end(name)
            return
        self._known[name] = None
        of_system = self._known_of_system
        of_system[name.system] = of_system.get(name.system, 0) + 1
        if len(self._known) > self._max_known:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        # The oldest may be online for ever so long; it stays known.
        for _ in range(len(self._known)):
            name, _ = self._known.popitem(last=False)
            if name in self._systems.get(name.system, {}):
                self._known[name] = None
                continue
            self._forgotten += 1
            self._known_of_system[name.system] -= 1
            if not self._known_of_system[name.system]:
                del self._known_of_system[name.system]
            return
