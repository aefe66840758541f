"""``dwcloud:`` endpoint strings in programs that know nothing of dwcloud."""

from __future__ import annotations

import re
import sys

from dwcloud.cli.child_processes import ChildProcess
from dwcloud.net.identity import ServerIdentity
from tests.integration.cloud import READY_TIMEOUT, CloudTestCase

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


FETCH = """
import sys
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import react

class Page(Protocol):
    def connectionMade(self):
        self.done = Deferred()
        self.transport.write(b"GET /page.txt HTTP/1.0\\r\\n\\r\\n")

    def dataReceived(self, data):
        sys.stdout.buffer.write(data)

    def connectionLost(self, reason):
        self.done.callback(None)

async def main(reactor):
    page = await connectProtocol(clientFromString(reactor, sys.argv[1]), Page())
    await page.done

react(main)
"""
"""A program that knows of Twisted's endpoints, and of nothing else."""


class WebTests(CloudTestCase):
    """Twisted's own web server, unmodified, published by an endpoint string."""

    async def start_web(self, mediator: str) -> tuple[str, ChildProcess]:
        """Start ``twistd web``; return the peer name when it is online."""
        site = self.directory / "site"
        site.mkdir()
        (site / "page.txt").write_text("a page behind a NAT\n")
        identity = self.directory / "web-identity"
        escaped = mediator.replace(":", "\\:")
        child = self.start_child(
            [
                *TWISTD,
                "-n",
                "--pidfile=",
                "web",
                f"--path={site}",
                f"--listen=dwcloud:identity={identity}:service=web:mediator={escaped}",
            ],
            "twistd web",
        )
        await child.wait_for("'event': 'online'", READY_TIMEOUT)
        return str(ServerIdentity.load(identity).name), child

    async def test_command(self) -> None:
        """``dwcloud connect`` gets the page."""
        mediator = self.start_cloud()
        peer, _ = await self.start_web(mediator)
        for path in ("tcp", "udp", "relay"):
            result = await self.run_dwcloud(
                "connect",
                peer,
                "web",
                "--mediator",
                mediator,
                "--path",
                path,
                data=b"GET /page.txt HTTP/1.0\r\n\r\n",
            )
            self.assertEqual((result.code, result.err), (0, ""))
            self.assertTrue(result.out.endswith(b"a page behind a NAT\n"), result.out)

    async def test_client_endpoint(self) -> None:
        """A client endpoint string gets it, too."""
        mediator = self.start_cloud()
        peer, _ = await self.start_web(mediator)
        escaped = mediator.replace(":", "\\:")
        where = f"dwcloud:{peer}:service=web:mediator={escaped}:path=tcp"
        result = await self.start_program([sys.executable, "-c", FETCH, where]).finished
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertTrue(result.out.endswith(b"a page behind a NAT\n"), result.out)

    async def test_ends(self) -> None:
        """The program ends as usual."""
        _, child = await self.start_web(self.start_cloud())
        await child.stop()
        self.assertFalse(re.search("Traceback", "\n".join(child.last_lines)))
