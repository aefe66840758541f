"""What this machine knows of its network, and notices of changes."""

from __future__ import annotations

import socket

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dwcloud.interfaces import ILocalNetwork, LocalAddress
from dwcloud.net.local_network import (
    NetworkWatch,
    SystemNetwork,
    local_network,
    read_gateway,
)
from dwcloud.testing import World

ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
wlan0	00000000	0101A8C0	0003	0	0	600	00000000	0	0	0
eth0	00000000	FE00A8C0	0003	0	0	100	00000000	0	0	0
eth0	0000A8C0	00000000	0001	0	0	100	00FFFFFF	0	0	0
tun0	00000000	00000000	0001	0	0	50	00000000	0	0	0
tun0	0000000A	0100000A	0003	0	0	50	000000FF	0	0	0
"""


class GatewayTests(SynchronousTestCase):
    """The table of routes of Linux."""

    def test_best(self) -> None:
        """The default route of least metric that has a router."""
        self.assertEqual(read_gateway(ROUTES, None), "192.168.0.254")

    def test_of_an_interface(self) -> None:
        """Only routes through it count."""
        self.assertEqual(read_gateway(ROUTES, {"wlan0"}), "192.168.1.1")
        self.assertIsNone(read_gateway(ROUTES, {"tun0"}))

    def test_none(self) -> None:
        """A machine without routes, or without such a table."""
        self.assertIsNone(read_gateway(ROUTES.splitlines()[0], None))
        self.assertIsNone(read_gateway("", None))


class NetworkTests(SynchronousTestCase):
    """Both implementations."""

    def test_system(self) -> None:
        """This machine has loopback."""
        network = local_network(Clock())
        self.assertIsInstance(network, SystemNetwork)
        verifyObject(ILocalNetwork, network)
        hosts = {address.host for address in network.localAddresses()}
        self.assertIn("127.0.0.1", hosts)
        self.assertIsNone(network.defaultGateway("127.0.0.1"))

    def test_simulated(self) -> None:
        """A simulated host knows its place, and is told of a new one."""
        world = World()
        home = world.internet().nat("198.51.100.1")
        host = home.host("192.168.1.5", name="host")
        network = local_network(host.reactor)
        verifyObject(ILocalNetwork, network)
        self.assertIn(LocalAddress("192.168.1.5", 24, "eth0"), network.localAddresses())
        self.assertEqual(network.defaultGateway(""), "192.168.1.1")
        self.assertEqual(network.defaultGateway("192.168.1.5"), "192.168.1.1")
        self.assertIsNone(network.defaultGateway("10.0.0.1"))
        told: list[float] = []
        stop = network.watchNetwork(lambda: told.append(world.seconds()))
        host.change_addresses(host.interfaces[0], ["192.168.1.6"])
        world.advance(1.0)
        stop()
        host.change_addresses(host.interfaces[0], ["192.168.1.7"])
        world.advance(1.0)
        self.assertEqual(len(told), 1)


class WatchTests(SynchronousTestCase):
    """Changes are told, once."""

    def setUp(self) -> None:
        self.world = World()
        self.reactor = self.world.lan().host("192.168.1.5").reactor
        self.seen: object = 1
        self.gap = 0.0
        self.told = 0
        self.watch = NetworkWatch(
            self.reactor,
            lambda: self.seen,
            self.changed,
            clock_gap=lambda: self.gap,
        )
        self.watch.start()

    def changed(self) -> None:
        """Count."""
        self.told += 1

    def test_looking(self) -> None:
        """Where nobody tells, looking finds it within seconds."""
        self.world.advance(20.0)
        self.assertEqual(self.told, 0)
        self.seen = 2
        self.world.advance(5.0)
        self.assertEqual(self.told, 1)
        self.world.advance(60.0)
        self.assertEqual(self.told, 1)

    def test_sleep(self) -> None:
        """Time that passed without this program is a change of everything."""
        self.world.advance(11.0)
        self.gap = 100.0
        self.world.advance(5.0)
        self.assertEqual(self.told, 1)
        self.world.advance(60.0)
        self.assertEqual(self.told, 1)

    def test_stopped(self) -> None:
        """Afterwards nothing is told, and nothing is left."""
        self.watch.stop()
        self.seen, self.gap = 2, 100.0
        self.world.advance(60.0)
        self.assertEqual(self.told, 0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class NotificationTests(SynchronousTestCase):
    """A socket that tells when to look, as that of the kernel does."""

    def test_notified(self) -> None:
        """What it says is looked at once, after the changes have settled."""
        world = World()
        reactor = world.lan().host("192.168.1.5").reactor
        kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(kernel.close)
        ours.setblocking(False)
        seen, told = [0], []
        readers: list[object] = []
        reactor.addReader = readers.append  # type: ignore[method-assign, assignment]
        reactor.removeReader = readers.remove  # type: ignore[method-assign, assignment]
        watch = NetworkWatch(
            reactor,
            lambda: list(seen),
            lambda: told.append(world.seconds()),
            listen=lambda: ours,
        )
        watch.start()
        (reader,) = readers
        for number in range(3):
            seen[0] = number + 1
            kernel.send(b"changed")
            reader.doRead()  # type: ignore[attr-defined]
            world.advance(0.05)
        self.assertEqual(told, [])
        world.advance(1.0)
        self.assertEqual(len(told), 1)
        kernel.send(b"changed, but not what matters")
        reader.doRead()  # type: ignore[attr-defined]
        world.advance(1.0)
        self.assertEqual(len(told), 1)
        watch.stop()
        self.assertEqual((readers, ours.fileno()), ([], -1))
