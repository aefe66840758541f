"""The relay's matching of servers' connections and clients."""

import uuid
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.pairing import (
    ClientTimedOut,
    Event,
    Joined,
    KeepAliveDue,
    Limits,
    Pairing,
    ServerGone,
    ServerOnline,
    SessionExpired,
)

NAME = PeerName(uuid.UUID(int=1), uuid.UUID(int=2))
SIBLING = PeerName(uuid.UUID(int=1), uuid.UUID(int=3))
SYSTEM = PeerName(uuid.UUID(int=1))


def make_pairing(limits: Limits | None = None) -> Pairing:
    numbers = count(1)
    return Pairing(
        random_bytes=lambda size: next(numbers).to_bytes(size, "big"), limits=limits
    )


def drain(pairing: Pairing) -> list[Event]:
    events = []
    while (event := pairing.next_event()) is not None:
        events.append(event)
    return events


class PairingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pairing = make_pairing()

    def offer(self, *connections: int, name: PeerName = NAME, now: float = 0.0) -> None:
        for connection in connections:
            self.pairing.offer(name, connection, now=now)

    def session(self, target: PeerName = NAME, now: float = 0.0) -> str:
        return self.pairing.create_session(target, now=now)[0]

    def drain(self) -> list[Event]:
        return [e for e in drain(self.pairing) if not isinstance(e, KeepAliveDue)]

    def test_join_at_once(self) -> None:
        """A client gets the newest idle connection."""
        self.offer(1, 2)
        session = self.session()
        self.pairing.request_tunnel(session, 10, now=1.0)
        self.assertEqual(
            self.drain(), [ServerOnline(NAME), Joined(2, 10, session, NAME)]
        )
        self.assertEqual(self.pairing.idle_connections, 1)

    def test_wait_for_a_connection(self) -> None:
        """Clients that find none idle are served in their order."""
        self.offer(1)
        session = self.session()
        for client in (10, 11, 12):
            self.pairing.request_tunnel(session, client, now=1.0)
        self.drain()
        self.assertEqual(self.pairing.waiting_clients, 2)
        self.offer(2, 3, now=5.9)
        # Nothing else is said on them before, which would have to be answered.
        self.assertEqual(
            drain(self.pairing),
            [Joined(2, 11, session, NAME), Joined(3, 12, session, NAME)],
        )

    def test_wait_in_vain(self) -> None:
        """Who waits for 5 s without success is told so."""
        self.offer(1)
        session = self.session()
        self.pairing.server_connection_lost(1, now=0.5)
        self.pairing.request_tunnel(session, 10, now=1.0)
        self.drain()
        self.assertEqual(self.pairing.next_timer(), 6.0)
        self.pairing.handle_timer(now=6.0)
        self.assertEqual(self.drain(), [ClientTimedOut(10)])
        self.offer(2, now=7.0)
        self.assertEqual(self.drain(), [])

    def test_client_leaves(self) -> None:
        """A connection is not wasted on a client that has left."""
        self.offer(1)
        session = self.session()
        self.pairing.server_connection_lost(1, now=0.5)
        self.pairing.request_tunnel(session, 10, now=1.0)
        self.pairing.client_left(10, now=2.0)
        self.pairing.client_left(10, now=2.0)
        self.drain()
        self.offer(2, now=3.0)
        self.assertEqual(self.drain(), [])
        self.assertEqual(self.pairing.idle_connections, 1)

    def test_too_many_idle(self) -> None:
        """The fifteenth idle connection of a server is refused with 403."""
        self.offer(*range(14))
        error = self.assertRaises(RemoteProtocolError, self.offer, 14)
        self.assertEqual(error.code, 403)
        self.offer(14, name=SIBLING)

    def test_gone(self) -> None:
        """A server counts as gone 15 s after its last idle connection."""
        self.offer(1)
        self.pairing.server_connection_lost(1, now=10.0)
        self.session(now=24.0)
        self.drain()
        self.pairing.handle_timer(now=25.0)
        self.assertEqual(self.drain(), [ServerGone(NAME)])
        error = self.assertRaises(RemoteProtocolError, self.session, now=26.0)
        self.assertEqual(error.code, 404)

    def test_session_of_a_server_that_has_gone(self) -> None:
        """The session lives on, but a tunnel is refused with 503 at once."""
        self.offer(1)
        session = self.session()
        self.pairing.server_connection_lost(1, now=0.0)
        self.pairing.handle_timer(now=15.0)
        error = self.assertRaises(
            RemoteProtocolError, self.pairing.request_tunnel, session, 10, now=16.0
        )
        self.assertEqual(error.code, 503)
        self.offer(2, now=17.0)
        self.pairing.request_tunnel(session, 11, now=18.0)
        self.assertIn(Joined(2, 11, session, NAME), self.drain())

    def test_back_in_time(self) -> None:
        """A connection within the 15 s keeps the server present."""
        self.offer(1)
        self.pairing.server_connection_lost(1, now=10.0)
        self.offer(2, now=20.0)
        self.drain()
        self.pairing.handle_timer(now=30.0)
        self.assertEqual(self.drain(), [])

    def test_any_server_of_a_system(self) -> None:
        """A system's name leads to the server with most connections free."""
        self.offer(1)
        self.offer(2, 3, name=SIBLING)
        self.assertEqual(self.pairing.create_session(SYSTEM, now=0.0)[1], SIBLING)
        for connection in (2, 3):
            self.pairing.server_connection_lost(connection, now=0.0)
        self.assertEqual(self.pairing.create_session(SYSTEM, now=0.0)[1], NAME)

    def test_unknown_names_look_alike(self) -> None:
        """Unknown system, unknown server and unknown session tell nothing else."""
        self.offer(1)
        unknown = PeerName(NAME.system, uuid.UUID(int=9))
        stranger = PeerName(uuid.UUID(int=9), uuid.UUID(int=2))
        texts = {
            str(self.assertRaises(RemoteProtocolError, self.session, target)).replace(
                str(target), "X"
            )
            for target in (unknown, stranger)
        }
        self.assertEqual(len(texts), 1)
        error = self.assertRaises(
            RemoteProtocolError, self.pairing.request_tunnel, "0" * 32, 10, now=0.0
        )
        self.assertEqual(error.code, 404)

    def test_session_expires(self) -> None:
        """A session ends 10 min after its last tunnel, and not during one."""
        self.offer(1)
        session = self.session()
        self.pairing.request_tunnel(session, 10, now=599.0)
        self.pairing.server_connection_lost(1, now=599.0)
        self.drain()
        self.pairing.handle_timer(now=5000.0)
        self.assertNotIn(SessionExpired(session), self.drain())
        self.pairing.tunnel_closed(session, now=5000.0)
        self.pairing.handle_timer(now=5599.0)
        self.assertEqual(self.drain(), [])
        self.pairing.handle_timer(now=5600.0)
        self.assertEqual(self.drain(), [SessionExpired(session)])
        self.pairing.tunnel_closed(session, now=5601.0)
        self.assertEqual(self.pairing.sessions, 0)

    def test_keep_alive(self) -> None:
        """Idle connections get KEEP_ALIVE at once and then each 20 s."""
        self.offer(1)
        self.assertIn(KeepAliveDue(1), drain(self.pairing))
        for now in (20.0, 40.0):
            self.assertEqual(self.pairing.next_timer(), now)
            self.pairing.handle_timer(now=now)
            self.assertEqual(drain(self.pairing), [KeepAliveDue(1)])
        self.pairing.request_tunnel(self.session(), 10, now=41.0)
        drain(self.pairing)
        self.pairing.handle_timer(now=60.0)
        self.assertNotIn(KeepAliveDue(1), drain(self.pairing))

    def test_caps(self) -> None:
        """Every table is full at some point and says so with 503."""
        self.pairing = make_pairing(Limits(servers=1, sessions=1, waiting_per_server=1))
        self.offer(1)
        error = self.assertRaises(RemoteProtocolError, self.offer, 2, name=SIBLING)
        self.assertEqual(error.code, 503)
        session = self.session()
        request = self.pairing.request_tunnel
        request(session, 10, now=0.0)
        error = self.assertRaises(RemoteProtocolError, self.session)
        self.assertEqual(error.code, 503)
        request(session, 11, now=0.0)
        error = self.assertRaises(RemoteProtocolError, request, session, 12, now=0.0)
        self.assertEqual(error.code, 503)

    def test_idle_sessions_make_room(self) -> None:
        """Whoever only fills the table with sessions keeps nobody else out."""
        self.pairing = make_pairing(Limits(sessions=2))
        self.offer(1)
        used, idle = self.session(now=0.0), self.session(now=1.0)
        self.pairing.request_tunnel(used, 10, now=2.0)
        self.drain()
        self.session(now=3.0)
        self.assertEqual(self.drain(), [SessionExpired(idle)])
        self.assertEqual(self.pairing.sessions, 2)
        error = self.assertRaises(
            RemoteProtocolError, self.pairing.request_tunnel, idle, 11, now=4.0
        )
        self.assertEqual(error.code, 404)


