"""Tests of listener, client and rendezvous handshakes, one step at a time."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt.configuration import Configuration, SocketType
from dwcloud.protocol.udt.handshake import Handshake, RequestType
from dwcloud.protocol.udt.initiation import (
    ClientInitiation,
    Outcome,
    RendezvousInitiation,
)
from dwcloud.protocol.udt.listener import CHALLENGES_PER_SECOND, Listener
from dwcloud.protocol.udt.packets import HandshakePacket, decode

OWN = Handshake(
    socket_type=SocketType.STREAM,
    initial_sequence=1000,
    maximum_packet_size=1500,
    flow_window_packets=8191,
    request_type=RequestType.REQUEST,
    socket_id=11,
)
PEER = attrs.evolve(OWN, socket_id=22, request_type=RequestType.CONCLUSION, cookie=5)
ADDRESS = ("192.0.2.1", 4000)


def sent(data: bytes) -> tuple[int, Handshake]:
    packet = decode(data)
    assert isinstance(packet, HandshakePacket)
    return packet.destination_id, packet.handshake


class ClientTests(SynchronousTestCase):
    """A client and what a listener may answer."""

    def setUp(self) -> None:
        self.client = ClientInitiation(OWN)

    def challenge(self, cookie: int = 5, now: float = 0.0) -> Outcome:
        return self.client.received(attrs.evolve(OWN, cookie=cookie), now)

    def test_request(self) -> None:
        """The first request has no cookie and goes to nobody in particular."""
        self.assertEqual(sent(self.client.packets(0.0)[0]), (0, OWN))

    def test_conclusion(self) -> None:
        """The cookie goes back in a conclusion."""
        self.assertIs(self.challenge(), Outcome.ANSWERED)
        destination, handshake = sent(self.client.packets(0.0)[0])
        self.assertEqual((destination, handshake.cookie), (0, 5))
        self.assertEqual(handshake.request_type, RequestType.CONCLUSION)

    def test_repeated_challenge(self) -> None:
        """The same cookie again changes nothing, another one does."""
        self.challenge()
        self.assertIs(self.challenge(), Outcome.IGNORED)
        self.assertIs(self.challenge(cookie=6), Outcome.ANSWERED)

    # [udt:cookie-age]
    def test_unanswered_conclusion(self) -> None:
        """After 750 ms a new cookie is asked for."""
        self.challenge(now=10.0)
        self.assertEqual(sent(self.client.packets(10.5)[0])[1].cookie, 5)
        self.assertEqual(sent(self.client.packets(10.75)[0])[1], OWN)
        self.assertIs(self.challenge(now=10.8), Outcome.ANSWERED)

    def test_established(self) -> None:
        """A response with our own initial number brings the connection up."""
        self.challenge()
        self.assertIs(self.client.received(PEER, 0.1), Outcome.ESTABLISHED)
        self.assertEqual(self.client.peer, PEER)

    def test_response_to_nothing(self) -> None:
        """Without a challenge before, a response is not one."""
        self.assertIs(self.client.received(PEER, 0.1), Outcome.IGNORED)

    # [udt:first-number]
    def test_bad_responses(self) -> None:
        """A wrong number, packet size, window or id is passed over."""
        self.challenge()
        for change in (
            {"initial_sequence": 1001},
            {"maximum_packet_size": 20},
            {"flow_window_packets": 0},
            {"socket_id": 0},
            {"request_type": RequestType.RENDEZVOUS},
        ):
            response = attrs.evolve(PEER, **change)
            self.assertIs(self.client.received(response, 0.1), Outcome.IGNORED)

    def test_rejection(self) -> None:
        """Any value above 1 rejects, if it echoes our id."""
        for code in (1002, 1004, 2):
            rejection = attrs.evolve(OWN, request_type=code)
            self.assertIs(self.client.received(rejection, 0.0), Outcome.REJECTED)
        rejection = attrs.evolve(PEER, request_type=1002)
        self.assertIs(self.client.received(rejection, 0.0), Outcome.IGNORED)

    def test_srt_challenge(self) -> None:
        """Of a challenge of another version only the cookie is taken."""
        strange = attrs.evolve(OWN, version=5, socket_type=0x4A17, cookie=9)
        self.assertIs(self.client.received(strange, 0.0), Outcome.ANSWERED)
        handshake = sent(self.client.packets(0.0)[0])[1]
        self.assertEqual((handshake.version, handshake.cookie), (4, 9))


class RendezvousTests(SynchronousTestCase):
    """The table of docs/protocol/udt."""

    def setUp(self) -> None:
        opening = attrs.evolve(OWN, request_type=RequestType.RENDEZVOUS)
        self.side = RendezvousInitiation(opening)
        self.peer = attrs.evolve(
            PEER, cookie=0, initial_sequence=7, request_type=RequestType.RENDEZVOUS
        )

    def received(self, request_type: int, **changes: int) -> Outcome:
        handshake = attrs.evolve(self.peer, request_type=request_type, **changes)
        return self.side.received(handshake, 0.0)

    def test_opening(self) -> None:
        """Until the peer is heard, type 0 goes to nobody in particular."""
        destination, handshake = sent(self.side.packet(0.0))
        self.assertEqual((destination, handshake.request_type), (0, 0))

    def test_opening_received(self) -> None:
        """The answer to an opening is a conclusion for the peer's socket."""
        self.assertIs(self.received(0), Outcome.ANSWERED)
        destination, handshake = sent(self.side.packet(0.0))
        self.assertEqual((destination, handshake.request_type), (22, -1))
        self.assertIs(self.received(0), Outcome.ANSWERED)

    # [udt:rendezvous-agreement]
    def test_conclusion_received(self) -> None:
        """A conclusion brings it up, at any time."""
        self.assertIs(self.received(-1), Outcome.ESTABLISHED)
        destination, handshake = sent(self.side.agreement())
        self.assertEqual((destination, handshake.request_type), (22, -2))

    def test_agreement_received(self) -> None:
        """An agreement, with version and type 0, counts after an opening only."""
        self.assertIs(self.received(-2, version=0, socket_type=0), Outcome.IGNORED)
        self.received(0)
        outcome = self.received(-2, version=0, socket_type=0)
        self.assertIs(outcome, Outcome.ESTABLISHED)

    # [udt:rendezvous-peer]
    def test_first_peer_is_kept(self) -> None:
        """Handshakes with another id belong to another connection."""
        self.received(0)
        self.assertIs(self.received(-1, socket_id=23), Outcome.IGNORED)
        self.assertIs(self.received(-1, initial_sequence=8), Outcome.IGNORED)
        self.assertIs(self.received(-1), Outcome.ESTABLISHED)

    def test_strangers(self) -> None:
        """Regular requests, other versions and types are passed over."""
        self.assertIs(self.received(1), Outcome.IGNORED)
        self.assertIs(self.received(0, version=5), Outcome.IGNORED)
        self.assertIs(self.received(0, socket_type=2), Outcome.IGNORED)
        self.assertIs(self.received(-1, maximum_packet_size=75), Outcome.IGNORED)
        self.assertIs(self.received(1002), Outcome.IGNORED)

    def test_rejection(self) -> None:
        """A rejection that echoes our id is one."""
        self.assertIs(self.received(1002, socket_id=11), Outcome.REJECTED)


