"""Tests of links: what happens to datagrams on the way."""

import itertools

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.testing import LinkProfile, Realm, World

from .programs import Datagrams

A, B = "203.0.113.1", "203.0.113.2"


class LinkTests(SynchronousTestCase):
    """A sender with a bad link and a receiver with a perfect one."""

    def build(self, seed=1, **profile):
        self.world = World(seed=seed)
        internet = self.world.internet(link=LinkProfile())
        self.host = internet.host(A, name="a", link=LinkProfile(**profile))
        self.sender, self.receiver = Datagrams(), Datagrams()
        self.host.reactor.listenUDP(5, self.sender)
        internet.host(B, name="b").reactor.listenUDP(
            5, self.receiver, maxPacketSize=65536
        )
        self.times = []
        taken = self.receiver.datagramReceived

        def note(data, address):
            self.times.append(self.world.seconds())
            taken(data, address)

        self.receiver.datagramReceived = note

    def send_one(self, number, size=100):
        data = number.to_bytes(4, "big").ljust(size, b".")
        self.sender.transport.write(data, (B, 5))

    def send(self, count, size=100, interval=0.001):
        for number in range(count):
            self.send_one(number, size)
            self.world.advance(interval)
        self.world.run_until_idle()

    @property
    def numbers(self):
        return [int.from_bytes(data[:4], "big") for data, _ in self.receiver.received]

    def test_latency(self):
        """Latency is exact."""
        self.build(latency=0.25)
        self.send(1)
        self.assertEqual(self.times, [0.25])

    def test_faster_link_keeps_order(self):
        """Datagrams do not overtake those that a link carried when it was slower."""
        self.build(latency=0.25)
        self.send_one(0)
        self.host.link.configure(latency=0.05)
        self.world.advance(0.1)
        self.send_one(1)
        self.world.advance(0.2)
        self.send_one(2)
        self.world.run_until_idle()
        self.assertEqual(self.numbers, [0, 1, 2])
        self.assertEqual(self.times[:2], [0.25, 0.25])
        self.assertAlmostEqual(self.times[2], 0.35)

    def test_jitter_keeps_order(self):
        """Jitter spreads arrivals but does not reorder."""
        self.build(latency=0.01, jitter=0.05)
        self.send(200)
        self.assertEqual(self.numbers, list(range(200)))
        self.assertLess(max(self.times), 0.2 + 0.06 + 0.001)

    def test_reordering(self):
        """Some datagrams are overtaken, none is lost."""
        self.build(latency=0.01, reordering=0.1)
        self.send(500)
        self.assertNotEqual(self.numbers, list(range(500)))
        self.assertEqual(sorted(self.numbers), list(range(500)))

    def test_loss(self):
        """The share of lost datagrams is what was asked for, and it is recorded."""
        self.build(loss=0.2)
        self.send(5000)
        lost = self.world.trace.verdicts["lost"]
        self.assertEqual(lost + len(self.numbers), 5000)
        self.assertApproximates(lost / 5000, 0.2, 0.02)

    def test_bursts(self):
        """Losses come together, as many as asked for on the mean, at the same share."""
        self.build(loss=0.1, loss_burst=5.0)
        self.send(20000)
        lost = sorted(set(range(20000)) - set(self.numbers))
        bursts = 1 + sum(b - a > 1 for a, b in itertools.pairwise(lost))
        self.assertApproximates(len(lost) / 20000, 0.1, 0.02)
        self.assertApproximates(len(lost) / bursts, 5.0, 1.0)

    def test_duplication(self):
        """Some datagrams come twice."""
        self.build(duplication=0.2)
        self.send(1000)
        self.assertEqual(set(self.numbers), set(range(1000)))
        self.assertApproximates(len(self.numbers), 1200, 50)

    def test_rate(self):
        """Datagrams leave one after the other, as fast as the rate allows."""
        self.build(rate=12_800.0, latency=0.1)
        self.send(10, size=100, interval=0.0)
        expected = [0.1 + n * 0.01 for n in range(1, 11)]
        for time, wanted in zip(self.times, expected, strict=True):
            self.assertAlmostEqual(time, wanted)

    def test_queue(self):
        """What does not fit into the queue before the rate is dropped."""
        self.build(rate=12_800.0, queue=1280)
        self.send(50, size=100, interval=0.0)
        self.assertEqual(self.numbers, list(range(10)))
        self.assertEqual(self.world.trace.verdicts["queue full"], 40)

    def test_fragments(self):
        """A large datagram is lost with any of its fragments."""
        self.build(loss=0.1)
        self.send(1000, size=10_000)
        self.assertApproximates(len(self.numbers) / 1000, 0.9**7, 0.05)

    def test_black_hole(self):
        """A link that does not fragment swallows what is too large."""
        self.build(mtu=1400, fragmentation=False)
        self.send(1, size=1372)
        self.send(1, size=1373)
        self.assertEqual(len(self.numbers), 1)
        self.assertEqual(self.world.trace.verdicts["larger than the MTU"], 1)

    def test_cut(self):
        """A cut link carries nothing until it is restored."""
        self.build()
        self.host.link.cut()
        self.send(1)
        self.host.link.restore()
        self.send(1)
        self.assertEqual(self.world.trace.verdicts, {"link down": 1, "delivered": 1})

    def test_configure(self):
        """A link can change while the world runs."""
        self.build()
        self.send(1)
        self.host.link.configure(latency=1.0)
        self.send(1)
        self.assertAlmostEqual(self.times[1], 1.001)

    def test_bad_profile(self):
        """Impossible values are refused."""
        self.assertRaises(ValueError, LinkProfile, loss=1.0)
        self.assertRaises(ValueError, LinkProfile, latency=-1.0)
        self.assertRaises(ValueError, LinkProfile, duplication=-0.1)

    def test_same_seed_same_trace(self):
        """Equal seeds give equal traces, other seeds others."""
        traces = []
        for seed in (1, 1, 2):
            self.build(
                seed=seed, jitter=0.01, loss=0.1, reordering=0.1, duplication=0.1
            )
            self.send(300)
            traces.append([str(record) for record in self.world.trace])
        self.assertEqual(traces[0], traces[1])
        self.assertNotEqual(traces[0], traces[2])

    def test_links_are_independent(self):
        """What another link carries does not change the fate of packets on this."""
        fates = []
        for others in (0, 20):
            self.build(loss=0.3)
            realm = Realm(self.host.interfaces[0].network, LinkProfile(loss=0.5))
            noise = Datagrams()
            realm.host("203.0.113.9").reactor.listenUDP(5, noise)
            for _ in range(others):
                noise.transport.write(b"noise", (B, 6))
            self.send(100)
            fates.append(self.numbers)
        self.assertEqual(fates[0], fates[1])
