"""The ``dwcloud`` command as a process: what it is started with, and signals."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys

from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.demo_cloud import LOOPBACK
from tests.integration.cloud import DWCLOUD, CloudTestCase

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
    """Tells that somebody has connected, and nothing else."""

    def __init__(self, heard: Deferred[None]) -> None:
        self._heard = heard

    def connectionMade(self) -> None:
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
        silent = self.reactor.listenUDP(0, DatagramProtocol(), interface=LOOPBACK)
        self.addCleanup(silent.stopListening)
        heard: Deferred[None] = Deferred()
        factory = Factory.forProtocol(lambda: _Silent(heard))
        factory.noisy = False
        port = silent.getHost().port
        listening = self.reactor.listenTCP(port, factory, interface=LOOPBACK)
        self.addCleanup(listening.stopListening)
        program = self.start_program(
            [*DWCLOUD, "status", STRANGER, "--mediator", f"{LOOPBACK}:{port}"]
        )
        await heard
        assert program.transport is not None
        program.transport.signalProcess("INT")
        result = await program.finished
        self.assertEqual((result.code, result.out, result.err), (130, b"", ""))
