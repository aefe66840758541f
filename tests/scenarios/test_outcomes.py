"""What the mediator learns of connections that real servers and clients made."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.peer.client import CloudClient, ConnectOptions
from dwcloud.peer.server import CloudServer
from dwcloud.protocol.log_ids import log_id
from dwcloud.testing.firewall import Firewall
from dwcloud.testing.nat import PORT_RESTRICTED, SYMMETRIC, NATBehaviour
from tests.scenarios.cloud_world import CloudWorld, Download


class OutcomeTests(SynchronousTestCase):
    """Paths and NATs as the mediator counts them."""

    def start(
        self, server_nat: NATBehaviour, client_nat: NATBehaviour
    ) -> tuple[CloudServer, CloudClient]:
        self.cloud = CloudWorld()
        internet = self.cloud.internet
        server_host = internet.nat("198.51.100.1", server_nat).host("192.168.1.10")
        self.client_host = internet.nat("198.51.100.2", client_nat).host("192.168.1.20")
        server = self.cloud.serve(server_host, lan=False, portMapping=())
        self.cloud.wait_online(server_host)
        # The server finds out how its NAT filters.
        self.cloud.world.advance(20.0)
        return server, self.cloud.client(self.client_host, lan=False)

    def test_hole(self) -> None:
        """A hole through two usual NATs."""
        server, client = self.start(PORT_RESTRICTED, PORT_RESTRICTED)
        report, _ = self.cloud.download(client, server)
        self.assertEqual(report.path, "udp")
        self.cloud.world.advance(3.0)
        outcomes = self.cloud.mediator.mediator.outcomes
        self.assertEqual(outcomes.results(), {"udp": 1})
        [(client_kind, server_kind, what)] = outcomes.punches
        self.assertIn(client_kind, ("port-restricted", "unknown"))
        self.assertEqual((server_kind, what), ("port-restricted", "direct"))

    def test_relayed(self) -> None:
        """Two that give each flow another port at random; their kinds are told."""
        server, client = self.start(SYMMETRIC, SYMMETRIC)
        report, _ = self.cloud.download(client, server)
        self.assertEqual(report.path, "relay")
        self.cloud.world.advance(5.0)
        outcomes = self.cloud.mediator.mediator.outcomes
        self.assertEqual(outcomes.results()["relay"], 1)
        self.assertEqual(outcomes.punches["symmetric", "symmetric", "relayed"], 1)

    def test_udp_blocked(self) -> None:
        """Where no UDP passes, the outcome arrives all the same."""
        server, client = self.start(PORT_RESTRICTED, PORT_RESTRICTED)
        self.client_host.firewall = Firewall(block_udp=True)
        report, _ = self.cloud.download(client, server)
        self.assertEqual(report.path, "relay")
        self.cloud.world.advance(3.0)
        outcomes = self.cloud.mediator.mediator.outcomes
        self.assertEqual(outcomes.results(), {"relay": 1})
        self.assertEqual(
            outcomes.punches, {("udp-blocked", "port-restricted", "relayed"): 1}
        )

    def test_at_the_end(self) -> None:
        """A client that fails and ends at once has told why before it is gone."""
        server, client = self.start(PORT_RESTRICTED, PORT_RESTRICTED)
        self.client_host.firewall = Firewall(block_udp=True)
        connecting = client.connect(
            server.identity.name,
            "web",
            Factory.forProtocol(Download),
            ConnectOptions(path="udp", timeout=4.0),
        )
        stopped: list[Deferred[None]] = []

        def failed(reason: object) -> None:
            stopped.append(client.stop())

        connecting.addErrback(failed)
        self.cloud.world.run_until(lambda: stopped, 10.0)
        self.cloud.world.run_until(stopped[0], 3.0)
        results = self.cloud.mediator.mediator.outcomes.results()
        self.assertEqual(sum(results.values()), 1, results)


class SecrecyTests(SynchronousTestCase):
    """The id that admits to a server stays with client, server and mediator."""

    def test_logs_and_relay(self) -> None:
        """Neither a log nor the relay gets it; all of them get its name."""
        cloud = CloudWorld()
        internet = cloud.internet
        server_host = internet.nat("198.51.100.1", SYMMETRIC).host("192.168.1.10")
        client_host = internet.nat("198.51.100.2", SYMMETRIC).host("192.168.1.20")
        logged: list[str] = []

        def observe(event: LogEvent) -> None:
            logged.append(f"{event.get('log_namespace')} {formatEvent(event)}")

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        server = cloud.serve(server_host, lan=False, portMapping=())
        cloud.wait_online(server_host)
        client = cloud.client(client_host, lan=False)
        report, _ = cloud.download(client, server)
        self.assertEqual(report.path, "relay")
        [session] = cloud.mediator.mediator.sessions._sessions
        name = log_id(session)
        self.assertEqual(report.connect_session_id, name)
        self.assertEqual([line for line in logged if str(session) in line], [])
        for place in ("mediator.mediator", "relay.switchboard", "peer.race", "peer.ac"):
            found = [line for line in logged if f"dwcloud.{place}" in line]
            self.assertTrue(any(name in line for line in found), place)
