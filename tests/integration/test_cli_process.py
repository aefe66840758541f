"""The ``dwcloud`` command as a process: what it is started with, and signals."""

from __future__ import annotations

import ast
import os
import shlex
import signal
import subprocess
import sys

from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.demo_cloud import LOOPBACK, free_port
from tests.integration.cloud import DWCLOUD, CloudTestCase, Program

STRANGER = "0190163d-8694-8c3e-9a00-7ab7d7b42e1d"

_REPORT = """
import os, sys
from dwcloud.cli.main import open_closed_standard_streams
open_closed_standard_streams()
null = os.stat(os.devnull).st_rdev
found = [n for n in (0, 1, 2) if os.fstat(n).st_rdev == null]
passed_on = all(os.get_inheritable(n) for n in (0, 1, 2))
print("lost", file=sys.stdout)
print("lost", file=sys.stderr)
sys.stdin.readline()
after = os.open(os.devnull, os.O_RDONLY)
os.write(int(sys.argv[1]), repr((found, passed_on, after > 2)).encode())
"""

_INTERRUPT = """
import os, signal, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "twisted":
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupting())
from dwcloud.cli.main import main
main(["status"])
"""


class _Silent(Protocol):
    """Tells that somebody has connected first, and nothing else."""

    def __init__(self, heard: Deferred[None]) -> None:
        self._heard = heard

    def connectionMade(self) -> None:
        if not self._heard.called:
            self._heard.callback(None)


class StandardStreamsTests(SynchronousTestCase):
    """Standard descriptors that were closed when the process started."""

    def report(self, redirections: str) -> object:
        """Start Python with ``redirections``; return what it finds afterwards."""
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as answer:
            with os.fdopen(writing, "wb"):
                script = f'exec "$0" -c "$1" {writing} {redirections}'
                subprocess.run(
                    ["sh", "-c", script, sys.executable, _REPORT],
                    pass_fds=[writing],
                    input=b"",
                    capture_output=True,
                    check=True,
                )
            return ast.literal_eval(answer.read().decode())

    def test_closed(self) -> None:
        """Each closed one leads to /dev/null, and is a file of Python's again."""
        for redirections, numbers in (
            ("<&-", [0]),
            (">&-", [1]),
            ("2>&-", [2]),
            ("<&- 2>&-", [0, 2]),
            ("<&- >&- 2>&-", [0, 1, 2]),
        ):
            self.assertEqual(self.report(redirections), (numbers, True, True))

    def test_open(self) -> None:
        """What is open stays what it is."""
        self.assertEqual(self.report(""), ([], True, True))


