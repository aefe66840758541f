"""Relays that are connected to while the mediator is still asked."""

from __future__ import annotations

import uuid
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.http_client import HTTPClientConnection
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.peer.attempts import AttemptMaker
from dwcloud.peer.head_start import HeadStart, HeadStarts
from dwcloud.peer.known_relays import KnownRelays
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.protocol.mediation.messages import ConnectResponse
from dwcloud.protocol.mediation.parameters import ConnectionParameters
from dwcloud.protocol.mediation.result_codes import ResultCode
from dwcloud.protocol.tunnelling.prober import Carrier
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.testing import Firewall, World
from tests.unit.net.stream_world import Recorder, test_identity

URL = ServiceURL.parse("http://203.0.113.5:3349")
MEDIATOR = "203.0.113.4"
ANNOUNCED = ("http://203.0.113.5:3349", "https://203.0.113.6")


class HeadStartTests(SynchronousTestCase):
    """One connection that nobody may want."""

    def setUp(self) -> None:
        self.world = World(seed=1)
        internet = self.world.internet()
        self.relay_host = internet.host("203.0.113.5")
        self.host = internet.host("203.0.113.20")
        self.accepted: list[Recorder] = []
        self.relay_host.reactor.listenTCP(3349, Factory.forProtocol(self.accept))

    def accept(self) -> Recorder:
        self.accepted.append(Recorder())
        return self.accepted[-1]

    def begin(self) -> HeadStart:
        reactor = self.host.reactor
        connecting = Proxies(reactor).destination(URL).connect(Carrier.DIRECT)
        return HeadStart(reactor, URL, connecting)

    def wait(self) -> None:
        self.world.advance(1.0)

    def assertNothingLeft(self) -> None:
        self.world.advance(3.0)
        self.assertEqual(self.host.connections, [])
        self.assertEqual(list(self.host.reactor.getDelayedCalls()), [])

    def test_taken(self) -> None:
        """What is open is given away at once, and only once."""
        begun = self.begin()
        self.wait()
        taken: Any = begun.take()
        connection = self.successResultOf(taken)
        self.assertIsNone(begun.take())
        begun.end()
        self.world.advance(60.0)
        self.assertTrue(connection.reusable)
        connection.disconnect()
        self.assertNothingLeft()

    def test_taken_on_its_way(self) -> None:
        """What is being made is given to who waits for it."""
        begun = self.begin()
        taken: Any = begun.take()
        begun.end()
        self.assertNoResult(taken)
        self.wait()
        self.assertTrue(self.successResultOf(taken).reusable)

    def test_taken_and_given_up(self) -> None:
        """Who has taken it and gives up gives it up for good."""
        begun = self.begin()
        taken: Any = begun.take()
        taken.cancel()
        self.failureResultOf(taken)
        self.assertNothingLeft()

    def test_not_wanted(self) -> None:
        """An open connection is closed in good order, and said nothing on it."""
        begun = self.begin()
        self.wait()
        begun.end()
        begun.end()
        self.assertNothingLeft()
        (unused,) = self.accepted
        self.assertEqual(unused.calls, ["made", "lost"])
        self.assertIsInstance(unused.lost, ConnectionDone)

    def test_not_wanted_on_its_way(self) -> None:
        """One that is not open yet is never opened."""
        self.host.firewall = Firewall(tcp_ports=(1,))
        begun = self.begin()
        begun.end()
        self.assertIsNone(begun.take())
        self.assertNothingLeft()

    def test_too_long(self) -> None:
        """The relay's patience is not waited for."""
        begun = self.begin()
        self.world.advance(9.5)
        self.assertEqual(self.accepted[0].calls, ["made"])
        self.world.advance(1.0)
        self.assertEqual(self.accepted[0].calls, ["made", "lost"])
        self.assertIsNone(begun.take())
        self.assertNothingLeft()

    def test_lost(self) -> None:
        """What the relay has closed is not given to anybody."""
        begun = self.begin()
        self.wait()
        self.accepted[0].transport.loseConnection()
        self.wait()
        self.assertIsNone(begun.take())

    def test_failed(self) -> None:
        """Who takes what failed meanwhile finds nothing, and tries by itself."""
        clock = Clock()
        connecting: Deferred[HTTPClientConnection] = Deferred()
        begun = HeadStart(clock, URL, connecting)
        connecting.errback(Failure(ConnectionRefusedError()))
        self.assertIsNone(begun.take())
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_fails_when_taken(self) -> None:
        """Who waits for it is told why it fails."""
        connecting: Deferred[HTTPClientConnection] = Deferred()
        taken: Any = HeadStart(Clock(), URL, connecting).take()
        connecting.errback(Failure(ConnectionRefusedError()))
        self.failureResultOf(taken, ConnectionRefusedError)


