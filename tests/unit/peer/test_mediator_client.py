"""A client's questions to the mediator, on a simulated Internet."""

from __future__ import annotations

import uuid

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import (
    AllAttemptsFailed,
    ConnectTimeout,
    IdentityMismatch,
    MediatorUnreachable,
    PeerOffline,
    PeerUnknown,
    ServerDidNotAnswer,
)
from dwcloud.mediator.configuration import MediatorConfiguration
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.mediator_client import MediatorClient, result_code_of
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.result_codes import ResultCode
from dwcloud.protocol.nat import Mapping, NATSummary
from dwcloud.testing.firewall import Firewall
from dwcloud.testing.nat import Filtering
from tests.unit.mediator.world import IDENTITIES, SYSTEM, MediatedWorld, SimulatedClient


def _no_udp() -> Firewall:
    """Let no UDP out, and all connections of before go on."""
    return Firewall(block_udp=True, filtering=Filtering.ENDPOINT_INDEPENDENT)


class IntroductionTests(SynchronousTestCase):
    """Asking for a server."""

    def test_introduced(self) -> None:
        """Client and server learn each other's addresses, the punched ones first."""
        world = MediatedWorld()
        server, client = world.online_server(), world.client()
        session = uuid.UUID(int=5)
        started = world.world.seconds()
        response = world.world.run_until(
            client.connect(server.identity.name, session), 5.0
        )
        self.assertEqual(response.server, server.identity.name)
        self.assertEqual(response.udp_endpoints, (server.address,))
        self.assertEqual(response.tcp_endpoints, (Address("198.51.100.2", 7001),))
        self.assertEqual(response.relay_urls, ("http://:3349",))
        [request] = server.requests
        self.assertEqual(request.session_id, session)
        self.assertEqual(request.client_name, "a client")
        self.assertEqual(request.udp_endpoints, (client.address,))
        # Two round trips of 20 ms: client and mediator, mediator and server.
        self.assertLess(world.world.seconds() - started, 0.1)
        self.assertEqual(world.tcp_connections_from(client), 0)

    def test_behind_nats(self) -> None:
        """Behind different NATs only the observed address is of use."""
        world = MediatedWorld()
        lan = world.internet.nat("203.0.113.7")
        server = world.online_server()
        client = SimulatedClient(lan.host("192.168.1.9"))
        response = world.world.run_until(client.connect(server.identity.name), 5.0)
        self.assertEqual(response.result, ResultCode.OK)
        [request] = server.requests
        self.assertEqual([a.host for a in request.udp_endpoints], ["203.0.113.7"])

    def test_any_server_of_a_system(self) -> None:
        """A system's name leads to its servers in turn."""
        world = MediatedWorld()
        world.online_server("198.51.100.2", IDENTITIES[0])
        world.online_server("198.51.100.4", IDENTITIES[1])
        client = world.client()
        names = set()
        for _ in range(2):
            response = world.world.run_until(client.connect(SYSTEM.name), 5.0)
            names.add(response.server)
        self.assertEqual(names, {identity.name for identity in IDENTITIES})

    def test_unknown(self) -> None:
        """Nobody of that name was ever there."""
        world = MediatedWorld()
        asking = world.client().connect(IDENTITIES[0].name)
        error = self.assertRaises(PeerUnknown, world.world.run_until, asking, 5.0)
        self.assertIn(str(IDENTITIES[0].name), str(error))

    def test_offline(self) -> None:
        """A server that was there and left is offline, and so is its system."""
        world = MediatedWorld()
        server, client = world.online_server(), world.client()
        world.world.run_until(server.link.stopService(), 1.0)
        world.world.advance(1.0)
        for name in (server.identity.name, SYSTEM.name):
            self.assertRaises(
                PeerOffline, world.world.run_until, client.connect(name), 5.0
            )

    def test_server_confirms_not(self) -> None:
        """After 3 seconds the answer comes without UDP addresses."""
        world = MediatedWorld()
        server, client = world.online_server(), world.client()
        server.host.firewall = _no_udp()
        started = world.world.seconds()
        response = world.world.run_until(client.connect(server.identity.name), 5.0)
        self.assertApproximates(world.world.seconds() - started, 3.0, 0.2)
        self.assertEqual(response.result, ResultCode.OK)
        self.assertEqual(response.udp_endpoints, ())
        self.assertEqual(len(response.tcp_endpoints), 1)
        self.assertEqual(world.snapshot["sessions_without_udp"], 1)

    def test_nothing_to_offer(self) -> None:
        """Without confirmation, TCP address and relay the server cannot be reached."""
        world = MediatedWorld(MediatorConfiguration(relay_urls=()))
        server, client = world.online_server(), world.client()
        server.link.set_endpoints([], [])
        server.host.firewall = _no_udp()
        world.world.advance(0.5)
        asking = client.connect(server.identity.name)
        self.assertRaises(ServerDidNotAnswer, world.world.run_until, asking, 5.0)

    def test_no_address_of_the_client(self) -> None:
        """The server is told of a client whose UDP does not get through, too."""
        world = MediatedWorld()
        server, client = world.online_server(), world.client()
        client.host.firewall = Firewall(block_udp=True)
        session = uuid.UUID(int=6)
        asking = client.connect(server.identity.name, session)
        response = world.world.run_until(asking, 5.0)
        self.assertEqual(response.udp_endpoints, (server.address,))
        [request] = server.requests
        # Only the client's own address: none was observed.
        self.assertEqual(request.udp_endpoints, (client.address,))
        self.assertEqual(world.tcp_connections_from(client), 1)


