"""The registry: who is online, who is remembered, whom a system's name leads to."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.messages import (
    AccessChanged,
    Bind,
    ConnectionRequested,
)
from dwcloud.protocol.mediation.registry import MemoryRegistry, Registry, ServerRecord
from dwcloud.protocol.names import PeerName


def name(system: int, server: int | None = None) -> PeerName:
    """Return a short name."""
    guid = None if server is None else uuid.UUID(int=server)
    return PeerName(uuid.UUID(int=system), guid)


class Channel:
    """A control channel that keeps what it is told."""

    def __init__(self) -> None:
        self.requests: list[ConnectionRequested] = []
        self.changes: list[AccessChanged] = []
        self.was_replaced = False

    def request_connection(self, request: ConnectionRequested) -> None:
        self.requests.append(request)

    def access_changed(self, change: AccessChanged) -> None:
        self.changes.append(change)

    def watch(self) -> None:
        """Nobody watches here."""

    def replaced(self) -> None:
        self.was_replaced = True


def record(system: int, server: int, uplink_rate: int | None = None) -> ServerRecord:
    """Return a record of a server."""
    bind = Bind(uplink_rate=uplink_rate)
    return ServerRecord(name(system, server), Channel(), bind, 0.0)


class MemoryRegistryTests(SynchronousTestCase):
    """The registry in memory."""

    def test_found(self) -> None:
        """A server is found by its full name, not by another's."""
        registry: Registry = MemoryRegistry()
        server = record(1, 2)
        self.assertIsNone(registry.add(server))
        self.assertIs(registry.find(name(1, 2)), server)
        self.assertIsNone(registry.find(name(1, 3)))
        self.assertIsNone(registry.find(name(2, 2)))
        self.assertIsNone(registry.find(name(2)))

    def test_online(self) -> None:
        """All servers of a system that are online are listed, and no others."""
        registry: Registry = MemoryRegistry()
        servers = [record(1, 2), record(1, 3), record(2, 4)]
        for server in servers:
            registry.add(server)
        self.assertEqual(set(registry.online(name(1).system)), set(servers[:2]))
        registry.remove(servers[0])
        self.assertEqual(registry.online(name(1).system), (servers[1],))
        self.assertEqual(registry.online(name(9).system), ())

    def test_replaced(self) -> None:
        """A newer record replaces the older one, whose removal changes nothing."""
        registry = MemoryRegistry()
        old, new = record(1, 2), record(1, 2)
        registry.add(old)
        self.assertIs(registry.add(new), old)
        self.assertFalse(registry.remove(old))
        self.assertIs(registry.find(name(1, 2)), new)
        self.assertEqual(registry.online_count, 1)

    def test_removed(self) -> None:
        """A server that left is remembered, and its system with it."""
        registry = MemoryRegistry()
        server = record(1, 2)
        registry.add(server)
        self.assertTrue(registry.remove(server))
        self.assertFalse(registry.remove(server))
        self.assertIsNone(registry.find(name(1)))
        self.assertTrue(registry.is_known(name(1, 2)))
        self.assertTrue(registry.is_known(name(1)))
        self.assertFalse(registry.is_known(name(1, 3)))
        self.assertFalse(registry.is_known(name(2)))

    def test_in_turn(self) -> None:
        """Servers of a system that report nothing are chosen in turn."""
        registry = MemoryRegistry()
        for number in (2, 3, 4):
            registry.add(record(1, number))
        chosen = [registry.find(name(1)) for _ in range(6)]
        self.assertEqual(chosen[:3], chosen[3:])
        self.assertEqual(len({c.name for c in chosen if c}), 3)

    def test_best_uplink(self) -> None:
        """The best uplink wins, and a reported one over none."""
        registry = MemoryRegistry()
        registry.add(record(1, 2))
        registry.add(record(1, 3, 1000))
        best = record(1, 4, 2000)
        registry.add(best)
        for _ in range(3):
            self.assertIs(registry.find(name(1)), best)

    def test_full(self) -> None:
        """A full registry refuses new servers, never those that it has."""
        registry = MemoryRegistry(max_servers=2)
        registry.add(record(1, 2))
        registry.add(record(1, 3))
        error = self.assertRaises(
            RemoteProtocolError, registry.check_capacity, name(1, 4)
        )
        self.assertEqual(error.code, 503)
        registry.check_capacity(name(1, 2))

    def test_memory_is_bounded(self) -> None:
        """Of the servers that left, those seen last are remembered."""
        registry = MemoryRegistry(max_servers=1, max_known=3)
        stays = record(9, 9)
        registry.add(stays)
        for number in range(1, 6):
            gone = record(number, number)
            registry.add(gone)
            registry.remove(gone)
        self.assertEqual(registry.known_count, 3)
        self.assertEqual(registry.forgotten_count, 3)
        self.assertTrue(registry.is_known(name(9, 9)))
        self.assertTrue(registry.is_known(name(5)))
        self.assertFalse(registry.is_known(name(1)))

    @given(st.lists(st.tuples(st.booleans(), st.integers(1, 3), st.integers(1, 3))))
    def test_any_order(self, steps: list[tuple[bool, int, int]]) -> None:
        """Whatever comes and goes, counts and answers agree."""
        registry = MemoryRegistry(max_servers=4, max_known=5)
        online: dict[PeerName, ServerRecord] = {}
        for comes, system, server in steps:
            wanted = name(system, server)
            if comes and (wanted in online or len(online) < 4):
                online[wanted] = record(system, server)
                registry.add(online[wanted])
            elif not comes and wanted in online:
                self.assertTrue(registry.remove(online.pop(wanted)))
            self.assertEqual(registry.online_count, len(online))
            self.assertLessEqual(registry.known_count, 5)
            for known in online:
                self.assertTrue(registry.is_known(known))
                self.assertIs(registry.find(known), online[known])