class KnownRelaysTests(SynchronousTestCase):
    """Which relays are begun with."""

    def setUp(self) -> None:
        self.world = World(seed=1)
        internet = self.world.internet()
        self.mediator = internet.host(MEDIATOR)
        for address in ("203.0.113.5", "203.0.113.6"):
            internet.host(address)
        self.host = internet.host("203.0.113.20", name="client")
        self.use(Proxies(self.host.reactor))

    def use(self, proxies: Proxies, mediator: str | None = MEDIATOR) -> None:
        self.known = KnownRelays(
            self.host.reactor,
            None if mediator is None else MediatorAddress.parse(mediator),
            proxies,
        )

    def answer(self, **fields: Any) -> ConnectResponse:
        fields.setdefault("relay_urls", ANNOUNCED)
        return ConnectResponse(
            result=ResultCode.OK, server=test_identity().name, **fields
        )

    def named(self, begun: HeadStarts | None = None, **fields: Any) -> list[str]:
        """The mediator answers; return the relays that are tried."""
        name = test_identity().name
        maker = AttemptMaker(self.host.reactor, name, uuid.uuid4())
        response = self.answer(**fields)
        attempts = self.known.attempts(maker, response, begun or HeadStarts())
        return [attempt.name for attempt in attempts]

    def begun(self, wanted: bool = True) -> list[str]:
        """Where connections are begun to, until the block is left."""
        before = len(self.world.trace)
        with self.known.begun(wanted):
            self.world.advance(0.01)
        self.world.advance(3.0)
        self.assertEqual(list(self.host.reactor.getDelayedCalls()), [])
        self.assertEqual(self.host.connections, [])
        return [
            f"{record.destination.host}:{record.destination.port}"
            for record in list(self.world.trace)[before:]
            if record.kind == "syn" and record.origin == "client"
        ]

    def test_unknown(self) -> None:
        """The relay is taken to be where a mediator has it by default."""
        self.assertEqual(self.begun(), [f"{MEDIATOR}:3349"])

    def test_named(self) -> None:
        """Those that were named before take the place of that."""
        self.assertEqual(self.named(), [f"relay {url}" for url in ANNOUNCED])
        self.assertEqual(self.begun(), ["203.0.113.5:3349", "203.0.113.6:443"])
        self.named(relay_urls=("http://:8000",))
        self.assertEqual(self.begun(), [f"{MEDIATOR}:8000"])
        self.named(relay_urls=())
        self.assertEqual(self.begun(), [])

    def test_held_back(self) -> None:
        """Where relays are to wait for other paths nothing is begun."""
        self.named(parameters=ConnectionParameters(relay_start_delay=0.1))
        self.assertEqual(self.begun(), [])

    def test_not_wanted(self) -> None:
        """A client that wants no relay, or has no mediator, begins with none."""
        self.assertEqual(self.begun(wanted=False), [])
        self.use(Proxies(self.host.reactor), None)
        self.assertEqual(self.begun(), [])

    def test_proxy(self) -> None:
        """Nothing goes past a proxy, or through it before it is needed."""
        settings = ProxySettings.of(Proxy("203.0.113.8", 3128))
        self.use(Proxies(self.host.reactor, settings))
        self.named()
        self.assertEqual(self.begun(), [])

    def test_other_relay(self) -> None:
        """A connection to a relay that is not named is closed at once."""
        listening = Recorder()
        self.mediator.reactor.listenTCP(3349, Factory.forProtocol(lambda: listening))
        with self.known.begun(True) as starts:
            self.world.advance(1.0)
            self.assertEqual(listening.calls, ["made"])
            self.named(starts)
            self.world.advance(1.0)
            self.assertEqual(listening.calls, ["made", "lost"])
            self.assertIsInstance(listening.lost, ConnectionDone)