class DuplicateTests(SynchronousTestCase):
    """The request over UDP and over TCP."""

    def test_tcp_after_half_a_second(self) -> None:
        """Where UDP is blocked the answer comes over TCP, half a second later."""
        world = MediatedWorld()
        server, client = world.online_server(), world.client()
        client.host.firewall = Firewall(block_udp=True)
        started = world.world.seconds()
        world.world.run_until(client.connect(server.identity.name), 5.0)
        self.assertApproximates(world.world.seconds() - started, 0.55, 0.08)

    def test_one_session(self) -> None:
        """Request over UDP, answer lost, double over TCP: the server is asked once."""
        world = MediatedWorld()
        server, client = world.online_server(), world.client()
        # The client's firewall forgets that it asked: answers over UDP stay out.
        client.host.firewall = _OnlyOut()
        response = world.world.run_until(client.connect(server.identity.name), 5.0)
        self.assertEqual(response.udp_endpoints, (server.address,))
        [request] = server.requests
        self.assertEqual(request.udp_endpoints, (client.address,))
        self.assertEqual(world.snapshot["sessions_started"], 1)
        self.assertEqual(world.tcp_connections_from(client), 1)

    def test_udp_error(self) -> None:
        """Where the system refuses to send, TCP is tried at once."""
        world = MediatedWorld()
        client = SimulatedClient(world.world.lan().host("192.168.1.5"))
        started = world.world.seconds()
        asking = client.connect(SYSTEM.name)
        error = self.assertRaises(
            MediatorUnreachable, world.world.run_until, asking, 5.0
        )
        # Three ways of TCP fail one after the other, in 0.3 s each, and in 0.5 s where
        # a second tunnelling method was begun meanwhile.
        self.assertLess(world.world.seconds() - started, 1.5)
        self.assertIn("UDP: ", str(error))
        self.assertIn("TCP: ", str(error))

    def test_late_udp_tells_the_address(self) -> None:
        """When the double was faster the server learns the observed address later."""
        world = MediatedWorld()
        lan = world.internet.nat("203.0.113.7")
        server = world.online_server()
        client = SimulatedClient(lan.host("192.168.1.9"))
        client.host.firewall = Firewall(block_udp=True)
        asking = client.connect(server.identity.name)
        server.host.firewall = _no_udp()
        world.world.advance(1.2)
        self.assertEqual(len(server.requests), 1)
        client.host.firewall = None
        world.world.run_until(asking, 5.0)
        world.world.advance(1.0)
        self.assertEqual(
            [[a.host for a in r.udp_endpoints] for r in server.requests],
            [[], ["203.0.113.7"]],
        )


