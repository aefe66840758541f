"""The search for addresses over which both ends hear each other."""

from __future__ import annotations

import random
import uuid

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.punching.probes import PROBE_LENGTH, Probe, ProbeCodec, punch_key
from dwcloud.protocol.punching.search import (
    MAX_DESTINATIONS,
    AnswersElsewhere,
    ClientFound,
    ClientSearch,
    PathFound,
    PathSearch,
    SearchEvent,
    ServerSearch,
)

KEY = punch_key(bytes(16), uuid.UUID(int=1))
CLIENT, SERVER = Address("198.51.100.1", 1000), Address("198.51.100.2", 2000)
"""What the mediator saw of each."""
LIMIT = 15.0


def client_search(*named: Address) -> ClientSearch:
    """A client that was told these addresses, at the time 0."""
    codec = ProbeCodec(KEY, from_server=False)
    source = random.Random(1)
    return ClientSearch(codec, named, source.randbytes, now=0.0, limit=LIMIT)


def server_search(*named: Address) -> ServerSearch:
    """A server that was told these addresses, at the time 0."""
    codec = ProbeCodec(KEY, from_server=True)
    source = random.Random(2)
    return ServerSearch(codec, named, source.randbytes, now=0.0, limit=LIMIT)


def events(search: PathSearch) -> list[SearchEvent]:
    """What a search has to tell."""
    found = []
    while (event := search.next_event()) is not None:
        found.append(event)
    return found


class PairTestCase(SynchronousTestCase):
    """Both ends, and a network in between that the test describes."""

    def setUp(self) -> None:
        self.client, self.server = client_search(SERVER), server_search(CLIENT)
        self.told: list[SearchEvent] = []

    def from_client(self, seen_as: Address, to: Address) -> int:
        """Bring what the client sends to an address; the server sees it as given."""
        return self.bring(self.client, self.server, seen_as, to)

    def from_server(self, seen_as: Address, to: Address) -> int:
        """The same in the other direction."""
        return self.bring(self.server, self.client, seen_as, to)

    def bring(
        self, one: PathSearch, other: PathSearch, seen_as: Address, to: Address
    ) -> int:
        probes = [data for where, data in one.datagrams_to_send() if where == to]
        for data in probes:
            other.receive_datagram(data, seen_as, now=0.0)
        self.told += events(self.client) + events(self.server)
        return len(probes)


class MeetingTests(PairTestCase):
    """NATs of several kinds, probe by probe."""

    def test_named(self) -> None:
        """Where the named addresses work nothing new is found, and it is soon quiet."""
        self.from_client(CLIENT, SERVER)
        self.from_server(SERVER, CLIENT)
        self.from_client(CLIENT, SERVER)
        self.from_server(SERVER, CLIENT)
        self.from_client(CLIENT, SERVER)
        self.assertEqual(self.told, [])
        self.assertEqual(self.client.datagrams_to_send(), [])
        self.assertEqual(self.server.datagrams_to_send(), [])

    def test_symmetric_client(self) -> None:
        """The server meets the client where its probes come from, once proven."""
        other = Address(CLIENT.host, 1234)
        self.from_client(other, SERVER)
        self.assertEqual(self.told, [])
        self.assertEqual(self.from_server(SERVER, other), 1)
        self.assertEqual(self.told, [])
        self.from_client(other, SERVER)
        self.assertEqual(self.told, [ClientFound(other)])

    def test_symmetric_server(self) -> None:
        """The client connects to where the server's probes come from, once proven."""
        other = Address(SERVER.host, 2345)
        self.from_server(other, CLIENT)
        self.from_client(CLIENT, other)
        self.assertEqual(self.told, [])
        self.from_server(other, CLIENT)
        self.assertEqual(self.told, [PathFound(other)])

    def test_both_symmetric_and_open(self) -> None:
        """Where answers come from elsewhere always, the client is told from where."""
        seen, answers = Address(CLIENT.host, 1234), Address(SERVER.host, 2345)
        self.from_client(seen, SERVER)
        self.from_server(answers, seen)
        self.assertEqual(self.told, [AnswersElsewhere(SERVER, answers)])
        # What is sent to the source of the answers comes from yet another port.
        self.from_client(Address(CLIENT.host, 1235), answers)
        self.assertEqual(self.told[1:], [ClientFound(seen)])

    def test_echoed_by_a_liar(self) -> None:
        """An address that does not hear us is not met, though it sends with the key."""
        victim = Address("192.0.2.66", 53)
        codec = ProbeCodec(KEY, from_server=False)
        for number in range(100):
            hello = bytes([number]) * 12
            probe = codec.encode(Probe(hello, hello, in_use=True))
            self.server.receive_datagram(probe, victim, now=1.0)
        self.assertEqual(events(self.server), [])

    def test_added(self) -> None:
        """The mediator may name further addresses later."""
        self.server.datagrams_to_send()
        more = Address("192.168.1.7", 7)
        self.server.add_named([more], now=1.0)
        targets = [address for address, _ in self.server.datagrams_to_send()]
        self.assertIn(more, targets)

    def test_over(self) -> None:
        """After its time a search neither sends nor finds."""
        self.client.datagrams_to_send()
        self.from_server(Address(SERVER.host, 1), CLIENT)
        self.client.datagrams_to_send()
        probe = ProbeCodec(KEY, from_server=True).encode(Probe(bytes(12)))
        self.client.receive_datagram(probe, SERVER, now=LIMIT)
        self.assertEqual(self.client.datagrams_to_send(), [])
        while (at := self.client.next_timer()) is not None:
            self.assertLess(at, LIMIT)
            self.client.handle_timer(now=at)


