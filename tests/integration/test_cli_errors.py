"""Each error that a user meets names the step and what to do, on one line.

A line before it may name the connect session, for ``dwcloud trace``.
"""

from __future__ import annotations

import json
import socket

from dwcloud.cli.demo_cloud import LOOPBACK, free_port
from dwcloud.net.identity import ServerIdentity
from dwcloud.peer.discovery import LANAnnouncer
from dwcloud.protocol.names import PeerName
from tests.integration.cloud import READY_TIMEOUT, CloudTestCase, Finished

STRANGER = "0190163d-8694-8c3e-9a00-7ab7d7b42e1d"


class ErrorTestCase(CloudTestCase):
    """Tests of what goes wrong."""

    def check(self, result: Finished, *parts: str, code: int = 1) -> None:
        """It failed with one line that has all parts."""
        self.assertEqual(result.code, code, result.err)
        *before, line = result.err.splitlines()
        self.assertLessEqual(len(before), 1, result.err)
        for hint in before:
            self.assertIn("dwcloud trace", hint)
        for part in parts:
            self.assertIn(part, line)
        self.assertEqual(result.out, b"")

    def taken_port(self) -> int:
        """A port of loopback that somebody uses."""
        other = socket.socket()
        self.addCleanup(other.close)
        other.bind((LOOPBACK, 0))
        other.listen()
        return int(other.getsockname()[1])

    async def connect(self, peer: str, *words: str) -> Finished:
        """Run ``dwcloud connect`` to its end."""
        return await self.run_dwcloud("connect", peer, *words, "--interface", LOOPBACK)


class ConnectErrorTests(ErrorTestCase):
    """``dwcloud connect`` does not get through."""

    async def test_unknown_guid(self) -> None:
        """Nobody of that name ever registered."""
        result = await self.connect(STRANGER, "--mediator", self.start_cloud())
        self.check(
            result,
            "dwcloud connect: asking the mediator failed: ",
            STRANGER,
            "check the peer name",
        )

    async def test_server_offline(self) -> None:
        """The server has registered before and is gone."""
        mediator = self.start_cloud()
        peer, child = await self.serve(mediator, f"echo={LOOPBACK}:{free_port()}")
        await child.stop()
        result = await self.connect(peer, "--mediator", mediator)
        self.check(result, "asking the mediator failed: ", "start 'dwcloud serve'")

    async def test_mediator_unreachable(self) -> None:
        """Nobody listens where the mediator should be."""
        mediator = f"{LOOPBACK}:{free_port()}"
        result = await self.connect(STRANGER, "--mediator", mediator)
        self.check(result, "asking the mediator failed: ", "check --mediator")

    async def test_mediator_name_unknown(self) -> None:
        """The mediator's host name does not exist."""
        result = await self.connect(STRANGER, "--mediator", "no-such-host.invalid")
        self.check(result, "no-such-host.invalid")

    async def test_wrong_identity(self) -> None:
        """Somebody else answers under the address of the server."""
        wanted = ServerIdentity.create(self.directory / "wanted").name
        port = await self.serving_port()
        self.announce(wanted, port)
        result = await self.connect(str(wanted), "--path", "lan")
        self.check(result, "verifying the server failed: ", str(wanted), "do not trust")

    async def serving_port(self) -> int:
        """The port of a server that is not the wanted one."""
        _, child = await self.serve(None, f"echo={LOOPBACK}:{self.start_echo()}")
        line = await child.wait_for(r'^\{"event": "serving".*', READY_TIMEOUT)
        return int(json.loads(line[0])["tcp_port"])

    def announce(self, server: PeerName, port: int) -> None:
        """Tell the LAN that ``server`` is at ``port``, as a liar would."""
        announcer = LANAnnouncer(self.reactor, server, port, [LOOPBACK])
        announcer.start()
        self.addCleanup(announcer.stop)

    async def test_not_on_the_lan(self) -> None:
        """A server that no one heard."""
        result = await self.connect(STRANGER, "--path", "lan")
        self.check(result, "reaching the server failed: ", "not heard on the LAN")

    async def test_no_such_service(self) -> None:
        """The server names what it offers instead."""
        mediator = self.start_cloud()
        peer, _ = await self.serve(mediator, f"echo={LOOPBACK}:{self.start_echo()}")
        result = await self.connect(peer, "web", "--mediator", mediator)
        self.check(result, "opening the service failed: ", "it offers: echo")

    async def test_service_down(self) -> None:
        """The published program does not run."""
        mediator = self.start_cloud()
        peer, _ = await self.serve(mediator, f"web={LOOPBACK}:{free_port()}")
        result = await self.connect(peer, "web", "--mediator", mediator)
        self.check(result, "opening the service failed: ", "check that it runs there")

    async def test_forced_path_missing(self) -> None:
        """A path that does not exist is named as such."""
        mediator = self.start_mediator(relay="none")
        peer, _ = await self.serve(mediator, f"echo={LOOPBACK}:{self.start_echo()}")
        result = await self.connect(peer, "--mediator", mediator, "--path", "relay")
        self.check(result, "reaching the server failed: ", "--path auto")

    async def test_failure_as_json(self) -> None:
        """With ``--json`` the report says the same in fields."""
        result = await self.connect(
            STRANGER, "--mediator", self.start_cloud(), "--json"
        )
        self.assertEqual(result.code, 1)
        (report,) = result.events
        self.assertEqual(report["event"], "failed")
        self.assertIsNone(report["path"])
        self.assertIn(STRANGER, report["error"])

    async def test_no_interface(self) -> None:
        """An address that is not this machine's."""
        result = await self.run_dwcloud(
            "connect", STRANGER, "--mediator", "a", "--interface", "192.0.2.77"
        )
        self.check(result, "listening failed: 192.0.2.77 is not an address of")


