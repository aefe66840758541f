"""``dwcloud connect`` between real programs."""

from __future__ import annotations

import json
import os
import shlex
import signal
from pathlib import Path

from twisted.internet.protocol import Factory, Protocol

from dwcloud.cli.demo_cloud import LOOPBACK
from tests.integration.cloud import DWCLOUD, CloudTestCase


class Greeter(Protocol):
    """Says something and closes, whatever it is told."""

    def connectionMade(self) -> None:
        """Say it."""
        assert self.transport is not None
        self.transport.write(b"good day\n")
        self.transport.loseConnection()


class ConnectTests(CloudTestCase):
    """Standard input and output of a command, joined to a service."""

    async def start(self, *services: str) -> list[str]:
        """Publish services; return the words that reach the server."""
        mediator = self.start_cloud()
        published = services or (f"echo={LOOPBACK}:{self.start_echo()}",)
        peer, _ = await self.serve(mediator, *published)
        return [peer, "--mediator", mediator, "--interface", LOOPBACK]

    async def test_pipes(self) -> None:
        """All of the input comes back, and the end of it."""
        data = os.urandom(3_000_000)
        words = await self.start()
        result = await self.run_dwcloud("connect", *words, "echo", data=data)
        self.assertEqual(result.err, "")
        self.assertEqual(result.code, 0)
        self.assertEqual(result.out, data)

    async def test_only_service(self) -> None:
        """The name may be left out where there is one service."""
        words = await self.start()
        result = await self.run_dwcloud("connect", *words, data=b"hello")
        self.assertEqual((result.code, result.out), (0, b"hello"))

    async def test_several_services(self) -> None:
        """Where there are several, they are named."""
        words = await self.start(f"ssh={LOOPBACK}:9", f"web={LOOPBACK}:9")
        result = await self.run_dwcloud("connect", *words)
        self.assertEqual(result.code, 1)
        self.assertIn("more than one service; it offers: ssh, web", result.err)

    async def test_json(self) -> None:
        """The report is a line on standard error, apart from the data."""
        words = await self.start()
        result = await self.run_dwcloud(
            "connect", *words, "echo", "--json", "--path", "udp", data=b"hello"
        )
        self.assertEqual((result.code, result.out), (0, b"hello"))
        (report,) = result.events
        self.assertEqual(report["event"], "connected")
        self.assertEqual(report["path"], "udp")
        self.assertTrue(report["remote_address"].startswith(f"{LOOPBACK}:"))
        self.assertEqual(report["failures"], [])
        self.assertEqual(report["service"], "echo")

    async def test_files(self) -> None:
        """Regular files can be input and output."""
        data = os.urandom(1_000_000)
        (self.directory / "input").write_bytes(data)
        words = await self.start()
        command = shlex.join([*DWCLOUD, "connect", *words, "echo"])
        program = self.start_program(
            ["/bin/sh", "-c", f"{command} < input > output 2> errors"]
        )
        result = await program.finished
        self.assertEqual((self.directory / "errors").read_text(), "")
        self.assertEqual(result.code, 0)
        self.assertEqual((self.directory / "output").read_bytes(), data)

    async def test_no_input_at_all(self) -> None:
        """``/dev/null`` can be both."""
        words = await self.start()
        command = shlex.join([*DWCLOUD, "connect", *words, "echo"])
        result = await self.start_program(
            ["/bin/sh", "-c", f"{command} < /dev/null > /dev/null"]
        ).finished
        self.assertEqual((result.code, result.err), (0, ""))

    async def test_open_input(self) -> None:
        """It ends when the far end has closed, though the input stays open."""
        greeter = self.listen(Factory.forProtocol(Greeter))
        words = await self.start(f"greeter={LOOPBACK}:{greeter}")
        program = self.start_program([*DWCLOUD, "connect", *words], keep_open=True)
        result = await program.finished
        self.assertEqual((result.code, result.out), (0, b"good day\n"))

    async def test_reader_stops(self) -> None:
        """When nobody reads the output any more it ends."""
        words = await self.start()
        command = shlex.join([*DWCLOUD, "connect", *words, "echo"])
        result = await self.start_program(
            ["/bin/sh", "-c", f"cat /dev/zero | {command} | head -c 100000"]
        ).finished
        self.assertEqual(len(result.out), 100_000)

    async def test_interrupted(self) -> None:
        """A signal ends it at once, with the exit code of that signal."""
        words = await self.start()
        program = self.start_program(
            [*DWCLOUD, "connect", *words], b"hello", keep_open=True
        )
        await program.out_has(b"hello")
        assert program.transport is not None
        program.transport.signalProcess("INT")
        result = await program.finished
        self.assertEqual(result.code, 128 + signal.SIGINT)
        self.assertEqual(result.err, "")


class MediatorVariableTests(CloudTestCase):
    """The mediator from the environment."""

    async def test_variable(self) -> None:
        """The variable replaces the option for server and client."""
        self.environment["DWCLOUD_MEDIATOR"] = self.start_cloud()
        peer, _ = await self.serve(None, f"echo={LOOPBACK}:{self.start_echo()}")
        result = await self.run_dwcloud(
            "connect", peer, "--path", "relay", "--json", data=b"hello"
        )
        self.assertEqual((result.code, result.out), (0, b"hello"))
        self.assertEqual(json.loads(result.err)["path"], "relay")
        self.assertTrue(Path(self.directory / "identity" / "server.key").exists())