class LimitTests(SynchronousTestCase):
    """What a stranger can make of it."""

    def test_unanswered(self) -> None:
        """Handshakes and probes to who does not answer are less than a request."""
        server = server_search(CLIENT)
        while (at := server.next_timer()) is not None:
            server.handle_timer(now=at)
        probes = server.datagrams_to_send()
        # A rendezvous sends nine handshakes of 64 bytes (test_opening).
        self.assertLessEqual(len(probes) * PROBE_LENGTH + 9 * 64, 1200)

    @settings(max_examples=50)
    @given(
        st.lists(
            st.tuples(
                st.integers(1, 60), st.integers(0, 3), st.integers(0, 3), st.booleans()
            ),
            max_size=80,
        )
    )
    def test_one_for_one(self, probes: list[tuple[int, int, int, bool]]) -> None:
        """Nobody gets more than he sent, and there is an end to addresses."""
        server = server_search()
        codec = ProbeCodec(KEY, from_server=False)
        for port, hello, heard, in_use in probes:
            source = Address("192.0.2.66", port)
            probe = Probe(bytes([hello]) * 12, bytes([heard]) * 12, in_use)
            server.receive_datagram(codec.encode(probe), source, now=1.0)
            answers = server.datagrams_to_send()
            self.assertLessEqual(len(answers), 1)
            for address, data in answers:
                self.assertEqual((address, len(data)), (source, PROBE_LENGTH))
        self.assertIsNone(server.next_timer())
        self.assertEqual(events(server), [])

    def test_many_addresses(self) -> None:
        """Of what comes from ever new addresses the first few are answered."""
        server = server_search()
        codec = ProbeCodec(KEY, from_server=False)
        for port in range(1, 100):
            data = codec.encode(Probe(bytes(12)))
            server.receive_datagram(data, Address("192.0.2.66", port), now=1.0)
        answered = {address for address, _ in server.datagrams_to_send()}
        self.assertEqual(len(answered), MAX_DESTINATIONS)

    def test_found_so_many(self) -> None:
        """A client that proves ever new addresses is met at a few."""
        server = server_search()
        codec = ProbeCodec(KEY, from_server=False)
        for port in range(1, 30):
            source = Address("192.0.2.66", port)
            server.receive_datagram(codec.encode(Probe(b"a" * 12)), source, now=1.0)
            ((_, answer),) = server.datagrams_to_send()
            hello = ProbeCodec(KEY, from_server=False).decode(answer).hello
            probe = Probe(b"a" * 12, hello, in_use=True)
            server.receive_datagram(codec.encode(probe), source, now=1.0)
            server.datagrams_to_send()
        self.assertEqual(len(events(server)), 8)


class AnySearchTests(SynchronousTestCase):
    """Whatever comes, in whatever order."""

    @settings(max_examples=60)
    @given(
        st.booleans(),
        st.lists(
            st.tuples(
                st.integers(1, 50),
                st.integers(0, 3),
                st.integers(-1, 40),
                st.booleans(),
                st.floats(0.0, 1.0),
            ),
            max_size=60,
        ),
        st.lists(st.binary(max_size=120), max_size=5),
    )
    def test_bounded(
        self,
        at_server: bool,
        probes: list[tuple[int, int, int, bool, float]],
        noise: list[bytes],
    ) -> None:
        """So many addresses, so many finds, and only what was echoed is found."""
        search = server_search(CLIENT) if at_server else client_search(SERVER)
        peer = ProbeCodec(KEY, from_server=not at_server)
        hellos: list[tuple[Address, bytes]] = []
        echoed: set[Address] = set()
        targets: set[Address] = set()
        found: list[SearchEvent] = []
        now = 0.0
        for data in noise:
            search.receive_datagram(data, CLIENT, now=now)
        for port, hello, heard, in_use, pause in probes:
            now += pause
            search.handle_timer(now=now)
            source = Address("192.0.2.66", port)
            echo = bytes(12)
            if 0 <= heard < len(hellos):
                address, echo = hellos[heard]
                echoed.add(address)
            probe = peer.encode(Probe(bytes([hello]) * 12, echo, in_use))
            search.receive_datagram(probe, source, now=now)
            for to, data in search.datagrams_to_send():
                targets.add(to)
                hellos.append((to, peer.decode(data).hello))
            found += events(search)
        self.assertLessEqual(len(targets), MAX_DESTINATIONS)
        new = [e.address for e in found if isinstance(e, PathFound | ClientFound)]
        self.assertLessEqual(len(new), 8)
        self.assertEqual(len(set(new)), len(new))
        self.assertLessEqual({e.address for e in found}, echoed)
