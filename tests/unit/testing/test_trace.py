"""Tests of the packet record."""

import hashlib

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.testing import DELIVERED, TCP, UDP, World

from .programs import Datagrams, Server, connect


class TraceTests(SynchronousTestCase):
    """The trace tells which path carried what."""

    def setUp(self):
        self.world = World(trace_limit=50)
        internet = self.world.internet()
        self.home = internet.nat("198.51.100.1")
        self.a = self.home.host("192.168.1.10", name="a")
        self.b = internet.host("203.0.113.2", name="b")
        self.sink = Datagrams()
        self.b.reactor.listenUDP(5, self.sink)
        self.source = Datagrams()
        self.a.reactor.listenUDP(6, self.source)

    def test_bytes(self):
        """Payload is counted from origin to place, whatever NATs are between."""
        self.source.transport.write(b"x" * 10, ("203.0.113.2", 5))
        self.source.transport.write(b"x" * 20, ("203.0.113.2", 99))
        self.b.reactor.listenTCP(80, Server())
        client = self.world.run_until(connect(self.a.reactor, "203.0.113.2", 80))
        client.transport.write(b"y" * 1000)
        self.world.run_until_idle()
        trace = self.world.trace
        self.assertEqual(trace.bytes_carried("a", "b", UDP), 10)
        self.assertEqual(trace.bytes_carried("a", "b", TCP), 1000)
        self.assertEqual(trace.bytes_carried("a"), 1010)
        self.assertEqual(trace.bytes_carried(place="a"), 0)
        self.assertEqual(trace.packets_carried("a", "b", UDP), 1)

    def test_records(self):
        """A record has the addresses as seen where the packet ended."""
        self.source.transport.write(b"x" * 10, ("203.0.113.2", 5))
        self.world.run_until_idle()
        (record,) = self.world.trace.select(origin="a", place="b", verdict=DELIVERED)
        self.assertTrue(record.delivered)
        self.assertEqual(record.source, ("198.51.100.1", 6))
        self.assertEqual(record.destination, ("203.0.113.2", 5))
        self.assertEqual((record.kind, record.payload_size), ("datagram", 10))
        self.assertIn("198.51.100.1:6 > 203.0.113.2:5 datagram 10", str(record))
        self.assertEqual(self.world.trace.select(protocol=TCP), [])

    def test_kinds(self):
        """TCP segments are told apart by their flags."""
        self.b.reactor.listenTCP(80, Server())
        client = self.world.run_until(connect(self.a.reactor, "203.0.113.2", 80))
        client.transport.write(b"hello")
        client.transport.loseConnection()
        self.world.run_until_idle()
        kinds = [r.kind for r in self.world.trace.select(origin="a", protocol=TCP)]
        self.assertEqual(kinds[:4], ["syn", "ack", "data", "ack+fin"])
        kinds = [r.kind for r in self.world.trace.select(origin="b", protocol=TCP)]
        self.assertEqual(kinds[0], "syn+ack")

    def test_digest(self):
        """It covers all records, whenever it is asked for, also those that are gone."""
        expected = hashlib.sha256()
        for number in range(120):
            self.source.transport.write(b"x", ("203.0.113.2", 5 if number % 3 else 9))
            self.world.run_until_idle()
            *_, last = self.world.trace
            expected.update(str(last).encode())
            if number % 70 == 60:
                self.assertEqual(self.world.trace.digest(), expected.hexdigest())
        self.assertEqual(self.world.trace.digest(), expected.hexdigest())
        self.assertEqual(self.world.trace.digest(), expected.hexdigest())

    def test_bounds(self):
        """Old records go, counters and digest go on."""
        for _ in range(80):
            self.source.transport.write(b"x", ("203.0.113.2", 5))
        self.world.run_until_idle()
        trace = self.world.trace
        self.assertEqual((len(trace), len(list(trace))), (50, 50))
        self.assertEqual(trace.bytes_carried("a", "b"), 80)
        digest = trace.digest()
        trace.clear()
        self.assertEqual((len(trace), trace.verdicts), (0, {}))
        self.assertEqual(trace.bytes_carried(), 0)
        self.assertNotEqual(trace.digest(), digest)
