"""Connect sessions at the mediator: copies, confirmations, time, room."""

from __future__ import annotations

import uuid
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.messages import (
    Bind,
    Connect,
    ConnectionAck,
    ConnectionResult,
    ConnectResponse,
)
from dwcloud.protocol.mediation.parameters import ConnectionParameters
from dwcloud.protocol.mediation.registry import MemoryRegistry, ServerRecord
from dwcloud.protocol.mediation.result_codes import ResultCode
from dwcloud.protocol.mediation.session import (
    MAX_COPIES,
    ConnectSessionCore,
    RequestCopy,
    connect_session_machine,
)
from dwcloud.protocol.mediation.sessions import ANSWER_LIFETIME, ConnectSessions
from dwcloud.protocol.nat import Mapping, NATSummary
from dwcloud.protocol.stun.message import STUNMessage
from tests.unit.protocol.mediation.machine_walk import walk
from tests.unit.protocol.mediation.test_registry import Channel, name

CLIENT = Address("203.0.113.7", 4000)
LOCAL = Address("192.168.1.9", 4000)
CLIENT_6 = Address("2001:db8:1::7", 4000)
STRANGER = Address("198.51.100.99", 4000)
STRANGER_6 = Address("2001:db8:9::7", 4000)
MEDIATOR_6 = Address("2001:db8:5::1", 3345)
PUNCHED = Address("198.51.100.2", 5000)
SERVER_LOCAL = Address("10.0.0.2", 5000)
TCP = Address("10.0.0.2", 7001)
SESSION = uuid.UUID(int=77)
NAT = NATSummary(Mapping.ADDRESS_AND_PORT_DEPENDENT, port_step=1)


