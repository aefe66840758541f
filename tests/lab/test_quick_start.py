"""The quick start of the README, on three machines behind two NATs."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import shutil
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.at_terminal import SCRIPT
from tests.lab.namespaces import require_namespaces
from tests.lab.processes import PATIENCE, wait_for
from tests.lab.programs import MEDIATOR_PORT, RELAY_PORT
from tests.lab.topology import PROGRAMS, Lab
from tests.packaging.readme import commands
from tests.requirements import require

_SIZE = 5_000_000
"""Octets of the file that B has."""

PASSWORD = "kettle orbit 7"

KNOWN_KEY = ("Is that the right one? [yes/no] ", "yes")
NEW_ACCOUNT = (
    *("Do you have an account there? [yes/no] ", "no"),
    *("Name of the new account: ", "anna"),
    *("Password: ", PASSWORD),
    *("Once more: ", PASSWORD),
)
OLD_ACCOUNT = (
    *("Do you have an account there? [yes/no] ", "yes"),
    *("Account: ", "anna"),
    *("Password: ", PASSWORD),
)


class QuickStartTests(SynchronousTestCase):
    """Machine A is public, B and C are behind port-restricted NATs of their own."""

    def setUp(self) -> None:
        """Connect the machines, without any program."""
        require_namespaces()
        require(shutil.which("curl"), "curl is missing")
        for program in ("twistd", "dwcloud"):
            require((PROGRAMS / program).exists(), f"{program} is not installed")
        self.lab = Lab()
        self.addCleanup(self.lab.close)
        self.a = self.lab.host("A")
        homes = [self.lab.router(f"home-{name}", "port-restricted") for name in "BC"]
        self.b, self.c = (
            home.host(name) for home, name in zip(homes, "BC", strict=True)
        )
        self.edge = homes[1].meter()
        self.home_of_b = homes[0].address

    def command(self, name: str) -> str:
        """Return a command of the README, with what the reader has to replace."""
        return re.sub(r"\bA\b", self.a.address, commands()[name])

    def typed(self, name: str, *answers: str) -> list[str]:
        """Return the words that run a command of the README at a terminal.

        :param answers: ends of questions and what is answered, in order.
        """
        command = shell(self.command(name))
        return [sys.executable, SCRIPT, *answers, "--", *command]

    def start_cloud(self) -> None:
        """Start mediator and relay in the background."""
        self.a.run(shell(self.command("cloud")))
        for port in (MEDIATOR_PORT, RELAY_PORT):
            self.a.wait_until_listening(port)

    def wait_until_online(self, peer: str) -> None:
        """Wait until the mediator's log shows the server."""
        log, line = self.a.directory / "mediator.log", f"server {peer} is online"
        wait_for(line, lambda: line in log.read_text(), PATIENCE)

    def start_client(self) -> None:
        """Forward port 8080 of C, after signing in there."""
        self.c.spawn("client", self.typed("client", *KNOWN_KEY, *OLD_ACCOUNT))
        self.c.wait_until_listening(8080)

    def assertFetched(self, sha256: str) -> None:
        """The command of the README brings the page, and the same of a file it."""
        self.assertIn("data.bin", self.c.run(shell(self.command("try"))))
        file = self.c.directory / "fetched"
        self.c.run(shell(f"{self.command('try')}data.bin > {file}"))
        self.assertEqual(hashlib.sha256(file.read_bytes()).hexdigest(), sha256)
        # It came in full from the router of B, or from the relay.
        traffic = self.edge.read()
        from_relay = traffic.of(self.a.address, "tcp", RELAY_PORT)
        directly = traffic.of(self.home_of_b, "udp")
        self.assertGreater(max(from_relay, directly), _SIZE, str(traffic))

    def stop_cloud(self) -> None:
        """Stop mediator and relay; nothing of them stays."""
        self.a.run(shell(self.command("stop")))
        left = self.a.directory.glob
        wait_for("the end of both", lambda: not list(left("*.pid")), PATIENCE)
        for port in (MEDIATOR_PORT, RELAY_PORT):
            self.assertFalse(self.a.listens(port))

    def test_published_port(self) -> None:
        """Cloud, server, client, try, stop, as they are written."""
        site = self.b.directory / "site"
        sha256 = fill(site)
        with self.lab.explaining():
            self.start_cloud()
            files = f"python3 -m http.server 8080 --directory {site}"
            self.b.spawn("http", shell(files))
            self.b.wait_until_listening(8080)
            server = self.b.spawn(
                "server", self.typed("server", *KNOWN_KEY, *NEW_ACCOUNT)
            )
            self.wait_until_online(
                server.wait_for_line("peer name", named_peer, PATIENCE)
            )
            self.start_client()
            self.assertFetched(sha256)
            self.stop_cloud()

    def test_twisted_web(self) -> None:
        """The web server of Twisted publishes itself by an endpoint string.

        A client reaches it by a local port, and by standard input and output.
        """
        sha256 = fill(self.b.directory / "public")
        with self.lab.explaining():
            self.start_cloud()
            self.b.run(self.typed("system", *KNOWN_KEY, *NEW_ACCOUNT), PATIENCE)
            web = self.b.spawn("web", shell(self.command("web")))
            self.wait_until_online(
                web.wait_for_line("peer name", publishing_peer, PATIENCE)
            )
            login = f"dwcloud account login anna --mediator {self.a.address}"
            self.c.run(shell(f"echo '{PASSWORD}' | {login} --password-file -"))
            self.c.spawn("client", shell("dwcloud forward attic 8080:web"))
            self.c.wait_until_listening(8080)
            self.assertFetched(sha256)
            request = "printf 'GET /data.bin HTTP/1.0\\r\\n\\r\\n'"
            connect = "dwcloud connect attic web"
            check = (
                f"set -o pipefail; {request} | {connect} | tail -c {_SIZE} | sha256sum"
            )
            self.assertIn(sha256, self.c.run(shell(check)))
            self.stop_cloud()


def shell(text: str) -> list[str]:
    """Return the words that run a command as it is typed."""
    return ["bash", "-c", text]


def fill(directory: pathlib.Path) -> str:
    """Put a file of random octets into a directory; return its SHA-256."""
    directory.mkdir(exist_ok=True)
    content = os.urandom(_SIZE)
    (directory / "data.bin").write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def named_peer(line: str) -> str | None:
    """Return the peer name that ``dwcloud serve`` prints on its first line."""
    name, colon, value = line.partition(": ")
    return value if colon and name == "peer name" else None


def publishing_peer(line: str) -> str | None:
    """Return the peer name in a log line of a program that publishes a service."""
    match = re.search(r"is published by (\S+)", line)
    return match[1] if match else None
