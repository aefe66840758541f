"""A server's lasting connection to its mediator, on a simulated Internet."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.mediator.configuration import AllowListed, MediatorConfiguration
from dwcloud.peer.mediator_link import LinkState, ReconnectPolicy
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.messages import Bind, Replaced
from dwcloud.protocol.mediation.parameters import ConnectionParameters, KeepAlive
from dwcloud.protocol.stun.sealing import Unsealed
from tests.unit.mediator.world import IDENTITIES, MediatedWorld


class RegistrationTests(SynchronousTestCase):
    """Coming online."""

    def test_online(self) -> None:
        """A server registers, learns what the mediator tells, and binds addresses."""
        parameters = ConnectionParameters(relay_grace=1.5)
        world = MediatedWorld(
            MediatorConfiguration(parameters=parameters, relay_urls=("http://r:1",))
        )
        server = world.online_server()
        [response] = server.online
        self.assertEqual(response.parameters, parameters)
        self.assertEqual(response.relay_urls, ("http://r:1",))
        self.assertIs(server.link.status.state, LinkState.ONLINE)
        self.assertEqual(
            world.record(server).addresses.tcp_endpoints,
            (Address("198.51.100.2", 7001),),
        )

    def test_addresses_change(self) -> None:
        """New addresses are told at once, the same ones are not told again."""
        world = MediatedWorld()
        server = world.online_server()
        bound = world.record(server).addresses
        server.link.set_endpoints([Address("198.51.100.2", 7001)], [server.address])
        world.world.advance(1.0)
        self.assertIs(world.record(server).addresses, bound)
        server.link.set_endpoints(
            [], [server.address], forwarded=[Address("203.0.113.1", 80)], uplink_rate=9
        )
        world.world.advance(1.0)
        addresses = world.record(server).addresses
        self.assertEqual(addresses.forwarded_endpoints, (Address("203.0.113.1", 80),))
        self.assertEqual(addresses.tcp_endpoints, ())
        self.assertEqual(addresses.uplink_rate, 9)

    def test_too_many_addresses(self) -> None:
        """A machine with many addresses reports the first of them."""
        world = MediatedWorld()
        server = world.online_server()
        many = [Address("192.0.2.1", port) for port in range(1, 40)]
        server.link.set_endpoints(many, many)
        world.world.advance(1.0)
        reported = world.record(server).addresses.tcp_endpoints
        self.assertEqual(reported, tuple(many[:16]))

    def test_refused_by_policy(self) -> None:
        """A server that must not register is told why, and tries again slowly."""
        world = MediatedWorld(
            MediatorConfiguration(policy=AllowListed(frozenset()), relay_urls=())
        )
        server = world.server()
        world.world.advance(4.0)
        self.assertEqual(server.online, [])
        # Waits of 0.5, 1 and 2 seconds lie between the attempts.
        self.assertEqual(len(server.offline), 4)
        self.assertIn("403 Forbidden", server.offline[0])
        self.assertEqual(world.snapshot["refused_registrations"], 4)

    def test_newer_listen_replaces(self) -> None:
        """A second process with the same identity takes the place of the first."""
        world = MediatedWorld()
        first = world.online_server("198.51.100.2")
        second = world.server("198.51.100.4")
        world.world.run_until(lambda: second.online, 5.0)
        world.world.run_until(lambda: first.offline, 0.2)
        self.assertEqual(world.snapshot["replacements"], 1)
        self.assertEqual(world.snapshot["servers_online"], 1)
        self.assertEqual(
            first.offline,
            ["another server with the same identity registered; stop one of them"],
        )
        self.assertIs(first.link.status.state, LinkState.WAITING)
        self.assertEqual(first.link.status.reason, first.offline[0])

    def test_two_with_one_identity_take_turns_slowly(self) -> None:
        """Neither comes back within a minute, however long it was online before."""
        world = MediatedWorld()
        first = world.online_server("198.51.100.2")
        world.world.advance(30.0)
        second = world.online_server("198.51.100.4")
        replaced_at = world.world.seconds()
        world.world.advance(58.0)
        self.assertEqual(len(first.online), 1)
        self.assertEqual(second.offline, [])
        world.world.run_until(lambda: len(first.online) == 2, 5.0)
        self.assertGreaterEqual(world.world.seconds() - replaced_at, 59.0)
        world.world.run_until(lambda: second.offline, 1.0)
        world.world.advance(600.0)
        self.assertLessEqual(world.snapshot["registrations"], 2 + 11)
        self.assertEqual(world.snapshot["servers_online"], 1)

    def test_comes_back_alone(self) -> None:
        """Once the double is stopped, the other one comes back and stays."""
        world = MediatedWorld()
        first = world.online_server("198.51.100.2")
        second = world.online_server("198.51.100.4")
        world.world.run_until(second.link.stopService(), 1.0)
        world.world.run_until(lambda: len(first.online) == 2, 61.0)
        world.world.advance(300.0)
        self.assertEqual(len(first.offline), 1)
        self.assertEqual(world.snapshot["servers_online"], 1)

    def test_replaced_without_the_key(self) -> None:
        """A forged notice, not sealed, is not believed."""
        world = MediatedWorld()
        server = world.online_server()
        connection = world.record(server).channel._connection
        connection.sealing = Unsealed()
        connection.sendMessage(Replaced().to_stun(bytes(12)))
        world.world.run_until(lambda: len(server.online) == 2, 3.0)
        self.assertEqual(len(server.offline), 1)
        self.assertNotIn("same identity", server.offline[0])

    def test_two_servers_of_a_system(self) -> None:
        """Servers with different keys do not disturb each other."""
        world = MediatedWorld()
        world.online_server("198.51.100.2", IDENTITIES[0])
        world.online_server("198.51.100.4", IDENTITIES[1])
        self.assertEqual(world.snapshot["servers_online"], 2)
        self.assertEqual(world.snapshot["replacements"], 0)


class PersistenceTests(SynchronousTestCase):
    """Staying online."""

    def test_reconnects(self) -> None:
        """A restarted mediator gets the server and its addresses back."""
        world = MediatedWorld()
        server = world.online_server()
        world.world.advance(20.0)
        world.restart()
        world.world.run_until(lambda: len(server.online) == 2, 3.0)
        world.world.advance(0.5)
        self.assertEqual(len(server.offline), 1)
        self.assertEqual(len(world.record(server).addresses.tcp_endpoints), 1)

    def test_never_gives_up(self) -> None:
        """The waits double to a minute, and an hour later it still connects."""
        world = MediatedWorld()
        server = world.online_server()
        world.world.advance(20.0)
        world.world.run_until(world.service.stopService(), 1.0)
        world.world.advance(3600.0)
        # At 0.5, 1, 2, 4 ... 32 seconds, then each minute.
        self.assertGreater(len(server.offline), 60)
        self.assertLess(len(server.offline), 72)
        self.assertIn("198.51.100.1:3345", server.offline[-1])
        world.start()
        world.world.run_until(lambda: len(server.online) == 2, 61.0)

    def test_silent_mediator(self) -> None:
        """A dead connection is noticed after 10 + 3 x 10 seconds without an answer."""
        world = MediatedWorld()
        server = world.online_server()
        world.host.link.cut()
        started = world.world.seconds()
        world.world.run_until(lambda: server.offline, 60.0)
        self.assertIn("the mediator fell silent", server.offline[0])
        waited = world.world.seconds() - started
        self.assertApproximates(waited, 40.0, 1.0)
        world.host.link.restore()
        world.world.run_until(lambda: len(server.online) == 2, 120.0)

    def test_silent_server(self) -> None:
        """The mediator, too, drops a server that fell silent."""
        world = MediatedWorld(MediatorConfiguration(keep_alive=KeepAlive(2.0, 1.0, 2)))
        server = world.online_server()
        server.host.power_off()
        world.world.advance(8.0)
        self.assertEqual(world.snapshot["servers_online"], 1)
        world.world.advance(2.0)
        self.assertEqual(world.snapshot["servers_online"], 0)
        self.assertEqual(world.snapshot["servers_silent"], 1)

    def test_busy_stays_online(self) -> None:
        """A server that is wanted all the time is not taken for a silent one."""
        world = MediatedWorld()
        server = world.online_server()
        client = world.client()
        for _ in range(60):
            world.world.run_until(client.connect(server.identity.name), 5.0)
            world.world.advance(5.0)
        self.assertGreater(len(server.requests), 59)
        self.assertEqual(server.offline, [])
        self.assertEqual(world.snapshot["servers_silent"], 0)

    def test_idle_stays_online(self) -> None:
        """An hour without events changes nothing."""
        world = MediatedWorld()
        server = world.online_server()
        world.world.advance(3600.0)
        self.assertEqual(server.offline, [])
        self.assertEqual(world.snapshot["servers_online"], 1)

    def test_stop(self) -> None:
        """A stopped link disconnects, says nothing more, and leaves no timer."""
        world = MediatedWorld()
        server = world.online_server()
        world.world.run_until(server.link.stopService(), 1.0)
        world.world.advance(1.0)
        self.assertEqual(server.offline, [])
        self.assertEqual(world.snapshot["servers_online"], 0)
        self.assertEqual(list(server.reactor.getDelayedCalls()), [])
        self.assertIs(server.link.status.state, LinkState.STOPPED)

    def test_bind_retried(self) -> None:
        """A bind that failed is sent again after 60 seconds."""
        world = MediatedWorld()
        server = world.online_server()
        connection = world.record(server).channel
        refuse = RemoteProtocolError("no room", 503)
        bound: list[Bind] = []

        def refuse_once(bind: Bind) -> None:
            bound.append(bind)
            if len(bound) == 1:
                raise refuse

        connection._control._core.on_bound = refuse_once
        server.link.set_endpoints([Address("198.51.100.2", 7002)], [])
        world.world.advance(59.0)
        self.assertEqual(len(bound), 1)
        world.world.advance(2.0)
        self.assertEqual(bound, [bound[0]] * 2)
        world.world.advance(120.0)
        self.assertEqual(len(bound), 2)


class ReconnectPolicyTests(SynchronousTestCase):
    """The waits between attempts."""

    def test_doubles(self) -> None:
        """From half a second to a minute."""
        policy = ReconnectPolicy(lambda: 0.0)
        waits = [policy(1) for _ in range(10)]
        self.assertEqual(waits[:4], [0.5, 1.0, 2.0, 4.0])
        self.assertEqual(waits[-1], 60.0)

    def test_jitter(self) -> None:
        """Chance takes off at most half, so that servers do not come all at once."""
        policy = ReconnectPolicy(lambda: 1.0)
        self.assertEqual(policy(1), 0.25)

    def test_reset(self) -> None:
        """After success it begins anew."""
        policy = ReconnectPolicy(lambda: 0.0)
        policy(1), policy(2)
        policy.reset()
        self.assertEqual(policy(1), 0.5)

    def test_hold(self) -> None:
        """One wait is a minute at least; then it goes on as before."""
        for chance, wait in ((0.0, 60.0), (1.0, 90.0)):
            policy = ReconnectPolicy(lambda chance=chance: chance)
            policy.hold()
            self.assertEqual(policy(1), wait)
            self.assertEqual(policy(1), 0.5 * (1.0 - chance / 2.0))

    def test_mediator_asks_for_patience(self) -> None:
        """The least wait can be longer, after an outage."""
        policy = ReconnectPolicy(lambda: 0.0)
        policy.least = 5.0
        self.assertEqual(policy(1), 5.0)