class AnyOrder(RuleBasedStateMachine):
    """Any order of what servers and clients do."""

    def __init__(self) -> None:
        super().__init__()
        self.pairing = make_pairing()
        self.numbers = count(1)
        self.now = 0.0
        self.idle: set[int] = set()
        self.waiting: set[int] = set()
        self.tunnels: list[str] = []
        self.sessions: list[str] = []

    def act(self) -> None:
        for event in drain(self.pairing):
            match event:
                case Joined():
                    self.idle.remove(event.connection)
                    self.waiting.remove(event.client)
                    self.tunnels.append(event.session_id)
                case ClientTimedOut():
                    self.waiting.remove(event.client)
                case KeepAliveDue():
                    assert isinstance(event.connection, int)

    @rule(name=st.sampled_from([NAME, SIBLING]))
    def offer(self, name: PeerName) -> None:
        number = next(self.numbers)
        try:
            self.pairing.offer(name, number, now=self.now)
        except RemoteProtocolError as error:
            assert error.code == 403
        else:
            self.idle.add(number)
        self.act()

    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        if self.idle:
            number = data.draw(st.sampled_from(sorted(self.idle)))
            self.idle.remove(number)
            self.pairing.server_connection_lost(number, now=self.now)
            self.act()

    @rule(name=st.sampled_from([NAME, SIBLING, SYSTEM]))
    def create(self, name: PeerName) -> None:
        try:
            self.sessions.append(self.pairing.create_session(name, now=self.now)[0])
        except RemoteProtocolError as error:
            assert error.code == 404

    @rule(data=st.data())
    def request(self, data: st.DataObject) -> None:
        if self.sessions:
            number = next(self.numbers)
            self.waiting.add(number)
            session = data.draw(st.sampled_from(self.sessions))
            try:
                self.pairing.request_tunnel(session, number, now=self.now)
            except RemoteProtocolError:
                self.waiting.remove(number)
            self.act()

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.waiting:
            number = data.draw(st.sampled_from(sorted(self.waiting)))
            self.waiting.remove(number)
            self.pairing.client_left(number, now=self.now)
            self.act()

    @rule(data=st.data())
    def end_tunnel(self, data: st.DataObject) -> None:
        if self.tunnels:
            index = data.draw(st.integers(0, len(self.tunnels) - 1))
            self.pairing.tunnel_closed(self.tunnels.pop(index), now=self.now)
            self.act()

    @rule(seconds=st.sampled_from([0.1, 4.9, 5.0, 15.0, 30.0, 600.0]))
    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while (at := self.pairing.next_timer()) is not None and at <= until:
            assert at >= self.now
            self.now = at
            self.pairing.handle_timer(now=at)
            self.act()
        self.now = until

    @invariant()
    def counts_agree(self) -> None:
        assert self.pairing.idle_connections == len(self.idle)
        assert self.pairing.waiting_clients == len(self.waiting)


class AnyOrderTests(SynchronousTestCase):
    def test_any_order(self) -> None:
        """Whatever servers and clients do, the books are right."""
        run_state_machine_as_test(
            AnyOrder,
            settings=settings(max_examples=40, stateful_step_count=40, deadline=None),
        )