class SessionTests(SynchronousTestCase):
    """All sessions of a mediator, by what it is asked."""

    def setUp(self) -> None:
        self.make()

    def make(self, **settings: Any) -> None:
        """Make a mediator with one server online."""
        self.registry = MemoryRegistry()
        self.channel = Channel()
        bind = Bind(tcp_endpoints=(TCP,))
        self.server = ServerRecord(name(1, 2), self.channel, bind, 0.0)
        self.registry.add(self.server)
        self.answers: list[ConnectResponse] = []
        settings.setdefault("relay_urls", ("http://:3349",))
        self.sessions = ConnectSessions(
            self.registry,
            parameters=ConnectionParameters(),
            random_bytes=lambda size: b"t" * size,
            **settings,
        )

    def connect(
        self,
        *,
        over: str = "udp",
        target: Any = None,
        session: uuid.UUID = SESSION,
        transaction: bytes = b"transactions",
        source: Address = CLIENT,
        claimed: tuple[Address, ...] = (LOCAL,),
        nat: NATSummary | None = None,
        without_udp: bool | None = None,
        server_first: bool | None = None,
        now: float = 0.0,
    ) -> None:
        """Let a copy of a request arrive."""
        connect = Connect(
            session_id=session,
            target=target or name(1),
            client_name="c",
            udp_endpoints=claimed,
            without_udp=without_udp,
            server_first=server_first,
        )
        copy = RequestCopy(
            connect.to_stun(transaction),
            source,
            over == "udp",
            self.answers.append,
            nat,
        )
        self.sessions.receive_connect(connect, copy, now=now)

    def ack(
        self,
        *,
        token: bytes = b"t" * 16,
        session: uuid.UUID = SESSION,
        source: Address = PUNCHED,
        nat: NATSummary | None = None,
        now: float = 0.1,
    ) -> tuple[STUNMessage, bytes]:
        """Let a confirmation arrive."""
        ack = ConnectionAck(session_id=session, udp_endpoints=(SERVER_LOCAL,), nat=nat)
        raw = ack.to_stun(b"transactions").encode(integrity_key=token)
        return self.sessions.receive_ack(STUNMessage.decode(raw), source, now=now)

    def test_introduced(self) -> None:
        """The server is asked, and its confirmation releases the answer."""
        self.connect()
        [request] = self.channel.requests
        self.assertEqual(request.udp_endpoints, (CLIENT,))
        self.assertEqual(self.answers, [])
        answer, key = self.ack()
        self.assertEqual(key, request.token)
        self.assertEqual(answer.transaction_id, b"transactions")
        [response] = self.answers
        self.assertEqual(response.server, name(1, 2))
        self.assertEqual(response.udp_endpoints, (PUNCHED, SERVER_LOCAL))
        self.assertEqual(response.tcp_endpoints, (TCP,))

    def test_server_first(self) -> None:
        """The address of a client that waits is told when it shows it."""
        proxy = Address("192.0.2.66", 9)
        self.connect(over="tcp", source=proxy, nat=NAT, server_first=True)
        self.ack()
        self.assertEqual(len(self.answers), 1)
        self.connect(server_first=True)
        self.assertEqual(
            [(r.server_first, r.udp_endpoints) for r in self.channel.requests],
            [(True, ()), (True, (CLIENT,))],
        )
        self.assertEqual(len(self.answers), 2)

    def test_nat_of_the_client(self) -> None:
        """The server is told of a client's NAT if TCP has proven where that is."""
        self.connect(nat=NAT)
        self.connect(over="tcp", source=Address("192.0.2.66", 9), nat=NAT)
        self.assertEqual([r.nat for r in self.channel.requests], [None])
        self.ack()
        self.connect(over="tcp", source=Address(CLIENT.host, 9), nat=NAT)
        self.connect(over="tcp", source=Address(CLIENT.host, 9), nat=NAT)
        self.assertEqual([r.nat for r in self.channel.requests], [None, NAT])
        self.assertEqual(self.channel.requests[1].udp_endpoints[0], CLIENT)

    def test_nat_of_the_server(self) -> None:
        """The client is told of a server's NAT if its channel comes from there."""
        self.server.host = PUNCHED.host
        self.connect()
        self.ack(nat=NAT)
        self.server.host = "192.0.2.66"
        other = uuid.UUID(int=78)
        self.connect(session=other)
        self.ack(session=other, nat=NAT)
        self.assertEqual([answer.nat for answer in self.answers], [NAT, None])
        keys = {answer.punch_key for answer in self.answers}
        self.assertEqual(len(keys), 2)
        self.assertNotIn(None, keys)

    def test_missing(self) -> None:
        """Unknown and offline are answered at once, and only differ by the code."""
        self.connect(target=name(5, 5))
        self.registry.remove(self.server)
        self.connect(session=uuid.UUID(int=2))
        self.connect(session=uuid.UUID(int=3), target=name(1, 2))
        self.assertEqual(
            [answer.result for answer in self.answers],
            [ResultCode.PEER_UNKNOWN, ResultCode.PEER_OFFLINE, ResultCode.PEER_OFFLINE],
        )
        sizes = {len(a.to_stun(b"transactions").encode()) for a in self.answers}
        self.assertEqual(len(sizes), 1)

    def test_ack_timeout(self) -> None:
        """After 3 seconds the answer goes out without UDP addresses."""
        self.connect(now=10.0)
        self.assertEqual(self.sessions.next_timer(), 13.0)
        self.sessions.handle_timer(now=12.9)
        self.assertEqual(self.answers, [])
        self.sessions.handle_timer(now=13.0)
        [response] = self.answers
        self.assertIs(response.result, ResultCode.OK)
        self.assertEqual(response.udp_endpoints, ())
        self.assertEqual(response.tcp_endpoints, (TCP,))

    def test_without_udp(self) -> None:
        """Who does not punch is answered at once; the server sends nowhere."""
        self.connect(without_udp=True)
        [request] = self.channel.requests
        self.assertEqual((request.session_id, request.udp_endpoints), (SESSION, ()))
        [response] = self.answers
        self.assertIs(response.result, ResultCode.OK)
        self.assertEqual((response.udp_endpoints, response.punch_key), ((), None))
        self.assertEqual(response.tcp_endpoints, (TCP,))
        self.assertEqual(self.sessions.counts.without_udp, 0, "nothing is amiss")
        # The server confirms as ever, and copies get the same answer.
        self.ack()
        self.connect(without_udp=True, over="tcp", source=Address(CLIENT.host, 9))
        self.assertEqual(self.answers, [response, response])
        self.assertEqual(len(self.channel.requests), 1)
        self.assertEqual(self.sessions.waiting_count, 0)

    def test_without_udp_nor_anything(self) -> None:
        """That there is no other way is for the client to say: the server is there."""
        self.make(relay_urls=())
        self.server.addresses = Bind()
        self.connect(without_udp=True)
        self.connect(without_udp=True, session=uuid.UUID(int=9), target=name(5, 5))
        self.assertEqual(
            [answer.result for answer in self.answers],
            [ResultCode.OK, ResultCode.PEER_UNKNOWN],
        )

    def test_nothing_to_offer(self) -> None:
        """Without UDP, TCP and relay there is nothing to introduce to."""
        self.make(relay_urls=())
        self.server.addresses = Bind()
        self.connect()
        self.sessions.handle_timer(now=3.0)
        self.assertIs(self.answers[0].result, ResultCode.SERVER_DID_NOT_ANSWER)

    def test_server_lost(self) -> None:
        """A control channel that breaks ends the wait."""
        self.connect()
        self.connect(session=uuid.UUID(int=2), target=name(5))
        self.sessions.server_lost(self.server, now=1.0)
        self.assertEqual(len(self.answers), 2)
        self.assertEqual(self.answers[1].udp_endpoints, ())

    def test_retransmission(self) -> None:
        """A repeated request is asked once and answered once."""
        self.connect()
        self.connect(now=0.05)
        self.ack()
        self.assertEqual(len(self.channel.requests), 1)
        self.assertEqual(len(self.answers), 1)

    def test_double_over_tcp(self) -> None:
        """The double over TCP joins the session, and gets the same answer."""
        self.connect()
        self.connect(
            over="tcp", transaction=b"another time", source=Address("1.2.3.4", 9)
        )
        self.ack()
        self.assertEqual(len(self.channel.requests), 1)
        self.assertEqual(len(self.answers), 2)
        self.assertIs(self.answers[0], self.answers[1])

    def test_double_over_tcp_later(self) -> None:
        """The double gets the answer that was given already."""
        self.connect()
        self.ack()
        self.connect(over="tcp", transaction=b"another time", now=0.6)
        self.assertIs(self.answers[0], self.answers[1])
        self.assertEqual(len(self.channel.requests), 1)

    def test_claimed_addresses(self) -> None:
        """The server is not sent to hosts that the client merely names."""
        itself = CLIENT._replace(port=4001)
        third = Address("198.51.100.99", 53)
        self.connect(claimed=(third, LOCAL, itself))
        self.assertEqual(self.channel.requests[-1].udp_endpoints, (CLIENT,))
        # A source address may be forged, but not with TCP.
        self.make()
        self.connect(over="tcp", claimed=(third, LOCAL, itself))
        self.assertEqual(self.channel.requests[-1].udp_endpoints, (itself,))
        # Behind the same NAT, or in the mediator's own network, private ones count.
        self.make()
        self.server.host = CLIENT.host
        self.connect(claimed=(third, LOCAL))
        self.assertEqual(self.channel.requests[-1].udp_endpoints, (CLIENT, LOCAL))
        self.make()
        inside = Address("192.168.1.7", 4000)
        self.connect(claimed=(third, LOCAL), source=inside)
        self.assertEqual(self.channel.requests[-1].udp_endpoints, (inside, LOCAL))

    def test_both_families(self) -> None:
        """The client is where it was seen, over IPv4 and over IPv6, IPv4 first."""
        self.connect(source=CLIENT_6, claimed=(CLIENT_6,))
        self.connect(transaction=b"another time", source=CLIENT, claimed=(CLIENT_6,))
        self.connect(transaction=b"a third time", source=STRANGER_6)
        self.assertEqual(
            [request.udp_endpoints for request in self.channel.requests],
            [(CLIENT_6,), (CLIENT, CLIENT_6)],
        )
        self.assertEqual([r.unproven for r in self.channel.requests], [None, None])

    def test_other_family_after_the_answer(self) -> None:
        """Who learns the mediator's IPv6 address from the answer asks there, too."""
        self.sessions.mediator_endpoints = (MEDIATOR_6,)
        self.connect()
        self.ack()
        self.assertEqual(self.answers[0].mediator_endpoints, (MEDIATOR_6,))
        self.connect(transaction=b"another time", source=CLIENT_6)
        self.assertEqual(self.channel.requests[-1].udp_endpoints, (CLIENT, CLIENT_6))
        self.assertIs(self.answers[1], self.answers[0])

    def test_unproven(self) -> None:
        """A global IPv6 address at which nobody saw the client is told as such."""
        local = Address("fd00::9", 4000)
        self.connect(claimed=(LOCAL, local, CLIENT_6, STRANGER_6))
        [request] = self.channel.requests
        self.assertEqual(request.udp_endpoints, (CLIENT,))
        self.assertEqual(request.unproven, CLIENT_6)
        self.make()
        self.connect(claimed=(LOCAL, local, STRANGER._replace(port=53)))
        self.assertIsNone(self.channel.requests[-1].unproven)
        self.make()
        self.connect(claimed=(CLIENT_6,), without_udp=True)
        self.assertIsNone(self.channel.requests[-1].unproven)

    def test_nat_of_one_family(self) -> None:
        """TCP over IPv6 proves nothing of the address of IPv4."""
        self.connect(nat=NAT)
        self.connect(transaction=b"another time", source=CLIENT_6, nat=NAT)
        self.connect(over="tcp", source=CLIENT_6._replace(port=9), nat=NAT)
        self.assertEqual([r.nat for r in self.channel.requests], [None, None])
        self.connect(over="tcp", source=Address(CLIENT.host, 9), nat=NAT)
        self.assertEqual(self.channel.requests[-1].nat, NAT)

    def test_tcp_alone(self) -> None:
        """Without UDP the server learns only what the client said of itself."""
        self.server.host = CLIENT.host
        self.connect(over="tcp")
        [request] = self.channel.requests
        self.assertEqual(request.udp_endpoints, (LOCAL,))

    def test_tcp_first(self) -> None:
        """When UDP comes later the server is told the observed address, once."""
        self.server.host = CLIENT.host
        self.connect(over="tcp")
        self.connect(transaction=b"another time")
        self.connect(transaction=b"another time")
        self.assertEqual(
            [request.udp_endpoints for request in self.channel.requests],
            [(LOCAL,), (CLIENT, LOCAL)],
        )
        self.ack()
        self.assertEqual(len(self.answers), 2)

    def test_udp_after_the_answer(self) -> None:
        """Also when it comes after the answer; not when the server punches not."""
        self.connect(over="tcp")
        self.ack()
        self.connect(transaction=b"another time", now=1.0)
        self.assertEqual(len(self.channel.requests), 2)
        self.make()
        self.connect(over="tcp")
        self.sessions.handle_timer(now=3.0)
        self.connect(transaction=b"another time", now=3.1)
        self.assertEqual(len(self.channel.requests), 1)

    def test_ack_repeated(self) -> None:
        """A repeated confirmation is answered, and changes nothing."""
        self.connect()
        self.ack()
        self.ack(source=Address("198.51.100.2", 6666))
        self.assertEqual(len(self.answers), 1)

    def test_ack_late(self) -> None:
        """Late copies get the answer that the first ones got."""
        self.connect()
        self.sessions.handle_timer(now=3.0)
        self.ack(now=3.1)
        self.connect(transaction=b"another time", now=3.2)
        self.assertEqual(self.answers[1].udp_endpoints, ())

    def test_ack_forged(self) -> None:
        """Without the token, or for no session, the refusal is the same."""
        self.connect()
        wrong = self.assertRaises(RemoteProtocolError, self.ack, token=b"x" * 16)
        absent = self.assertRaises(
            RemoteProtocolError, self.ack, session=uuid.UUID(int=9)
        )
        self.assertEqual((wrong.code, absent.code), (401, 401))
        self.assertEqual(str(wrong), str(absent))
        self.assertEqual(self.answers, [])

    def test_ack_unprotected(self) -> None:
        """A confirmation without integrity does not count."""
        self.connect()
        ack = ConnectionAck(session_id=SESSION).to_stun(b"transactions")
        error = self.assertRaises(
            RemoteProtocolError,
            self.sessions.receive_ack,
            STUNMessage.decode(ack.encode()),
            PUNCHED,
            now=0.1,
        )
        self.assertEqual(error.code, 401)

    def test_another_target(self) -> None:
        """A session id cannot be used for two targets."""
        self.connect()
        error = self.assertRaises(RemoteProtocolError, self.connect, target=name(1, 2))
        self.assertEqual(error.code, 400)

    def test_result_counts_once(self) -> None:
        """The outcome is taken once, and only of sessions that were answered."""
        result = ConnectionResult(session_id=SESSION, result=ResultCode.OK, path="udp")
        self.assertIsNone(self.sessions.receive_result(result))
        self.connect()
        self.assertIsNone(self.sessions.receive_result(result))
        self.ack()
        self.assertIsNotNone(self.sessions.receive_result(result))
        self.assertIsNone(self.sessions.receive_result(result))

    def test_copies_are_bounded(self) -> None:
        """Somebody who repeats under ever new transaction ids gets few answers."""
        for number in range(50):
            self.connect(transaction=number.to_bytes(12, "big"))
        self.ack()
        self.assertEqual(len(self.answers), MAX_COPIES)

    def test_forgotten(self) -> None:
        """An answer is kept for a minute, then nothing is left."""
        self.connect()
        self.ack(now=0.1)
        self.assertEqual(self.sessions.next_timer(), 0.1 + ANSWER_LIFETIME)
        self.sessions.handle_timer(now=0.1 + ANSWER_LIFETIME)
        self.assertEqual(len(self.sessions), 0)
        self.assertIsNone(self.sessions.next_timer())

    def test_eviction(self) -> None:
        """Full, it forgets the session answered first; waiting ones are kept."""
        self.make(max_sessions=2)
        self.connect()
        self.connect(session=uuid.UUID(int=2))
        error = self.assertRaises(
            RemoteProtocolError, self.connect, session=uuid.UUID(int=3)
        )
        self.assertEqual(error.code, 503)
        self.ack()
        self.connect(session=uuid.UUID(int=3))
        self.assertEqual(len(self.sessions), 2)
        self.assertNotIn(SESSION, self.sessions)
        self.assertEqual(self.sessions.counts.evicted, 1)
        self.assertEqual(self.sessions.counts.refused, 1)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["udp", "tcp", "ack", "timer", "lost", "offline"]),
                st.integers(1, 3),
                st.floats(0, 5),
            ),
            max_size=30,
        )
    )
    def test_any_order(self, steps: list[tuple[str, int, float]]) -> None:
        """Whatever happens, everyone who waits is answered in time, and alike."""
        self.make()
        now = 0.0
        transaction = 0
        for what, number, passed in steps:
            now += passed
            session = uuid.UUID(int=number)
            self.sessions.handle_timer(now=now)
            if what in ("udp", "tcp"):
                transaction += 1
                self.connect(
                    over=what,
                    session=session,
                    transaction=transaction.to_bytes(12, "big"),
                    now=now,
                )
            elif what == "ack" and session in self.sessions:
                if self.sessions.get(session).server is not None:  # type: ignore[union-attr]
                    self.ack(session=session, now=now)
            elif what == "lost":
                self.sessions.server_lost(self.server, now=now)
            elif what == "offline":
                self.registry.remove(self.server)
        self.sessions.handle_timer(now=now + 3.0)
        self.assertEqual(self.sessions.waiting_count, 0)
        self.assertLessEqual(len(self.answers), transaction)
        self.sessions.handle_timer(now=now + 3.0 + ANSWER_LIFETIME)
        self.assertEqual(len(self.sessions), 0)