class _OnlyOut(Firewall):
    """Lets UDP out but no UDP in."""

    def refuses_inbound(self, packet, now):  # type: ignore[no-untyped-def]
        if packet.protocol == "udp":
            return "no UDP comes in"
        return super().refuses_inbound(packet, now)


class FailureTests(SynchronousTestCase):
    """No answer."""

    def test_no_answer(self) -> None:
        """A mediator that is not there is given up after the limit."""
        world = MediatedWorld()
        client = world.client()
        world.host.link.cut()
        asking = client.connect(SYSTEM.name)
        error = self.assertRaises(
            MediatorUnreachable, world.world.run_until, asking, 21.0
        )
        self.assertIn("198.51.100.1:3345", str(error))
        self.assertIn("no answer within 20 seconds", str(error))
        self.assert_idle(client)

    def test_unresolvable(self) -> None:
        """A mediator whose name has no address is unreachable."""
        world = MediatedWorld()
        client = world.client()
        asker = MediatorClient(
            client.reactor, client.udp, client.stun, MediatorAddress("nowhere.example")
        )
        asking = asker.request_connection(uuid.uuid4(), SYSTEM.name)
        error = self.assertRaises(
            MediatorUnreachable, world.world.run_until, asking, 21.0
        )
        self.assertIn("nowhere.example", str(error))

    def test_named_mediator(self) -> None:
        """A mediator is found by its name."""
        world = MediatedWorld()
        world.world.add_name("mediator.example", "198.51.100.1")
        server, client = world.online_server(), world.client()
        asker = MediatorClient(
            client.reactor, client.udp, client.stun, MediatorAddress("mediator.example")
        )
        asking = asker.request_connection(uuid.uuid4(), SYSTEM.name)
        response = world.world.run_until(asking, 5.0)
        self.assertEqual(response.server, server.identity.name)

    def test_cancelled(self) -> None:
        """A cancelled request stops at once and leaves nothing behind."""
        world = MediatedWorld()
        server, client = world.online_server(), world.client()
        client.host.firewall = Firewall(block_udp=True)
        for moment in (0.1, 0.505, 0.55):
            asking = client.connect(server.identity.name)
            world.world.advance(moment)
            asking.cancel()
            self.failureResultOf(asking, CancelledError)
            world.world.advance(1.0)
            self.assert_idle(client)

    def assert_idle(self, client: SimulatedClient) -> None:
        """Check that no timer is left."""
        self.assertEqual(list(client.reactor.getDelayedCalls()), [])