class ListenerTests(SynchronousTestCase):
    """Cookies and terms."""

    def setUp(self) -> None:
        self.listener = Listener(Configuration(), lambda size: bytes(size), 50)

    def test_challenge(self) -> None:
        """The request comes back with a cookie and nothing else changed."""
        data = self.listener.challenge(OWN, ADDRESS, 100.0)
        destination, handshake = sent(data)
        self.assertEqual(destination, OWN.socket_id)
        self.assertEqual(attrs.evolve(handshake, cookie=0), OWN)
        self.assertTrue(self.listener.accepts_cookie(handshake.cookie, ADDRESS, 100.0))

    # [udt:cookie]
    def test_time(self) -> None:
        """A cookie lives through the next ten minutes and no longer."""
        cookie = self.listener.cookie(ADDRESS, 1199.0)
        self.assertTrue(self.listener.accepts_cookie(cookie, ADDRESS, 1201.0))
        self.assertTrue(self.listener.accepts_cookie(cookie, ADDRESS, 1799.0))
        self.assertFalse(self.listener.accepts_cookie(cookie, ADDRESS, 1800.0))

    # [udt:cookie]
    def test_address(self) -> None:
        """A cookie belongs to one address and port."""
        cookie = self.listener.cookie(ADDRESS, 100.0)
        for other in (("192.0.2.1", 4001), ("192.0.2.2", 4000)):
            self.assertFalse(self.listener.accepts_cookie(cookie, other, 100.0))

    @given(st.integers(0, 0xFFFFFFFF))
    def test_guesses(self, cookie: int) -> None:
        """Any number can be asked about."""
        right = (
            self.listener.cookie(ADDRESS, 1.0),
            self.listener.cookie(ADDRESS, -599.0),
        )
        accepted = self.listener.accepts_cookie(cookie, ADDRESS, 1.0)
        self.assertEqual(accepted, cookie in right)

    def test_flood(self) -> None:
        """The number of challenges in a second is limited."""
        answers = [
            self.listener.challenge(OWN, ADDRESS, 100.5)
            for _ in range(CHALLENGES_PER_SECOND + 1)
        ]
        self.assertIsNone(answers[-1])
        self.assertIsNotNone(answers[-2])
        self.assertIsNotNone(self.listener.challenge(OWN, ADDRESS, 101.0))

    def test_terms(self) -> None:
        """Version, type, packet size and window must do."""
        self.assertTrue(self.listener.accepts_terms(PEER))
        for change in (
            {"version": 5},
            {"socket_type": 2},
            {"maximum_packet_size": 75},
            {"flow_window_packets": 1},
            {"socket_id": 1 << 31},
        ):
            self.assertFalse(self.listener.accepts_terms(attrs.evolve(PEER, **change)))

    def test_rejection(self) -> None:
        """A rejection is the request with 1002, the one code all clients know."""
        destination, handshake = sent(self.listener.rejection(PEER))
        self.assertEqual(destination, PEER.socket_id)
        self.assertEqual(handshake, attrs.evolve(PEER, request_type=1002))
