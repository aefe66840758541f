"""Ports kept mapped at simulated routers of every kind."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.probes import Part
from dwcloud.cli.router_probe import look_at_router
from dwcloud.errors import ConfigurationError
from dwcloud.peer.port_mapping import CHECK_INTERVAL, SEARCH_INTERVAL, PortMapper
from dwcloud.peer.port_mappings import METHODS, PortMappings, read_methods
from dwcloud.protocol.port_mapping.mappings import MappedPort, Transport
from dwcloud.testing import UDP, World
from tests.unit.peer.mapping_router import MappingRouter
from tests.unit.peer.upnp_router import UPnPRouter

WEB = MappedPort(Transport.TCP, 4000)
PUNCH = MappedPort(Transport.UDP, 4001)
FIRST, SECOND = "198.51.100.1", "198.51.100.77"


class MapperTestCase(SynchronousTestCase):
    """A host and a router in a LAN."""

    def setUp(self) -> None:
        self.world = World()
        self.lan = self.world.lan()
        self.router = self.lan.host("192.168.1.1", name="router")
        self.host = self.lan.host("192.168.1.2", name="host")
        self.lan.network.gateway = self.router.interfaces[0]
        self.told: list[PortMappings] = []

    def start(self, *methods: str) -> PortMapper:
        """Keep the two ports mapped."""
        self.mapper = PortMapper(
            self.host.reactor,
            [WEB, PUNCH],
            self.told.append,
            methods=methods or METHODS,
            random_bytes=self.world.random_bytes,
        )
        self.mapper.startService()
        return self.mapper

    def assertMapped(self, host: str, web: int = 4000) -> None:
        """Both ports lead to the host, as was told last."""
        self.assertEqual(self.told[-1], self.mapper.mappings)
        self.assertEqual(
            self.mapper.mappings.external, {WEB: (host, web), PUNCH: (host, 4001)}
        )


class PortControlTests(MapperTestCase):
    """PCP and NAT-PMP."""

    def test_both_protocols(self) -> None:
        """Both ports are mapped at once, and given back at the end."""
        for version, name in ((2, "PCP"), (0, "NAT-PMP")):
            self.setUp()
            daemon = MappingRouter(self.router, version)
            mapper = self.start()
            self.world.advance(1.0)
            self.assertMapped(FIRST)
            self.assertEqual(mapper.mappings.router, f"{name} at 192.168.1.1")
            self.assertEqual(len(daemon.mappings), 2)
            self.world.run_until(mapper.stopService())
            self.assertEqual(daemon.mappings, {})
            self.assertEqual(self.told[-1], PortMappings())
            self.world.advance(0.1)
            self.assertEqual(self.host.reactor.getDelayedCalls(), [])

    def test_renewed(self) -> None:
        """The router sees the ports again before it forgets them."""
        for version in (2, 0):
            self.setUp()
            daemon = MappingRouter(self.router, version)
            daemon.lease = 100
            self.start()
            self.world.advance(1.0)
            for _ in range(10):
                daemon.mappings.clear()
                self.world.advance(51.0)
                self.assertEqual(len(daemon.mappings), 2)
            self.assertMapped(FIRST)

    def test_restart(self) -> None:
        """A router that restarts with another address is noticed by its clock."""
        for version in (2, 0):
            self.setUp()
            daemon = MappingRouter(self.router, version)
            self.start()
            self.world.advance(30.0)
            daemon.restart(SECOND)
            self.world.advance(CHECK_INTERVAL)
            self.assertMapped(SECOND)
            self.assertEqual(len(daemon.mappings), 2)

    def test_announcement(self) -> None:
        """One that tells of it is noticed at once."""
        for version in (2, 0):
            self.setUp()
            daemon = MappingRouter(self.router, version)
            self.start()
            self.world.advance(30.0)
            daemon.restart(SECOND)
            daemon.announce()
            self.world.advance(1.0)
            self.assertMapped(SECOND)

    def test_refused(self) -> None:
        """A router that allows nothing is asked by every protocol, then left alone."""
        daemon = MappingRouter(self.router)
        daemon.refuses = 2
        mapper = self.start()
        self.world.advance(10.0)
        self.assertIn("not authorized", mapper.reason)
        self.assertIn("upnp", mapper.reason)
        asked = daemon.asked
        self.world.advance(SEARCH_INTERVAL - 20.0)
        self.assertEqual((daemon.asked, self.told), (asked, []))

    def test_router_goes_away(self) -> None:
        """What a silent router mapped is not told any longer, until it is back."""
        daemon = MappingRouter(self.router)
        mapper = self.start()
        self.world.advance(1.0)
        daemon.close()
        self.world.advance(CHECK_INTERVAL + 20.0)
        self.assertEqual(mapper.mappings, PortMappings())
        daemon = MappingRouter(self.router)
        self.world.advance(SEARCH_INTERVAL + CHECK_INTERVAL)
        self.assertMapped(FIRST)

    def test_other_network(self) -> None:
        """In another network the router there is asked, the old one forgotten."""
        daemon = MappingRouter(self.router)
        mapper = self.start()
        self.world.advance(1.0)
        daemon.restart(SECOND)
        mapper.network_changed()
        self.assertEqual(mapper.mappings, PortMappings())
        self.world.advance(1.0)
        self.assertMapped(SECOND)

    def test_stopped_early(self) -> None:
        """Stopping while the router is looked for leaves nothing behind."""
        for wait in (0.0, 0.1, 1.0, 9.0, 20.0):
            mapper = self.start()
            self.world.advance(wait)
            self.world.run_until(mapper.stopService())
            self.world.advance(0.1)
            self.assertEqual(self.host.reactor.getDelayedCalls(), [], wait)
            self.assertEqual(self.host.reactor.getReaders(), [], wait)

    def test_silent_goodbye(self) -> None:
        """A router that answers no more holds nobody up."""
        daemon = MappingRouter(self.router)
        mapper = self.start()
        self.world.advance(1.0)
        daemon.close()
        self.router.power_off()
        before = self.world.seconds()
        self.world.run_until(mapper.stopService())
        self.assertLess(self.world.seconds() - before, 2.5)


class UPnPTests(MapperTestCase):
    """UPnP gateways of both versions."""

    def test_both_versions(self) -> None:
        """Mapped, and given back."""
        for version in (1, 2):
            self.setUp()
            router = UPnPRouter(self.router, version)
            mapper = self.start()
            self.world.advance(10.0)
            self.assertMapped(FIRST)
            self.assertEqual(mapper.mappings.router, "UPnP-IGD at 192.168.1.1")
            self.assertEqual(router.mappings["TCP", 4000], (4000, 3600))
            self.world.run_until(mapper.stopService())
            self.assertEqual(router.mappings, {})

    def test_conflict(self) -> None:
        """Where the port is taken another one is found."""
        for version in (1, 2):
            self.setUp()
            router = UPnPRouter(self.router, version)
            router.taken = {4000}
            mapper = self.start()
            self.world.advance(10.0)
            port = mapper.mappings.external[WEB].port
            self.assertNotEqual(port, 4000)
            self.assertEqual(router.mappings["TCP", port][0], 4000)

    def test_permanent_leases(self) -> None:
        """A router without leases gets mappings without end, which end all the same."""
        router = UPnPRouter(self.router)
        router.permanent = True
        mapper = self.start("upnp")
        self.world.advance(5.0)
        self.assertMapped(FIRST)
        self.assertEqual(router.mappings["UDP", 4001], (4001, 0))
        self.world.run_until(mapper.stopService())
        self.assertEqual(router.mappings, {})

    def test_address_changes(self) -> None:
        """The address is asked for regularly."""
        router = UPnPRouter(self.router)
        self.start("upnp")
        self.world.advance(5.0)
        router.external = SECOND
        self.world.advance(CHECK_INTERVAL)
        self.assertMapped(SECOND)

    def test_not_connected(self) -> None:
        """A gateway without an address of its own maps nothing."""
        UPnPRouter(self.router).external = "0.0.0.0"
        mapper = self.start("upnp")
        self.world.advance(10.0)
        self.assertEqual(self.told, [])
        self.assertIn("no public address", mapper.reason)

    def test_only_the_router(self) -> None:
        """Another machine that answers the search, or is named by it, is not asked."""
        stranger = self.lan.host("192.168.1.9", name="stranger")
        false = UPnPRouter(stranger)
        mapper = self.start("upnp")
        self.world.advance(10.0)
        self.assertEqual(mapper.mappings, PortMappings())
        router = UPnPRouter(self.router)
        router.location = false.location
        mapper.network_changed()
        self.world.advance(10.0)
        self.assertEqual((mapper.mappings, false.mappings), (PortMappings(), {}))


class ProbeTests(MapperTestCase):
    """``dwcloud status --router``."""

    def look(self) -> Part:
        """Look, and leave nothing behind."""
        looking = Deferred.fromCoroutine(look_at_router(self.host.reactor, ""))
        part = self.world.run_until(looking, 20.0)
        assert part is not None
        self.world.advance(0.1)
        self.assertEqual(self.host.reactor.getDelayedCalls(), [])
        self.assertEqual(self.host.reactor.getReaders(), [])
        return part

    def test_found(self) -> None:
        """The protocol and the address are told, and the port is given back."""
        daemon = MappingRouter(self.router)
        part = self.look()
        self.assertEqual(
            part.values, {"router": "PCP at 192.168.1.1", "address": FIRST}
        )
        self.assertEqual(daemon.mappings, {})
        self.assertNotIn("another router", part.text)
        for external in ("10.0.0.7", "100.64.1.1"):
            daemon.external = external
            self.assertIn("another router", self.look().text)

    def test_none(self) -> None:
        """Why there is none is told, and is no error."""
        part = self.look()
        self.assertTrue(part.ok)
        self.assertIn("no UPnP gateway", part.text)
        self.lan.network.gateway = None
        self.assertIn("this machine has no router", self.look().text)


class NothingTests(MapperTestCase):
    """Networks without such a router."""

    def test_costs_little(self) -> None:
        """A dozen packets every ten minutes, and not a word to the user."""
        self.start()
        self.world.advance(SEARCH_INTERVAL - 1.0)
        self.assertEqual(self.told, [])
        sent = [p for p in self.world.trace if p.origin == "host"]
        self.assertLess(len(sent), 16)
        self.assertEqual({p.protocol for p in sent}, {UDP})

    def test_no_router(self) -> None:
        """A network without a router is asked nothing at all."""
        self.lan.network.gateway = None
        mapper = self.start()
        self.world.advance(SEARCH_INTERVAL * 2)
        self.assertEqual(mapper.reason, "this machine has no router")
        self.assertEqual(list(self.world.trace), [])


class MethodTests(SynchronousTestCase):
    """What people may write."""

    def test_words(self) -> None:
        """One protocol, all or none."""
        self.assertEqual(read_methods("any"), METHODS)
        self.assertEqual(read_methods("no"), ())
        self.assertEqual(read_methods("nat-pmp"), ("nat-pmp",))
        with self.assertRaises(ConfigurationError) as caught:
            read_methods("igd")
        self.assertIn("any, pcp, nat-pmp, upnp, no", str(caught.exception))