class ReportTests(SynchronousTestCase):
    """Telling the outcome."""

    def test_reported_once(self) -> None:
        """The mediator counts the path; a repetition does not count."""
        world = MediatedWorld()
        server, client = world.online_server(), world.client()
        session = uuid.UUID(int=5)
        started = client.reactor.seconds()
        world.world.run_until(client.connect(server.identity.name, session), 5.0)
        for _ in range(2):
            client.mediator.report_result(session, "udp", None, started)
            world.world.advance(1.0)
        self.assertEqual(world.snapshot["results"], {"udp": 1})

    def test_udp_blocked(self) -> None:
        """Where the answer came over TCP, the outcome goes over TCP at once."""
        world = MediatedWorld()
        server, client = world.online_server(), world.client()
        client.host.firewall = _no_udp()
        session = uuid.UUID(int=5)
        world.world.run_until(client.connect(server.identity.name, session), 5.0)
        client.mediator.report_result(session, "relay", None, 0.0)
        world.world.advance(0.2)
        self.assertEqual(world.snapshot["results"], {"relay": 1})

    def test_udp_blocked_since(self) -> None:
        """Where UDP gets no answer any more, TCP is used a second later."""
        world = MediatedWorld()
        server, client = world.online_server(), world.client()
        session = uuid.UUID(int=5)
        world.world.run_until(client.connect(server.identity.name, session), 5.0)
        client.host.firewall = _no_udp()
        client.mediator.report_result(session, "tcp", None, 0.0)
        world.world.advance(1.5)
        self.assertEqual(world.snapshot["results"], {"tcp": 1})

    def test_nat_is_told(self) -> None:
        """A report waits for what is about to be known of the NAT, not for ever."""
        world = MediatedWorld()
        server, client = world.online_server(), world.client()
        summary = NATSummary(Mapping.ENDPOINT_INDEPENDENT)
        for number, known in ((5, summary), (6, None)):
            session = uuid.UUID(int=number)
            world.world.run_until(client.connect(server.identity.name, session), 5.0)
            nat: Deferred[NATSummary | None] = Deferred()
            client.mediator.report_result(session, "udp", None, 0.0, nat)
            world.world.advance(1.0)
            if known is not None:
                nat.callback(known)
            world.world.advance(1.5)
        punches = world.service.mediator.outcomes.punches
        self.assertEqual(
            punches,
            {("cone", "unknown", "direct"): 1, ("unknown", "unknown", "direct"): 1},
        )

    def test_end(self) -> None:
        """A client that ends tells what is still to be told first, without waiting."""
        world = MediatedWorld()
        server, client = world.online_server(), world.client()
        self.assertTrue(client.mediator.finish_reports().called)
        session = uuid.UUID(int=5)
        world.world.run_until(client.connect(server.identity.name, session), 5.0)
        client.mediator.report_result(session, "relay", None, 0.0, Deferred())
        world.world.run_until(client.mediator.finish_reports(), 0.5)
        self.assertEqual(world.snapshot["results"], {"relay": 1})

    def test_end_without_mediator(self) -> None:
        """A mediator that is gone holds a client that ends for 2 seconds at most."""
        world = MediatedWorld()
        server, client = world.online_server(), world.client()
        session = uuid.UUID(int=5)
        world.world.run_until(client.connect(server.identity.name, session), 5.0)
        world.host.firewall = Firewall(block_udp=True, hosts=[])
        client.host.firewall = Firewall(block_udp=True, hosts=[])
        client.mediator.report_result(session, "udp", None, 0.0)
        started = world.world.seconds()
        world.world.run_until(client.mediator.finish_reports(), 5.0)
        self.assertApproximates(world.world.seconds() - started, 2.0, 0.1)

    def test_failure_reported(self) -> None:
        """A failure is counted by its code."""
        world = MediatedWorld()
        server, client = world.online_server(), world.client()
        session = uuid.UUID(int=5)
        world.world.run_until(client.connect(server.identity.name, session), 5.0)
        failure = Failure(ConnectTimeout())
        client.mediator.report_result(session, None, failure, 0.0)
        world.world.advance(1.0)
        self.assertEqual(world.snapshot["results"], {"timed out": 1})

    def test_unknown_session(self) -> None:
        """Reports of sessions that nobody knows are not counted."""
        world = MediatedWorld()
        client = world.client()
        client.mediator.report_result(uuid.UUID(int=1), "udp", None, 0.0)
        world.world.advance(1.0)
        self.assertEqual(world.snapshot["results"], {})

    def test_codes(self) -> None:
        """Each kind of failure has its code."""
        reason = Failure(ConnectTimeout())
        for error, code in (
            (IdentityMismatch(), ResultCode.IDENTITY_MISMATCH),
            (ConnectTimeout(), ResultCode.TIMED_OUT),
            (CancelledError(), ResultCode.CANCELLED),
            (AllAttemptsFailed("", {"udp a": reason}), ResultCode.UDT_FAILED),
            (AllAttemptsFailed("", {"tcp a": reason}), ResultCode.TCP_FAILED),
            (AllAttemptsFailed("", {"relay a": reason}), ResultCode.RELAY_REFUSED),
            (
                AllAttemptsFailed("", {"relay a": reason, "tcp b": reason}),
                ResultCode.NO_SUITABLE_METHOD,
            ),
            (KeyError(), ResultCode.NO_SUITABLE_METHOD),
        ):
            self.assertIs(result_code_of(Failure(error)), code)