class EntryPointTests(SynchronousTestCase):
    """The module that is loaded first."""

    def test_loads_little(self) -> None:
        """The entry point loads no command before interrupts are set right."""
        loaded = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys, dwcloud.cli.main; print([m for m in sys.modules "
                "if m.split('.')[0] in ('twisted', 'cryptography', 'OpenSSL')])",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertEqual(loaded.stdout, "[]\n")


class ClosedStreamsTests(CloudTestCase):
    """Commands that were started without standard descriptors."""

    async def test_connect(self) -> None:
        """A command ends as with ``/dev/null``, and without a traceback."""
        for redirections in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            program = self.start_program(
                [
                    "/bin/sh",
                    "-c",
                    f'exec "$@" {redirections}',
                    "sh",
                    *DWCLOUD,
                    "connect",
                    STRANGER,
                    "--path",
                    "lan",
                    "--interface",
                    "127.0.0.1",
                ]
            )
            result = await program.finished
            self.assertEqual(result.code, 1, result.err)
            self.assertEqual(result.out, b"")
            self.assertEqual(result.err.count("\n"), int("2>" not in redirections))


class InterruptedTests(CloudTestCase):
    """A terminal interrupts a command."""

    def test_while_loading(self) -> None:
        """However early it comes, no traceback is printed."""
        done = subprocess.run(
            [sys.executable, "-c", _INTERRUPT], capture_output=True, text=True
        )
        self.assertEqual((done.returncode, done.stderr), (-signal.SIGINT, ""))

    async def test_status(self) -> None:
        """Whatever is being looked at is given up, and the exit code tells why."""
        out = await self.interrupt("status")
        # What was known by then has been printed.
        names = {line.split()[0] for line in out.decode().splitlines()}
        self.assertLessEqual({"mediator", "identity"}, names)
        self.assertNotIn("peer", names)

    async def test_check(self) -> None:
        """An examination is given up in the same way."""
        self.assertEqual(await self.interrupt("check"), b"")

    async def interrupt(self, command: str) -> bytes:
        """Interrupt a command that waits for a mediator which says nothing.

        :return: what it has printed.
        """
        # One that is free for both: of a port that UDP alone has chosen, TCP may have a
        # connection that ended a moment ago.
        port = free_port()
        silent = self.reactor.listenUDP(port, DatagramProtocol(), interface=LOOPBACK)
        self.addCleanup(silent.stopListening)
        heard: Deferred[None] = Deferred()
        factory = Factory.forProtocol(lambda: _Silent(heard))
        factory.noisy = False
        listening = self.reactor.listenTCP(port, factory, interface=LOOPBACK)
        self.addCleanup(listening.stopListening)
        program = self.start_program(
            [*DWCLOUD, command, STRANGER, "--mediator", f"{LOOPBACK}:{port}"]
        )
        await heard
        assert program.transport is not None
        program.transport.signalProcess("INT")
        result = await program.finished
        self.assertEqual((result.code, result.err), (130, ""))
        return result.out


class OutputTests(CloudTestCase):
    """Nobody takes what a command prints."""

    def run_full(self, *words: str) -> Program:
        """Start a command whose standard output is always full."""
        return self.start_program(
            ["/bin/sh", "-c", 'exec "$@" > /dev/full', "sh", *DWCLOUD, *words]
        )

    async def test_full(self) -> None:
        """It says so in one line, and fails."""
        for words in (
            ["system", "create"],
            ["serve", "web=127.0.0.1:80", "--json", "--interface", LOOPBACK],
            ["status", "--no-lan"],
            ["--help"],
            ["serve", "--version"],
        ):
            result = await self.run_full(*words).finished
            self.assertEqual(result.code, 1, result.err)
            self.assertEqual(result.err.count("\n"), 1, result.err)
            self.assertIn("writing the output failed: No space left", result.err)

    async def test_connect_full(self) -> None:
        """The data of a service are no exception."""
        mediator = self.start_cloud()
        peer, _ = await self.serve(mediator, f"echo={LOOPBACK}:{self.start_echo()}")
        words = [*DWCLOUD, "connect", peer, "--mediator", mediator]
        for reader, why in (
            ("> /dev/full", "No space left on device"),
            ("| head -c 10000 > out", "nobody reads the output"),
        ):
            command = f"head -c 10000000 /dev/zero | {shlex.join(words)} {reader}"
            result = await self.start_program(["/bin/sh", "-c", command]).finished
            self.assertEqual(
                result.err, f"dwcloud connect: writing the output failed: {why}\n"
            )


class StatusTests(CloudTestCase):
    """What ``dwcloud status`` tells about relays."""

    async def test_relay_without_a_host(self) -> None:
        """A relay on the host of the mediator is told with that host."""
        mediator = self.start_mediator("http://:3349")
        peer, _ = await self.serve(mediator, f"echo={LOOPBACK}:{self.start_echo()}")
        result = await self.run_dwcloud(
            "status", peer, "--mediator", mediator, "--no-lan"
        )
        self.assertIn(f"relays: http://{LOOPBACK}:3349\n".encode(), result.out)

    async def test_foreign_interface(self) -> None:
        """An address of another machine is told for each part."""
        result = await self.run_dwcloud(
            "status", "--mediator", LOOPBACK, "--interface", "192.0.2.77"
        )
        self.assertEqual((result.code, result.err), (1, ""))
        self.assertEqual(result.out.count(b"is not an address of this machine"), 3)
