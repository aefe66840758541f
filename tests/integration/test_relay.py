"""A relay as a process of its own, with real pools, clients and curl's kind."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionLost, ProcessTerminated
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from dwcloud.errors import RelayRefused
from dwcloud.net.http_client import HTTPClientConnection
from dwcloud.net.identity import ServerIdentity
from dwcloud.net.tunnel_opening import AUTO
from dwcloud.peer.relay_client import RelayClientEndpoint
from dwcloud.peer.relay_pool import RelayPool
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.tunnelling.methods import UPGRADE
from tests.certificates import write_certificate
from tests.quiet_reactor import become_quiet
from tests.requirements import require


class RelayProcess(ProcessProtocol):
    """``twistd relay``; tells its port and its end."""

    def __init__(self) -> None:
        self.output = b""
        self.port: Deferred[int] = Deferred()
        self.ended: Deferred[int] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.output += data
        match = re.search(rb"relay listening on 127\.0\.0\.1:(\d+)", self.output)
        if match and not self.port.called:
            self.port.callback(int(match[1]))

    errReceived = outReceived

    def processEnded(self, reason: Any) -> None:
        if not self.port.called:
            self.port.errback(RuntimeError(self.output.decode()))
        # After its shutdown twistd ends by the signal that asked for it.
        code = reason.value.exitCode if reason.check(ProcessTerminated) else 0
        self.ended.callback(code or 0)


def spawn_relay(reactor: Any, process: RelayProcess, *arguments: str) -> None:
    """Start ``twistd relay``."""
    twistd = [sys.executable, str(Path(sys.executable).with_name("twistd"))]
    reactor.spawnProcess(
        process,
        sys.executable,
        [*twistd, "--nodaemon", "--pidfile=", "relay", *arguments],
        env=os.environ,
    )


def end_relay(process: RelayProcess) -> Deferred[int]:
    """End it, if it has not ended; fires when it has."""
    if not process.ended.called:
        transport: Any = process.transport
        transport.signalProcess("TERM")
    return process.ended


@implementer(IHalfCloseableProtocol)
class DigestServer(Protocol):
    """Answers a whole request, up to its end, with the hash of it."""

    def connectionMade(self) -> None:
        self.hash = hashlib.sha256()

    def dataReceived(self, data: bytes) -> None:
        self.hash.update(data)

    def readConnectionLost(self) -> None:
        self.transport.write(self.hash.hexdigest().encode())
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass


@implementer(IHalfCloseableProtocol)
class Sender(Protocol):
    """Sends something, ends its direction, and collects the answer."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.answer = b""
        self.done: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self.data)
        self.transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        self.answer += data

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Any = None) -> None:
        self.done.callback(self.answer)


class Echo(Protocol):
    """Sends back what it gets."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Collector(Protocol):
    """Collects what comes and remembers how the connection ended."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: Deferred[Any] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(reason.value)


class RelayTestCase(TestCase):
    """Servers and clients of this process around a relay of its own."""

    timeout = 150
    options: tuple[str, ...] = ()
    reactor: Any

    @inlineCallbacks
    def setUp(self) -> Any:
        from twisted.internet import reactor

        self.reactor = reactor
        self.addCleanup(become_quiet, reactor)
        self.process = RelayProcess()
        self.addCleanup(self.end_process)
        self.spawn("--listen", "tcp:0:interface=127.0.0.1", *self.options)
        self.port = yield self.process.port
        self.url = f"http://127.0.0.1:{self.port}"
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.identity = ServerIdentity.create(Path(directory.name, "identity"))

    def spawn(self, *arguments: str, process: RelayProcess | None = None) -> None:
        spawn_relay(self.reactor, process or self.process, *arguments)

    def end_process(self, process: RelayProcess | None = None) -> Any:
        return end_relay(process or self.process)

    @inlineCallbacks
    def listen(self, factory: Factory) -> Any:
        """Start a pool and wait until all its connections are idle."""
        pool = RelayPool(self.reactor, self.url, self.identity, factory)
        pool.startService()
        self.addCleanup(pool.stopService)
        while pool.idle_connections < 7:
            yield deferLater(self.reactor, 0.01)
        return pool

    def client(
        self, name: PeerName | None = None, method: str = AUTO
    ) -> RelayClientEndpoint:
        return RelayClientEndpoint(
            self.reactor,
            self.url,
            name or self.identity.name,
            client_name="test client",
            method=method,
        )

    @inlineCallbacks
    def statistics(self) -> Any:
        endpoint = TCP4ClientEndpoint(self.reactor, "127.0.0.1", self.port)
        connection = yield connectProtocol(endpoint, HTTPClientConnection("relay"))
        answer = yield connection.request("GET", "/relay/statistics/")
        connection.disconnect()
        return json.loads(answer.body)


