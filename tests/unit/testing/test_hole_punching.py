"""The hole-punching table of NAT kinds, made by plain datagrams in the simulator."""

import itertools

from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.testing import NAT_KINDS, Filtering, Firewall, World
from tests.nat_table import KINDS, entry


class Mediator(DatagramProtocol):
    """Tells both peers the address it saw of the other."""

    def __init__(self, reactor, delay):
        self.reactor = reactor
        self.delay = delay
        self.seen = []

    def datagramReceived(self, datagram, addr):
        self.seen.append(addr)
        if len(self.seen) == 2:
            self.tell(*self.seen)
            self.reactor.callLater(self.delay, self.tell, *reversed(self.seen))

    def tell(self, to, other):
        self.transport.write(f"peer {other[0]} {other[1]}".encode(), to)


class Puncher(DatagramProtocol):
    """Sends every 50 ms to the address it was told and to any it hears from."""

    def __init__(self, reactor):
        self.reactor = reactor
        self.targets = {}
        self.heard = set()
        self.confirmed = False

    def datagramReceived(self, datagram, addr):
        words = datagram.decode().split()
        if words[0] == "peer":
            self.targets[words[1], int(words[2])] = True
            self.punch()
            return
        self.heard.add(addr)
        self.targets[addr] = True
        self.confirmed = self.confirmed or words[0] == "heard"

    def punch(self):
        for target in self.targets:
            text = b"heard" if target in self.heard else b"hello"
            self.transport.write(text, target)
        self.reactor.callLater(0.05, self.punch)


def behind(internet, kind, number):
    """Return a host behind a NAT of this kind."""
    address = f"198.51.{number}.1"
    if kind == "open":
        return internet.host(address)
    if kind == "firewall":
        return internet.firewall(f"198.51.{number}.0/24").host(f"198.51.{number}.9")
    return internet.nat(address, NAT_KINDS[kind]).host("192.168.1.10")


def punch(first, second, *, build=behind, delay=0.0):
    """Return the world and both peers after three seconds of trying.

    :param delay: how much later than the first the second peer gets its answer.
    """
    world = World(seed=1)
    internet = world.internet()
    reactor = internet.host("203.0.113.1", name="mediator").reactor
    reactor.listenUDP(3345, Mediator(reactor, delay))
    peers = []
    for number, kind in enumerate((first, second), 1):
        host = build(internet, kind, number)
        peer = Puncher(host.reactor)
        host.reactor.listenUDP(6000, peer)
        peers.append(peer)
    peers[0].transport.write(b"hello", ("203.0.113.1", 3345))
    world.run_until_idle()
    peers[1].transport.write(b"hello", ("203.0.113.1", 3345))
    world.advance(3.0)
    return world, peers


class HolePunchingTests(SynchronousTestCase):
    """The simulator agrees with theory and with kernel NATs."""

    def assertPunched(self, first, second, expected, **kwargs):
        _, peers = punch(first, second, **kwargs)
        connected = [peer.confirmed for peer in peers]
        self.assertEqual(
            all(connected), expected, f"{first} with {second}: {connected}"
        )

    def test_table(self):
        """Every pair of kinds comes out as the table says."""
        for first, second in itertools.product(KINDS, KINDS):
            expected = entry(first, second)
            if expected != "race":
                self.assertPunched(first, second, expected == "ok")

    def test_race(self):
        """A Linux router without firewall works if it is first, not if it is late."""
        self.assertPunched("linux-nofw", "port-restricted", True, delay=0.1)
        self.assertPunched("port-restricted", "linux-nofw", False, delay=0.1)

    def test_traffic_is_direct(self):
        """What the peers say to each other does not pass the mediator."""
        world, _ = punch("port-restricted", "full-cone")
        a, b = "192.168.1.10", "192.168.1.10 2"
        self.assertGreater(world.trace.bytes_carried(a, b), 100)
        self.assertEqual(
            world.trace.bytes_carried("mediator", a), len("peer 198.51.2.1 6000")
        )

    def test_carrier(self):
        """Behind two NATs the stricter one counts."""

        def build(internet, kind, number):
            if kind == "symmetric":
                return behind(internet, kind, number)
            carrier = internet.nat(
                f"198.51.{number}.1", NAT_KINDS["port-restricted"], lan="100.64.0.0/10"
            )
            return carrier.nat("100.64.0.2", NAT_KINDS[kind]).host("192.168.1.10")

        self.assertPunched("full-cone", "full-cone", True, build=build)
        self.assertPunched("full-cone", "symmetric", False, build=build)

    def test_same_lan(self):
        """Behind one NAT the public addresses work with hairpinning only."""
        for hairpinning in (True, False):
            lans = []

            def build(internet, kind, number, hairpinning=hairpinning, lans=lans):
                if not lans:
                    lans.append(internet.nat("198.51.1.1", hairpinning=hairpinning))
                return lans[0].host(f"192.168.1.{number + 9}")

            self.assertPunched("", "", hairpinning, build=build)

    def test_blocked_udp(self):
        """Where UDP is blocked nothing comes back."""

        def build(internet, kind, number):
            if kind != "blocked":
                return behind(internet, kind, number)
            wall = Firewall(block_udp=True, filtering=Filtering.ENDPOINT_INDEPENDENT)
            home = internet.nat("198.51.9.1", firewall=wall)
            return home.host("192.168.1.10")

        self.assertPunched("blocked", "open", False, build=build)
