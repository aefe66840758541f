"""``twistd mediator`` as a process of its own, with real sockets and peers."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Generator
from importlib.metadata import version
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.trial.unittest import TestCase

from dwcloud.cli.demo_cloud import LOOPBACK, free_port
from dwcloud.errors import PeerUnknown
from dwcloud.net.identity import SystemIdentity
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.introduction import request_connection
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.mediator_link import MediatorLink
from dwcloud.peer.mediator_ways import MediatorWays
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.log_ids import log_id
from dwcloud.protocol.mediation.messages import (
    Connect,
    ConnectionRequested,
    ListenResponse,
)
from dwcloud.protocol.mediation.result_codes import ResultCode
from dwcloud.protocol.stun.binding import binding_request, reflexive_address
from dwcloud.protocol.stun.message import STUNMessage
from tests.quiet_reactor import become_quiet

START = "from twisted.scripts.twistd import run; run()"


class MediatorProcess(ProcessProtocol):
    """``twistd mediator``; tells its ports and its end."""

    def __init__(self) -> None:
        self.output = b""
        self.ports: Deferred[tuple[int, int]] = Deferred()
        self.ended: Deferred[int] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.output += data
        found = dict(
            re.findall(rb"listens on (tcp|udp) 127\.0\.0\.1:(\d+)", self.output)
        )
        if len(found) == 2 and not self.ports.called:
            self.ports.callback((int(found[b"tcp"]), int(found[b"udp"])))

    errReceived = outReceived

    def processEnded(self, reason: Any) -> None:
        if not self.ports.called:
            self.ports.errback(RuntimeError(self.output.decode()))
        code = reason.value.exitCode if reason.check(ProcessTerminated) else 0
        self.ended.callback(code or 0)


def twistd(directory: str, *arguments: str) -> list[str]:
    """Return the command line of a twistd that keeps its files to itself."""
    pid_file = os.path.join(directory, "twistd.pid")
    return [sys.executable, "-c", START, "-n", f"--pidfile={pid_file}", *arguments]


class MediatorTests(TestCase):
    """A mediator on loopback, and real peers."""

    timeout = 150

    @inlineCallbacks
    def setUp(self) -> Generator[Any, Any, None]:
        # Late, as everywhere: the import installs the reactor.
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.addCleanup(become_quiet, reactor)
        port = free_port()
        self.mediator = MediatorProcess()
        command = twistd(
            tempfile.mkdtemp(),
            "mediator",
            f"--listen=tcp:{port}:interface=127.0.0.1",
            f"--udp={port}:interface=127.0.0.1",
            "--relay=http://127.0.0.1:1",
        )
        process = self.reactor.spawnProcess(
            self.mediator, command[0], command, env=dict(os.environ)
        )

        def stop() -> Deferred[int]:
            if not self.mediator.ended.called:
                process.signalProcess("TERM")
            return self.mediator.ended

        self.stop = stop
        self.addCleanup(stop)
        self.port, udp = yield self.mediator.ports
        self.assertEqual((self.port, udp), (port, port))

    def peer(self) -> tuple[SharedUDPPort, STUNDatagramClient]:
        """Open a UDP port that punches."""
        udp = SharedUDPPort(self.reactor, interface=LOOPBACK)
        stun = STUNDatagramClient(self.reactor, udp.sendDatagram)
        udp.onSTUN = lambda data, address: stun.datagramReceived(data, address) and None
        udp.start()
        self.addCleanup(udp.stop)
        self.addCleanup(stun.stop)
        return udp, stun

    def connect(self, target: Any) -> Deferred[Any]:
        """Ask for an introduction to a server."""
        udp, stun = self.peer()
        request = Connect(session_id=uuid.uuid4(), target=target, client_name="test")
        mediator = MediatorAddress(LOOPBACK, self.port)
        ways = MediatorWays(self.reactor, mediator)
        asking = request_connection(self.reactor, udp, stun, mediator, request, ways)
        return asking.addCallback(lambda response: (response, udp.getHost()))

    @inlineCallbacks
    def test_introduction(self) -> Generator[Any, Any, None]:
        """Server and client learn each other's real addresses."""
        udp, stun = self.peer()
        system = SystemIdentity.generate()
        identity = system.issue_server()
        online: Deferred[ListenResponse] = Deferred()
        requested: Deferred[ConnectionRequested] = Deferred()
        link = MediatorLink(
            self.reactor,
            identity,
            MediatorAddress(LOOPBACK, self.port),
            udp=udp,
            stun=stun,
            onOnline=online.callback,
            onOffline=lambda reason: None,
            onConnectionRequested=requested.callback,
        )
        link.set_endpoints([Address(LOOPBACK, 1)], [udp.getHost()])
        link.startService()
        self.addCleanup(link.stopService)
        welcome = yield online
        self.assertEqual(welcome.relay_urls, ("http://127.0.0.1:1",))
        response, client_address = yield self.connect(system.name)
        self.assertIs(response.result, ResultCode.OK)
        self.assertEqual(response.server, identity.name)
        self.assertEqual(response.udp_endpoints, (udp.getHost(),))
        request = yield requested
        self.assertEqual(request.udp_endpoints, (client_address,))
        self.assertIn(log_id(request.session_id).encode(), self.mediator.output)

    @inlineCallbacks
    def test_unknown(self) -> Generator[Any, Any, None]:
        """Nobody is found under a name that nobody has."""
        asking = self.connect(SystemIdentity.generate().name)
        yield self.assertFailure(asking, PeerUnknown)

    def test_stun_over_udp_and_tcp(self) -> None:
        """A STUN client that knows nothing of us learns its address both ways."""
        self.ask_for_addresses()

    def ask_for_addresses(self) -> None:
        """Ask over UDP and over TCP, and wait for the answers."""
        request = binding_request(os.urandom(12)).encode(fingerprint=True)
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.bind((LOOPBACK, 0))
            client.settimeout(60)
            client.sendto(request, (LOOPBACK, self.port))
            answer = STUNMessage.decode(client.recv(2048))
            self.assertEqual(reflexive_address(answer), client.getsockname())
        with socket.create_connection((LOOPBACK, self.port), 60) as client:
            client.sendall(request)
            answer = STUNMessage.decode(client.recv(2048))
            self.assertEqual(reflexive_address(answer), client.getsockname())

    def test_statistics(self) -> None:
        """The counters can be read with any HTTP client."""
        url = f"http://{LOOPBACK}:{self.port}/mediator/statistics/"
        with urllib.request.urlopen(url, timeout=60) as answer:
            self.assertEqual(json.load(answer)["servers_online"], 0)

    @inlineCallbacks
    def test_clean_shutdown(self) -> Generator[Any, Any, None]:
        """TERM ends it cleanly, and its port is free again."""
        # Its sockets are open before it handles signals; an answer shows that it runs.
        self.ask_for_addresses()
        code = yield self.stop()
        self.assertEqual(code, 0)
        self.assertIn(b"mediator stopped", self.mediator.output)
        self.assertNotIn(b"Traceback", self.mediator.output)
        with socket.socket() as stream:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stream.bind((LOOPBACK, self.port))


