"""Access that ends while streams run, by the commands that people type."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

from dwcloud.cli.demo_cloud import LOOPBACK

# By name, or its tests would be found here, too.
from tests.integration import accounts_case
from tests.integration.cloud import READY_TIMEOUT


class Held(Protocol):
    """A stream that stays open."""

    transport: Any

    def __init__(self) -> None:
        self.answered: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """Say something that is sent back."""
        self.transport.write(b"hello")

    def dataReceived(self, data: bytes) -> None:
        """It came back: the stream is there."""
        if not self.answered.called:
            self.answered.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        """It is over."""
        self.ended.callback(None)


class EndOfAccessTests(accounts_case.AccountsTestCase):
    """A server, its owner Anna, and Bert, who is let in for a while."""

    async def people(self) -> tuple[accounts_case.Machine, accounts_case.Machine]:
        """Start a cloud at which both have an account."""
        mediator = self.start_accounts_cloud()
        anna, bert = (
            accounts_case.Machine(self, name, mediator) for name in ("anna", "bert")
        )
        await anna.register("anna")
        await bert.register("bert")
        return anna, bert

    async def hold(self, machine: accounts_case.Machine, path: str) -> Held:
        """Open a stream by a path, and leave it open."""
        forward = machine.start(
            *("forward", "anna/garage", "0:echo"),
            *("--path", path, "--interface", LOOPBACK, "--json"),
        )
        line = await forward.wait_for(r'^\{"event": "listening".*', READY_TIMEOUT)
        port = int(json.loads(line[0])["address"].rpartition(":")[2])
        held = Held()
        endpoint = TCP4ClientEndpoint(self.reactor, LOOPBACK, port)
        await connectProtocol(endpoint, held)
        await held.answered.addTimeout(READY_TIMEOUT, self.reactor)
        return held

    async def test_running_streams(self) -> None:
        """Unsharing cuts Bert's on every path, within seconds, and not Anna's."""
        anna, bert = await self.people()
        server = anna.start(
            *("serve", f"echo={LOOPBACK}:{self.start_echo()}"),
            *("--name", "garage", "--interface", LOOPBACK, "--json"),
        )
        await server.wait_for(r'^\{"event": "online".*', READY_TIMEOUT)
        await anna.ok("system", "share", "garage", "bert")
        paths = ("lan", "tcp", "udp", "relay")
        theirs = [await self.hold(bert, path) for path in paths]
        hers = await self.hold(anna, "tcp")
        for path in paths:
            await server.wait_for(
                rf'^\{{"event": "stream_opened".*"path": "{path}".*"account": "bert"',
                READY_TIMEOUT,
            )
        self.assertEqual([held.ended.called for held in theirs], [False] * 4)
        await anna.ok("system", "unshare", "garage", "bert")
        for held in theirs:
            # A minute is promised; the test's own machine may be slow.
            await held.ended.addTimeout(60.0, self.reactor)
        self.assertFalse(hers.ended.called)
        hers.transport.loseConnection()
        await hers.ended

    async def test_bound_while_it_runs(self) -> None:
        """A server that runs lets in whom its new owner lets in, and nobody else."""
        anna, bert = await self.people()
        server = anna.start(
            *("serve", f"echo={LOOPBACK}:{self.start_echo()}"),
            *("--interface", LOOPBACK, "--json"),
        )
        await server.wait_for(
            r'^\{"event": "offline".*dwcloud system bind.*', READY_TIMEOUT
        )
        guid = (await anna.ok("system", "show"))["system"]
        lan = ("--path", "lan", "--interface", LOOPBACK)
        early = await bert.run("connect", guid, "echo", *lan, data=b"hello")
        self.assertEqual((early.code, early.out), (0, b"hello"), early.err)
        await anna.ok("system", "bind", "garage")
        # It tries again after a minute at most.
        await server.wait_for(r'^\{"event": "online".*', 2 * READY_TIMEOUT)
        await server.wait_for(r'^\{"event": "access".*', READY_TIMEOUT)
        told = await bert.refused("connect", guid, "echo", *lan)
        self.assertIn("this server admits only who has access", told)
        result = await anna.run("connect", "garage", "echo", *lan, data=b"hello")
        self.assertEqual((result.code, result.out), (0, b"hello"), result.err)
