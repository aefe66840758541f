"""People with accounts at a cloud on loopback, who type commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from dwcloud.cli.child_processes import ChildProcess
from dwcloud.cli.demo_cloud import LOOPBACK, free_ports
from dwcloud.mediator import tap as mediator_tap
from dwcloud.relay import tap as relay_tap
from tests.integration.cloud import (
    DWCLOUD,
    READY_TIMEOUT,
    CloudTestCase,
    Finished,
    Program,
)

__all__ = ["PASSWORD", "AccountsTestCase", "Dialogue", "Machine"]

PASSWORD = "kettle orbit 7"


class Dialogue(Program):
    """A program at a terminal, and a person who answers its questions.

    One that does not ask the next question in time is ended.

    :param answers: pairs of the end of a question, and what is typed.
    """

    def __init__(self, reactor: Any, answers: list[tuple[bytes, bytes]]) -> None:
        super().__init__(reactor, keep_open=True)
        self._answers = [*answers]
        self._read = 0
        self._deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Wait for the first question."""
        super().connectionMade()
        self._expect()

    def _expect(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        if self._answers:
            self._deadline = self._reactor.callLater(READY_TIMEOUT, self._unanswered)

    def _unanswered(self) -> None:
        assert self.transport is not None
        self.transport.signalProcess("KILL")

    def processEnded(self, reason: Failure) -> None:
        """Tell."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        super().processEnded(reason)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Answer, if this is the next question."""
        super().childDataReceived(childFD, data)
        if self._answers:
            question, answer = self._answers[0]
            found = self.out.find(question, self._read)
            if found >= 0:
                self._read = found + len(question)
                del self._answers[0]
                assert self.transport is not None
                self.transport.write(answer + b"\n")
                self._expect()

    @property
    def unasked(self) -> list[bytes]:
        """Questions that did not come."""
        return [question for question, _ in self._answers]


@attrs.define(eq=False)
class Machine:
    """A machine of somebody: what is kept there, and the commands typed there.

    :ivar mediator: named by an environment variable; empty for none.
    """

    case: AccountsTestCase
    name: str
    mediator: str = ""

    @property
    def data(self) -> Path:
        """Where it keeps things."""
        return self.case.directory / self.name

    def use(self) -> None:
        """Let the next program start here."""
        environment = self.case.environment
        environment["XDG_DATA_HOME"] = str(self.data)
        environment["XDG_STATE_HOME"] = str(self.data / "state")
        environment.pop("DWCLOUD_MEDIATOR", None)
        if self.mediator:
            environment["DWCLOUD_MEDIATOR"] = self.mediator

    def run(self, *words: str, data: bytes = b"") -> Deferred[Finished]:
        """Run a command to its end."""
        self.use()
        running = self.case.run_dwcloud(*words, data=data)
        return Deferred.fromCoroutine(running)

    async def ok(self, *words: str, data: bytes = b"") -> Any:
        """Run a command that prints one line of JSON; return it."""
        result = await self.run(*words, "--json", data=data)
        self.case.assertEqual(result.code, 0, result.err)
        return json.loads(result.out)

    async def refused(self, *words: str, data: bytes = b"") -> str:
        """Run a command that fails; return its line."""
        result = await self.run(*words, data=data)
        self.case.assertEqual(result.code, 1, result.err)
        return result.err

    def start(self, *words: str) -> ChildProcess:
        """Start a command that runs until the test is over."""
        self.use()
        return self.case.start_dwcloud(*words)

    async def serve(self, name: str, *words: str) -> None:
        """Publish an echo service under a name, and wait until it is online."""
        child = self.start(
            *("serve", f"echo={LOOPBACK}:{self.case.start_echo()}", "--name", name),
            *("--interface", LOOPBACK, "--json", *words),
        )
        await child.wait_for(r'^\{"event": "online".*', READY_TIMEOUT)

    def talk(self, *words: str, answers: list[tuple[bytes, bytes]]) -> Dialogue:
        """Start a command at a terminal."""
        self.use()
        dialogue = Dialogue(self.case.reactor, answers)
        self.case.spawn(dialogue, [*DWCLOUD, *words], terminal=True)
        return dialogue

    async def register(self, name: str) -> None:
        """Make an account and sign in."""
        words = ("account", "register", name, "--password-file", "-")
        await self.ok(*words, data=f"{PASSWORD}\n".encode())


class AccountsTestCase(CloudTestCase):
    """A mediator with accounts and a relay that wants grants, on loopback."""

    timeout = 600

    def setUp(self) -> None:
        """Do without a keyring that this machine may have."""
        super().setUp()
        self.environment["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"

    def start_accounts_cloud(self) -> str:
        """Start both; return the mediator's address."""
        relay, port = free_ports(2)
        accounts = self.directory / "cloud"
        self.start_service(
            mediator_tap,
            *("--listen", f"tcp:{port}:interface={LOOPBACK}"),
            *("--udp", f"{port}:interface={LOOPBACK}"),
            *("--relay", f"http://{LOOPBACK}:{relay}"),
            *("--accounts", str(accounts)),
        )
        self.start_service(
            relay_tap,
            *("--listen", f"tcp:{relay}:interface={LOOPBACK}"),
            *("--cloud-key", str(accounts / "cloud.pub")),
        )
        return f"{LOOPBACK}:{port}"