class CommandTests(TestCase):
    """What the command says when it does not start."""

    def run_twistd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        directory = tempfile.mkdtemp()
        result = subprocess.run(
            twistd(directory, "mediator", *arguments),
            capture_output=True,
            text=True,
            timeout=120,
            cwd=directory,
        )
        self.assertEqual(os.listdir(directory), [])
        return result

    def test_port_in_use(self) -> None:
        """A port in use is told in one line, with a failing exit code."""
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(type=kind) as taken:
                taken.bind((LOOPBACK, 0))
                port = taken.getsockname()[1]
                if kind == socket.SOCK_STREAM:
                    taken.listen()
                result = self.run_twistd(
                    f"--listen=tcp:{port}:interface=127.0.0.1",
                    f"--udp={port}:interface=127.0.0.1",
                )
            output = result.stdout + result.stderr
            self.assertEqual(result.returncode, 1, output)
            self.assertIn(f"Couldn't listen on 127.0.0.1:{port}", output)
            self.assertNotIn("Traceback", output)

    def test_port_in_use_as_a_daemon(self) -> None:
        """A daemon that cannot start says so to the shell, and ends."""
        directory = tempfile.mkdtemp()
        command = twistd(directory, f"--logfile={directory}/log", "mediator")
        command.remove("-n")
        with socket.socket() as taken:
            taken.bind((LOOPBACK, 0))
            taken.listen()
            port = taken.getsockname()[1]
            result = subprocess.run(
                [
                    *command,
                    f"--listen=tcp:{port}:interface=127.0.0.1",
                    f"--udp={port}:interface=127.0.0.1",
                ],
                capture_output=True,
                text=True,
                timeout=120,
                cwd=directory,
            )
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn(f"Couldn't listen on 127.0.0.1:{port}", result.stderr)
        self.assertNotIn("Traceback", result.stderr)
        # The daemon tells the shell, and takes its file away after that.
        deadline = time.monotonic() + 60.0
        while os.listdir(directory) != ["log"] and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(os.listdir(directory), ["log"])

    def test_bad_option(self) -> None:
        """A mistake in an option is told before anything starts."""
        result = self.run_twistd("--udp=nonsense")
        self.assertEqual(result.returncode, 1)
        self.assertIn("--udp nonsense: expected a port", result.stderr + result.stdout)

    def test_version(self) -> None:
        """``--version`` tells dwcloud's."""
        result = self.run_twistd("--version")
        self.assertEqual(result.stdout, f"dwcloud {version('dwcloud')}\n")
        self.assertEqual(result.returncode, 0)