class RelayTests(RelayTestCase):
    """Joining."""

    @inlineCallbacks
    def test_many_clients_at_once(self) -> Any:
        """101 clients at once all get through, and every byte arrives once."""
        yield self.listen(Factory.forProtocol(DigestServer))
        senders = [Sender(os.urandom(200_000)) for _ in range(101)]
        # By one method: where the first answer tarries, another one may open a tunnel
        # of its own, which the relay counts, too.
        yield gatherResults(
            [connectProtocol(self.client(method=UPGRADE), each) for each in senders]
        )
        answers = yield gatherResults([sender.done for sender in senders])
        expected = [hashlib.sha256(s.data).hexdigest().encode() for s in senders]
        self.assertEqual(answers, expected)
        while True:
            figures = yield self.statistics()
            if figures["now"]["tunnels"] == 0:
                break
            yield deferLater(self.reactor, 0.01)
        self.assertEqual(figures["ended"]["tunnels"], 101)
        self.assertEqual(figures["ended"]["bytes_to_server"], 101 * 200_000)
        self.assertEqual(figures["ended"]["bytes_to_client"], 101 * 64)
        self.assertEqual(figures["ended"]["proofs_accepted"], 1)

    @inlineCallbacks
    def test_spliced(self) -> Any:
        """Between a server's pool and a client the kernel passes the bytes on."""
        require(hasattr(os, "splice"), "this system has no splice(2)")
        yield self.listen(Factory.forProtocol(Echo))
        client = Collector()
        data = os.urandom(300_000)
        yield connectProtocol(self.client(method=UPGRADE), client)
        client.transport.write(data)
        while len(client.data) < len(data):
            yield deferLater(self.reactor, 0.01)
        self.assertEqual(client.data, data)
        figures = yield self.statistics()
        self.assertEqual(figures["now"]["tunnels"], 1)
        self.assertEqual(figures["now"]["tunnels_spliced"], 1)
        client.transport.abortConnection()

    @inlineCallbacks
    def test_sent_on_by_another_relay(self) -> Any:
        """A relay started with --peer-relay sends clients to where the server is."""
        other = RelayProcess()
        self.spawn(
            "--listen=tcp:0:interface=127.0.0.1",
            f"--peer-relay={self.url}",
            process=other,
        )
        self.addCleanup(self.end_process, other)
        port = yield other.port
        yield self.listen(Factory.forProtocol(DigestServer))
        sender = Sender(os.urandom(100_000))
        endpoint = RelayClientEndpoint(
            self.reactor,
            f"http://127.0.0.1:{port}",
            self.identity.name,
            method=UPGRADE,
        )
        yield connectProtocol(endpoint, sender)
        answer = yield sender.done
        self.assertEqual(answer, hashlib.sha256(sender.data).hexdigest().encode())
        while True:
            figures = yield self.statistics()
            if figures["now"]["tunnels"] == 0:
                break
            yield deferLater(self.reactor, 0.01)
        self.assertEqual(figures["ended"]["bytes_to_server"], 100_000)

    @inlineCallbacks
    def test_by_system(self) -> Any:
        """The name of a system leads to its server; the server learns who came."""
        addresses = []

        class Recording(Factory):
            protocol = DigestServer

            def buildProtocol(self, addr: Any) -> Any:
                addresses.append(addr)
                return super().buildProtocol(addr)

        yield self.listen(Recording())
        sender = Sender(b"data")
        yield connectProtocol(self.client(PeerName(self.identity.name.system)), sender)
        answer = yield sender.done
        self.assertEqual(answer, hashlib.sha256(b"data").hexdigest().encode())
        self.assertEqual([a.host for a in addresses], ["127.0.0.1"])

    @inlineCallbacks
    def test_slow_reader(self) -> Any:
        """A reader that reads nothing stops the writer, not the relay."""
        written = []

        class Flood(Protocol):
            paused = False

            def connectionMade(self) -> None:
                self.transport.registerProducer(self, True)
                self.resumeProducing()

            def resumeProducing(self) -> None:
                self.paused = False
                while not self.paused:
                    written.append(len(block))
                    self.transport.write(block)

            def pauseProducing(self) -> None:
                self.paused = True

            def stopProducing(self) -> None:
                self.paused = True

        block = bytes(65536)
        yield self.listen(Factory.forProtocol(Flood))
        reader = Collector()
        yield connectProtocol(self.client(), reader)
        reader.transport.pauseProducing()
        before = -1
        while before != len(written):
            before = len(written)
            yield deferLater(self.reactor, 0.3)
        status = Path(f"/proc/{self.process.transport.pid}/status").read_text()
        resident = int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])
        self.assertLess(resident, 150_000)
        self.assertLess(sum(written), 64_000_000)
        reader.transport.abortConnection()
        yield reader.lost

    @inlineCallbacks
    def test_reset_passes(self) -> Any:
        """A connection that the server breaks is broken at the client."""

        class Breaking(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.abortConnection()

        yield self.listen(Factory.forProtocol(Breaking))
        client = Collector()
        yield connectProtocol(self.client(), client)
        client.transport.write(b"x")
        reason = yield client.lost
        self.assertIsInstance(reason, ConnectionLost)

    @inlineCallbacks
    def test_server_not_here(self) -> Any:
        """A server that never registered is refused at once, in plain words."""
        error = yield self.assertFailure(
            connectProtocol(self.client(), Collector()), RelayRefused
        )
        self.assertEqual(error.status, 404)
        self.assertIn("no server", str(error))

    @inlineCallbacks
    def test_stopped_server(self) -> Any:
        """After a server has stopped, a client waits 5 s and then is refused."""
        pool = yield self.listen(Factory.forProtocol(DigestServer))
        yield pool.stopService()
        error = yield self.assertFailure(
            connectProtocol(self.client(), Collector()), RelayRefused
        )
        self.assertEqual(error.status, 503)

    @inlineCallbacks
    def test_clean_end(self) -> Any:
        """SIGTERM ends the relay in good order, idle connections or not."""
        yield self.listen(Factory.forProtocol(DigestServer))
        self.process.transport.signalProcess("TERM")
        code = yield self.process.ended
        self.assertEqual(code, 0, self.process.output.decode())
        self.assertIn(b"Server Shut Down", self.process.output)
        self.assertNotIn(b"Traceback", self.process.output)
        self.assertNotIn(b"Unhandled", self.process.output)


class DrainTests(RelayTestCase):
    """``twistd relay --drain``."""

    options = ("--drain", "30")

    @inlineCallbacks
    def tunnel(self) -> Any:
        """A client whose tunnel is open."""
        yield self.listen(Factory.forProtocol(Echo))
        client = Collector()
        yield connectProtocol(self.client(method=UPGRADE), client)
        yield self.ask(client)
        return client

    @inlineCallbacks
    def ask(self, client: Collector) -> Any:
        client.data = b""
        client.transport.write(b"there?")
        while client.data != b"there?":
            yield deferLater(self.reactor, 0.01)

    @inlineCallbacks
    def output(self, words: bytes) -> Any:
        while words not in self.process.output:
            yield deferLater(self.reactor, 0.01)

    @inlineCallbacks
    def test_waits(self) -> Any:
        """SIGTERM lets a tunnel end by itself, and the program with it."""
        client = yield self.tunnel()
        self.process.transport.signalProcess("TERM")
        yield self.output(b"draining: waiting up to 30 s for 1 tunnels")
        yield self.ask(client)
        self.assertFalse(self.process.ended.called)
        client.transport.loseConnection()
        code = yield self.process.ended
        self.assertEqual(code, 0, self.process.output.decode())
        self.assertNotIn(b"Traceback", self.process.output)

    @inlineCallbacks
    def test_second_signal(self) -> Any:
        """Another signal ends the wait."""
        client = yield self.tunnel()
        self.process.transport.signalProcess("TERM")
        yield self.output(b"draining")
        self.process.transport.signalProcess("INT")
        code = yield self.process.ended
        yield client.lost
        self.assertEqual(code, 0, self.process.output.decode())
        self.assertNotIn(b"Traceback", self.process.output)


class ProgramTests(TestCase):
    """The program's own answers."""

    def run_relay(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                sys.executable,
                str(Path(sys.executable).with_name("twistd")),
                "--nodaemon",
                "--pidfile=",
                "relay",
                *arguments,
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )

    def test_port_in_use(self) -> None:
        """A port in use ends the program with one line and status 1."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            result = self.run_relay("--listen", endpoint)
        output = result.stdout + result.stderr
        self.assertEqual(result.returncode, 1)
        self.assertIn(f"relay cannot listen on {endpoint}", output)
        self.assertNotIn("Traceback", output)

    def test_port_of_workers_in_use(self) -> None:
        """It does the same where workers are to share the port."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            result = self.run_relay("--listen", endpoint, "--workers=2")
        output = result.stdout + result.stderr
        self.assertEqual(result.returncode, 1)
        self.assertIn(f"relay cannot listen on {endpoint}", output)
        self.assertIn("already in use", output)
        self.assertNotIn("Traceback", output)

    def test_no_certificate(self) -> None:
        """A file that is no certificate ends the program with what is expected."""
        with tempfile.TemporaryDirectory() as directory:
            none = Path(directory, "none.pem")
            none.write_text("-----BEGIN NOTHING-----\n")
            mine, other = Path(directory, "mine"), Path(directory, "other")
            for path in (mine, other):
                path.mkdir()
            key, _ = write_certificate(mine, "localhost")
            _, certificate = write_certificate(other, "localhost")
            for files, more in (
                (f"privateKey={none}:certKey={none}", ()),
                (f"privateKey={key}:certKey={certificate}", ("--workers=2",)),
            ):
                result = self.run_relay("--listen", f"ssl:0:{files}", *more)
                output = result.stdout + result.stderr
                self.assertEqual(result.returncode, 1)
                self.assertIn("cannot be used for TLS: expected a private key", output)
                self.assertNotIn("Traceback", output)

    def test_version(self) -> None:
        """--version tells dwcloud's version, not Twisted's."""
        self.assertRegex(self.run_relay("--version").stdout, r"^dwcloud \d")
