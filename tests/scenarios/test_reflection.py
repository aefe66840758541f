"""What somebody gets who never asked, when another asks in his name."""

from __future__ import annotations

import uuid

from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.peer.server import CloudServer
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.messages import CONNECT_REQUEST_LENGTH, Connect
from dwcloud.protocol.nat import Mapping, NATSummary
from dwcloud.protocol.punching.probes import PROBE_LENGTH
from dwcloud.testing import UDP, Host

from .cloud_world import MEDIATOR_PORT, CloudWorld
from .test_nat_table import behind

VICTIM = "2a00:1450:66::66"


class ReflectionTests(SynchronousTestCase):
    """A request for an introduction that nobody stands behind."""

    def bytes_sent(self, server_kind: str, server_first: bool | None) -> int:
        """Ask once from an address that says nothing more; return what it gets."""
        cloud = CloudWorld()
        host = behind(cloud, server_kind, 1, "server")
        others = tuple(Address("192.0.2.77", number) for number in range(1, 9))
        return self.bytes_sent_by(cloud, host, cloud.serve(host), others, server_first)

    def bytes_sent_by(
        self,
        cloud: CloudWorld,
        host: Host,
        server: CloudServer,
        claimed: tuple[Address, ...],
        server_first: bool | None = None,
    ) -> int:
        """Ask for a server; say that the asker has these addresses, too."""
        cloud.wait_online(host)
        cloud.world.advance(5.0)
        victim = cloud.internet.host("192.0.2.66", VICTIM, name="victim")
        port = victim.reactor.listenUDP(5000, DatagramProtocol())
        nat = NATSummary(Mapping.ADDRESS_AND_PORT_DEPENDENT, port_step=1)
        request = Connect(
            session_id=uuid.uuid4(),
            target=server.identity.name,
            udp_endpoints=claimed,
            nat=nat,
            server_first=server_first,
        )
        message = request.to_padded_stun(b"transactions").encode()
        self.assertEqual(len(message), CONNECT_REQUEST_LENGTH)
        cloud.world.trace.clear()
        port.write(message, (cloud.mediator_host.address, MEDIATOR_PORT))
        cloud.world.advance(60.0)
        trace = cloud.world.trace
        self.assertGreater(trace.packets_carried("server", "victim", UDP), 0)
        return trace.bytes_carried("server", "victim", UDP)

    def test_claimed_addresses(self) -> None:
        """Nor more if the request says that the victim has further addresses."""
        more = [
            ("ports of it", "192.0.2.66", 0),
            ("IPv6", VICTIM, PROBE_LENGTH),
        ]
        for what, claimed, expected in more:
            with self.subTest(what=what):
                cloud = CloudWorld()
                addresses = "198.51.1.9", "2a00:1450:1::9"
                host = cloud.internet.host(*addresses, name="server")
                server = cloud.serve(host, interface="")
                many = tuple(Address(claimed, number) for number in range(1, 16))
                sent = self.bytes_sent_by(cloud, host, server, many)
                self.assertLessEqual(sent, CONNECT_REQUEST_LENGTH)
                records = cloud.world.trace.select(origin="server", place="victim")
                felt = [r for r in records if r.destination in many]
                self.assertEqual(sum(r.payload_size for r in felt), expected)

    def test_no_amplification(self) -> None:
        """A server sends less than the request had, and guesses no ports for it."""
        for kind in ("open", "port-restricted", "symmetric", "symmetric-seq"):
            for first in (None, True):
                with self.subTest(kind=kind, server_first=first):
                    sent = self.bytes_sent(kind, first)
                    self.assertLessEqual(sent, CONNECT_REQUEST_LENGTH)