class ListenErrorTests(ErrorTestCase):
    """Ports that are not free."""

    async def test_forward(self) -> None:
        """The local port is taken."""
        port = self.taken_port()
        result = await self.run_dwcloud(
            "forward", STRANGER, f"{port}:web", "--mediator", self.start_mediator()
        )
        self.check(
            result,
            f"dwcloud forward: listening failed: 127.0.0.1 port {port}: ",
            "choose another port",
        )

    async def test_serve(self) -> None:
        """The port for direct connections is taken."""
        port = self.taken_port()
        result = await self.run_dwcloud(
            "serve",
            "web=127.0.0.1:80",
            "--mediator",
            self.start_mediator(),
            "--interface",
            LOOPBACK,
            "--tcp-port",
            str(port),
        )
        self.check(result, f"listening failed: 127.0.0.1 port {port}: ")


class LocalErrorTests(ErrorTestCase):
    """Mistakes that need no network to be found."""

    async def test_bad_options(self) -> None:
        """A command line that makes no sense: exit code 2 and where help is."""
        for words, text in (
            (["serve"], "name what to publish"),
            (["serve", "web=1"], "NAME=HOST:PORT: '1' has no port"),
            (["forward", STRANGER, "80"], "'80' names no service"),
            (["connect", "x!"], "PEER: 'x!' is neither a GUID nor the name"),
            (["connect", STRANGER], "name the mediator"),
            (["forward", STRANGER], "expected PEER LOCALPORT:NAME...; see"),
            (["serv"], "Unknown command: serv"),
        ):
            result = await self.run_dwcloud(*words)
            self.check(result, text, "--help'", code=2)

    async def test_identity_damaged(self) -> None:
        """A file of the identity is not what it should be."""
        identity = self.directory / "identity"
        ServerIdentity.create(identity)
        (identity / "server.key").write_text("nonsense")
        result = await self.run_dwcloud(
            "serve", "a=b:1", "--mediator", "c", "--identity", str(identity)
        )
        self.check(result, "dwcloud serve: ", "server.key")

    async def test_identity_not_writable(self) -> None:
        """The directory of the identity cannot be made."""
        (self.directory / "file").write_text("")
        result = await self.run_dwcloud(
            "system", "create", "--identity", str(self.directory / "file" / "x")
        )
        self.check(result, "dwcloud system create: cannot write")

    async def test_no_system_key(self) -> None:
        """Only the directory of the first server can add servers."""
        identity = self.directory / "identity"
        ServerIdentity.create(identity)
        (identity / "system.key").unlink()
        result = await self.run_dwcloud(
            "system", "add-server", "new", "--identity", str(identity)
        )
        self.check(result, "name the directory of the system's first server")
