"""``twistd relay --workers`` as processes of their own, over real sockets."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import tempfile
import uuid
from pathlib import Path
from typing import Any

from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from dwcloud.net.http_client import HTTPClientConnection
from dwcloud.net.identity import ServerIdentity
from dwcloud.peer.relay_client import RelayClientEndpoint
from dwcloud.peer.relay_pool import RelayPool
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.paths import client_sessions_path
from dwcloud.protocol.relaying.worker_homes import home_of
from dwcloud.protocol.tunnelling.methods import (
    FINITE_MESSAGES,
    GET_POST,
    UPGRADE,
    WEBSOCKET,
)
from dwcloud.relay.service import RelayService
from dwcloud.relay.workmates import Workmates
from tests.certificates import write_certificate
from tests.exposition import complaints, read_metrics, values

# By name, or its tests would be found here, too.
from tests.integration import test_relay
from tests.quiet_reactor import become_quiet

WORKERS = 3


@implementer(IHalfCloseableProtocol)
class Returner(Protocol):
    """Sends all it got back when the client has sent all."""

    def connectionMade(self) -> None:
        self.data: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self.data.append(data)

    def readConnectionLost(self) -> None:
        self.transport.write(b"".join(self.data))
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass


class ReadyWorkers:
    """A test that begins when all workers serve, not while they start."""

    workers: int

    @inlineCallbacks
    def setUp(self: Any) -> Any:
        self.options = (*self.options, "--workers", f"{self.workers}")
        yield super().setUp()
        while len(re.findall(rb"worker \d is process", self.process.output)) < (
            self.workers
        ):
            yield deferLater(self.reactor, 0.01)


class WorkersTestCase(ReadyWorkers, test_relay.RelayTestCase):
    """Servers whose homes are all workers, around one relay."""

    timeout = 150
    workers = WORKERS

    def identities(self, count: int) -> list[ServerIdentity]:
        """Return servers of systems of their own, as many at home at each worker."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        homes: dict[int, list[ServerIdentity]] = {n: [] for n in range(WORKERS)}
        made = 0
        while any(len(some) < count // WORKERS for some in homes.values()):
            identity = ServerIdentity.create(Path(directory.name, f"{made}"))
            made += 1
            some = homes[self.home(identity)]
            if len(some) < count // WORKERS:
                some.append(identity)
        return [identity for some in homes.values() for identity in some]

    def home(self, identity: ServerIdentity) -> int:
        home = home_of(client_sessions_path(identity.name), WORKERS)
        assert home is not None
        return home

    @inlineCallbacks
    def serve(self, identities: list[ServerIdentity], **options: Any) -> Any:
        """Start a pool for each, and wait until all their connections are idle."""
        pools = []
        for identity in identities:
            factory = Factory.forProtocol(Returner)
            pool = RelayPool(self.reactor, self.url, identity, factory, **options)
            pool.startService()
            self.addCleanup(pool.stopService)
            pools.append(pool)
        yield self.idle(pools)
        return pools

    @inlineCallbacks
    def idle(self, pools: list[RelayPool]) -> Any:
        while any(pool.idle_connections < 7 for pool in pools):
            yield deferLater(self.reactor, 0.01)

    @inlineCallbacks
    def exchange(
        self, identity: ServerIdentity, size: int, method: str = "auto"
    ) -> Any:
        """Send random bytes; all of them come back."""
        sender = test_relay.Sender(os.urandom(size))
        endpoint = RelayClientEndpoint(
            self.reactor, self.url, identity.name, method=method
        )
        yield connectProtocol(endpoint, sender)
        answer = yield sender.done
        self.assertEqual(
            hashlib.sha256(answer).hexdigest(), hashlib.sha256(sender.data).hexdigest()
        )

    @inlineCallbacks
    def no_tunnels(self) -> Any:
        """Return the figures of a moment when all tunnels have ended."""
        while True:
            figures = yield self.statistics()
            if figures["now"]["tunnels"] == 0 and figures["workers"] == WORKERS:
                return figures
            yield deferLater(self.reactor, 0.05)

    def process_of(self, worker: int) -> int:
        """The latest process of a worker."""
        found = re.findall(rb"worker %d is process (\d+)" % worker, self.process.output)
        return int(found[-1])

    @inlineCallbacks
    def metrics_agree(self) -> Any:
        """Metrics are of all workers, and their sums are those of the statistics."""
        yield self.no_tunnels()
        carrier = TCP4ClientEndpoint(self.reactor, "127.0.0.1", self.port)
        connection = yield connectProtocol(carrier, HTTPClientConnection("r"))
        answer = yield connection.request("GET", "/metrics")
        connection.disconnect()
        self.assertEqual(answer.status, 200)
        text = answer.body.decode()
        self.assertEqual(complaints(text), "")
        metrics = read_metrics(text)
        figures = yield self.statistics()
        opened = values(metrics["dwcloud_relay_tunnels_opened"], "_total")
        self.assertEqual({*opened}, {(str(number),) for number in range(WORKERS)})
        self.assertEqual(sum(opened.values()), figures["ended"]["tunnels"])
        carried = values(metrics["dwcloud_relay_payload_bytes"], "_total")
        self.assertEqual(
            sum(carried.values()),
            figures["ended"]["bytes_to_server"] + figures["ended"]["bytes_to_client"],
        )


class WorkersTests(WorkersTestCase):
    """Servers and clients find each other whichever worker accepts them."""

    @inlineCallbacks
    def test_many_clients_of_several_servers(self) -> Any:
        """101 clients at once of six servers all get through, and each byte counts."""
        identities = self.identities(6)
        yield self.serve(identities)
        yield gatherResults(
            # By one method: where the first answer tarries, another one may open a
            # tunnel of its own, which the relay counts, too.
            [self.exchange(identities[n % 6], 100_000, UPGRADE) for n in range(101)]
        )
        yield self.metrics_agree()
        figures = yield self.no_tunnels()
        self.assertEqual(figures["now"]["servers"], 6)
        self.assertEqual(figures["ended"]["tunnels"], 101)
        self.assertEqual(figures["ended"]["bytes_to_server"], 101 * 100_000)
        self.assertEqual(figures["ended"]["bytes_to_client"], 101 * 100_000)
        self.assertEqual(figures["ended"]["proofs_accepted"], 6)

    @inlineCallbacks
    def test_tunnels_of_several_requests(self) -> Any:
        """All requests of a tunnel come together, the server's and the client's."""
        identities = self.identities(3)
        for method, identity in zip(
            (GET_POST, FINITE_MESSAGES, WEBSOCKET), identities, strict=True
        ):
            yield self.serve([identity], method=method)
            yield gatherResults(
                [self.exchange(identity, 50_000, method) for _ in range(5)]
            )
        figures = yield self.no_tunnels()
        self.assertEqual(figures["ended"]["bytes_to_server"], 15 * 50_000)
        self.assertEqual(figures["ended"]["bytes_to_client"], 15 * 50_000)

    @inlineCallbacks
    def test_killed_worker(self) -> Any:
        """A worker that dies is started again, and its servers come back to it."""
        identities = self.identities(3)
        pools = yield self.serve(identities)
        before = self.process_of(1)
        os.kill(before, signal.SIGKILL)
        while b"worker 1 has ended" not in self.process.output:
            yield deferLater(self.reactor, 0.01)
        self.assertIn(b"ended by signal 9", self.process.output)
        # The others did not notice.
        yield gatherResults(
            [self.exchange(i, 10_000) for i in identities if self.home(i) != 1]
        )
        while self.process_of(1) == before:
            yield deferLater(self.reactor, 0.01)
        yield self.idle(pools)
        yield gatherResults([self.exchange(i, 10_000) for i in identities])
        figures = yield self.no_tunnels()
        self.assertEqual(figures["worker_restarts"], 1)
        self.assertEqual(figures["now"]["servers"], 3)


class SameTests(ReadyWorkers, test_relay.RelayTests):
    """Everything that one process does, by workers."""

    timeout = 150
    workers = 2


class DrainTests(ReadyWorkers, test_relay.DrainTests):
    """``--drain`` with workers."""

    timeout = 150
    workers = 2


class StartTests(test_relay.RelayTestCase):
    """A relay whose workers cannot start."""

    timeout = 150

    @inlineCallbacks
    def test_key_gone(self) -> Any:
        """A worker that cannot read a certificate ends the program, and says why."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        key, certificate = write_certificate(Path(directory.name), "localhost")
        relay = test_relay.RelayProcess()
        self.spawn(
            f"--listen=ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}",
            "--workers=2",
            process=relay,
        )
        self.addCleanup(self.end_process, relay)
        # It listens; the workers, who are being started, read the key once more.
        yield relay.port
        key.unlink()
        status = yield relay.ended
        self.assertEqual(status, 1, relay.output.decode())
        # With the reason in the same line.
        self.assertRegex(
            relay.output,
            rb"worker \d did not start: [^\n]*No such file or directory[^\n]*key\.pem",
        )
        self.assertNotIn(b"Traceback", relay.output)


class UNIXSocketTests(TestCase):
    """A relay behind another server on the same machine."""

    timeout = 150

    @inlineCallbacks
    def test_clean_end(self) -> Any:
        """Workers share a UNIX socket, which is gone when they have ended."""
        from twisted.internet import reactor

        self.addCleanup(become_quiet, reactor)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = Path(directory.name, "relay")
        relay = test_relay.RelayProcess()
        # It has no port to tell.
        relay.port.addErrback(lambda failure: None)
        test_relay.spawn_relay(reactor, relay, f"--listen=unix:{path}", "--workers=2")
        self.addCleanup(test_relay.end_relay, relay)
        endpoint = UNIXClientEndpoint(reactor, f"{path}")
        while not path.exists():
            yield deferLater(reactor, 0.01)
        connection = yield connectProtocol(endpoint, HTTPClientConnection("relay"))
        for system in (1, 2):
            name = PeerName(uuid.UUID(int=system))
            answer = yield connection.request("POST", client_sessions_path(name))
            self.assertEqual(answer.status, 404)
        connection.disconnect()
        yield test_relay.end_relay(relay)
        self.assertNotIn(b"does not end", relay.output)
        self.assertNotIn(b"Traceback", relay.output)
        self.assertFalse(path.exists())

    @inlineCallbacks
    def test_drain(self) -> Any:
        """The socket keeps its name for short requests until the last has ended."""
        from twisted.internet import reactor

        self.addCleanup(become_quiet, reactor)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = Path(directory.name, "relay")
        relay = test_relay.RelayProcess()
        relay.port.addErrback(lambda failure: None)
        test_relay.spawn_relay(
            reactor, relay, f"--listen=unix:{path}", "--workers=2", "--drain=60"
        )
        self.addCleanup(test_relay.end_relay, relay)
        while not path.exists():
            yield deferLater(reactor, 0.01)
        endpoint = UNIXClientEndpoint(reactor, f"{path}")
        identity = ServerIdentity.create(Path(directory.name, "identity"))
        pool = RelayPool(
            reactor,
            "http://relay",
            identity,
            Factory.forProtocol(test_relay.Echo),
            carrier=endpoint,
            method=FINITE_MESSAGES,
        )
        pool.startService()
        self.addCleanup(pool.stopService)
        while pool.idle_connections < 7:
            yield deferLater(reactor, 0.01)
        client = test_relay.Collector()
        yield connectProtocol(
            RelayClientEndpoint(
                reactor,
                "http://relay",
                identity.name,
                carrier=endpoint,
                method=FINITE_MESSAGES,
            ),
            client,
        )
        yield self.echo(client)
        yield pool.stopService()
        relay.transport.signalProcess("TERM")
        while b"draining" not in relay.output:
            yield deferLater(reactor, 0.01)
        yield self.echo(client)
        self.assertTrue(path.exists())
        # Nothing new is begun, but whoever comes is answered.
        connection = yield connectProtocol(endpoint, HTTPClientConnection("relay"))
        answer = yield connection.request("POST", client_sessions_path(identity.name))
        self.assertEqual(answer.status, 503)
        client.transport.abortConnection()
        yield client.lost
        status = yield relay.ended
        self.assertEqual(status, 0, relay.output.decode())
        self.assertNotIn(b"does not end", relay.output)
        self.assertNotIn(b"Traceback", relay.output)
        self.assertFalse(path.exists())

    @inlineCallbacks
    def echo(self, client: test_relay.Collector) -> Any:
        """Let something come back."""
        from twisted.internet import reactor

        client.data = b""
        client.transport.write(b"there?")
        while client.data != b"there?":
            yield deferLater(reactor, 0.01)


class HandOverTestCase(TestCase):
    """Two workers in this process: all comes to one, the other one is its home."""

    timeout = 150
    reactor: Any

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor = reactor
        self.addCleanup(become_quiet, reactor)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.addresses: list[Any] = []
        home, number = 0, 0
        while home != 1:
            number += 1
            self.identity = ServerIdentity.create(self.directory / f"{number}")
            home = home_of(client_sessions_path(self.identity.name), 2) or 0
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in "01"]
        outboxes = [sending for _, sending in pairs]
        self.workmates, self.relays = [], []
        for worker, (inbox, _) in enumerate(pairs):
            workmates = Workmates(
                reactor, worker, inbox, [end.dup() for end in outboxes]
            )
            relay = RelayService(reactor, [self.endpoint()], workmates=workmates)
            relay.startService()
            self.addCleanup(relay.stopService)
            self.addCleanup(workmates.stop)
            self.workmates.append(workmates)
            self.relays.append(relay)

    def endpoint(self) -> str:
        return "tcp:0:interface=127.0.0.1"

    def carrier(self) -> Any:
        port: Any = self.relays[0].ports[0]
        return TCP4ClientEndpoint(self.reactor, "127.0.0.1", port.getHost().port)

    @inlineCallbacks
    def until(self, condition: Any) -> Any:
        while not condition():
            yield deferLater(self.reactor, 0.005)

    @inlineCallbacks
    def join(self, protocol: type[Protocol]) -> Any:
        """Return a client that is joined with a server of ``protocol``."""
        test = self

        class Recording(Factory):
            def buildProtocol(self, addr: Any) -> Any:
                test.addresses.append(addr)
                return protocol()

        url = "http://relay.example"
        pool = RelayPool(
            self.reactor, url, self.identity, Recording(), carrier=self.carrier()
        )
        pool.startService()
        self.addCleanup(pool.stopService)
        yield self.until(lambda: pool.idle_connections == 7)
        endpoint = RelayClientEndpoint(
            self.reactor, url, self.identity.name, carrier=self.carrier()
        )
        client = yield connectProtocol(endpoint, test_relay.Collector())
        return client


class HandOverScenarios:
    """What is the same with and without TLS."""

    @inlineCallbacks
    def test_both_ways(self: Any) -> Any:
        """Bytes pass through the home, which knows where the client came from."""
        client = yield self.join(test_relay.Echo)
        data = os.urandom(2_000_000)
        client.transport.write(data)
        yield self.until(lambda: len(client.data) == len(data))
        self.assertEqual(
            hashlib.sha256(client.data).digest(), hashlib.sha256(data).digest()
        )
        away, home = (relay.switchboard.figures() for relay in self.relays)
        self.assertEqual(away["tunnels"], 0)
        self.assertEqual(away["servers"], 0)
        self.assertEqual(home["tunnels"], 1)
        self.assertEqual(home["bytes_to_client"], len(data))
        here = client.transport.getHost()
        (address,) = self.addresses
        self.assertEqual((address.host, address.port), (here.host, here.port))
        client.transport.loseConnection()
        yield self.until(lambda: not self.relays[1].switchboard.figures()["tunnels"])

    @inlineCallbacks
    def test_reset_passes(self: Any) -> Any:
        """A connection that the client breaks is broken at the server."""
        servers: list[test_relay.Collector] = []

        def server() -> test_relay.Collector:
            servers.append(test_relay.Collector())
            return servers[-1]

        client = yield self.join(server)
        client.transport.write(b"x")
        yield self.until(lambda: servers and servers[0].data == b"x")
        client.transport.abortConnection()
        reason = yield servers[0].lost
        self.assertIsInstance(reason, ConnectionLost)
        yield client.lost


class PlainHandOverTests(HandOverScenarios, HandOverTestCase):
    """Plain sockets."""

    @inlineCallbacks
    def test_no_payload_in_python(self) -> Any:
        """The home splices sockets that were handed to it."""
        client = yield self.join(test_relay.Echo)
        client.transport.write(b"first")
        yield self.until(lambda: client.data == b"first")
        (tunnel,) = self.relays[1].switchboard._tunnels
        for end in (tunnel.server_end, tunnel.client_end):
            self.patch(end, "dataReceived", None)
            self.patch(end.transport, "write", None)
        data = os.urandom(1_000_000)
        client.transport.write(data)
        yield self.until(lambda: len(client.data) == 5 + len(data))
        self.assertEqual(client.data[5:], data)
        client.transport.loseConnection()
        yield client.lost

    @inlineCallbacks
    def test_several_homes(self) -> Any:
        """A connection goes where each of its requests belongs; answers keep order."""
        connection = yield connectProtocol(self.carrier(), HTTPClientConnection("r"))
        paths = [
            client_sessions_path(
                PeerName.parse(f"{uuid.UUID(int=n)}.{uuid.UUID(int=n)}")
            )
            for n in (1, 2, 3, 5, 4)
        ]
        for path in paths:
            answer = yield connection.request("POST", path)
            self.assertEqual(answer.status, 404)
        answer = yield connection.request("GET", "/relay/statistics/")
        figures = json.loads(answer.body)
        self.assertEqual(figures["ended"]["refused"], {"404": len(paths)})
        self.assertEqual(figures["workers"], 2)
        of_each = [relay.figures()["ended"]["refused"]["404"] for relay in self.relays]
        self.assertEqual(of_each, [2, 3])
        connection.disconnect()


class TLSHandOverTests(HandOverScenarios, HandOverTestCase):
    """TLS ends where the connection was accepted; proofs are bound to it."""

    def endpoint(self) -> str:
        key, certificate = write_certificate(self.directory, "localhost")
        return f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"

    def carrier(self) -> Any:
        return wrapClientTLS(CertificateOptions(), super().carrier())

    @inlineCallbacks
    def test_legs_end(self) -> Any:
        """A worker that drains waits for what passes through it to its home."""
        client = yield self.join(test_relay.Echo)
        self.workmates[0].stop_giving()
        self.relays[1].switchboard.drain(30.0)
        ended = self.workmates[0].legs_ended()
        client.transport.write(b"still there")
        yield self.until(lambda: client.data == b"still there")
        self.assertFalse(ended.called)
        client.transport.loseConnection()
        yield ended
