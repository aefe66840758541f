"""The client of PCP and NAT-PMP, and a router that answers it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.port_mapping import nat_pmp, pcp
from dwcloud.protocol.port_mapping.mappings import Grant, MappedPort, Transport
from dwcloud.protocol.port_mapping.port_control import (
    PORT,
    Granted,
    PortControlClient,
    Refused,
    Removed,
    StateLost,
    Unanswered,
)

ROUTER = Address("192.168.1.1", PORT)
WEB = MappedPort(Transport.TCP, 4000)
PUNCH = MappedPort(Transport.UDP, 4001)
EXTERNAL = "198.51.100.1"


class PortControlTests(SynchronousTestCase):
    """Requests and answers, without a network."""

    def setUp(self) -> None:
        self.now = 0.0
        self.make()

    def make(self, *versions: int) -> None:
        """Use a new client."""
        self.client = PortControlClient(
            ROUTER.host,
            "192.168.1.2",
            lambda size: b"n" * size,
            versions=frozenset(versions or (2, 0)),
        )

    def sent(self) -> list[bytes]:
        """What the client sends now."""
        datagrams = self.client.datagrams_to_send(now=self.now)
        self.assertLessEqual({to for _, to in datagrams}, {ROUTER})
        return [data for data, _ in datagrams]

    def hear(self, message: Any, source: Address = ROUTER) -> list[Any]:
        """Give the client an answer; return what happened."""
        data = message if isinstance(message, bytes) else message.encode()
        self.client.receive_datagram(data, source, now=self.now)
        return self.events()

    def events(self) -> list[Any]:
        """What happened."""
        return list(iter(self.client.next_event, None))

    def wait(self) -> list[bytes]:
        """Let the timer come; return what is sent then."""
        at = self.client.next_timer()
        assert at is not None
        self.now = at
        self.client.handle_timer(now=self.now)
        return self.sent()

    def grant(self, port: MappedPort, external: int, **changes: Any) -> Any:
        """The answer of PCP that makes a mapping."""
        values: dict[str, Any] = {
            "epoch": int(self.now) + 100,
            "nonce": b"n" * 12,
            "transport": port.transport,
            "internal_port": port.port,
            "external_port": external,
            "external_host": EXTERNAL,
            "lifetime": 3600,
        }
        return pcp.MapAnswer(**values | changes)

    def test_pcp(self) -> None:
        """A mapping by PCP."""
        self.client.request(WEB, 3600, now=0.0)
        (data,) = self.sent()
        request = pcp.decode_request(data)
        self.assertEqual(
            (request.client, request.internal_port, request.lifetime),
            ("192.168.1.2", 4000, 3600),
        )
        grant = Grant(Address(EXTERNAL, 5000), 3600.0)
        self.assertEqual(self.hear(self.grant(WEB, 5000)), [Granted(WEB, grant)])
        self.assertIsNone(self.client.next_timer())
        self.assertEqual(self.client.protocol, "PCP")

    def test_renewed(self) -> None:
        """A renewal has the same nonce and wishes for the same address."""
        self.client.request(WEB, 60, external=Address(EXTERNAL, 5000), now=0.0)
        request = pcp.decode_request(self.sent()[0])
        self.assertEqual(request.nonce, b"n" * 12)
        self.assertEqual(
            (request.external_host, request.external_port), (EXTERNAL, 5000)
        )

    def test_removed(self) -> None:
        """Removing wishes for nothing, and is confirmed."""
        for version in (2, 0):
            self.make(version)
            external = Address(EXTERNAL, 5000)
            self.client.request(WEB, 0, external=external, now=0.0)
            (data, *_) = self.sent()
            if version:
                request = pcp.decode_request(data)
                answer: Any = self.grant(WEB, 0, lifetime=0)
            else:
                asked = nat_pmp.decode_request(data)
                assert isinstance(asked, nat_pmp.MappingRequest)
                answer = nat_pmp.MappingAnswer(1, WEB.transport, WEB.port, 0, 0)
                request = asked  # type: ignore[assignment]
            self.assertEqual((request.external_port, request.lifetime), (0, 0))
            self.assertEqual(self.hear(answer), [Removed(WEB)])

    def test_nat_pmp(self) -> None:
        """A router of NAT-PMP says so, and is asked again in its language."""
        self.client.request(WEB, 3600, now=0.0)
        self.client.request(PUNCH, 3600, now=0.0)
        self.assertEqual(len(self.sent()), 2)
        self.assertEqual(self.hear(bytes([0, 0x81, 0, 1]) + bytes(4)), [])
        requests = [nat_pmp.decode_request(data) for data in self.sent()]
        self.assertEqual(
            requests,
            [
                nat_pmp.MappingRequest(Transport.TCP, 4000, 4000, 3600),
                nat_pmp.MappingRequest(Transport.UDP, 4001, 4001, 3600),
                nat_pmp.AddressRequest(),
            ],
        )
        self.assertEqual(self.client.protocol, "NAT-PMP")
        mapping = nat_pmp.MappingAnswer(1, Transport.TCP, 4000, 5000, 1800)
        self.assertEqual(self.hear(mapping), [])
        grant = Grant(Address(EXTERNAL, 5000), 1800.0)
        address = nat_pmp.AddressAnswer(1, EXTERNAL)
        self.assertEqual(self.hear(address), [Granted(WEB, grant)])
        mapping = nat_pmp.MappingAnswer(1, Transport.UDP, 4001, 4001, 1800)
        grant = Grant(Address(EXTERNAL, 4001), 1800.0)
        self.assertEqual(self.hear(mapping), [Granted(PUNCH, grant)])

    def test_repeated(self) -> None:
        """Without an answer it is asked five times, ever more slowly."""
        self.client.request(WEB, 3600, now=0.0)
        times = []
        datagrams = self.sent()
        while datagrams:
            times.append(self.now)
            datagrams = self.wait()
        self.assertEqual(times, [0.0, 0.25, 0.75, 1.75, 3.75])
        self.assertEqual((self.now, self.events()), (7.75, [Unanswered(WEB)]))
        self.assertIsNone(self.client.next_timer())

    def test_only_the_router(self) -> None:
        """Others are not believed, nor answers to what nobody asked."""
        self.client.request(WEB, 3600, now=0.0)
        self.sent()
        answer = self.grant(WEB, 5000)
        for host, port in (("192.168.1.3", PORT), (ROUTER.host, 5352)):
            self.assertEqual(self.hear(answer, Address(host, port)), [])
        self.assertEqual(self.hear(self.grant(WEB, 5000, nonce=b"x" * 12)), [])
        self.assertEqual(self.hear(self.grant(PUNCH, 5000)), [])
        self.assertEqual(self.hear(self.grant(WEB, 0, lifetime=0)), [])
        self.assertEqual(self.hear(nat_pmp.AddressAnswer(1, EXTERNAL)), [])

    def test_refused(self) -> None:
        """A refusal is told in words."""
        self.client.request(WEB, 3600, now=0.0)
        (event,) = self.hear(pcp.Refusal(2, 1, 2, 0, 60, b"n" * 12))
        self.assertIsInstance(event, Refused)
        self.assertIn("not authorized", event.reason)
        self.make(0)
        for refusal in (nat_pmp.Refusal(2, 2, 0, 4000), nat_pmp.Refusal(0, 3, 0)):
            self.client.request(WEB, 3600, now=0.0)
            (event,) = self.hear(refusal)
            self.assertIsInstance(event, Refused)
        self.client.request(WEB, 3600, now=0.0)
        self.assertEqual(self.hear(nat_pmp.Refusal(1, 2, 0, 4000)), [], "of UDP")
        (event,) = self.hear(nat_pmp.AddressAnswer(1, "0.0.0.0"))
        self.assertIn("no public address", event.reason)

    def test_one_version(self) -> None:
        """Who wants PCP only does not get NAT-PMP."""
        self.make(2)
        self.client.request(WEB, 3600, now=0.0)
        (event,) = self.hear(bytes([0, 0x81, 0, 1]) + bytes(4))
        self.assertIsInstance(event, Refused)
        self.assertRaises(LocalProtocolError, self.make, 1)

    def test_restart_of_the_router(self) -> None:
        """An epoch that began anew, and another address, cast doubt on everything."""
        self.client.request(WEB, 3600, now=0.0)
        self.hear(self.grant(WEB, 5000))
        self.now = 50.0
        self.assertEqual(self.hear(pcp.Announcement(150)), [])
        self.assertEqual(self.hear(pcp.Announcement(0)), [StateLost()])
        self.make(0)
        self.assertEqual(self.hear(nat_pmp.AddressAnswer(10, EXTERNAL)), [])
        moved = nat_pmp.AddressAnswer(10, "198.51.100.9")
        self.assertEqual(self.hear(moved), [StateLost()])

    @given(st.lists(st.binary(max_size=70), max_size=10))
    def test_any_answers(self, answers: list[bytes]) -> None:
        """Whatever the router sends does no harm, and nothing is granted by it."""
        for versions in ((2, 0), (0,)):
            self.make(*versions)
            self.client.request(WEB, 3600, now=self.now)
            for data in answers:
                for prefix in (b"", b"\0\x82\0\0", b"\2\x81\0\0"):
                    self.hear(prefix + data)
                self.sent()