class ConnectSessionWalk(SynchronousTestCase):
    """Each input in each state."""

    SERVER = ServerRecord(name(1, 2), Channel(), Bind(), 0.0)
    INPUTS = {
        "chosen": lambda m: m.server_chosen(ConnectSessionWalk.SERVER),
        "missing": lambda m: m.server_missing(ResultCode.PEER_UNKNOWN),
        "copy": lambda m: m.copy_received(
            RequestCopy(
                Connect(session_id=SESSION, target=name(1)).to_stun(b"t" * 12),
                CLIENT,
                True,
                lambda answer: None,
            )
        ),
        "ack": lambda m: m.ack_received(PUNCHED, ()),
        "unneeded": lambda m: m.ack_unneeded(),
        "timeout": lambda m: m.ack_timed_out(),
        "lost": lambda m: m.server_lost(),
    }

    def make(self, *steps: str) -> Any:
        """Return a machine after some inputs."""
        core = ConnectSessionCore(
            Connect(session_id=SESSION, target=name(1)),
            b"t" * 16,
            ConnectionParameters(),
            (),
            lambda core, answer: None,
        )
        machine = connect_session_machine(core)
        for step in steps:
            self.INPUTS[step](machine)
        return machine

    def test_walk(self) -> None:
        """The table of transitions, whole."""
        waiting = "waiting for the server"
        reach = {
            "fresh": lambda: self.make(),
            waiting: lambda: self.make("chosen"),
            "answered": lambda: self.make("missing"),
        }
        moves = {
            ("fresh", "chosen"): waiting,
            ("fresh", "missing"): "answered",
            (waiting, "ack"): "answered",
            (waiting, "unneeded"): "answered",
            (waiting, "timeout"): "answered",
            (waiting, "lost"): "answered",
        }
        for (state, given_input), after in walk(reach, self.INPUTS).items():
            self.assertEqual(
                after, moves.get((state, given_input), state), (state, given_input)
            )
